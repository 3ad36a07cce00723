#!/usr/bin/env bash
# Plays the sample recordings through a Tapedeck of its own and compares what was sent with what
# is in the tables; `demo.sh --help` names the options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

require_prerequisites building
cargo build --release --workspace --bins
exec "${CARGO_TARGET_DIR:-target}/release/demo" "$@"
