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
asked=$(look server1 redis-cli -p 6800 sentinel get-master-addr-by-name master8000 2>&1)
[[ $asked == 192.168.56.101$'\n'8000 ]] || fail "the Sentinel on server1 says: $asked"
# The client's writes have ended.
writes() { look server1 redis-cli -p 8000 get writes; }
before=$(writes)
sleep 2
[[ $before -gt 0 && $(writes) == "$before" ]] || fail 'the client still writes'
# What was killed is started by what it says.
again() { eval "$(sed -n "s/^  \(look server1 .*$1.*\)\$/\1/p" "$said")"; }
look server1 redis-cli -p 8000 shutdown nosave || :
again redis-server
for _ in {1..100}; do
    [[ $(look server1 redis-cli -p 8000 ping 2>&1) != PONG ]] || break
    sleep 0.1
done
[[ $(look server1 redis-cli -p 8000 ping) == PONG ]] || fail 'Redis does not start again'
if [[ " $* " != *' --hook-only '* ]]; then
    pid=$(look server1 vipswitch status --json | sed -n 's/.*"agent":{[^{]*"pid":\([0-9]*\).*/\1/p')
    look server1 kill "$pid" || fail 'no agent on server1'
    again 'vipswitch agent'
    for _ in {1..100}; do
        [[ $(look server1 vipswitch status) != *'agent: none runs'* ]] || { sleep 0.1 && continue; }
        break
    done
    [[ $(look server1 vipswitch status) == *' (pid '* ]] || fail 'the agent does not start again'
fi
# It may have been a failover.
for _ in {1..100}; do
    [[ $(look client timeout 1 redis-cli -h 192.168.56.250 -p 8000 ping 2>&1) != PONG ]] || break
    sleep 0.1
done
[[ $(look client redis-cli -h 192.168.56.250 -p 8000 ping) == PONG ]] || fail 'the client does not reach the VIP'

kill -KILL "$sandbox"
for _ in {1..100}; do
    kill -0 "$sandbox" 2>/dev/null || break
    sleep 0.1
done
! kill -0 "$sandbox" 2>/dev/null || fail 'it is still there'
sandbox=''
echo 'three-servers --keep: ok'
