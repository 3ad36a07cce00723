#!/usr/bin/env bash
# Fetches Kafka once into .local/kafka/VERSION and prints that folder. Safe to run at the same time
# from several places: one fetches, the others wait for it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../../.." && pwd)/.local/kafka
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
libraries=$cache/$version

if [[ ! -d $libraries ]]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
fi
if [[ ! -d $libraries ]]; then
    # What an interrupted fetch left behind; nobody else writes here under the lock.
    rm -rf "$cache"/fetching.*
    fetching=$(mktemp -d "$cache/fetching.XXXXXX")
    trap 'rm -rf "$fetching"' EXIT
    echo "fetching Kafka $version into $libraries" >&2
    # Maven ends when this script does, however it ends.
    setpriv --pdeathsig KILL mvn --batch-mode --quiet -Dstyle.color=never --file "$here/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.9.0:copy-dependencies \
        -DoutputDirectory="$fetching" -DincludeScope=runtime </dev/null >&2 9>&-
    chmod 755 "$fetching"
    mv --no-target-directory "$fetching" "$libraries"
fi
echo "$libraries"
