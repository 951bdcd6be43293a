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

have_memcached() {
    command -v memcached >/dev/null
}

# Installs one package; what cannot be installed keeps no other from it.
install_server() {
    local options=(-o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq "${options[@]}" &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            "${options[@]}" "$1"
}

# A local DynamoDB, from PyPI, in a directory of its own beside what cargo builds; once.
moto_version=5.2.5
moto_dir="${CARGO_TARGET_DIR:-target}/test-servers/moto"

have_moto() {
    [ "$(cat "$moto_dir/version" 2>/dev/null)" = "$moto_version" ]
}

install_moto() {
    rm -rf "$moto_dir"
    mkdir -p "${moto_dir%/*}"
    # Debian has the means to make an environment in a package of its own.
    python3 -m venv "$moto_dir" || {
        rm -rf "$moto_dir"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv &&
            python3 -m venv "$moto_dir"
    } || return
    "$moto_dir/bin/pip" install --quiet --disable-pip-version-check \
        "moto[dynamodb]==$moto_version" flask flask-cors &&
        printf '%s' "$moto_version" >"$moto_dir/version"
}

missing=()
have_postgres || install_server postgresql </dev/null >/dev/null || true
have_postgres || missing+=('Postgres (Debian: postgresql)')
have_redis || install_server redis-server </dev/null >/dev/null || true
have_redis || missing+=('Redis (Debian: redis-server)')
have_memcached || install_server memcached </dev/null >/dev/null || true
have_memcached || missing+=('Memcached (Debian: memcached)')
have_moto || install_moto </dev/null >/dev/null || true
have_moto || missing+=('moto (PyPI: moto)')
if ((${#missing[@]} == 0)); then
    export TEST_STORES=1
else
    printf 'SKIPPED: %s could not be installed; tests of it will say so\n' "${missing[@]}" >&2
fi

status=0
cargo test --all-features "$@" || status=$?
((${#missing[@]} == 0)) || printf 'SKIPPED: the tests of %s, for want of a server\n' "${missing[@]}" >&2
exit $status
