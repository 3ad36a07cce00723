#!/usr/bin/env bash
# Checks that the gateway does what its description of the recorder API says: starts a stack, holds
# /openapi.json against the specification of OpenAPI, and has schemathesis send what the description
# allows and what it forbids. Needs the programs of target/debug, and Python with venv, whose pip
# fetches the tools once into target/tools.
#
# `check.sh [--examples N] [--seed N]`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly api=tests/api
# So that a failure can be had again, and a run takes about as long as the one before.
seed=1
examples=50

usage() {
    echo "usage: check.sh [--examples N] [--seed N]" >&2
    exit 2
}

while (($#)); do
    [[ ${2:-} =~ ^[0-9]+$ ]] || usage
    case $1 in
        --examples) examples=$2 ;;
        --seed) seed=$2 ;;
        *) usage ;;
    esac
    shift 2
done

target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
tools=$target/tools
mkdir -p "$tools"
scratch=$(mktemp -d "$tools/checking.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if ! python3 -c 'import ensurepip, venv' &>/dev/null; then
    echo "Python's venv is missing; on Debian: apt-get install python3-venv" >&2
    exit 1
fi

# The tools of one requirements.txt, in an environment that knows nothing of what else is installed.
environment=$tools/api-$(sha256sum $api/requirements.txt | cut -c 1-12)
if [[ ! -e $environment/complete ]]; then
    echo "fetching schemathesis" >&2
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" --disable-pip-version-check install --quiet --require-hashes \
        --only-binary :all: --requirement $api/requirements.txt </dev/null >&2
    touch "$environment/complete"
fi

# A stack of its own, on any free ports.
readonly stack=api-check
stop() { "$target/debug/stack" down --name $stack >/dev/null || true; }
trap 'stop; rm -rf "$scratch"' EXIT
stop
"$target/debug/stack" up --detach --name $stack --gateway-port 0 --gateway-admin-port 0 \
    --writer-admin-port 0 --reporter-admin-port 0 --kafka-port 0 --postgres-port 0 </dev/null >/dev/null
# shellcheck source=/dev/null
source .local/$stack/env
export TAPEDECK_KEY

failures=0
fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

echo "== /openapi.json is OpenAPI"
python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' \
    "$GATEWAY_URL/openapi.json" "$scratch/openapi.json"
"$environment/bin/openapi-spec-validator" "$scratch/openapi.json" || fail "openapi-spec-validator"

echo "== the gateway does as described"
# From its folder, as it looks for hooks.py there; without bytecode of that beside it.
(cd $api && PYTHONDONTWRITEBYTECODE=1 "$environment/bin/schemathesis" run "$GATEWAY_URL/openapi.json" \
    --no-color --checks all --phases examples,coverage,fuzzing,stateful --seed "$seed" \
    --max-examples "$examples") || fail "schemathesis"

if ((failures > 0)); then
    echo "$failures check(s) FAILED" >&2
    exit 1
fi
echo "all checks passed"
