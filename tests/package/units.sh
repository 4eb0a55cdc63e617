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
for program in vipswitch redis-sentinel sh install; do cp /bin/true "$root/usr/bin/$program"; done
[[ -r $root/usr/lib/systemd/system/redis-sentinel.service ]] || fail 'there is no redis-sentinel.service to try the drop-in on'

for unit in redis-sentinel.service redis-sentinel@x.service vipswitch-sync.service vipswitch-sync.timer; do
    said=$(systemd-analyze --root="$root" --man=no verify "$unit" 2>&1) || fail "$unit: $said"
    [[ -z $said ]] || fail "$unit: $said"
done

# 0 is the best, 10 the worst (times ten for --threshold); the stock redis-sentinel.service of Debian 12 has 1.2.
for unit in redis-sentinel.service vipswitch-sync.service; do
    said=$(systemd-analyze --root="$root" --offline=yes --threshold=30 --no-pager security "$unit" 2>&1) || fail "$said"
    echo "$unit: ${said##*$'\n'}"
done

# Each line of the stock unit that stops a hook (PrivateUsers=yes and so on) has its answer in the drop-in.
for server in redis valkey; do
    for unit in "$server-sentinel" "$server-sentinel@"; do
        dropin=$1/usr/lib/systemd/system/$unit.service.d/vipswitch.conf
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
# 1 is what SuccessExitStatus= takes for a yes.
[[ $(code "$1/etc/vipswitch.toml") == 100 ]] || fail 'the sample counts as a configuration with a master'
[[ $(code "$1/etc/no-such-file") == 100 ]] || fail 'a missing file counts as a configuration with a master'
for text in '[masters.m]' '  [ masters . "m 1" ]' '["masters".m]' "['masters'.m]" 'masters.m.vip = "10.0.0.1"' 'masters = { }'; do
    echo "$text" >"$1/condition"
    [[ $(code "$1/condition") == 0 ]] || fail "not seen as a master: $text"
done
for text in '#[masters.m]' '#masters = { }' '[sentinel]' '# the masters' ''; do
    echo "$text" >"$1/condition"
    [[ $(code "$1/condition") == 100 ]] || fail "seen as a master: $text"
done
