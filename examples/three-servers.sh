#!/usr/bin/env bash
# Three servers and a client in private network namespaces, with the files of three-servers/: the
# master is shut down, then a planned failover leads back to it, and a timeline tells what happened.
#
#   examples/three-servers.sh                     installs what is missing, builds, runs
#   examples/three-servers.sh --hook-only         the same without agents: Sentinel's calls alone
#   examples/three-servers.sh --keep              leaves the servers up; says how to look and to remove them
#   VIPSWITCH_BIN=FILE examples/three-servers.sh  runs that executable instead of building one
#
# Works as root, and as a user who may make user namespaces. The host's network stays as it is, and
# nothing is left behind however this ends, unless --keep asks for it: all of it lives in namespaces
# that die with their first process, and every file in a tmpfs inside them.
set -eEuo pipefail

readonly MASTER=master8000 VIP=192.168.56.250 REDIS_PORT=8000 SENTINEL_PORT=6800
readonly SERVERS=(server1 server2 server3)
# Milliseconds: shorter than the guide's 5000, so that this does not take long. With 1000 and less
# Sentinel takes the fresh master for down now and then, and fails over a second time.
readonly DOWN_AFTER=2000
# Seconds: how long the servers may need for their part, and Sentinels to agree, on a busy machine.
readonly PATIENCE=60 LONG_PATIENCE=180
declare -rA ADDRESS=(
    [server1]=192.168.56.101 [server2]=192.168.56.102 [server3]=192.168.56.103
    [client]=192.168.56.10
)
# Easy to recognize in what vipswitch status says.
declare -rA MAC=(
    [server1]=02:00:00:00:01:01 [server2]=02:00:00:00:01:02 [server3]=02:00:00:00:01:03
    [client]=02:00:00:00:01:10
)

# Times and numbers are read from other programs' output below.
export LC_ALL=C TZ=UTC
# Debian's ordinary users do not have sbin in their PATH; rustup installs to ~/.cargo/bin.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

bold='' dim='' green='' red='' plain=''
if [[ (-t 1 || -n ${ON_TERMINAL:-}) && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

say() { printf '%s\n' "$*"; }
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '  %s%s%s\n' "$dim" "$*" "$plain"; }
now() { echo "${EPOCHREALTIME/./}"; } # microseconds
seconds_since() { printf '%d.%d s' $((($(now) - $1) / 1000000)) $((($(now) - $1) / 100000 % 10)); }

# --- outside: prerequisites, the build, the sandbox ----------------------------------------------

abort() {
    printf '%sthree-servers.sh: %s%s\n' "$red" "$1" "$plain" >&2
    [[ $# -lt 2 ]] || printf '%s\n' "${@:2}" >&2
    exit 1
}

# Prints the path of the executable, built as the packages have it.
build() {
    note 'building vipswitch (packaging/build.sh executable)' >&2
    "$1/packaging/build.sh" executable || abort 'the build failed'
}

check_namespaces() {
    "${@}" sh -c 'mount -t tmpfs tmpfs /run && ip link add br0 type bridge && ip link set lo up' \
        >/dev/null 2>&1 && return
    local -a remedies=(
        "Try: ${*} true"
        'As an ordinary user this needs user namespaces:'
        '  Ubuntu      sysctl kernel.apparmor_restrict_unprivileged_userns=0'
        '  old Debian  sysctl kernel.unprivileged_userns_clone=1'
        'Root needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which containers usually do not have,'
        'and the kernel needs bridge and veth.'
    )
    abort "$(id -un) may not make namespaces here" "${remedies[@]}"
}

mode=agents # or hook-only
keep=no     # or yes
sandbox=''

end_sandbox() {
    [[ -z $sandbox ]] || kill -KILL "$sandbox" 2>/dev/null || true
    wait 2>/dev/null || true
    printf '\n%s\n' "three-servers.sh: ended by $1; nothing is left behind" >&2
    exit "$2"
}

outside() {
    local here root binary
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    root=$(dirname "$here")

    local -a commands=(ip nft redis-server redis-sentinel redis-cli unshare nsenter setpriv)
    [[ -n ${VIPSWITCH_BIN:-} ]] || commands+=(cc cargo)
    "$root/tests/prerequisites.sh" "${commands[@]}" || exit 1

    binary=${VIPSWITCH_BIN:-}
    [[ -n $binary ]] || binary=$(build "$root")
    [[ -f $binary && -x $binary && -r $binary ]] || abort "no executable at $binary"

    # The first process of the new process namespace is this script again; when it ends, the kernel
    # ends everything that it started. It dies with unshare, and unshare with this process.
    local -a unshare=(unshare --mount --net --pid --mount-proc --fork --kill-child)
    [[ $(id -u) == 0 ]] || unshare+=(--user --map-root-user)
    check_namespaces "${unshare[@]}"

    trap 'end_sandbox Ctrl-C 130' INT
    trap 'end_sandbox SIGTERM 143' TERM
    trap 'end_sandbox SIGHUP 129' HUP
    # The executable is handed over open, because /run, and what lies in it, is hidden inside.
    exec 3<"$binary"
    cd "$here/three-servers"
    local -a inside=("${unshare[@]}" "$BASH" "$here/three-servers.sh" --inside "$mode" "$keep")
    [[ $keep == no ]] || keep_up "${inside[@]}"
    setpriv --pdeathsig KILL "${inside[@]}" &
    sandbox=$!
    local status=0
    wait "$sandbox" || status=$?
    exit "$status"
}

# Runs the sandbox in a session of its own, which outlives this process and the terminal, and tells
# how to look into it once all is done.
keep_up() {
    local folder line='' status=0 user='' on_terminal=''
    # By pipes without a name the sandbox says that it is done, and what there is to read: its processes must not have this
    # one's output, or whoever reads that waits until the servers are removed.
    folder=$(mktemp -d)
    mkfifo "$folder/done" "$folder/said"
    exec 4<>"$folder/done" 5<>"$folder/said"
    rm -r "$folder"
    local -r end="end of $$"
    while IFS= read -r -u 5 line && [[ $line != "$end" ]]; do printf '%s\n' "$line"; done &
    local -r reader=$!
    [[ ! -t 1 ]] || on_terminal=yes
    ON_TERMINAL=$on_terminal setsid "$@" >&5 2>&5 5>&- &
    sandbox=$!
    until read -r -t 0.2 -u 4 line; do
        kill -0 "$sandbox" 2>/dev/null && continue
        wait "$sandbox" || status=$?
        break
    done
    printf '%s\n' "$end" >&5
    wait "$reader"
    [[ -n $line ]] || exit "$status"
    [[ $(id -u) == 0 ]] || user=' --user --preserve-credentials'
    heading 'To look into it:'
    say "  look() { nsenter --target $sandbox$user --mount --net --pid=/proc/$sandbox/ns/pid_for_children /run/on \"\$@\"; }"
    say '  look server1 vipswitch status'
    say "  look server1 redis-cli -p $REDIS_PORT role"
    say "  look server1 redis-cli -p $SENTINEL_PORT sentinel master $MASTER"
    say "  look $line"
    say '  look client bash'
    heading 'To start again what you have ended:'
    say '  look server1 redis-server /run/etc/redis/redis.conf'
    say "  look server1 setsid -f sh -c 'redis-sentinel /run/etc/redis/sentinel.conf >>/run/var/log/redis/vipswitch.log 2>&1'"
    [[ $mode != agents ]] ||
        say "  look server1 setsid -f sh -c 'vipswitch agent >>/run/var/log/redis/agent.log 2>&1'"
    heading 'To remove it:'
    say "  kill -KILL $sandbox"
    exit 0
}

show_help() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

# --- inside: the servers, as root of private namespaces ------------------------------------------

declare -A pid=()    # a process in each host's namespaces
declare -A run_id=() # by which Redis tells that it answered

# Runs a command on a host.
on() {
    local host=$1
    shift
    nsenter --target "${pid[$host]}" --mount --net -- "$@"
}

# The same in place of this subshell, which has to be one.
exec_on() {
    local host=$1
    shift
    exec nsenter --target "${pid[$host]}" --mount --net -- "$@"
}

redis() { on "$1" timeout 2 redis-cli -p "$REDIS_PORT" "${@:2}" 2>&1; }
sentinel() { on "$1" env -u REDISCLI_AUTH timeout 2 redis-cli -p "$SENTINEL_PORT" "${@:2}" 2>&1; }

show_tail() {
    [[ -s $1 ]] || return 0
    printf '\n%s--- %s%s\n' "$dim" "$1" "$plain"
    tail -n 8 "$1"
}

die() {
    trap - ERR
    set +e
    local host file
    {
        for host in "${SERVERS[@]}"; do
            for file in redis-server.log redis-sentinel.log vipswitch.log agent.log; do
                show_tail "/run/$host/var/log/redis/$file"
            done
            show_tail "/run/$host/addresses"
        done
        show_tail /run/client/writes
        printf '\n%sfailed: %s%s\n' "$red" "$1" "$plain"
    } >&2
    exit 1
}

# Waits until a command succeeds: until_deadline SECONDS WHAT COMMAND...
until_deadline() {
    local deadline=$(($(now) + $1 * 1000000)) what=$2
    local seconds=$1
    shift 2
    until "$@"; do
        (($(now) < deadline)) || die "$what: not within $seconds s"
        sleep 0.02
    done
}

start_host() {
    local host=$1
    mkdir -p "/run/$host"/{bin,etc/redis,redis,sentinel,var/lib/redis,var/log/redis}
    # The host's folder becomes its /run: the hosts share a file system, but neither files nor locks.
    # shellcheck disable=SC2016
    unshare --mount --net -- "$BASH" -c '
        mount --bind "/run/$0" /run && { mount -t sysfs sysfs /sys 2>/dev/null || :; } &&
        mount -t tmpfs -o mode=755 tmpfs /var/lib && mkdir /run/vipswitch /var/lib/vipswitch &&
        ip link set lo up && : >/run/up && exec sleep infinity' "$host" 3<&- &
    pid[$host]=$!
    until_deadline "$PATIENCE" "$host comes up" test -e "/run/$host/up"
    ip link add name "$host" type veth \
        peer name eth1 address "${MAC[$host]}" netns "${pid[$host]}"
    ip link set "$host" master lan up
    on "$host" ip address add "${ADDRESS[$host]}/24" dev eth1
    on "$host" ip link set eth1 up
    # Seen from outside, with the kernel's word: when the VIP comes and goes.
    on "$host" ip -tshort -oneline monitor address >"/run/$host/addresses" 3<&- &
}

# Replaces text in the copied files, comments apart, and says so: change FROM TO WHY FILE...
change() {
    local from=$1 to=$2 why=$3 file
    shift 3
    for file; do
        sed -f - "$file" <<<"/^ *#/!s|$from|$to|g" >/run/changed
        ! cmp -s "$file" /run/changed || die "$file has no \"$from\" to change"
        cat /run/changed >"$file"
    done
    [[ $to != "${REDISCLI_AUTH:-}" ]] || to='(random)'
    printf '  %-23s  ->  %-23s %s%s%s\n' "$from" "$to" "$dim" "$why" "$plain"
}

install_files() {
    local host etc
    export REDISCLI_AUTH
    REDISCLI_AUTH=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    cat <&3 >/run/vipswitch
    exec 3<&-
    chmod 755 /run/vipswitch
    for host in "${SERVERS[@]}"; do
        etc=/run/$host/etc
        cp redis-replica.conf "$etc/redis/redis.conf"
        sed 's/^#\(sentinel client-reconfig-script \)/\1/' sentinel.conf >"$etc/redis/sentinel.conf"
        cp vipswitch.toml "$etc/vipswitch.toml"
        (umask 077 && echo "$REDISCLI_AUTH" >"$etc/vipswitch.password")
        cp firewall.nft firewall.iptables "$etc/"
        ln /run/vipswitch "/run/$host/bin/vipswitch"
    done
    cp redis-master.conf /run/server1/etc/redis/redis.conf
    chmod 755 /run/server?/etc
    chmod 644 /run/server?/etc/vipswitch.toml

    local -a toml=(/run/server?/etc/vipswitch.toml)
    local -a redis=(/run/server?/etc/redis/redis.conf) sentinel=(/run/server?/etc/redis/sentinel.conf)
    change /var/ /run/var/ 'in private folders' "${redis[@]}" "${sentinel[@]}"
    change /usr/local/bin/ /run/bin/ 'likewise' "${sentinel[@]}"
    change /etc/vipswitch.p /run/etc/vipswitch.p 'likewise' "${toml[@]}"
    change change-this-password "$REDISCLI_AUTH" 'everywhere the same' "${redis[@]}" "${sentinel[@]}"
    change 'daemonize yes' 'daemonize no' "Sentinel only, for vipswitch's log" "${sentinel[@]}"
    change "$MASTER 5000" "$MASTER $DOWN_AFTER" 'down-after-milliseconds: wait less' "${sentinel[@]}"
    change 'min-replicas-to-write 1' 'min-replicas-to-write 0' 'else a new master refuses writes for a second' \
        "${redis[@]}"
    export VIPSWITCH_CONFIG=/run/etc/vipswitch.toml
    printf '  %-23s  ->  %-23s %s%s%s\n' /etc/vipswitch.toml "$VIPSWITCH_CONFIG" "$dim" \
        'set in VIPSWITCH_CONFIG' "$plain"
}

nft_works() {
    on server1 nft -f - >/dev/null 2>&1 <<'RULES'
table inet probe { chain input { type filter hook input priority 0; ct state established accept; }; }
delete table inet probe
RULES
}

load_firewall() {
    local host
    if nft_works; then
        for host in "${SERVERS[@]}"; do
            on "$host" nft -f /run/etc/firewall.nft || die "firewall.nft on $host"
        done
        say "  firewall.nft       loaded on each server"
    else
        say "  firewall.nft       not loaded: this kernel has no nf_tables"
    fi
    if ! command -v iptables-restore >/dev/null; then
        say "  firewall.iptables  not checked: no iptables-restore here"
    elif ! on server2 iptables-restore --test <<<$'*filter\nCOMMIT' >/dev/null 2>&1; then
        say "  firewall.iptables  not checked: this kernel has no iptables"
    else
        on server2 iptables-restore --test /run/etc/firewall.iptables || die 'firewall.iptables'
        say "  firewall.iptables  checked"
    fi
}

client_reaches_redis() {
    [[ $(on client timeout 2 redis-cli -h "${ADDRESS[server1]}" -p "$REDIS_PORT" ping 2>&1) == PONG ]]
}

check_firewall() {
    until_deadline "$PATIENCE" 'the firewall lets the client reach Redis' client_reaches_redis
    ! nft_works || ! on client env -u REDISCLI_AUTH timeout 0.3 redis-cli \
        -h "${ADDRESS[server1]}" -p "$SENTINEL_PORT" ping >/dev/null 2>&1 ||
        die "the firewall lets the client reach Sentinel"
}

start_redis() {
    local found
    on "$1" redis-server /run/etc/redis/redis.conf >/dev/null || die "redis-server on $1"
    until_deadline "$PATIENCE" "Redis on $1 answers" finds own_run_id "$1"
    run_id[$1]=$found
}

own_run_id() { redis "$1" info server | tr -d '\r' | sed -n 's/^run_id://p'; }
sentinel_answers() { [[ $(sentinel "$1" ping) == PONG ]]; }

# The first try may be cut off on a busy machine.
shut_down_redis() {
    redis "$1" shutdown >/dev/null || true
    [[ $(redis "$1" ping) == *'Connection refused'* ]]
}

set_priority() { [[ $(redis "$1" config set replica-priority "$2") == OK ]]; }
is_master() { [[ $(redis "$1" role | head -n 1) == master ]]; }

start_sentinel() {
    # Sentinel's environment is the hook's, VIPSWITCH_CONFIG included.
    on "$1" env -u REDISCLI_AUTH redis-sentinel /run/etc/redis/sentinel.conf </dev/null \
        >>"/run/$1/var/log/redis/vipswitch.log" 2>&1 &
    until_deadline "$PATIENCE" "Sentinel on $1 answers" sentinel_answers "$1"
}

# The agent of a host knows where the VIP belongs.
agent_knows() {
    local known
    known=$(on "$1" timeout 5 /run/bin/vipswitch status --json 2>&1) || return 1
    [[ $known == *'"verdict":"here"'* || $known == *'"verdict":"elsewhere"'* ]]
}

start_agent() {
    on "$1" env -u REDISCLI_AUTH /run/bin/vipswitch agent </dev/null \
        >>"/run/$1/var/log/redis/agent.log" 2>&1 &
    until_deadline "$PATIENCE" "the agent on $1 knows where the VIP belongs" agent_knows "$1"
}

# Follows a master, link up: follows HOST MASTER-HOST
follows() {
    local state
    state=" $(redis "$1" role | paste -sd ' ') "
    [[ $state == " slave ${ADDRESS[$2]} $REDIS_PORT connected "* ]]
}

# Both replicas have what the master has, by its own word: one that has just got its copy follows already, by its word,
# and the master sends it nothing before its first acknowledgement.
streams_to_all() {
    [[ $(redis "$1" info replication | grep -c '^slave[0-9]*:.*,state=online,offset=[1-9]') == 2 ]]
}

# A Sentinel knows the master, both replicas and both other Sentinels, and all are well.
knows_all() {
    local master replicas
    master=" $(sentinel "$1" sentinel master "$MASTER" | paste -sd ' ') "
    replicas=" $(sentinel "$1" sentinel replicas "$MASTER" | paste -sd ' ') "
    [[ $master == *" ip ${ADDRESS[$2]} "*' flags master '*' num-slaves 2 num-other-sentinels 2 '* &&
        $replicas == *' flags slave '*' flags slave '* &&
        $replicas == *' master-link-status ok '*' master-link-status ok '* &&
        $replicas == *' slave-priority 0 '* && $replicas == *' slave-priority 100 '* ]]
}

names_master() {
    [[ $(sentinel "$1" sentinel get-master-addr-by-name "$MASTER" | head -n 1) == "${ADDRESS[$2]}" ]]
}

# The client: write after write through the VIP, each on a new connection and for 100 ms at most; after
# a write without an answer for twice as long, up to 1.6 s, as a busy machine may need more.
# Each line of "writes" is the time, the answer, and the run id of the Redis that gave it.
write_on() {
    # Not by "on": what is ended at last is to be the loop, and no subshell that waits for it.
    # shellcheck disable=SC2016
    exec_on client "$BASH" -c '
        patience=1
        while :; do
            reply=$(timeout "$((patience / 10)).$((patience % 10))" redis-cli -h "$0" -p "$1" 2>&1 <<<"INCR writes
INFO server")
            if [[ $? == 124 ]]; then
                patience=$((patience < 16 ? 2 * patience : 16))
            else
                patience=1
            fi
            if [[ $reply =~ ^([0-9]+).*run_id:([0-9a-f]+) ]]; then
                echo "${EPOCHREALTIME/./} ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
            elif [[ $reply != "$refused" ]]; then
                refused=$reply
                echo "refused: ${reply%%$'"'\n'"'*}"
            fi
        done' "$VIP" "$REDIS_PORT" >/run/client/writes &
    writer=$!
}

# Prints the first write that a host has answered since a time: first_write_by HOST SINCE
first_write_by() {
    awk -v id="${run_id[$1]}" -v since="$2" '$3 == id && $1 >= since { print; exit }' /run/client/writes
}

# Prints the write that was answered before that one, by whichever host.
last_write_before() {
    awk -v id="${run_id[$1]}" -v since="$2" '
        /^[0-9]/ { if ($3 == id && $1 >= since) { print last; exit } last = $0 }' /run/client/writes
}

# Prints when the VIP came to a host or left it: vip_event HOST came|left SINCE
vip_event() {
    local stamp line when
    while read -r stamp line; do
        [[ $line == *" $VIP/"* ]] || continue
        case $2:$line in came:Deleted* | left:[!D]*) continue ;; esac
        when=$(date -d "${stamp//[\[\]]/}" +%s%6N)
        ((when < $3)) || { echo "$when" && return; }
    done <"/run/$1/addresses"
}

# Prints when a host's Redis turned master: promotion HOST SINCE
promotion() {
    local line when
    grep -F ' MODE enabled (user request' "/run/$1/var/log/redis/redis-server.log" | while read -r line; do
        when=$(date -d "$(cut -d ' ' -f 2-5 <<<"$line")" +%s%6N)
        ((when < $2 / 1000 * 1000)) || { echo "$when" && return; }
    done
}

# Prints the lines of all Sentinels' logs that have a text, since a time, the oldest first and each
# behind its time: logged TEXT SINCE
logged() {
    local line when
    { grep -hF -- "$1" /run/server?/var/log/redis/redis-sentinel.log || true; } | while read -r line; do
        when=$(date -d "$(cut -d ' ' -f 2-5 <<<"$line")" +%s%6N)
        # Sentinel tells its time to the millisecond.
        ((when < $2 / 1000 * 1000)) || echo "$when $line"
    done | sort -n -s -k 1,1
}

# Prints when Sentinel first wrote that a host was promoted, and which one: decision_since TIME
decision_since() {
    local host when line
    logged "+promoted-slave slave " "$1" | while read -r when line; do
        for host in "${SERVERS[@]}"; do
            [[ $line != *" slave ${ADDRESS[$host]}:"* ]] || echo "$when $host"
        done
        break
    done
}

# True once a command prints something; that is then in $found.
finds() { found=$("$@") && [[ -n $found ]]; }

# Prints what happened after START, and leaves the new master in $master:
# timeline START WHAT FROM-HOST
timeline() {
    local start=$1 what=$2 from=$3 to promoted decided came left answered value rest lost
    local found before_time before_value gap
    until_deadline "$LONG_PATIENCE" "Sentinel's decision (+promoted-slave)" finds decision_since "$start"
    read -r decided to <<<"$found"
    until_deadline "$PATIENCE" "Redis on $to is master" finds promotion "$to" "$start"
    promoted=$found
    until_deadline "$PATIENCE" "the VIP comes to $to" finds vip_event "$to" came "$start"
    came=$found
    until_deadline "$PATIENCE" "a write is answered by $to" finds first_write_by "$to" "$start"
    read -r answered value rest <<<"$found"
    until_deadline "$PATIENCE" "the VIP leaves $from" finds vip_event "$from" left "$start"
    left=$found
    master=$to

    {
        echo "$start $what"
        echo "$promoted Redis on $to is master"
        echo "$decided Sentinel's decision is published (+promoted-slave)"
        echo "$came VIP on $to"
        echo "$left VIP gone from $from"
        echo "$answered first write answered by $to"
    } | sort -n -s -k 1,1 | while read -r when rest; do
        printf '  %s%7d ms%s  %s\n' "$green" $(((when - start) / 1000)) "$plain" "$rest"
    done

    read -r before_time before_value _ <<<"$(last_write_before "$to" "$start")"
    gap=$(((answered - before_time) / 1000))
    lost=$((before_value + 1 > value ? before_value + 1 - value : 0))
    say
    say "  The client was without an answer for $gap ms. Of the writes answered before, $lost were lost."
    ((lost == 0)) || note "$from has answered them, and $to did not have them when it became master."
}

holders() {
    local host
    for host in "${SERVERS[@]}"; do
        # Not by a pipe to grep -q, which ends at its match, so that ip may fail.
        [[ $(on "$host" ip -oneline address show) != *" $VIP/"* ]] || echo "$host"
    done
}

held_by_only() { [[ $(holders) == "$1" ]]; }

all_agree_on() {
    local host
    for host in "${SERVERS[@]}"; do names_master "$host" "$1" || return 1; done
}

# Every Sentinel names the same master, the others follow it, and the VIP is there alone; which one
# that is, is left in $master.
settled() {
    local host other
    for host in "${SERVERS[@]}"; do
        if all_agree_on "$host" && is_master "$host" && held_by_only "$host" && knows_all "$host" "$host"; then
            for other in "${SERVERS[@]}"; do
                [[ $other == "$host" ]] || follows "$other" "$host" || return 1
            done
            streams_to_all "$host" || return 1
            master=$host
            return
        fi
    done
    return 1
}

# Waits until all is settled after a step, and tells if Sentinel has failed over once more since then,
# which a small down-after-milliseconds or a machine that stalls brings about: settle SINCE
settle() {
    local expected=$master again when line
    until_deadline "$LONG_PATIENCE" 'one master that all Sentinels name, the others follow, and the VIP is on' settled
    again=$(logged "+switch-master $MASTER ${ADDRESS[$expected]} " "$1" | head -n 1)
    [[ -n $again || $master != "$expected" ]] || return 0
    say "  ${bold}Sentinel failed over once more by itself, away from $expected; the master is $master now.$plain"
    if [[ -n $(logged "+odown master $MASTER ${ADDRESS[$expected]} " "$1") ]]; then
        note "It took $expected, the new master, for down, although its Redis was running. That happens where"
        note 'a new master does not answer each Sentinel within down-after-milliseconds: with a small value, or'
        note 'on a machine that stalls.'
    fi
    note 'The VIP followed, and this example goes on from there. Sentinel wrote:'
    for line in "+odown master $MASTER ${ADDRESS[$expected]} " "+switch-master $MASTER ${ADDRESS[$expected]} "; do
        logged "$line" "$1" | head -n 1 | while read -r when line; do note "  $line"; done
    done
}

# Runs vipswitch on a host, and shows command and output.
run_shown() {
    local host=$1 errors=/run/errors
    shift
    say "  $host# vipswitch $*"
    on "$host" /run/bin/vipswitch "$@" 2>"$errors" | sed 's/^/  /' ||
        { cat "$errors" >&2 && die "vipswitch $* on $host"; }
}

# Prints the last line about a take-over that vipswitch logged on a host.
take_over_line() {
    local file=agent.log
    [[ $mode == agents ]] || file=vipswitch.log
    grep -F ' took_over=' "/run/$1/var/log/redis/$file" | tail -n 1
}

ask_for_failover() { [[ $(sentinel "$1" sentinel failover "$MASTER") == OK ]]; }

set_up() {
    local host
    mount -t tmpfs -o mode=0700,size=256m tmpfs /run
    # The example logs into its own files, not into this machine's log.
    [[ ! -S /dev/log ]] || mount --bind /dev/null /dev/log
    ip link set lo up
    ip link add name lan type bridge || die 'this kernel cannot make a bridge'
    ip link set lan up
    for host in "${SERVERS[@]}" client; do start_host "$host"; done

    heading 'Three servers, a client, and a virtual IP, in private network namespaces'
    for host in "${SERVERS[@]}"; do
        say "  $host  ${ADDRESS[$host]}  ${MAC[$host]}  Redis :$REDIS_PORT  Sentinel :$SENTINEL_PORT"
    done
    say "  client   ${ADDRESS[client]}   ${MAC[client]}  writes to the virtual IP, $VIP:$REDIS_PORT"
    note 'The virtual IP (VIP) is always on the master; the client knows no other address.'
    if [[ $mode == agents ]]; then
        note 'An agent on each server follows the Sentinels and its own Redis, and moves the VIP.'
    else
        note 'When Sentinel makes another Redis master, it runs vipswitch on every server, which moves the VIP.'
    fi

    heading 'The files of examples/three-servers, with these changes'
    install_files
    load_firewall

    for host in "${SERVERS[@]}"; do start_redis "$host"; done
    for host in server2 server3; do
        until_deadline "$PATIENCE" "$host follows server1" follows "$host" server1
    done
    until_deadline "$PATIENCE" 'server1 sends both what it is told' streams_to_all server1
    # Sentinel never promotes priority 0: so it is always server1 to server2 and back.
    until_deadline "$PATIENCE" 'server3 takes its replica-priority' set_priority server3 0
    say "  replica-priority 0 on server3, so that this always goes from server1 to server2 and back"
    for host in "${SERVERS[@]}"; do start_sentinel "$host"; done
    for host in "${SERVERS[@]}"; do
        until_deadline "$PATIENCE" "the Sentinel on $host knows the others" knows_all "$host" server1
    done
    check_firewall
}

# Asks the Sentinel of the master's host for a failover, and again where that came to nothing:
# Sentinel refuses while it has another one in progress.
asked_for=''
failed_over() {
    local aborted
    aborted=$(logged '-failover-abort' "$2" | wc -l)
    if [[ $asked_for != "$aborted" ]] && ask_for_failover "$1"; then asked_for=$aborted; fi
    [[ -n $(decision_since "$2") ]]
}

inside() {
    # A failure in a subshell comes up as one of the shell that started it.
    trap '[[ $BASH_SUBSHELL -gt 0 ]] || die "line $LINENO: $BASH_COMMAND"' ERR
    local host start returned found old master=server1
    umask 022
    set_up

    if [[ $mode == agents ]]; then
        heading '1. The agents start, and the VIP goes to the first master'
        for host in "${SERVERS[@]}"; do
            say "  $host# vipswitch agent"
            start_agent "$host"
        done
    else
        heading '1. The VIP goes to the first master, once, by hand'
        run_shown server1 bind
    fi
    until_deadline "$PATIENCE" 'the VIP is on server1' held_by_only server1
    write_on
    until_deadline "$PATIENCE" 'a write through the VIP is answered' finds first_write_by server1 0

    heading '2. The master is shut down'
    start=$(now)
    until_deadline "$PATIENCE" 'Redis on server1 ends' shut_down_redis server1
    timeline "$start" 'Redis on server1 shut down' server1
    if [[ $mode == agents ]]; then
        if grep -qF ' fails over' "/run/server1/var/log/redis/agent.log"; then
            note "The agent of server1 had a Sentinel elected and asked at once; Sentinel itself waits for $DOWN_AFTER ms"
            note "(down-after-milliseconds). What the agent on $master logged:"
        else
            note "The agent of server1 left it to Sentinel, which waits for $DOWN_AFTER ms (down-after-milliseconds), as it"
            note "logged: $(grep -o 'Sentinel decides: [^"]*' "/run/server1/var/log/redis/agent.log" | tail -n 1)"
            note "What the agent on $master logged:"
        fi
    else
        note "$DOWN_AFTER ms of this are down-after-milliseconds. Sentinel publishes +promoted-slave up to a second after"
        note "the promotion, and runs vipswitch then. What that logged on $master:"
    fi
    until_deadline "$PATIENCE" "vipswitch logs on $master" finds take_over_line "$master"
    fold -s -w 94 <<<"$found" | sed "s/^/    $dim/; s/ *\$/$plain/"
    until_deadline "$PATIENCE" "the VIP is on $master alone" held_by_only "$master"

    heading '3. The old master returns'
    old=$master
    returned=$(now)
    start_redis server1
    # Since the promotion, not only since the return.
    settle "$start"
    [[ $master != "$old" ]] ||
        say "  Sentinel made it a replica of $master after $(seconds_since "$returned"); the VIP stayed."

    heading '4. A planned failover back'
    old=$master
    say "  $old# redis-cli -p $SENTINEL_PORT sentinel failover $MASTER"
    start=$(now)
    until_deadline "$LONG_PATIENCE" 'Sentinel fails over as it was asked to' failed_over "$old" "$start"
    timeline "$start" 'asked for a failover' "$old"
    settle "$start"

    heading '5. What vipswitch status says on each server'
    for host in "${SERVERS[@]}"; do
        run_shown "$host" status
    done
    say
    [[ $keep == no ]] || stay_up
    say "${green}Done.${plain} Nothing is left behind. To set it up for real: examples/three-servers/README.md"
}

# Writes /run/on, which runs a command on a host, and stays: with this process all of it ends.
stay_up() {
    local host log=agent.log
    [[ $mode == agents ]] || log=vipswitch.log
    # The writes would fill the tmpfs.
    kill "$writer"
    wait "$writer" || :
    {
        echo '#!/usr/bin/env bash'
        echo "# Runs a command on a host: on HOST COMMAND..."
        echo "export VIPSWITCH_CONFIG=$VIPSWITCH_CONFIG REDISCLI_AUTH=$REDISCLI_AUTH PATH=/run/bin:\$PATH"
        # shellcheck disable=SC2016
        echo 'case ${1:-} in'
        for host in "${SERVERS[@]}" client; do echo "$host) pid=${pid[$host]} ;;"; done
        echo "*) echo 'on ${SERVERS[*]} client: which?' >&2 && exit 2 ;;"
        echo 'esac'
        # A Sentinel has no password here, and redis-cli would complain.
        # shellcheck disable=SC2016
        echo "[[ \" \$* \" != *' -p $SENTINEL_PORT '* ]] || unset REDISCLI_AUTH"
        # shellcheck disable=SC2016
        echo 'exec nsenter --target "$pid" --mount --net -- "${@:2}"'
    } >/run/on
    chmod 755 /run/on
    say "${green}Done.${plain} The servers stay up, without the client's writes."
    echo "server1 tail /run/var/log/redis/$log" >&4
    exec 4>&-
    trap - ERR
    # As the first process of its namespace it has to wait for what ends here.
    sleep infinity &
    until wait "$!"; do :; done
}

action=outside
for argument; do
    case $argument in
    --hook-only) mode=hook-only ;;
    --keep) keep=yes ;;
    --inside)
        mode=$2 keep=$3 action=inside
        break
        ;;
    -h | --help) action=show_help ;;
    *) abort "unknown argument: $argument" 'It takes --hook-only and --keep, or none; --help tells more.' ;;
    esac
done
"$action"
