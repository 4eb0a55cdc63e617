#!/usr/bin/env bash
# Makes sure that the named commands are there: tests/prerequisites.sh ip nft redis-server ...
#
# As root on Debian and its kin it installs the packages that lack, and leaves no Redis service
# running or enabled that was not there before. Elsewhere it names what to install and exits 1.
set -euo pipefail

# Prints the packages that hold command $2 in distribution $1.
packages_of() {
    case "$1:$2" in
    *:cargo) ;;
    debian:ip | suse:ip | arch:ip | alpine:ip) echo iproute2 ;;
    fedora:ip) echo iproute ;;
    *:nft) echo nftables ;;
    debian:redis-server) echo redis-server ;;
    debian:redis-sentinel) echo redis-sentinel ;;
    debian:redis-cli) echo redis-tools ;;
    fedora:redis-*) echo valkey-compat-redis ;;
    arch:redis-*) echo valkey ;;
    *:redis-*) echo redis ;;
    alpine:pgrep | fedora:pgrep | arch:pgrep) echo procps-ng ;;
    *:pgrep) echo procps ;;
    *:strace) echo strace ;;
    # By its path: `time` alone is a word of the shell.
    *:/usr/bin/time) echo time ;;
    *:readelf) echo binutils ;;
    alpine:unshare | alpine:nsenter) echo util-linux-misc ;;
    alpine:setpriv) echo setpriv ;;
    *:unshare | *:nsenter | *:setpriv) echo util-linux ;;
    debian:cc) echo gcc libc6-dev ;;
    fedora:cc) echo gcc glibc-devel glibc-static ;;
    suse:cc) echo gcc glibc-devel glibc-devel-static ;;
    alpine:cc) echo gcc musl-dev ;;
    *:cc) echo gcc ;;
    *:lintian) echo lintian ;;
    *:dpkg-deb) echo dpkg ;;
    debian:rpmbuild | debian:rpm) echo rpm ;;
    fedora:rpmbuild) echo rpm-build ;;
    arch:rpmbuild | arch:rpm) echo rpm-tools ;;
    fedora:shellcheck | suse:shellcheck) echo ShellCheck ;;
    debian:script) echo bsdutils ;;
    fedora:script) echo util-linux-script ;;
    *:script) echo util-linux ;;
    *:systemd-analyze) echo systemd ;;
    *:man) echo man-db ;;
    arch:systemd-nspawn) echo systemd ;;
    *:systemd-nspawn) echo systemd-container ;;
    debian:arping) echo iputils-arping ;;
    alpine:arping) echo iputils-arping ;;
    *:arping) echo iputils ;;
    *) echo "$2" ;;
    esac
}

packages() {
    local distribution=$1 name
    shift
    # Unquoted on purpose: some commands need several packages.
    # shellcheck disable=SC2046
    for name; do printf '%s\n' $(packages_of "$distribution" "$name"); done | sort -u | xargs
}

distribution() {
    local family=''
    # shellcheck source=/dev/null
    [[ ! -r /etc/os-release ]] || family=$(. /etc/os-release && echo " ${ID:-} ${ID_LIKE:-} ")
    case $family in
    *' debian '* | *' ubuntu '*) echo debian ;;
    *' fedora '* | *' rhel '* | *' centos '*) echo fedora ;;
    *' arch '*) echo arch ;;
    *' alpine '*) echo alpine ;;
    *suse*) echo suse ;;
    *) echo unknown ;;
    esac
}

say_what_to_install() {
    local distribution=$1 install
    shift
    case $distribution in
    debian) install='apt-get install --no-install-recommends' ;;
    fedora) install='dnf install' ;;
    arch) install='pacman -S' ;;
    alpine) install='apk add' ;;
    suse) install='zypper install' ;;
    unknown)
        {
            echo "missing commands: $*"
            echo "Install what holds them; the names of other distributions may help:"
            echo "  Debian    $(packages debian "$@")"
            echo "  Fedora    $(packages fedora "$@")"
            echo "  Arch      $(packages arch "$@")"
            echo "  Alpine    $(packages alpine "$@")"
            echo "  openSUSE  $(packages suse "$@")"
        } >&2
        return
        ;;
    esac
    echo "missing commands: $*" >&2
    if [[ $distribution == debian ]]; then
        # Not apt-get itself: that would start the Redis services.
        echo "Install them as root, without leaving a Redis service behind:" >&2
        echo "  sudo $(realpath "${BASH_SOURCE[0]}") $*" >&2
        echo "  (packages: $(packages debian "$@"))" >&2
    else
        echo "Install them as root: $install $(packages "$distribution" "$@")" >&2
    fi
}

POLICY=/usr/sbin/policy-rc.d
made_policy=''

remove_policy() {
    [[ -z $made_policy ]] || rm -f "$POLICY"
    made_policy=''
}

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

install_on_debian() {
    local wanted service
    local -a services=()
    read -ra wanted <<<"$(packages debian "$@")"
    for service in redis-server redis-sentinel; do
        is_installed "$service" || services+=("$service")
    done
    echo "installing ${wanted[*]}" >&2
    trap remove_policy EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if [[ ! -e $POLICY ]]; then
        made_policy=yes
        # invoke-rc.d asks this file; 101 forbids it to start anything.
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod 755 "$POLICY"
    fi
    export DEBIAN_FRONTEND=noninteractive
    local -a apt=(apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
    "${apt[@]}" update >&2
    "${apt[@]}" install -y --no-install-recommends "${wanted[@]}" </dev/null >&2
    remove_policy
    command -v systemctl >/dev/null || return 0
    for service in "${services[@]}"; do
        is_installed "$service" || continue
        systemctl --quiet disable "$service" >&2
        # Where another program is the first process there is nothing to ask.
        [[ ! -d /run/systemd/system ]] || systemctl --quiet stop "$service" >&2
    done
}

missing_of() {
    local name
    hash -r
    for name; do
        command -v "$name" >/dev/null || echo "$name"
    done
}

main() {
    local -a missing
    # Debian's ordinary users do not have sbin in their PATH; rustup installs to ~/.cargo/bin.
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
    mapfile -t missing < <(missing_of "$@")
    if [[ " ${missing[*]} " == *' cargo '* ]]; then
        echo "missing command: cargo. Get Rust from https://rustup.rs, then run this again." >&2
        exit 1
    fi
    ((${#missing[@]})) || exit 0
    if [[ $(distribution) != debian || $(id -u) != 0 ]]; then
        say_what_to_install "$(distribution)" "${missing[@]}"
        exit 1
    fi
    install_on_debian "${missing[@]}"
    mapfile -t missing < <(missing_of "$@")
    ((${#missing[@]} == 0)) || {
        echo "still missing after the installation: ${missing[*]}" >&2
        exit 1
    }
}

main "$@"
