#!/usr/bin/env bash
# Counts the instructions that the hot pure functions take, under Valgrind, and compares them with
# those of instructions/baseline.json: more than three in a hundred worse is an error, where compiler
# and C library are those of the baseline. `--update` makes what is counted the baseline.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

case ${1:-} in
    '' | --update) ;;
    *)
        echo "usage: instructions.sh [--update]" >&2
        exit 2
        ;;
esac

require_prerequisites testing

# The harness and the program that runs it must be of one version.
tools=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/tools
version=$(cargo pkgid --locked gungraun)
version=${version##*@}
if [[ $("$tools/bin/gungraun-runner" --version 2>/dev/null) != *" $version" ]]; then
    cargo install gungraun-runner --version "=$version" --locked --debug --root "$tools"
fi

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
GUNGRAUN_RUNNER=$tools/bin/gungraun-runner cargo bench --locked --package instructions \
    --bench instructions -- --output-format=json >"$counts"
cargo run --locked --quiet --package instructions -- "$counts" \
    --baseline instructions/baseline.json "$@"
