#!/usr/bin/env bash
# Starts Kafka, Postgres and the three services in the background and prints their addresses;
# `up.sh --help` names the options. down.sh stops them again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/local/prerequisites.sh

require_prerequisites building
cargo build --release --workspace --bins
exec "${CARGO_TARGET_DIR:-target}/release/stack" up --detach "$@"
