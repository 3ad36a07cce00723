#!/usr/bin/env bash
# The fault run: builds the services with the places at which they can be broken, and a writer of an
# earlier version (previous.sh) to run beside them, and starts `chaos` with the arguments given
# (`chaos.sh --help`). For example, everything at once for forty minutes, and then one fault after
# the other:
#
#     deploy/local/chaos.sh --seed 1 --minutes 40
#     deploy/local/chaos.sh --seed 1 --minutes 30 --no-overlap
#
# PROFILE=dev builds faster and runs slower.
set -euo pipefail
# Also where a command's output is taken: a build that fails must not go unnoticed there.
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

readonly PROFILE=${PROFILE:-release}

require_prerequisites faults

# What can be broken on purpose lies apart from what is shipped. Development builds are not, and
# share what the tests have built with the same features.
target=${CARGO_TARGET_DIR:-target}
case $PROFILE in
    dev) folder=debug ;;
    *)
        folder=$PROFILE
        target=$target/faults
        ;;
esac

# Built where the rest is, for what both need to be built once, and put aside before the rest is.
previous=$(env CARGO_TARGET_DIR="$target" PROFILE="$PROFILE" deploy/local/previous.sh)
cargo build --profile "$PROFILE" --target-dir "$target" --workspace --bins --features common/failpoints
exec "$target/$folder/chaos" ${previous:+--previous-writer "$previous/writer"} "$@"
