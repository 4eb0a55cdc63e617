#!/usr/bin/env bash
# Runs every test, unit, integration and documentation; arguments go to `cargo test`.
# As root it installs what is missing first, else it says what to install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian's ordinary users do not have sbin in their PATH; rustup installs to ~/.cargo/bin.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin

tests/prerequisites.sh ip nft redis-server redis-sentinel redis-cli strace unshare nsenter setpriv pgrep perl openssl \
    script cc cargo /usr/bin/time

# Most of a test's time is waiting: for Sentinel's decision, for the next round.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-6}

status=0
cargo test --locked --no-fail-fast "$@" || status=$?
echo "tests/run.sh: $([[ $status == 0 ]] && echo passed || echo "FAILED ($status)") after $SECONDS s"
exit "$status"
