#!/bin/sh
# Installs vipswitch from this folder, for machines without packages:
#   ./install.sh [--prefix /usr/local] [--root FOLDER] [--uninstall]
#
# --root installs below a folder that will be / later, and touches nothing that runs. An existing
# /etc/vipswitch.toml stays as it is, also at --uninstall.
set -eu
#COMMON#

prefix=/usr/local root='' action=install
while [ $# -gt 0 ]; do
    case $1 in
    --prefix) prefix=${2:?} && shift ;;
    --root) root=${2:?} && shift ;;
    --uninstall) action=uninstall ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done
prefix=${prefix%/}
case $prefix in
'' | [!/]* | *[!A-Za-z0-9/._-]*) say "not a prefix: $prefix" && exit 2 ;;
esac
root=${root%/}
files=$(cd "$(dirname "$0")" && pwd)/files
# systemd looks below these two only.
case $prefix in
/usr | /usr/local) units=$prefix/lib/systemd/system tmpfiles=$prefix/lib/tmpfiles.d sysusers=$prefix/lib/sysusers.d ;;
*) units=/etc/systemd/system tmpfiles=/etc/tmpfiles.d sysusers=/etc/sysusers.d ;;
esac
# And these below /usr and /etc.
case $prefix in
/usr) network=/usr/lib ;;
*) network=/etc ;;
esac

# Prints where a file of the package goes.
place_of() {
    case $1 in
    usr/lib/systemd/system/*) echo "$root$units/${1#usr/lib/systemd/system/}" ;;
    usr/lib/tmpfiles.d/*) echo "$root$tmpfiles/${1#usr/lib/tmpfiles.d/}" ;;
    usr/lib/sysusers.d/*) echo "$root$sysusers/${1#usr/lib/sysusers.d/}" ;;
    usr/lib/NetworkManager/* | usr/lib/networkd-dispatcher/*) echo "$root$network/${1#usr/lib/}" ;;
    usr/*) echo "$root$prefix/${1#usr/}" ;;
    *) echo "$root/$1" ;;
    esac
}

each_file() { (cd "$files" && find . ! -type d | sed 's|^\./||' | sort); }

install_file() {
    place=$(place_of "$1")
    case $1 in
    etc/vipswitch.toml)
        [ ! -e "$place" ] || return 0
        mode=640
        ;;
    etc/network/* | usr/bin/* | usr/lib/NetworkManager/* | usr/lib/networkd-dispatcher/*) mode=755 ;;
    *) mode=644 ;;
    esac
    mkdir -p "$(dirname "$place")"
    if [ -h "$files/$1" ]; then
        ln -sfn "$(readlink "$files/$1")" "$place"
        return 0
    fi
    case $1 in
    usr/lib/systemd/* | usr/share/doc/vipswitch/examples/*)
        sed "s|/usr/bin/vipswitch|$prefix/bin/vipswitch|g" "$files/$1" >"$place.new"
        ;;
    *) cp "$files/$1" "$place.new" ;;
    esac
    chmod "$mode" "$place.new"
    # In one step: Sentinel may be starting it just now.
    mv "$place.new" "$place"
}

remove_file() {
    [ "$1" != etc/vipswitch.toml ] || return 0
    place=$(place_of "$1")
    rm -f "$place"
    # Only folders that are nobody else's.
    case $1 in
    usr/share/doc/*) rmdir "${place%/*}" "$root$prefix/share/doc/vipswitch/docs" "$root$prefix/share/doc/vipswitch/examples" "$root$prefix/share/doc/vipswitch" 2>/dev/null || : ;;
    *.service.d/*) rmdir "${place%/*}" 2>/dev/null || : ;;
    esac
}

runs_here() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

umask 022
if [ "$action" = install ]; then
    replaced=$([ ! -e "$root$prefix/bin/vipswitch" ] || echo yes)
    each_file | while IFS= read -r file; do install_file "$file"; done
    make_user
    if [ -z "$root" ]; then share_configuration; fi
    if runs_here; then
        systemd-tmpfiles --create vipswitch.conf || :
        systemctl daemon-reload
        systemctl try-restart vipswitch-agent.service vipswitch-sync.timer || :
        say_how_to_use_the_agent
    fi
    # In the drop-in of the way without agent ExecPaths= names the file itself, which is a mount on the old one.
    [ -z "$replaced" ] || say 'the executable was replaced: restart every Sentinel that calls it, or systemd keeps it from running the new one'
    say "installed below $root$prefix. Next: name a master in $root/etc/vipswitch.toml, and in sentinel.conf"
    say "    sentinel client-reconfig-script MASTER $prefix/bin/vipswitch"
    say 'then: systemctl enable --now vipswitch-agent'
else
    warn_if_named "$prefix/bin/vipswitch"
    if runs_here; then
        systemctl disable --now vipswitch-agent.service vipswitch-sync.timer || :
        systemctl stop vipswitch-handover.service || :
    fi
    each_file | while IFS= read -r file; do remove_file "$file"; done
    # An earlier version has installed these.
    for server in redis valkey; do
        for unit in "$server-sentinel.service" "$server-sentinel@.service"; do remove_file "usr/lib/systemd/system/$unit.d/vipswitch.conf"; done
    done
    if runs_here; then systemctl daemon-reload; fi
    say "removed from $root$prefix; $root/etc/vipswitch.toml is left"
fi
