# shellcheck shell=bash
# Sourced by the other scripts. Makes sure that everything is there that building and running
# Tapedeck needs: says what is missing, and on Debian and Ubuntu installs it.

readonly OLDEST_JAVA=17
readonly OLDEST_POSTGRES=15

# The major version of the Java that is found first; 0 without one.
java_version() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1) || true
    echo "${version:-0}"
}

# The newest version of the Postgres server that is installed; 0 without one.
postgres_version() {
    local programs newest=0 version
    for programs in /usr/lib/postgresql/*/bin/initdb; do
        [[ -x $programs ]] || continue
        version=${programs#/usr/lib/postgresql/}
        version=${version%%/*}
        if ((version > newest)); then newest=$version; fi
    done
    echo "$newest"
}

has() { command -v "$1" >/dev/null; }

# Prints what is missing, a line each: the Debian package, a tab, and what it is for.
# `testing` adds what only the tests need, `faults` what only fault runs need.
missing_prerequisites() {
    local need=$1
    if (($(java_version) < OLDEST_JAVA)); then
        printf 'openjdk-jre-headless\tJava %s or newer, for Kafka\n' $OLDEST_JAVA
    fi
    has mvn || printf 'maven\tMaven, to fetch Kafka\n'
    if (($(postgres_version) < OLDEST_POSTGRES)); then
        printf 'postgresql\tPostgreSQL %s or newer, the server\n' $OLDEST_POSTGRES
    fi
    if ! has cc || ! has c++ || ! has make; then
        printf 'build-essential\ta C compiler and make, for the Kafka client\n'
    fi
    if ! has pkg-config; then
        printf 'pkg-config\tpkg-config, for the Kafka client\n'
        printf 'libssl-dev\tOpenSSL, for the Kafka client\n'
    elif ! pkg-config --exists openssl; then
        printf 'libssl-dev\tOpenSSL, for the Kafka client\n'
    fi
    if ! has setpriv || ! has setsid || ! has flock || ! has ipcrm; then
        printf 'util-linux\tutil-linux, to look after processes\n'
    fi
    if [[ $need == testing ]]; then
        has valgrind || printf 'valgrind\tValgrind, to count instructions\n'
        [[ -x /usr/bin/prometheus ]] ||
            printf 'prometheus\tPrometheus and promtool, to try the alerts and check metrics\n'
        python3 -m pip --version &>/dev/null ||
            printf 'python3-pip\tpip, to fetch the linter of the Dockerfile\n'
        python3 -c 'import ensurepip, venv' &>/dev/null ||
            printf 'python3-venv\tvenv, for the tools that try the recorder API\n'
        has systemd-analyze || printf 'systemd\tsystemd-analyze, to check the units\n'
    fi
    if [[ $need == testing || $need == faults ]]; then
        has go || printf 'golang-go\tGo, to build Toxiproxy, and the tools that check chart and images\n'
        [[ -e "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1" ]] ||
            printf 'faketime\tlibfaketime, to set a service'"'"'s clock wrong\n'
    fi
}

# The newest Java runtime, at least the oldest that will do, that this release of the system has.
java_package() {
    local version
    for version in 25 21 $OLDEST_JAVA; do
        if [[ -n $(apt-cache madison "openjdk-$version-jre-headless") ]]; then
            echo "openjdk-$version-jre-headless"
            return
        fi
    done
    echo default-jre-headless
}

install_prerequisites() {
    local packages=("$@") as_root=() package
    if ((EUID != 0)); then
        if ! has sudo; then
            echo "To install them: apt-get install ${packages[*]}, as root." >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update --quiet
    for package in "${!packages[@]}"; do
        if [[ ${packages[package]} == openjdk-jre-headless ]]; then
            packages[package]=$(java_package)
        fi
    done
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes \
        --no-install-recommends "${packages[@]}" </dev/null
}

# `require_prerequisites building`, `testing` or `faults`.
require_prerequisites() {
    local need=$1 missing cargo_environment=${CARGO_HOME:-${HOME:-}/.cargo}/env
    if ! has cargo && [[ -f $cargo_environment ]]; then
        # shellcheck source=/dev/null
        source "$cargo_environment"
    fi
    if ! has cargo; then
        echo "Rust is missing: install it from https://rustup.rs" >&2
        exit 1
    fi
    missing=$(missing_prerequisites "$need")
    if [[ -n $missing ]]; then
        echo "Missing here:" >&2
        cut -f 2 <<<"$missing" | sed 's/^/  - /' >&2
        if ! has apt-get; then
            echo "This is not Debian or Ubuntu: please install them yourself (on Debian they are" \
                "in the packages $(cut -f 1 <<<"$missing" | paste -sd ' '))." >&2
            exit 1
        fi
        local packages
        mapfile -t packages < <(cut -f 1 <<<"$missing")
        install_prerequisites "${packages[@]}"
        missing=$(missing_prerequisites "$need")
        if [[ -n $missing ]]; then
            echo "Still missing, as this release's packages are too old:" >&2
            cut -f 2 <<<"$missing" | sed 's/^/  - /' >&2
            echo "Newer ones: https://apt.postgresql.org and https://adoptium.net" >&2
            exit 1
        fi
    fi
    deploy/local/kafka/fetch.sh >/dev/null
}
