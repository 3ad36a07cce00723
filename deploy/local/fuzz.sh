#!/usr/bin/env bash
# Fuzzes the parsers of outside bytes, one after the other: `fuzz.sh [--runs N] [TARGET ...]`, by
# default each, ten million times. Stops at the first input for which something does not hold and
# leaves it in fuzz/artifacts. What is new in what it tries stays in the corpora of the target
# folder; `--minimise` afterwards takes those of both into fuzz/corpus that reach most of the code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# An input that takes longer hangs; one takes some microseconds.
readonly HANG_SECONDS=10
# What the process may hold: the targets' own limits are some kibibytes, a decoder's window 16 MiB.
readonly MEMORY_LIMIT_MIB=1024

# Inputs kept of a target: enough to reach most of the code, few enough for a repository.
readonly KEPT_INPUTS=60

# The longest input: what the parser needs to show all that it does, so that millions can be tried.
input_limit_bytes() {
    case $1 in
        envelope | events_record) echo 1024 ;;
        *) echo 384 ;;
    esac
}

usage() {
    echo "usage: fuzz.sh [--runs N | --minimise] [TARGET ...]" >&2
    exit 2
}

runs=10000000
minimise=false
targets=()
while (($#)); do
    case $1 in
        --runs)
            [[ ${2:-} =~ ^[0-9]+$ ]] || usage
            runs=$2
            shift
            ;;
        --minimise) minimise=true ;;
        -*) usage ;;
        *) targets+=("$1") ;;
    esac
    shift
done

if ! cargo fuzz --version &>/dev/null; then
    cargo install --locked cargo-fuzz
fi
# cargo-fuzz instruments by unstable options of the compiler.
export RUSTC_BOOTSTRAP=1
if ((!${#targets[@]})); then
    mapfile -t targets < <(cargo fuzz list)
fi
# Our code is safe Rust, in which a mistake is a panic: an address sanitizer would only cost inputs.
readonly build=(--sanitizer none)
# Many inputs rather than well chosen and small ones.
readonly speed=(-entropic=0 -reduce_inputs=0)
readonly limits=(-timeout=$HANG_SECONDS -rss_limit_mb=$MEMORY_LIMIT_MIB)

for target in "${targets[@]}"; do
    grown=${CARGO_TARGET_DIR:-target}/fuzz-corpus/$target
    kept=fuzz/corpus/$target
    mkdir -p "$grown" "$kept"
    limits_of_target=("${limits[@]}" -max_len="$(input_limit_bytes "$target")")
    if $minimise; then
        cp -n "$kept"/* "$grown" 2>/dev/null || true
        rm -f "$kept"/*
        # By lines of code, not by how often each is run: some hundred inputs, not thousands.
        cargo fuzz run "${build[@]}" "$target" "$kept" "$grown" -- \
            -set_cover_merge=1 -use_counters=0 "${limits_of_target[@]}"
        # Written in the order in which they were chosen, what reaches most first.
        mapfile -t surplus < <(find "$kept" -type f -printf '%T@ %p\n' | sort -n |
            tail -n +$((KEPT_INPUTS + 1)) | cut -d ' ' -f 2-)
        rm -f "${surplus[@]}"
    else
        cargo fuzz run "${build[@]}" "$target" "$grown" "$kept" -- \
            -runs="$runs" -print_final_stats=1 "${speed[@]}" "${limits_of_target[@]}"
    fi
done
