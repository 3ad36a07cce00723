#!/usr/bin/env bash
# Checks the chart: renders it with all values of tapedeck/ci, holds what comes out against the
# schemas of Kubernetes, KEDA and the Prometheus Operator, and sees that values that cannot work are
# refused. Needs Go, which builds the tools once into target/tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The newest that Debian 12's Go builds, or nearly so.
readonly HELM=v3.12.3 KUBECONFORM=v0.6.3 GOJQ=v0.12.13
# Where schemas come from. The chart promises Kubernetes 1.27.
readonly KUBERNETES=v1.27.0 KEDA=v2.12.0 PROMETHEUS_OPERATOR=v0.68.0

readonly chart=deploy/helm/tapedeck
tools=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/tools
mkdir -p "$tools"
scratch=$(mktemp -d "$tools/checking.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if ! command -v go >/dev/null; then
    echo "Go is missing; on Debian: apt-get install golang-go" >&2
    exit 1
fi

# Builds a program of Go once, and prints its path.
tool() {
    local name=$1 package=$2 version=$3
    local folder=$tools/$name-$version
    if [[ ! -x $folder/$name ]]; then
        echo "building $name $version" >&2
        GOBIN=$scratch/$name go install "$package@$version" </dev/null >&2
        mkdir -p "$folder"
        mv "$scratch/$name/$name" "$folder/$name"
    fi
    echo "$folder/$name"
}

# The folder of a module's files.
module() {
    (cd "$scratch" && go mod download -json "$1" </dev/null) | gojq -r .Dir
}

# One at a time builds.
exec 9>"$tools/lock"
flock 9
helm=$(tool helm helm.sh/helm/v3/cmd/helm $HELM)
kubeconform=$(tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform $KUBECONFORM)
gojq=$(tool gojq github.com/itchyny/gojq/cmd/gojq $GOJQ)
gojq() { "$gojq" "$@"; }
# Says of each symbolic link that it followed it.
helm() { "$helm" "$@" 2> >(grep -v 'found symbolic link in path' >&2); }

# Every kind's schema in a file of its own, as kubeconform looks for them. What a schema does not
# name is an error: Kubernetes would drop it in silence.
make_schemas() {
    local folder=$1 name schema
    # The definitions refer to each other, so they stay together. Two types are numbers as well.
    gojq '
        .definitions
        | map_values(if has("properties") then .additionalProperties = false else . end)
        | ."io.k8s.apimachinery.pkg.util.intstr.IntOrString".type = ["string", "integer"]
        | ."io.k8s.apimachinery.pkg.api.resource.Quantity".type = ["string", "number"]
        | { definitions: . }
    ' "$(module k8s.io/kubernetes@$KUBERNETES)/api/openapi-spec/swagger.json" >"$folder/definitions.json"
    gojq -r '
        .definitions | to_entries[] | .key as $name
        | .value."x-kubernetes-group-version-kind"[]?
        | ([.kind, (.group | select(. != "") | split(".")[0]), .version] | join("-") | ascii_downcase)
            + "\t" + ({ "$ref": "definitions.json#/definitions/\($name)" } | tojson)
    ' "$folder/definitions.json" >"$folder/list"
    gojq --yaml-input -r '
        .spec | .group as $group | .names.kind as $kind | .versions[]
        | ([$kind, ($group | split(".")[0]), .name] | join("-") | ascii_downcase)
            + "\t" + (.schema.openAPIV3Schema
                | walk(
                    if type == "object" and .type == "object" and (.properties | type) == "object"
                        and (.["x-kubernetes-preserve-unknown-fields"] | not)
                    then .additionalProperties = false else . end)
                | tojson)
    ' "$(module github.com/kedacore/keda/v2@$KEDA)"/config/crd/bases/keda.sh_scaledobjects.yaml \
        "$(module github.com/prometheus-operator/prometheus-operator@$PROMETHEUS_OPERATOR)"/example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml \
        >>"$folder/list"
    while IFS=$'\t' read -r name schema; do
        echo "$schema" >"$folder/$name.json"
    done <"$folder/list"
}

schemas=$tools/schemas-$KUBERNETES-$KEDA-$PROMETHEUS_OPERATOR
if [[ ! -d $schemas ]]; then
    echo "making schemas" >&2
    mkdir "$scratch/schemas"
    make_schemas "$scratch/schemas"
    mv "$scratch/schemas" "$schemas"
fi
flock --unlock 9

failures=0
fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# `helm template CHART …`, as a cluster of the promised version would get it.
render() { helm template tapedeck "$1" --namespace replay --kube-version $KUBERNETES "${@:2}"; }

for values in "$chart"/ci/*.yaml; do
    name=$(basename "$values" .yaml)
    echo "== $name"
    helm lint --strict --quiet "$chart" --values "$values" || fail "lint of $name"
    render "$chart" --values "$values" >"$scratch/$name.yaml" || fail "rendering $name"
    "$kubeconform" -strict -summary -schema-location "$schemas/{{.ResourceKind}}{{.KindSuffix}}.json" \
        "$scratch/$name.yaml" || fail "schemas of $name"
done

# `same WHAT LEFT RIGHT`: two files hold the same, and something.
same() { [[ -s $2 ]] && diff "$2" "$3" || fail "$1"; }

echo "== rules and dashboards are those of the project"
for rules in recording-rules alerts; do
    gojq --yaml-input . deploy/prometheus/$rules.yaml >"$scratch/project"
    gojq --yaml-input "select(.kind == \"PrometheusRule\" and .metadata.name == \"tapedeck-$rules\").spec" \
        "$scratch/production.yaml" >"$scratch/rendered"
    same $rules "$scratch/project" "$scratch/rendered"
done
for dashboard in deploy/grafana/dashboards/*.json; do
    gojq . "$dashboard" >"$scratch/project"
    gojq --yaml-input "select(.kind == \"ConfigMap\").data[\"$(basename "$dashboard")\"] // empty | fromjson" \
        "$scratch/production.yaml" >"$scratch/rendered"
    same "$dashboard" "$scratch/project" "$scratch/rendered"
done

echo "== the package renders as the folder does"
helm package "$chart" --destination "$scratch" >/dev/null
render "$scratch"/tapedeck-*.tgz --values "$chart/ci/production.yaml" >"$scratch/packaged.yaml"
same "the package" "$scratch/production.yaml" "$scratch/packaged.yaml"

echo "== options are those of the services"
# Options of commands that run once.
readonly ONE_OFF='TAPEDECK_REPORTER_(WAIT|MONTH|FROM|TO|FORMAT)'
# The secret itself would stand in the environment.
readonly REFUSED='TAPEDECK_DATABASE_URL|OTEL_EXPORTER_OTLP_TRACES_HEADERS'
readonly NAMES='(TAPEDECK|OTEL)_[A-Z_]+'
options_of() { grep -rohE "$1" "${@:2}" | grep -oE "$NAMES" | sort -u; }
options_of "env = \"$NAMES\"" {common,ingest-gateway,writer,reporter}/src |
    grep -vxE "$ONE_OFF|$REFUSED" >"$scratch/known"
options_of "\"$NAMES\":" $chart/values.schema.json >"$scratch/in-config"
options_of "name: $NAMES" $chart/templates >"$scratch/in-templates"
[[ -z $(comm -12 "$scratch/in-config" "$scratch/in-templates") ]] ||
    fail "set twice: $(comm -12 "$scratch/in-config" "$scratch/in-templates")"
diff "$scratch/known" <(sort -u "$scratch/in-config" "$scratch/in-templates") || fail "options"

echo "== every value is explained"
gojq --yaml-input -r '
    def leaves: if type == "object" and length > 0 then to_entries[] | .key as $key | .value | [$key] + leaves else [] end;
    leaves | join(".")
' $chart/values.yaml | sed '/^monitoring.dashboards.labels\..*/s/\.grafana_dashboard//; s/\.resources\..*/.resources/' |
    sort -u >"$scratch/values"
diff "$scratch/values" <(sed -n 's/^| `\([a-zA-Z.]*\)` |.*/\1/p' $chart/README.md | sort -u) || fail "values in README.md"

# What must be refused, and words of the reason.
refuses() {
    local reason=$1 output
    shift
    if output=$(render "$chart" --values "$chart/ci/minimal.yaml" "$@" 2>&1); then
        fail "accepted: $*"
    elif [[ $output != *"$reason"* ]]; then
        fail "refused for another reason than \"$reason\": $* $output"
    fi
}

echo "== what cannot work is refused"
refuses "kafka.brokers is empty" --set kafka.brokers=
refuses "gateway.keysSecret.name is empty" --set gateway.keysSecret.name=
refuses "so is migration.databaseUrlSecret.name" --set database.urlSecret.name=
refuses "so is reporter.databaseUrlSecret.name" --set database.urlSecret.name= \
    --set migration.databaseUrlSecret.name=a --set writer.databaseUrlSecret.name=b
refuses "gateway.terminationGracePeriodSeconds (39) must be at least 40" \
    --set gateway.terminationGracePeriodSeconds=39
refuses "gateway.terminationGracePeriodSeconds (45) must be at least 46" --set gateway.drainDelaySeconds=16
refuses "writer.terminationGracePeriodSeconds (29) must be at least 30" \
    --set writer.terminationGracePeriodSeconds=29
refuses "7 writers of 2 writer.lanes are 14 lanes, more than kafka.topicPartitions (12)" \
    --set writer.replicas=7
refuses "4 writers of 4 writer.pageLanes are 16 lanes, more than kafka.topicPartitions (12)" \
    --set writer.autoscaling.enabled=true,writer.autoscaling.maxReplicas=4,writer.pageLanes=4,database.maxConnections=100
refuses "take 24 connections, more than database.maxConnections (23)" \
    --set writer.replicas=6,database.maxConnections=23
refuses "writer.autoscaling.minReplicas (3) must not exceed maxReplicas (2)" \
    --set writer.autoscaling.enabled=true,writer.autoscaling.minReplicas=3,writer.autoscaling.maxReplicas=2
refuses "gateway.ingress.host is empty" --set gateway.ingress.enabled=true
refuses "an empty list would let everybody in" --set networkPolicy.enabled=true --set-json networkPolicy.metricsFrom=[]
refuses "Additional property replica is not allowed" --set writer.replica=3
refuses "Additional property TAPEDECK_BATCH_ROW is not allowed" --set writer.config.TAPEDECK_BATCH_ROW=5000
refuses "Additional property TAPEDECK_LANES is not allowed" --set writer.config.TAPEDECK_LANES=4
refuses "writer.replicas: Must be greater than or equal to 1" --set writer.replicas=0

if ((failures > 0)); then
    echo "$failures check(s) FAILED" >&2
    exit 1
fi
echo "all checks passed"
