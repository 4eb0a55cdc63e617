# shellcheck shell=bash
# The lab of run.sh: three Debian servers that systemd has booted, and a client, on one bridge.
#
# All of it lives in a mount, a network and a process namespace of its own, and every file that a
# server writes in a tmpfs there, so the kernel takes it away when the first process ends. What lies
# outside and is removed by run.sh: the control groups. What stays on purpose: the Debian that was
# fetched once, in $VIPSWITCH_TEST_CACHE.

readonly MASTER=master8000 VIP=192.168.56.250 REDIS_PORT=8000 SENTINEL_PORT=6800
readonly SERVERS=(server1 server2 server3)
declare -rA ADDRESS=(
    [server1]=192.168.56.101 [server2]=192.168.56.102 [server3]=192.168.56.103
    [client]=192.168.56.10
)
declare -rA MAC=(
    [server1]=02:00:00:00:01:01 [server2]=02:00:00:00:01:02 [server3]=02:00:00:00:01:03
    [client]=02:00:00:00:01:10 [rival]=02:00:00:00:01:99
)
readonly LAB=/run/lab
# Seconds: how long anything may take on a busy machine.
readonly PATIENCE=120

declare -A nspawn=() # the process outside that keeps a server
declare -A leader=() # that server's systemd
password=''

# --- words ---------------------------------------------------------------------------------------

now() { echo "${EPOCHREALTIME/./}"; } # microseconds
started=$(now)

# Prints microseconds as seconds: 1234567 is 1.23.
seconds() { printf '%d.%02d' $(($1 / 1000000)) $(($1 / 10000 % 100)); }

heading() { printf '\n%s\n' "$*"; }
fact() { printf '  %7s s  %s\n' "$(seconds $(($(now) - started)))" "$*"; }

# --- a failure, with all that tells why ----------------------------------------------------------

concerned=()

# Names the servers that a failure shows; none: all.
concern() { concerned=("$@"); }

die() {
    trap - ERR
    set +e
    local host
    {
        printf '\n--- failed: %s\n' "$1"
        [[ ${#concerned[@]} -gt 0 ]] || concerned=("${SERVERS[@]}")
        for host in "${concerned[@]}"; do show_server "$host"; done
        printf '\n--- failed: %s\n' "$1"
    } >&2
    exit 1
}

show_server() {
    local host=$1
    printf '\n--- %s: addresses\n' "$host"
    ip -netns "$host" -brief address
    printf -- '--- %s: the end of its journal\n' "$host"
    if is_up "$host"; then
        on "$host" journalctl --no-pager --quiet --output=short-precise --lines=60 --no-hostname |
            grep -v 'was skipped because'
        printf -- '--- %s: the end of the logs of Redis and Sentinel\n' "$host"
        on "$host" tail -n 12 "/var/log/$PRODUCT/$PRODUCT"-{server,sentinel}.log
    else
        tail -n 20 "$LAB/$host.console"
    fi
}

# Waits until a command succeeds: until_deadline SECONDS WHAT COMMAND...
until_deadline() {
    local deadline=$(($(now) + $1 * 1000000)) seconds=$1 what=$2
    shift 2
    until "$@"; do
        (($(now) < deadline)) || die "$what: not within $seconds s"
        sleep 0.1
    done
}

# Succeeds if a command fails.
fails() { ! "$@"; }

# --- the Debian that every server starts from ----------------------------------------------------

# What the servers of a run are: Debian's suite, and whose server and Sentinel.
SYSTEM=${SYSTEM:-bookworm-redis}
# shellcheck disable=SC2034 # run.sh uses them
readonly SYSTEMS=(bookworm-redis trixie-redis trixie-valkey)
readonly PRODUCT=${SYSTEM#*-}
# shellcheck disable=SC2034
readonly UNIT=$PRODUCT-sentinel SENTINEL_CONF=/etc/$PRODUCT/sentinel.conf \
    SENTINEL_LOG=/var/log/$PRODUCT/$PRODUCT-sentinel.log

# Prints what a server of a system has; beside what it needs, what the test breaks things with.
packages_of() {
    printf 'systemd-sysv,dbus,iproute2,procps,%s-server,%s-sentinel,nftables,libcap2-bin' "${1#*-}" "${1#*-}"
    [[ $1 != trixie-redis ]] || printf ',ifupdown,network-manager'
}

# Prints the folder of a system, and makes it first if it is not there: debian CACHE SYSTEM
debian() {
    local cache=$1 system=$2 folder
    folder=$cache/${system%-*}-$(packages_of "$system" | cksum | cut -d ' ' -f 1)
    mkdir -p "$cache"
    (
        flock 9
        [[ -d $folder ]] || make_debian "$folder" "$system"
    ) 9>"$cache/lock" >&2 || die_outside "no Debian for the lab, see $cache/debootstrap.log"
    echo "$folder"
}

# In memory, because dpkg waits for the disk after every file, and then copied in one go.
make_debian() {
    local folder=$1 system=$2 log
    log=$(dirname "$folder")/debootstrap.log
    echo "  fetching Debian for $system, once ($log)"
    # shellcheck disable=SC2016
    unshare --mount "$BASH" -euc '
        mount -t tmpfs -o mode=0755,size=2g tmpfs "$3"
        debootstrap --variant=minbase --include="$1" "$0" "$3/debian"
        rm -rf "$3"/debian/var/cache/apt/archives/*.deb "$3"/debian/var/lib/apt/lists/*
        cp -a "$3/debian" "$2.new"
        sync -f "$2.new"
        mv "$2.new" "$2"
        ' "${system%-*}" "$(packages_of "$system")" "$folder" /mnt >"$log" 2>&1 || {
        tail -n 20 "$log"
        rm -rf "$folder.new"
        return 1
    }
}

# --- control groups: one for each server, or their systemds would meet in one --------------------

# Prints the folders in which a control group of ours can be made.
cgroup_roots() {
    local root
    for root in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
        [[ ! -e $root/cgroup.procs ]] || echo "$root"
    done
}

# Puts this process into the control group NAME, which it makes.
join_cgroup() {
    local root
    for root in $(cgroup_roots); do
        mkdir -p "$root/$1"
        echo 0 >"$root/$1/cgroup.procs"
    done
}

# Removes the control groups below NAME, once their processes are gone.
remove_cgroups() {
    local root tries
    for root in $(cgroup_roots); do
        for ((tries = 0; tries < 100; tries++)); do
            [[ -d $root/$1 ]] || break
            find "$root/$1" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
        done
    done
}

# Those of runs that were killed.
remove_stale_cgroups() {
    local root folder
    for root in $(cgroup_roots); do
        for folder in "$root"/vipswitch-lab-*; do
            [[ ! -d $folder ]] || kill -0 "${folder##*-}" 2>/dev/null || remove_cgroups "${folder##*/}"
        done
    done
}

# --- the network ---------------------------------------------------------------------------------

make_network() {
    mount -t tmpfs -o mode=0755,size=4g tmpfs /run
    mkdir -p /run/netns "$LAB"
    ip link set lo up
    ip link add name lan type bridge || die 'this kernel cannot make a bridge'
    ip link set lan up
    plug_in client
    ip -netns client address add "${ADDRESS[client]}/24" dev eth1
    ip -netns client link set lo up
    ip -netns client link set eth1 up
}

# A new network namespace with a cable to the bridge, as a host has it when it starts.
plug_in() {
    ip netns add "$1"
    ip link add name "$1" type veth peer name eth1 address "${MAC[$1]}" netns "$1"
    ip link set "$1" master lan up
}

# The addresses are gone with the namespace, as they are when a host stops.
unplug() {
    ip link delete "$1"
    ip netns delete "$1"
}

# --- servers: make, boot, stop -------------------------------------------------------------------

# A server's disk: the Debian below, what it writes in memory.
make_server() {
    local host=$1 disk=$LAB/$1.disk
    mkdir -p "$LAB/$host".{disk,upper,work}
    mount -t overlay overlay -o \
        "lowerdir=$DEBIAN,upperdir=$LAB/$host.upper,workdir=$LAB/$host.work" "$disk"
    echo "$host" >"$disk/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$host" >"$disk/etc/hosts"
    printf '[Match]\nName=eth1\n\n[Network]\nAddress=%s/24\n' "${ADDRESS[$host]}" \
        >"$disk/etc/systemd/network/10-lan.network"
    # Kept over a reboot, for the lines that a failure shows.
    mkdir -p "$disk/var/log/journal"
    ln -sf /lib/systemd/system/systemd-networkd.service \
        "$disk/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    # One chapter starts it; at the boot it would take every interface.
    ln -sf /dev/null "$disk/etc/systemd/system/NetworkManager.service"
    # Nothing of the test's, and it would wake up during one.
    rm -f "$disk"/etc/systemd/system/timers.target.wants/{apt-*,e2scrub*,fstrim,dpkg-db-backup}*
}

boot() {
    local host=$1 maker=/sys/devices/virtual/dmi/id
    local -a hide=()
    # A cloud that this machine may be in is none of the servers' business.
    [[ ! -d $maker ]] || hide=("--tmpfs=$maker")
    plug_in "$host"
    ip -netns "$host" -tshort -oneline monitor address >"$LAB/$host.addresses" &
    (
        join_cgroup "$CGROUP/$host"
        exec systemd-nspawn --quiet --boot --directory="$LAB/$host.disk" --machine="$host" \
            --register=no --keep-unit \
            --capability=CAP_NET_ADMIN "${hide[@]}" \
            --network-namespace-path="/run/netns/$host"
    ) </dev/null >"$LAB/$host.console" 2>&1 &
    nspawn[$host]=$!
    until_deadline "$PATIENCE" "$host has a first process" find_leader "$host"
}

find_leader() {
    leader[$1]=$(pgrep --parent "${nspawn[$1]}" --exact systemd)
}

is_up() { [[ -n ${leader[$1]:-} && -d /proc/${leader[$1]} ]]; }

has_booted() {
    local state
    state=$(on "$1" systemctl is-system-running 2>/dev/null) || :
    [[ $state == running || $state == degraded ]]
}

wait_booted() {
    concern "$1"
    until_deadline "$PATIENCE" "$1 has booted" has_booted "$1"
    local failed
    failed=$(on "$1" systemctl list-units --failed --plain --no-legend)
    [[ -z $failed ]] || die "$1 has failed units after its boot: $failed"
    concern
}

# The cable of a server is out for some seconds: cable_out HOST SECONDS
cable_out() {
    ip link set "$1" down
    sleep "$2"
    ip link set "$1" up
}

# Pulls the plug.
power_off() {
    local host
    for host; do
        kill -KILL "${leader[$host]}"
        is_gone "$host"
    done
}

# Stops a server as an operator does.
shut_down() {
    concern "$1"
    on "$1" systemctl --no-block poweroff
    until_deadline "$PATIENCE" "$1 is shut down" fails kill -0 "${nspawn[$1]}" 2>/dev/null
    is_gone "$1"
    concern
}

is_gone() {
    wait "${nspawn[$1]}" || :
    leader[$1]=''
    unplug "$1"
}

# --- on a server ---------------------------------------------------------------------------------

# Runs a command on a server, as root in all its namespaces and control groups.
on() {
    local host=$1
    shift
    timeout --kill-after=1 "${ON_TIMEOUT:-60}" nsenter --target "${leader[$host]}" --all -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}

# The same, with standard input.
on_stdin() { timeout --kill-after=1 60 nsenter --target "${leader[$1]}" --all -- env PATH=/usr/sbin:/usr/bin "${@:2}"; }

# Writes standard input to a file on a server; also while it is off.
put() { cat >"$LAB/$1.disk$2"; }

redis() { on "$1" env REDISCLI_AUTH="$password" timeout 2 "$PRODUCT-cli" -p "$REDIS_PORT" "${@:2}" 2>&1; }
sentinel() { on "$1" timeout 2 "$PRODUCT-cli" -p "$SENTINEL_PORT" "${@:2}" 2>&1; }

redis_answers() { [[ $(redis "$1" ping) == PONG ]]; }
is_master() { [[ $(redis "$1" role | head -n 1) == master ]]; }

# Follows a master, link up: follows HOST MASTER-HOST
follows() {
    local state
    state=" $(redis "$1" role | paste -sd ' ') "
    [[ $state == " slave ${ADDRESS[$2]} $REDIS_PORT connected "* ]]
}

# A Sentinel knows the master, both replicas and both other Sentinels, and all are well.
knows_all() {
    local master replicas sentinels
    master=" $(sentinel "$1" sentinel master "$MASTER" | paste -sd ' ') "
    replicas=" $(sentinel "$1" sentinel replicas "$MASTER" | paste -sd ' ') "
    sentinels=" $(sentinel "$1" sentinel sentinels "$MASTER" | paste -sd ' ') "
    [[ $master == *" ip ${ADDRESS[$2]} "*' flags master '*' num-slaves 2 num-other-sentinels 2 '* &&
        $replicas == *' flags slave '*' flags slave '* &&
        $replicas == *' master-link-status ok '*' master-link-status ok '* &&
        $sentinels == *' flags sentinel '*' flags sentinel '* ]]
}

# Everyone whom a Sentinel knows has answered it within the last second: hears_all HOST
hears_all() {
    local kind said=''
    for kind in master replicas sentinels; do said+=$(sentinel "$1" sentinel "$kind" "$MASTER")$'\n'; done
    awk 'is_age { count++; late += $1 > 1000; is_age = 0 }
        $1 == "last-ok-ping-reply" { is_age = 1 }
        END { exit !(count == 5 && late == 0) }' <<<"$said"
}

# Sentinel looks around every 10 s and tells the others every 2 s; that is most of what a test waits for.
# Until it is restarted: hurry HOST
hurry() { sentinel "$1" sentinel debug info-period 1000 publish-period 500 >/dev/null; }

# All is well on all servers, with this one as master: settled HOST
settled() {
    local host
    for host in "${SERVERS[@]}"; do
        hurry "$host"
    done
    for host in "${SERVERS[@]}"; do
        until_deadline "$PATIENCE" "the Sentinel on $host sees all well with $1 as master" knows_all "$host" "$1"
    done
}

has_vip() { [[ -n $(ip -netns "$1" -oneline address show to "$VIP" 2>/dev/null) ]]; }

holders() {
    local host
    for host in "${SERVERS[@]}"; do ! has_vip "$host" || echo "$host"; done
}

held_by_only() { [[ $(holders) == "$1" ]]; }

# True if the VIP was on this server at any time since its boot.
had_vip() { grep -q " $VIP/" "$LAB/$1.addresses"; }

# --- what the client sees ------------------------------------------------------------------------

on_client() { nsenter --net=/run/netns/client -- "$@"; }

# The hardware address that the client sends the VIP's packets to.
client_sends_to() {
    [[ $(ip -netns client neighbor show "$VIP" dev eth1) == *" lladdr ${MAC[$1]} "* ]]
}

# Write after write through the VIP, each on a new connection and for 100 ms at most; after a write
# without an answer for twice as long, up to 1.6 s, as a busy machine may need more. Each line of
# "writes" is the time of an answer and the counter in it.
write_on() {
    # shellcheck disable=SC2016
    REDISCLI_AUTH=$password on_client "$BASH" -c '
        patience=1
        while :; do
            reply=$(timeout "$((patience / 10)).$((patience % 10))" redis-cli -h "$0" -p "$1" incr writes 2>&1)
            if [[ $? == 124 ]]; then
                patience=$((patience < 16 ? 2 * patience : 16))
            else
                patience=1
            fi
            case $reply in [0-9]*) echo "${EPOCHREALTIME/./} $reply" ;; *) sleep 0.01 ;; esac
        done' "$VIP" "$REDIS_PORT" >"$LAB/writes" 2>/dev/null &
}

last_write() { tail -n 1 "$LAB/writes" | cut -d ' ' -f 1; }
written_since() { [[ $(last_write || echo 0) -gt $1 ]]; }

# Prints the longest time without an answered write, in microseconds: outage SINCE
outage() {
    awk -v since="$1" '$1 < since { last = $1; next }
        { if (last && $1 - last > most) most = $1 - last; last = $1 }
        END { printf "%d\n", most }' "$LAB/writes"
}
