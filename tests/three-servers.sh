#!/usr/bin/env bash
# examples/three-servers.sh --keep: what it prints at its end shows a lab that works, and removes it.
# Takes the example's other arguments, and VIPSWITCH_BIN.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s\n' "three-servers --keep: $*" >&2
    exit 1
}

said=$(mktemp)
sandbox=''
end() {
    rm -f "$said"
    [[ -z $sandbox ]] || kill -KILL "$sandbox" 2>/dev/null || :
}
trap end EXIT

# Its end shows that it waits for nothing that stays.
NO_COLOR=1 timeout 600 examples/three-servers.sh --keep "$@" </dev/null >"$said" || fail "it failed: $(cat "$said")"
cat "$said"
sandbox=$(sed -n 's/^  kill -KILL \([0-9]*\)$/\1/p' "$said")
[[ -n $sandbox ]] || fail 'it does not say how to remove it'

# As a reader would: paste what it says.
eval "$(sed -n 's/^  \(look() .*\)$/\1/p' "$said")"
for host in server1 server2 server3; do
    [[ $(look "$host" vipswitch status) == master8000:* ]] || fail "no status on $host"
done
[[ $(look server1 redis-cli -p 8000 role | head -n 1) == master ]] || fail 'Redis on server1 is no master'
[[ -n $(look server1 sh -c 'cat /run/var/log/redis/*.log') ]] || fail 'no log on server1'
[[ $(look client redis-cli -h 192.168.56.250 -p 8000 ping) == PONG ]] || fail 'the client does not reach the VIP'

kill -KILL "$sandbox"
for _ in {1..100}; do
    kill -0 "$sandbox" 2>/dev/null || break
    sleep 0.1
done
! kill -0 "$sandbox" 2>/dev/null || fail 'it is still there'
sandbox=''
echo 'three-servers --keep: ok'
