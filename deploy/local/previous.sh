#!/usr/bin/env bash
# Builds the services of an earlier version, to run beside those of this one, and prints the folder
# that they are in: of the newest release before this commit or, where there is none, of the commit
# before; or of the revision given:
#
#     previous.sh [REVISION]
#
# Prints nothing, and says so, where history does not go back that far, as in a shallow clone.
# PROFILE (default dev) is cargo's, CARGO_TARGET_DIR where dependencies are looked for and kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly PROFILE=${PROFILE:-dev}
readonly SERVICES=(ingest-gateway writer reporter)

# Where cargo puts what it has built in a profile.
case $PROFILE in
    dev) built=debug ;;
    *) built=$PROFILE ;;
esac
built=${CARGO_TARGET_DIR:-target}/$built

# The newest release before this commit; else the commit before.
earlier() {
    git describe --tags --match 'v[0-9]*' --abbrev=0 HEAD~1 2>/dev/null || echo HEAD~1
}

revision=${1:-$(earlier)}
if ! commit=$(git rev-parse --quiet --verify "$revision^{commit}"); then
    echo "previous.sh: there is no $revision in this clone (is it shallow?)" >&2
    exit 0
fi
folder=.local/previous/$PROFILE/$commit
if [[ ! -d $folder ]]; then
    # Only one is kept.
    rm -rf ".local/previous/$PROFILE"
    source=.local/previous/source
    git worktree remove --force "$source" 2>/dev/null || true
    git worktree add --quiet --force --detach "$source" "$commit"
    # What is put aside is this build's or none.
    rm -f "${SERVICES[@]/#/$built/}"
    cargo build --quiet --locked --profile "$PROFILE" --target-dir "${built%/*}" \
        --manifest-path "$source/Cargo.toml" "${SERVICES[@]/#/--package=}" >&2
    git worktree remove --force "$source"
    mkdir -p "$folder.new"
    mv "${SERVICES[@]/#/$built/}" "$folder.new"
    mv "$folder.new" "$folder"
fi
realpath "$folder"
