#!/usr/bin/env bash
# Builds Toxiproxy, which disturbs connections in fault runs, once into .local/toxiproxy/VERSION
# and prints the program's path. Safe to run at the same time from several places.
set -euo pipefail

readonly VERSION=v2.5.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../../.." && pwd)/.local/toxiproxy
program=$cache/$VERSION/server

if [[ ! -x $program ]]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
fi
if [[ ! -x $program ]]; then
    echo "building Toxiproxy $VERSION into $program" >&2
    building=$(mktemp -d "$cache/building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    GOBIN=$building go install "github.com/Shopify/toxiproxy/v2/cmd/server@$VERSION" </dev/null >&2 9>&-
    mkdir -p "$cache/$VERSION"
    mv "$building/server" "$program"
fi
echo "$program"
