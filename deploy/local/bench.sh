#!/usr/bin/env bash
# The benchmarks: builds in release, measures the cases given (all without any; `bench.sh --list`
# names them), prints their tables, and leaves figures and charts in target/benchmarks. Further
# options go to `bench run`: `bench.sh --runs 1 gateway`. On a machine that does nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

require_prerequisites building

target=${CARGO_TARGET_DIR:-target}
results=$target/benchmarks
cargo build --release --workspace --bins
if [[ ${1:-} == --list ]]; then
    exec "$target/release/bench" list
fi
mkdir -p "$results"
"$target/release/bench" run --json "$results/figures.json" "$@"
"$target/release/bench" chart "$results/figures.json" "$results"
