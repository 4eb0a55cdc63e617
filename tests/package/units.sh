#!/usr/bin/env bash
# tests/package/units.sh FOLDER: what systemd says of the units in an unpacked package, beside this machine's
# own units and the distribution's redis-sentinel.service.
set -euo pipefail

fail() { printf 'tests/package/units.sh: FAILED: %s\n' "$*" >&2; exit 1; }
root=$1/units
mkdir -p "$root/usr/bin" "$root/usr/lib/systemd" "$root/etc"
ln -s usr/lib "$root/lib"
ln -s usr/bin "$root/bin"
cp -a /usr/lib/systemd/system "$root/usr/lib/systemd/"
cp -a "$1"/usr/lib/systemd/system/. "$root/usr/lib/systemd/system"
# Only their names count: verify looks whether they are there.
for program in vipswitch redis-sentinel redis-server sh install kill true; do cp /bin/true "$root/usr/bin/$program"; done
[[ -r $root/usr/lib/systemd/system/redis-sentinel.service ]] || fail 'there is no redis-sentinel.service to try the drop-in on'

# The way without agent: the drop-ins as the administrator copies them.
for server in redis valkey; do
    for unit in "$server-sentinel" "$server-sentinel@"; do
        mkdir -p "$root/etc/systemd/system/$unit.service.d"
        cp "$1/usr/share/doc/vipswitch/examples/systemd/$server-sentinel.conf" "$root/etc/systemd/system/$unit.service.d/vipswitch.conf"
    done
done
# And those for who wants a server that is stopped by itself to hand over, too.
for server in redis valkey; do
    for unit in "$server-server" "$server-server@"; do
        mkdir -p "$root/etc/systemd/system/$unit.service.d"
        cp "$1/usr/share/doc/vipswitch/examples/systemd/$server-server.conf" "$root/etc/systemd/system/$unit.service.d/vipswitch.conf"
    done
done
for unit in redis-sentinel.service redis-sentinel@x.service redis-server.service vipswitch-agent.service vipswitch-handover.service vipswitch-sync.service vipswitch-sync.timer vipswitch.service; do
    said=$(systemd-analyze --root="$root" --man=no verify "$unit" 2>&1) || fail "$unit: $said"
    [[ -z $said ]] || fail "$unit: $said"
done

# 0 is the best, 10 the worst (times ten for --threshold); the stock redis-sentinel.service of Debian 12 has 1.2.
for unit in redis-sentinel.service:30 vipswitch-sync.service:30 vipswitch-agent.service:20 vipswitch-handover.service:20; do
    said=$(systemd-analyze --root="$root" --offline=yes --threshold="${unit#*:}" --no-pager security "${unit%:*}" 2>&1) || fail "$said"
    echo "${unit%:*}: ${said##*$'\n'}"
done
agent=$1/usr/lib/systemd/system/vipswitch-agent.service
for line in User=vipswitch 'CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW' 'AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW' \
    Type=notify NoNewPrivileges=yes RuntimeDirectoryPreserve=yes; do
    grep -Fqx -e "$line" "$agent" || fail "$agent lacks $line"
done

# What hands over at a shutdown is stopped before every server, and asks the agent, which pulls it in and does not end it.
handover=$1/usr/lib/systemd/system/vipswitch-handover.service
after=" $(sed -n 's/^After=//p' "$handover" | paste -sd ' ') "
for unit in network.target redis-server.service redis.service valkey-server.service valkey.service redis-sentinel.service \
    sentinel.service valkey-sentinel.service vipswitch-agent.service multi-user.target; do
    [[ $after == *" $unit "* ]] || fail "$handover is not after $unit"
done
grep -Fqx Wants=vipswitch-handover.service "$agent" || fail "$agent does not pull in vipswitch-handover.service"
for line in Requires BindsTo PartOf Conflicts WantedBy; do
    ! grep -q "^$line=" "$handover" || fail "$handover has $line="
done
# In a running system its end hands nothing over.
stop=$(sed -n "s/^ExecStop=-\/bin\/sh -c '\(.*\)'$/\1/p" "$handover")
[[ $stop == *'exec /usr/bin/vipswitch failover --from-this-host'* ]] || fail "found no ExecStop= in $handover"
mkdir "$1/handover.d"
# shellcheck disable=SC2016
printf '#!/bin/sh\necho "$STATE"\n[ "$STATE" = running ]\n' >"$1/handover.d/systemctl"
chmod 755 "$1/handover.d/systemctl"
# Where systemd does not tell (its bus is gone), a unit that is only stopped must not hand over.
for state in running degraded starting initializing maintenance stopping offline unknown ''; do
    said=$(STATE=$state PATH=$1/handover.d:$PATH sh -c "${stop/exec \/usr\/bin\/vipswitch/exec echo}")
    case $state in
    stopping) [[ $said == 'failover --from-this-host' ]] || fail "$state: nothing is handed over" ;;
    *) [[ -z $said ]] || fail "$state: the end of $handover hands over" ;;
    esac
done

# Each line of the stock unit that stops a hook (PrivateUsers=yes and so on) has its answer in the drop-in.
for server in redis valkey; do
    for unit in "$server-sentinel" "$server-sentinel@"; do
        dropin=$root/etc/systemd/system/$unit.service.d/vipswitch.conf
        for line in ExecPaths=-/usr/lib/vipswitch PrivateUsers=no 'CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW' \
            'AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW' ReadWritePaths=-/run/vipswitch ProtectProc=default \
            'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET' \
            "ExecStartPre=-+/usr/bin/install -d -m 0775 -o root -g $server /run/vipswitch"; do
            grep -Fqx -e "$line" "$dropin" || fail "$dropin lacks $line"
        done
    done
done

# The condition of the sync service: the sample is skipped, a configuration with a master is not.
condition=$(sed -n "s/^ExecCondition=\/bin\/sh -c '\(.*\)'$/\1/p" "$1/usr/lib/systemd/system/vipswitch-sync.service")
[[ -n $condition ]] || fail 'found no ExecCondition='
code() { local status=0; sh -c "${condition/\/etc\/vipswitch.toml/$1}" || status=$?; echo "$status"; }
# No agent is at work on this machine, or one is: the systemctl that the condition finds first says which.
mkdir "$1/condition.d"
# shellcheck disable=SC2016
printf '#!/bin/sh\nexit "${AGENT:-3}"\n' >"$1/condition.d/systemctl"
chmod 755 "$1/condition.d/systemctl"
PATH=$1/condition.d:$PATH
# 1 is what SuccessExitStatus= takes for a yes.
[[ $(code "$1/etc/vipswitch.toml") == 100 ]] || fail 'the sample counts as a configuration with a master'
[[ $(code "$1/etc/no-such-file") == 100 ]] || fail 'a missing file counts as a configuration with a master'
for text in '[masters.m]' '  [ masters . "m 1" ]' '["masters".m]' "['masters'.m]" 'masters.m.vip = "10.0.0.1"' 'masters = { }'; do
    echo "$text" >"$1/condition"
    [[ $(code "$1/condition") == 0 ]] || fail "not seen as a master: $text"
done
echo '[masters.m]' >"$1/condition"
[[ $(AGENT=0 code "$1/condition") == 100 ]] || fail 'the sync runs beside an agent at work'
for text in '#[masters.m]' '#masters = { }' '[sentinel]' '# the masters' ''; do
    echo "$text" >"$1/condition"
    [[ $(code "$1/condition") == 100 ]] || fail "seen as a master: $text"
done

# What runs when an interface comes up: the same file everywhere, and a sync only where the timer runs.
interface_up=$1/etc/network/if-up.d/vipswitch
for place in NetworkManager/dispatcher.d networkd-dispatcher/routable.d; do
    cmp "$interface_up" "$1/usr/lib/$place/50-vipswitch" || fail "$place has another file"
done
mkdir "$1/fake" "$1/fake/run"
cat >"$1/fake/systemctl" <<'END'
#!/bin/sh
case $* in
*is-active*) exit "$TIMER" ;;
*) echo "$*" ;;
esac
END
chmod 755 "$1/fake/systemctl"
sed "s|/run/systemd/system|$1/fake/run|" "$interface_up" >"$1/fake/interface-up"
# starts HOW-IS-ACTIVE-ENDS IFACE ARGUMENT...: prints what systemctl is told
starts() { TIMER=$1 IFACE=$2 PATH=$fake:$PATH sh "$fake/interface-up" "${@:3}" || fail "$interface_up ends with $?"; }
fake=$1/fake
sync='--no-block start vipswitch-sync.service'
[[ $(starts 0 eth1) == "$sync" ]] || fail 'ifup starts no sync'
[[ -z $(starts 3 eth1) ]] || fail 'ifup starts a sync, though the timer does not run'
[[ -z $(starts 0 lo) ]] || fail 'ifup of lo starts a sync'
for event in up dhcp4-change dhcp6-change reapply; do
    [[ $(starts 0 '' eth1 "$event") == "$sync" ]] || fail "NetworkManager's $event starts no sync"
done
for event in down pre-up hostname connectivity-change; do
    [[ -z $(starts 0 '' eth1 "$event") ]] || fail "NetworkManager's $event starts a sync"
done
rm -r "$fake/run"
[[ -z $(starts 0 eth1) ]] || fail 'ifup starts a sync where systemd is not the first process'
