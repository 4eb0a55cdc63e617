#!/usr/bin/env bash
# tests/package/install.sh WORK DEB RPM: installs, upgrades and removes the packages in an overlay of this
# machine's files. Runs in a mount namespace of its own; WORK/tar is the unpacked tarball.
set -euo pipefail
work=$1 deb=$2 rpm=$3

fail() { printf 'tests/package/install.sh: FAILED: %s\n' "$*" >&2; exit 1; }
contains() { grep -Fq -e "$3" <<<"$2" || fail "$1: no '$3' in:"$'\n'"$2"; }
lacks() { ! grep -Fq -e "$3" <<<"$2" || fail "$1: '$3' is in:"$'\n'"$2"; }

mount -t tmpfs tmpfs "$work/control"
mkdir "$work"/control/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/control/upper,workdir=$work/control/work" "$work/control/root"
root=$work/control/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir "$root/packages"
cp "$deb" "$rpm" "$root/packages/"
cp -r "$work/tar" "$root/packages/tar"
# Without /run/systemd/system, nothing of this machine is told anything.
mount -t tmpfs tmpfs "$root/run"
inside() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@" 2>&1; }
owner() { stat -c %U:%G:%a "$root/etc/vipswitch.toml"; }
# What has the name here, whoever wrote it: named FOLDER...
named() { (cd "$root" && find "$@" -name '*vipswitch*' 2>/dev/null | sort) || :; }
# What of it was not on this machine before: left FILE FOLDER...
left() { comm -13 "$1" <(named "${@:2}"); }
places=(etc usr/bin usr/lib usr/share var/lib/systemd)
named "${places[@]}" >"$work/control/before"
named usr/local >"$work/control/before-local"

getent group redis >/dev/null || fail 'there is no group redis here'
conf=$root/etc/redis/sentinel.conf
mkdir -p "$root/etc/redis"
write_conf() {
    printf '%s\n' 'port 26379' '# sentinel client-reconfig-script no /usr/bin/vipswitch' \
        'sentinel monitor m 10.0.0.1 6379 2' 'sentinel client-reconfig-script m /usr/bin/vipswitch' >"$conf"
}
write_conf
timer=$root/etc/systemd/system/timers.target.wants/vipswitch-sync.timer
warning='/etc/redis/sentinel.conf:4:sentinel client-reconfig-script m /usr/bin/vipswitch'

echo '-- dpkg'
said=$(inside dpkg --install "/packages/${deb##*/}") || fail "dpkg --install: $said"
[[ $(owner) == root:redis:640 ]] || fail "the configuration is $(owner)"
[[ ! -L $timer ]] || fail 'the timer is enabled'
[[ " $(inside id -nG vipswitch) " == *' redis '* ]] || fail "vipswitch is in the groups $(inside id -nG vipswitch)"
[[ $(inside id -u vipswitch) != 0 ]] || fail 'the user vipswitch is root'
inside /usr/bin/vipswitch --version >/dev/null || fail 'the executable does not run'
chgrp root "$root/etc/vipswitch.toml"
chmod 600 "$root/etc/vipswitch.toml"
agent=$root/etc/systemd/system/multi-user.target.wants/vipswitch-agent.service
said=$(inside dpkg --install "/packages/${deb##*/}") || fail "dpkg --install, as an upgrade: $said"
[[ ! -L $timer && ! -L $agent ]] || fail 'an upgrade enables what nobody has enabled'
echo '# mine' >>"$root/etc/vipswitch.toml"
inside env DPKG_MAINTSCRIPT_PACKAGE=vipswitch deb-systemd-helper enable vipswitch-agent.service >/dev/null || fail 'the agent cannot be enabled'
# As the package without agent left it: the timer enabled, Sentinel's drop-in in /usr.
inside env DPKG_MAINTSCRIPT_PACKAGE=vipswitch deb-systemd-helper enable vipswitch-sync.timer >/dev/null || fail 'the timer cannot be enabled'
old=$root/usr/lib/systemd/system/redis-sentinel.service.d/vipswitch.conf
kept=$root/etc/systemd/system/redis-sentinel.service.d/vipswitch.conf
mkdir -p "${old%/*}"
printf '[Service]\nPrivateUsers=no\n' >"$old"
said=$(inside dpkg --install "/packages/${deb##*/}") || fail "dpkg --install, again: $said"
lacks 'an upgrade' "$said" WARNING
[[ $(owner) == root:root:600 ]] || fail "an upgrade made the configuration $(owner)"
[[ -L $timer && -L $agent ]] || fail 'an upgrade disabled the timer or the agent'
contains 'the drop-in that is kept' "$(cat "$kept")" 'PrivateUsers=no'
contains 'the drop-in that is kept' "$(cat "$kept")" 'Kept by an upgrade'
# What the administrator has is left alone, a drop-in and what is disabled.
echo '# mine' >"$kept"
rm "$timer"
said=$(inside dpkg --install "/packages/${deb##*/}") || fail "dpkg --install, for the third time: $said"
[[ $(cat "$kept") == '# mine' ]] || fail "an upgrade changed the administrator's drop-in"
[[ ! -L $timer && -L $agent ]] || fail 'an upgrade enabled the timer that the administrator had disabled, or disabled the agent'
rm "$kept"
said=$(inside dpkg --install "/packages/${deb##*/}") || fail "dpkg --install, for the fourth time: $said"
[[ -e $kept ]] || fail 'the drop-in is not kept'
rm -r "${old%/*}"
said=$(inside dpkg --remove vipswitch) || fail "dpkg --remove: $said"
contains 'a removal' "$said" "$warning"
contains 'a removal' "$said" 'NEXT START FAILS'
lacks 'a removal' "$said" 'sentinel.conf:2:'
remedy=$(sed -n 's/^vipswitch:  *\(sed -i .*\)/\1/p' <<<"$said")
inside sh -c "$remedy" >/dev/null || fail "the remedy fails: $remedy"
lacks "$conf after $remedy" "$(cat "$conf")" client-reconfig-script
contains "$conf after $remedy" "$(cat "$conf")" 'sentinel monitor m'
write_conf
[[ -e $root/etc/vipswitch.toml && ! -e $root/usr/bin/vipswitch ]] || fail 'a removal leaves the wrong files'
said=$(inside dpkg --purge vipswitch) || fail "dpkg --purge: $said"
[[ ! -e $root/etc/vipswitch.toml ]] || fail 'a purge leaves the configuration'
left=$(left "$work/control/before" "${places[@]}")
[[ -z $left ]] || fail "a purge leaves $left"

inside dpkg-statoverride --add root root 0644 /etc/vipswitch.toml
inside dpkg --install "/packages/${deb##*/}" >/dev/null || fail 'dpkg --install with a statoverride'
[[ $(owner) == root:root:644 ]] || fail "the administrator's statoverride lost to $(owner)"
inside dpkg --purge vipswitch >/dev/null
inside dpkg-statoverride --remove /etc/vipswitch.toml

echo '-- rpm'
# Debian's rpm warns that it should not be used; that is no word of the scriptlets.
run_rpm() { inside rpm --nodeps --dbpath /tmp/rpmdb "$@" | { grep -v '^rpm: ' || :; }; }
said=$(run_rpm -i "/packages/${rpm##*/}") || fail "rpm -i: $said"
[[ -z $said ]] || fail "rpm -i says: $said"
[[ $(owner) == root:redis:640 ]] || fail "the configuration is $(owner)"
[[ ! -L $timer ]] || fail 'the timer is enabled'
said=$(run_rpm --verify vipswitch) || fail "rpm --verify: $said"
echo '# mine' >>"$root/etc/vipswitch.toml"
said=$(run_rpm -U --force "/packages/${rpm##*/}") || fail "rpm -U: $said"
lacks 'an upgrade' "$said" WARNING
contains 'the configuration' "$(tail -1 "$root/etc/vipswitch.toml")" '# mine'
[[ $(owner) == root:redis:640 ]] || fail "after an upgrade the configuration is $(owner)"
said=$(run_rpm -e vipswitch) || fail "rpm -e: $said"
contains 'a removal' "$said" "$warning"
[[ ! -e $root/usr/bin/vipswitch && ! -L $timer ]] || fail 'a removal leaves the wrong files'
rm -f "$root"/etc/vipswitch.toml*

echo '-- install.sh'
said=$(inside /packages/tar/install.sh) || fail "install.sh: $said"
[[ $(owner) == root:redis:640 ]] || fail "the configuration is $(owner)"
inside /usr/local/bin/vipswitch --version >/dev/null || fail 'the executable does not run'
units=$root/usr/local/lib/systemd/system
contains 'the drop-in' "$(cat "$root/usr/local/share/doc/vipswitch/examples/systemd/redis-sentinel.conf")" 'ExecPaths=/usr/local/bin/vipswitch'
contains 'the service' "$(cat "$units/vipswitch-sync.service")" 'ExecStart=/usr/local/bin/vipswitch sync'
contains 'the service' "$(cat "$units/vipswitch-agent.service")" 'ExecStart=/usr/local/bin/vipswitch agent'
contains 'the name that everybody tries' "$(readlink "$units/vipswitch.service")" vipswitch-agent.service
hooks=("$root"/etc/{network/if-up.d/vipswitch,NetworkManager/dispatcher.d/50-vipswitch,networkd-dispatcher/routable.d/50-vipswitch})
for hook in "${hooks[@]}"; do [[ $(stat -c %U:%G:%a "$hook") == root:root:755 ]] || fail "$hook is not there, or nobody runs it"; done
inside /packages/tar/install.sh >/dev/null || fail 'install.sh, again'
sed -i 's|/usr/bin/vipswitch$|"/usr/local/bin/vipswitch"|' "$conf"
said=$(inside /packages/tar/install.sh --uninstall) || fail "install.sh --uninstall: $said"
contains 'a removal' "$said" '/etc/redis/sentinel.conf:4:'
left=$(left "$work/control/before-local" usr/local)
[[ -z $left ]] || fail "install.sh --uninstall leaves $left"
for hook in "${hooks[@]}"; do [[ ! -e $hook ]] || fail "install.sh --uninstall leaves $hook"; done
rm "$root/etc/vipswitch.toml"
inside /packages/tar/install.sh --root /packages/image --prefix /opt/vipswitch >/dev/null || fail 'install.sh --root'
[[ -x $root/packages/image/opt/vipswitch/bin/vipswitch && ! -e $root/etc/vipswitch.toml ]] || fail 'install.sh --root installs elsewhere'
contains 'the service' "$(cat "$root/packages/image/etc/systemd/system/vipswitch-sync.service")" /opt/vipswitch/bin/vipswitch
[[ -x $root/packages/image/etc/NetworkManager/dispatcher.d/50-vipswitch ]] || fail 'install.sh --root forgets NetworkManager'
! inside /packages/tar/install.sh --prefix 'a b' >/dev/null || fail 'install.sh takes any prefix'

