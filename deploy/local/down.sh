#!/usr/bin/env bash
# Stops what up.sh has started, with its data. Harmless when nothing runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

stack=${CARGO_TARGET_DIR:-target}/release/stack
if [[ ! -x $stack ]]; then
    echo "no stack is running"
    exit
fi
exec "$stack" down "$@"
