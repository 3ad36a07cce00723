#!/usr/bin/env bash
# Checks everything: formatting, lints, and all tests against the real Kafka and Postgres.
# `--full` adds the tests that take long, and fuzzing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

readonly SLOWEST_SHOWN=15
readonly FUZZ_RUNS=1000000

# The short fault run: time enough for a whole round of all kinds of faults.
readonly FAULT_RUN_SEED=2
readonly FAULT_RUN_MINUTES=3.6

# What is tested is what is shipped, and places at which tests may break it.
readonly TESTED_FEATURES=common/failpoints

# Needs the programs of an earlier version.
readonly UPGRADE_TEST=rolling::upgrading_one_after_the_other_refuses_nobody_and_loses_nothing

usage() {
    echo "usage: test.sh [--full]" >&2
    exit 2
}

selection=()
fuzzing=false
for argument in "$@"; do
    case $argument in
        --full)
            selection=(--include-ignored --skip "$UPGRADE_TEST")
            fuzzing=true
            ;;
        *) usage ;;
    esac
done

require_prerequisites testing

step() { printf '\n== %s\n' "$*"; }

step formatting
cargo fmt --all --check

step lints
cargo clippy --workspace --all-targets -- --deny warnings
cargo clippy --workspace --features "$TESTED_FEATURES" -- --deny warnings

step "the programs of an earlier version"
previous=$(PROFILE=dev deploy/local/previous.sh)

step "the programs that the tests start"
cargo build --workspace --bins --features "$TESTED_FEATURES"

step tests
# libtest tells the time of each test only where unstable options are allowed. Allowed to the test
# programs when they run, not to the compiler: so nothing is built differently for it.
host=$(rustc --version --verbose | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=env RUSTC_BOOTSTRAP=1"
scratch=$(mktemp -d)
times=$scratch/times
passed=true
cargo test --workspace --lib --bins --tests --features "$TESTED_FEATURES" --no-fail-fast -- \
    -Z unstable-options --report-time "${selection[@]}" </dev/null | tee "$times" || passed=false

step "a rolling upgrade"
if [[ -n $previous ]]; then
    TAPEDECK_PREVIOUS_PROGRAMS=$previous cargo test --workspace --test it \
        --features "$TESTED_FEATURES" -- --ignored --exact --nocapture "$UPGRADE_TEST" </dev/null |
        tee "$scratch/upgrade" || passed=false
    # None of that name would pass as well.
    grep -q '^test result: ok. 1 passed' "$scratch/upgrade" || passed=false
else
    echo "SKIPPED: history does not go back to an earlier version"
fi

step "examples in the documentation"
cargo test --workspace --doc --features "$TESTED_FEATURES" --no-fail-fast </dev/null || passed=false

step "instructions of the hot functions"
deploy/local/instructions.sh || passed=false

for part in deploy/prometheus deploy/helm deploy/docker deploy/systemd tests/api; do
    step "$part"
    "$part/check.sh" </dev/null || passed=false
done

step "a short fault run"
PROFILE=dev deploy/local/chaos.sh --seed $FAULT_RUN_SEED --minutes $FAULT_RUN_MINUTES \
    --duration-scale 0.4 --recorders 6 --speed 1 --ledger "$scratch/ledger.jsonl" </dev/null |
    tee "$scratch/fault-run" || passed=false

if $fuzzing; then
    step "fuzzing, $FUZZ_RUNS inputs a target"
    deploy/local/fuzz.sh --runs $FUZZ_RUNS || passed=false
fi

step "slowest tests"
sed -n 's/^test \(.*\) \.\.\. .*<\([0-9.]*\)s>$/\2 s\t\1/p' "$times" | sort -rn |
    sed -n "1,${SLOWEST_SHOWN}p"

# The end of each test program that has tests.
grep '^test result:' "$times" | grep -v ' 0 passed; 0 failed; 0 ignored' || true
# Once more what was left out and what failed, where it is read first.
[[ -n $previous ]] || echo "SKIPPED, for want of an earlier version: the rolling upgrade"
sed -n '/^failures:$/,/^test result:/p' "$times"
sed -n '/^findings:/,$p' "$scratch/fault-run"
if ! $passed; then
    echo "FAILED; what was written down is in $scratch"
    exit 1
fi
rm -rf "$scratch"
echo "all checks passed"
