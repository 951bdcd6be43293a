#!/usr/bin/env bash
# Installs what the tests need beside Rust, as far as this user may, and runs all tests.
#
#   tests/run.sh                 everything
#   tests/run.sh NAME ...        what `cargo test --all-features` takes
#
# The tests start servers of their own, each on a free loopback port with its data in a temporary
# directory, and never use one that runs already. Where a server cannot be installed, its tests say
# SKIPPED aloud; with TEST_STORES=1 they fail instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

have_postgres() {
    command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

have_redis() {
    command -v redis-server >/dev/null
}

# Installs one package; what cannot be installed keeps no other from it.
install_server() {
    local options=(-o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq "${options[@]}" &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            "${options[@]}" "$1"
}

missing=()
have_postgres || install_server postgresql </dev/null >/dev/null || true
have_postgres || missing+=('Postgres (Debian: postgresql)')
have_redis || install_server redis-server </dev/null >/dev/null || true
have_redis || missing+=('Redis (Debian: redis-server)')
if ((${#missing[@]} == 0)); then
    export TEST_STORES=1
else
    printf 'SKIPPED: %s could not be installed; tests of it will say so\n' "${missing[@]}" >&2
fi

status=0
cargo test --all-features "$@" || status=$?
((${#missing[@]} == 0)) || printf 'SKIPPED: the tests of %s, for want of a server\n' "${missing[@]}" >&2
exit $status
