#!/usr/bin/env bash
# Runs every test, unit, integration and documentation; with arguments `cargo test` with these.
# As root it installs what is missing first, else it says what to install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian's ordinary users do not have sbin in their PATH; rustup installs to ~/.cargo/bin.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin

tests/prerequisites.sh ip nft redis-server redis-sentinel redis-cli strace unshare nsenter setpriv pgrep perl openssl \
    script cc cargo /usr/bin/time

# Most of a test's time is waiting: for Sentinel's decision, for the next round.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-8}

cargo_test() { cargo test --locked --no-fail-fast "$@"; }

# Every test but the integration tests.
others() {
    local main name status=0
    local -a targets=(--lib --bins --examples)
    for main in tests/*/main.rs; do
        name=$(basename "$(dirname "$main")")
        [[ $name == integration ]] || targets+=(--test "$name")
    done
    cargo_test "${targets[@]}" || status=$?
    cargo_test --doc || status=$?
    return "$status"
}

# The integration tests wait most of their time: the others run beside them, and are told of afterwards.
all() {
    local status=0 said others
    cargo_test --no-run || return
    said=$(mktemp)
    # A process group of its own can be ended as one.
    set -m
    others >"$said" 2>&1 &
    others=$!
    set +m
    # shellcheck disable=SC2064
    trap "kill -TERM -- -$others 2>/dev/null || :; rm -f '$said'" EXIT
    cargo_test --test integration || status=$?
    wait "$others" || status=$?
    trap - EXIT
    cat "$said"
    rm "$said"
    return "$status"
}

status=0
if (($#)); then cargo_test "$@" || status=$?; else all || status=$?; fi
echo "tests/run.sh: $([[ $status == 0 ]] && echo passed || echo "FAILED ($status)") after $SECONDS s"
exit "$status"
