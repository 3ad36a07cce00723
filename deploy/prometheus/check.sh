#!/usr/bin/env bash
# Checks the rules, runs their tests, and makes sure that every alert has a case in the tests and a
# section in docs/runbook.md, whose queries are well formed, and that what they ask of the recording
# rules is recorded. (That metrics are exported, the tests of `reference` check.) Needs promtool
# (Debian's package prometheus).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly RULES=(deploy/prometheus/recording-rules.yaml deploy/prometheus/alerts.yaml)
readonly RUNBOOK=docs/runbook.md

problems=0
problem() {
    echo "$1" >&2
    problems=$((problems + 1))
}

# The blocks of ```promql in the runbook, a rule each line.
runbook_queries() {
    echo "groups: [{name: runbook, rules: ["
    sed -n '/^```promql$/,/^```$/p' "$RUNBOOK" | sed -e '/^```/d' -e "s/ *#.*//" -e "s/'/''/g" \
        | awk '{ printf "{record: \"runbook:%d\", expr: '\''%s'\''},\n", NR, $0 }'
    echo "]}]"
}

promtool check config deploy/prometheus/prometheus.yaml
promtool test rules deploy/prometheus/tests/*.yaml
if ! said=$(runbook_queries | promtool check rules /dev/stdin 2>&1); then
    problem "$RUNBOOK: $said"
fi

alerts=$(sed -n 's/^ *- alert: //p' deploy/prometheus/alerts.yaml | sort -u)
for alert in $alerts; do
    anchor=$RUNBOOK#${alert,,}
    grep -qx "## $alert" "$RUNBOOK" || problem "$alert has no section in $RUNBOOK"
    grep -q "^| \[$alert\](#${alert,,}) |" "$RUNBOOK" || problem "$alert is not in the table of $RUNBOOK"
    grep -q "alertname: $alert\b" deploy/prometheus/tests/*.yaml || problem "$alert has no test"
    awk -v alert="$alert" -v url="runbook_url: $anchor" '
        /- alert: / { mine = ($NF == alert) }
        mine && index($0, url) { found = 1 }
        END { exit !found }
    ' deploy/prometheus/alerts.yaml || problem "$alert does not point at $anchor"
done
for section in $(sed -n 's/^## \(Tapedeck.*\)/\1/p' "$RUNBOOK"); do
    grep -qx "$section" <<<"$alerts" || problem "$RUNBOOK: there is no alert $section"
done

for series in $(grep -hoE '\btapedeck:[a-z_]+:[a-z0-9_]+' "${RULES[@]}" "$RUNBOOK" | sort -u); do
    grep -q "record: $series\$" "${RULES[0]}" || problem "nothing records $series"
done

((problems == 0)) || exit 1
