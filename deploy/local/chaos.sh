#!/usr/bin/env bash
# The fault run: builds the services with the places at which they can be broken, and a writer of
# the previous commit to run beside them, and starts `chaos` with the arguments given
# (`chaos.sh --help`). For example, everything at once for forty minutes, and then one fault after
# the other:
#
#     deploy/local/chaos.sh --seed 1 --minutes 40
#     deploy/local/chaos.sh --seed 1 --minutes 40 --no-overlap
#
# PROFILE=dev builds faster and runs slower.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

readonly PROFILE=${PROFILE:-release}

require_prerequisites faults

target=${CARGO_TARGET_DIR:-target}
case $PROFILE in
    dev) programs=$target/debug ;;
    *) programs=$target/$PROFILE ;;
esac

# Prints the path of a writer of the commit before this one; nothing where history has none.
build_previous_writer() {
    local worktree=.local/previous-writer/source writer=.local/previous-writer/$PROFILE
    git rev-parse --quiet --verify HEAD~1 >/dev/null || return 0
    git worktree remove --force "$worktree" 2>/dev/null || true
    git worktree add --quiet --force --detach "$worktree" HEAD~1
    CARGO_TARGET_DIR=$(realpath -m "$target") cargo build --quiet --profile "$PROFILE" \
        --manifest-path "$worktree/Cargo.toml" --package writer >&2
    mkdir -p "$writer"
    cp "$programs/writer" "$writer/writer"
    git worktree remove --force "$worktree"
    realpath "$writer/writer"
}

previous=$(build_previous_writer)
cargo build --profile "$PROFILE" --workspace --bins --features common/failpoints
exec "$programs/chaos" ${previous:+--previous-writer "$previous"} "$@"
