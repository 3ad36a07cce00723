#!/usr/bin/env bash
# Checks the units: systemd-analyze verifies them and says how exposed they leave a service, and all
# options that they and the examples set are options of the services. Needs systemd 250 or newer,
# which need not be running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly OLDEST_SYSTEMD=250
# In tenths, of 100: see README.md.
readonly MOST_EXPOSED=11

readonly units=deploy/systemd

if ! command -v systemd-analyze >/dev/null; then
    echo "systemd-analyze is missing; on Debian: apt-get install systemd" >&2
    exit 1
fi
systemd=$(systemd-analyze --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')
if ((systemd < OLDEST_SYSTEMD)); then
    echo "systemd is $systemd; the units need $OLDEST_SYSTEMD" >&2
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

failures=0
fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# Verifying wants the programs to be there.
mkdir "$scratch/bin" "$scratch/units"
cp -r $units/*.service $units/*.service.d "$scratch/units"
sed -n 's:^ExecStart=/opt/tapedeck/bin/\([a-z-]*\) .*:\1:p' $units/*.service | while read -r program; do
    install -m 755 /dev/null "$scratch/bin/$program"
done
sed -i "s:^ExecStart=/opt/tapedeck/bin/:ExecStart=$scratch/bin/:" "$scratch"/units/*.service

for unit in "$scratch"/units/*.service; do
    name=${unit##*/}
    echo "== $name"
    # It says what it does not know, and calls that a success.
    systemd-analyze verify --man=no "$unit" >"$scratch/complaints" 2>&1 || fail "$name"
    if [[ -s $scratch/complaints ]]; then
        cat "$scratch/complaints"
        fail "$name is not as systemd wants it"
    fi
    systemd-analyze security --no-pager --offline=true --threshold=$MOST_EXPOSED "$unit" >"$scratch/exposure" ||
        fail "$name is more exposed than $MOST_EXPOSED tenths"
    tail -n 1 "$scratch/exposure"
done

echo "== options are those of the services"
options_of() { grep -rohE "$1" "${@:2}" | grep -oE 'TAPEDECK_[A-Z_]+' | sort -u; }
options_of 'env = "TAPEDECK_[A-Z_]+"' {common,ingest-gateway,writer,reporter}/src >"$scratch/known"
unknown=$(options_of 'TAPEDECK_[A-Z_]+' $units/*.service $units/examples | comm -13 "$scratch/known" -)
[[ -z $unknown ]] || fail "no such options: $unknown"

if ((failures > 0)); then
    echo "$failures check(s) FAILED" >&2
    exit 1
fi
echo "all checks passed"
