#!/usr/bin/env bash
# The package on three Debian servers that systemd has booted, with Debian's own units of Redis or Valkey
# and Sentinel: what README "Install" says, to the letter, and then what servers go through. On Debian 12
# all of it, on 13 what is different there.
#
#   tests/package/run.sh                      installs what is missing, builds, runs all of it
#   tests/package/run.sh reboot flush         after the installation, only these chapters
#   tests/package/run.sh trixie-valkey cable  likewise, on another system
#   VIPSWITCH_BIN=FILE tests/package/run.sh   packs that executable instead of building one
#   VIPSWITCH_DEB=FILE tests/package/run.sh   installs that package
#   tests/package/run.sh --fetch              fetches only what is fetched once, see below
#
# Only as root. The host's network stays as it is, and nothing is left behind however this ends, but
# the Debian that was fetched once: in target/package-tests, or in $VIPSWITCH_TEST_CACHE.
set -eEuo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$(dirname "$HERE")")
readonly HERE ROOT

# Times and numbers are read from other programs' output below.
export LC_ALL=C TZ=UTC
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

# shellcheck source-path=SCRIPTDIR source=lab.sh
. "$HERE/lab.sh"
# shellcheck source-path=SCRIPTDIR source=checks.sh
. "$HERE/checks.sh"
# shellcheck source-path=SCRIPTDIR source=agent.sh
. "$HERE/agent.sh"
# shellcheck source-path=SCRIPTDIR source=handover.sh
. "$HERE/handover.sh"

# In this order; each leaves all well, with one holder.
readonly CHAPTERS=(power_loss handover stopped reboot site_power_loss flush networkd cable killed known_by_vip quiet service check from_timer upgrade remove)
# What is different on Debian 13: systemd, and Valkey. interface_up needs more packages, which only one has.
declare -rA CHAPTERS_OF=(
    [bookworm-redis]="${CHAPTERS[*]}"
    [trixie-redis]='power_loss handover cable interface_up quiet service'
    [trixie-valkey]='power_loss handover stopped cable killed'
)

# What README has an administrator write for networkd.
readonly DROP_IN=/etc/systemd/network/10-lan.network.d/vipswitch.conf

# Where the Debian stays that was fetched.
readonly CACHE=${VIPSWITCH_TEST_CACHE:-$ROOT/target/package-tests}

# Milliseconds until a silent master counts as down.
readonly DOWN_AFTER=2000

# --- outside: prerequisites, the package, the sandbox --------------------------------------------

die_outside() {
    printf 'tests/package/run.sh: %s\n' "$1" >&2
    exit 1
}

# Prints the path of the package.
package() {
    local deb executable=()
    [[ -z ${VIPSWITCH_DEB:-} ]] || { realpath "$VIPSWITCH_DEB" && return; }
    [[ -z ${VIPSWITCH_BIN:-} ]] || executable=(--executable "$(realpath "$VIPSWITCH_BIN")")
    deb=$("$ROOT/packaging/build.sh" deb "${executable[@]}" | tail -n 1) ||
        die_outside 'packaging/build.sh failed'
    [[ -f $deb ]] || die_outside 'packaging/build.sh named no package'
    echo "$deb"
}

sandbox='' fetching=''

clean_up() {
    trap '' INT TERM HUP
    [[ -z $fetching ]] || kill -TERM -- "-$fetching" 2>/dev/null || :
    [[ -z $sandbox ]] || kill -KILL "$sandbox" 2>/dev/null || :
    wait 2>/dev/null || :
    remove_cgroups "$CGROUP"
}

outside() {
    local chapter system
    local -a systems=("${SYSTEMS[@]}")
    if [[ $* == --fetch ]]; then
        "$ROOT/tests/prerequisites.sh" debootstrap unshare || exit 1
        for system in "${systems[@]}"; do debian "$CACHE" "$system"; done
        return
    fi
    [[ $# == 0 ]] || systems=(bookworm-redis)
    [[ -z ${1:-} || -z ${CHAPTERS_OF[$1]:-} ]] || { systems=("$1") && shift; }
    for chapter; do
        [[ " ${CHAPTERS[*]} interface_up " == *" $chapter "* ]] ||
            die_outside "no chapter $chapter; there are: ${CHAPTERS[*]} interface_up"
    done
    [[ $(id -u) == 0 ]] || die_outside 'only root can boot containers'
    local -a commands=(debootstrap systemd-nspawn ip unshare nsenter setpriv pgrep redis-cli perl)
    [[ -n ${VIPSWITCH_BIN:-}${VIPSWITCH_DEB:-} ]] || commands+=(cc cargo)
    "$ROOT/tests/prerequisites.sh" "${commands[@]}" || exit 1

    export CGROUP=vipswitch-lab-$$ DEBIAN DEB SYSTEM
    remove_stale_cgroups
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP

    heading 'What the servers are made of'
    # While cargo builds and the first servers run; in a process group of its own, which can be ended as one.
    set -m
    for system in "${systems[@]}"; do debian "$CACHE" "$system"; done >/dev/null &
    fetching=$!
    set +m
    DEB=$(package)
    fact "$(basename "$DEB"), $(($(stat -c %s "$DEB") / 1024)) KiB"
    for system in "${systems[@]}"; do
        DEBIAN=$(debian "$CACHE" "$system")
        run_inside "$system" "$@"
    done
    wait "$fetching"
    fetching=''
    ((${#systems[@]} == 1)) || printf '\ntests/package/run.sh: passed on %s after %s s\n' "${systems[*]}" "$SECONDS"
}

# The first process of the new process namespace is this script again; when it ends, the kernel
# ends everything that it started. It dies with unshare, and unshare with this process.
run_inside() {
    local status=0
    SYSTEM=$1
    shift
    setpriv --pdeathsig KILL unshare --mount --net --pid --mount-proc --fork --kill-child \
        "$BASH" "$HERE/run.sh" --inside "$@" &
    sandbox=$!
    wait "$sandbox" || status=$?
    sandbox=''
    ((status == 0)) || exit "$status"
    remove_cgroups "$CGROUP"
}

# --- inside: a trio of Redis and Sentinel, as any guide sets it up --------------------------------

# The files of the example are Redis'; Valkey has its own folders.
for_product() { sed -E "/^(pidfile|logfile|dir) /s/redis/$PRODUCT/g"; }

install_trio() {
    local host conf
    password=$(sed -n 's/^requirepass //p' "$ROOT/examples/three-servers/redis-master.conf")
    for host in "${SERVERS[@]}"; do
        make_server "$host"
        conf=$ROOT/examples/three-servers/redis-replica.conf
        [[ $host != server1 ]] || conf=$ROOT/examples/three-servers/redis-master.conf
        # Sentinel never promotes priority 0: so it is always server1 to server2 and back.
        { cat "$conf" && [[ $host != server3 ]] || echo 'replica-priority 0'; } |
            for_product | put "$host" "/etc/$PRODUCT/$PRODUCT.conf"
        # A shorter wait; with 1000 and less Sentinel fails over twice now and then.
        sed -e "s/^\(sentinel down-after-milliseconds $MASTER\) .*/\1 $DOWN_AFTER/" \
            "$ROOT/examples/three-servers/sentinel.conf" |
            for_product | put "$host" "$SENTINEL_CONF"
    done
}

trio() {
    local host since
    heading "Three Debian servers with $PRODUCT and Sentinel: ${SYSTEM%-*}"
    make_network
    install_trio
    since=$(now)
    for host in "${SERVERS[@]}"; do boot "$host"; done
    for host in "${SERVERS[@]}"; do wait_booted "$host"; done
    fact "booted, $PRODUCT and Sentinel by their stock units, after $(seconds $(($(now) - since))) s"
    settled server1
    fact "the trio is set up: server1 is master, and every Sentinel knows all others"
}

# --- README "Install" ----------------------------------------------------------------------------

# Writes each block of commands below a line "<!-- install: WHERE -->" or "<!-- install: WHERE, PRODUCT -->"
# of a document to a file FOLDER/NUMBER, its first line WHERE; those of the other product are left out:
# blocks_of DOCUMENT FOLDER
blocks_of() {
    mkdir -p "$2"
    awk -v folder="$2" -v product="$PRODUCT" '
        /<!-- install: .* -->/ {
            where = $0; gsub(/.*<!-- install: | -->.*/, "", where)
            if (split(where, of, ", ") == 2) where = of[2] == product ? of[1] : ""
            next
        }
        /^ *```/ && file { close(file); file = ""; next }
        /^ *```sh$/ && where {
            file = sprintf("%s/%02d", folder, ++blocks); print where >file; where = ""
            indent = index($0, "`"); next
        }
        file { print substr($0, indent) >file }
        ' "$1"
}

# Runs a block where it says, on all these servers at once, as with a terminal for each: run_block FILE
run_block() {
    local where host commands
    local -a hosts
    local -A running=()
    where=$(head -n 1 "$1")
    commands=$(tail -n +2 "$1")
    case $where in
    'every server') hosts=("${SERVERS[@]}") ;;
    'one server') hosts=(server1) ;;
    *) die "README: install: $where: no such place" ;;
    esac
    printf '%s\n' "$commands" | sed 's/^/    # /'
    for host in "${hosts[@]}"; do
        on "$host" bash -euc "cd /root; $commands" >"$LAB/$host.output" 2>&1 &
        running[$host]=$!
    done
    for host in "${hosts[@]}"; do
        concern "$host"
        wait "${running[$host]}" || {
            cat "$LAB/$host.output" >&2
            die "README's commands failed on $host"
        }
    done
    concern
    [[ $commands != vipswitch\ * ]] || for host in "${hosts[@]}"; do
        tail -n 4 "$LAB/$host.output" | sed "s/^/    $host: /"
    done
}

install() {
    local host block since blocks=0
    heading 'README "Install", to the letter'
    for host in "${SERVERS[@]}"; do cp "$DEB" "$LAB/$host.disk/root/"; done
    blocks_of "$ROOT/README.md" "$LAB/blocks"
    for block in "$LAB"/blocks/*; do
        [[ -s $block ]] || die 'README has no block of commands to install by'
        since=$(now)
        ! grep -q FAILOVER "$block" || settled server1
        run_block "$block"
        blocks=$((blocks + 1))
        case $(<"$block") in
        *"systemctl start $UNIT"*)
            settled server1
            fact 'every Sentinel is back, with the hook in its configuration'
            ;;
        *'enable --now vipswitch-agent'*)
            until_deadline "$PATIENCE" 'the VIP is on server1 alone' held_by_only server1
            write_on
            until_deadline "$PATIENCE" 'a write through the VIP' written_since "$since"
            fact 'the VIP is on server1, and the client writes through it'
            ;;
        *FAILOVER*) moved_by_failover "$since" ;;
        esac
    done
    ((blocks >= 5)) || die "README has only $blocks blocks of commands to install by"
    fact "installed by $blocks blocks of commands"
}

moved_by_failover() {
    until_deadline "$PATIENCE" 'the VIP moves to server2' held_by_only server2
    until_deadline "$PATIENCE" 'the client sends to server2' client_sends_to server2
    until_deadline "$PATIENCE" 'a write through the VIP' written_since "$(now)"
    local planned
    planned=$(outage "$1")
    figure 'planned failover: no write for' "$planned"
    fact "a planned failover: the VIP is on server2, by the client's ARP table too; $(seconds "$planned") s without a write"
    settled server2
}

# --- what servers go through ---------------------------------------------------------------------

declare -a figures=()
figure() { figures+=("$(printf '%-64s %6s s' "$1" "$(seconds "$2")")"); }

# Waits until all is well with the VIP on this server: all_well HOST
all_well() {
    until_deadline "$PATIENCE" "the VIP is on $1 alone (it is on: $(holders | xargs))" held_by_only "$1"
    until_deadline "$PATIENCE" "the client sends to $1" client_sends_to "$1"
    until_deadline "$PATIENCE" 'a write through the VIP' written_since "$(now)"
}

other_than() { [[ $1 == server1 ]] && echo server2 || echo server1; }

# How long a master may be silent, at every Sentinel.
down_after() {
    local host
    for host in "${SERVERS[@]}"; do
        [[ $(sentinel "$host" sentinel set "$MASTER" down-after-milliseconds "$1") == OK ]] ||
            die "SENTINEL SET on $host"
    done
}

# As it was, once everybody hears everybody: who was silent for longer would be down at once.
usual_down_after() {
    local host
    for host in "${SERVERS[@]}"; do
        until_deadline "$PATIENCE" "the Sentinel on $host hears all" hears_all "$host"
    done
    down_after "$DOWN_AFTER"
}

fail_over() {
    local to
    to=$(other_than "$1")
    settled "$1"
    until_deadline "$PATIENCE" 'Sentinel accepts the failover' asked_for_failover
    until_deadline "$PATIENCE" "Sentinel names $to" names_master server3 "$to"
}
asked_for_failover() { [[ $(sentinel server3 sentinel failover "$MASTER") == OK ]]; }
names_master() {
    [[ $(sentinel "$1" sentinel get-master-addr-by-name "$MASTER" | head -n 1) == "${ADDRESS[$2]}" ]]
}

# The agent has asked the Sentinels: then it says that it is ready.
is_at_work() { on "$1" systemctl --quiet is-active vipswitch-agent.service; }

power_loss() {
    local old new since
    local lost_power
    old=$(holders) new=$(other_than "$(holders)")
    heading 'The holder loses its power'
    settled "$old"
    since=$(now)
    power_off "$old"
    all_well "$new"
    lost_power=$(outage "$since")
    fact "$old is without power: the VIP is on $new; $(seconds "$lost_power") s without a write"
    figure 'holder loses power: no write for' "$lost_power"
    boot "$old"
    wait_booted "$old"
    until_deadline "$PATIENCE" "the agent of $old is at work after its boot" is_at_work "$old"
    settled "$new"
    held_by_only "$new" || die "the VIP is on: $(holders)"
    ! had_vip "$old" || die "$old bound the VIP after its boot, though $new is master"
    fact "$old has booted, follows $new, and never touched the VIP"
}

reboot() {
    local holder since booting
    holder=$(holders)
    heading 'The holder reboots, too quickly for a failover'
    settled "$holder"
    down_after 60000
    since=$(now)
    # As where it is masked; the agent starts it at the next boot.
    on "$holder" systemctl stop vipswitch-handover
    held_by_only "$holder" || die "systemctl stop vipswitch-handover has handed over to: $(holders)"
    shut_down "$holder"
    fact "$holder is shut down"
    booting=$(now)
    boot "$holder"
    all_well "$holder"
    figure 'holder reboots, no failover: boot to VIP' $(($(came "$holder") - booting))
    figure 'holder reboots, no failover: no write for' "$(outage "$since")"
    fact "$holder has the VIP again, $(seconds $(($(came "$holder") - booting))) s after power on"
    wait_booted "$holder"
    down_after "$DOWN_AFTER"
    settled "$holder"
}

# Prints each time at which the VIP came to a server or left it altogether, since its boot: "came MICROSECONDS".
vip_moves() {
    local what stamp
    awk -v vip=" $VIP/" '
        start = index($0, vip) {
            prefix = substr($0, start + length(vip)); sub(/ .*/, "", prefix)
            is_gone = index($0, " Deleted ")
            if (is_gone && prefix in has) { delete has[prefix]; if (!--count) print "left", $1 }
            if (!is_gone && !(prefix in has)) { has[prefix]; if (!count++) print "came", $1 }
        }' "$LAB/$1.addresses" |
        while read -r what stamp; do echo "$what $(when "$stamp")"; done
}

# Prints when the VIP came to a server first since its boot.
came() { vip_moves "$1" | awk '$1 == "came" && !first { first = $2 } END { print first }'; }

# Prints the time in microseconds at the beginning of a line of "ip monitor".
when() {
    local stamp=${1#\[}
    date -d "${stamp%%\]*}" +%s%6N
}

site_power_loss() {
    local host holder since
    heading 'The whole site loses its power'
    settled "$(holders)"
    power_off "${SERVERS[@]}"
    fact 'all three servers are without power'
    since=$(now)
    for host in "${SERVERS[@]}"; do boot "$host"; done
    until_deadline "$PATIENCE" 'a server has the VIP' one_holder
    holder=$(holders)
    figure 'all servers boot: power on to VIP' $(($(came "$holder") - since))
    fact "$holder has the VIP, $(seconds $(($(came "$holder") - since))) s after power on"
    for host in "${SERVERS[@]}"; do wait_booted "$host"; done
    until_deadline "$PATIENCE" 'the holder is the master that Sentinel names' holder_is_master
    settled "$(holders)"
    all_well "$(holders)"
    figure 'all servers boot: power on to the first write' $(($(first_write_since "$since") - since))
    fact "the client writes through it"
}

one_holder() { [[ $(holders | wc -l) == 1 ]]; }
holder_is_master() { one_holder && names_master server3 "$(holders)"; }
first_write_since() { awk -v since="$1" '$1 > since { print $1; exit }' "$LAB/writes"; }

killed() {
    heading 'The master dies: its agent has it failed over at once, and systemd starts it again'
    dies 'kill -9' "kill -KILL \$(systemctl show $PRODUCT-server --property MainPID --value)"
    dies 'systemctl restart' "systemctl restart $PRODUCT-server"
}
# The master's Redis ends, and is started again: dies WHAT COMMAND
dies() {
    local holder since pid deaths
    holder=$(holders)
    settled "$holder"
    until_deadline "$PATIENCE" 'the last failover is more than a minute ago' may_ask "$holder"
    since=$(now)
    deaths=$(deaths "$holder")
    pid=$(on "$holder" systemctl show "$PRODUCT-server" --property MainPID --value)
    on "$holder" sh -euc "$2"
    until_deadline "$PATIENCE" "systemd has started $PRODUCT again" has_other_pid "$holder" "$pid"
    until_deadline "$PATIENCE" 'the agent has seen the death' has_died_again "$holder" "$deaths"
    until_deadline "$PATIENCE" 'the holder is the master that Sentinel names' holder_is_master
    # Where the machine is too busy for an election in time, Sentinel decides; or where Redis takes long to stop, and so has
    # answered nobody for nearly down-after-milliseconds (2000) when it is gone.
    if [[ $(holders) == "$holder" ]]; then
        on "$holder" journalctl -q -t vipswitch | grep 'Sentinel decides' | tail -n 1 | grep -E 'answered in time|voted for the one|about to decide itself' ||
            die 'there was no failover, and the log does not say that the machine was too busy'
    fi
    all_well "$(holders)"
    figure "$1 of the master: no write for" "$(outage "$since")"
    fact "$1: $(holders) is the master now; $(seconds "$(outage "$since")") s without a write"
    settled "$(holders)"
}
may_ask() {
    # The agent keeps when the newest failover was.
    [[ -z $(on "$1" find /run/vipswitch -name '*.failover.json' -newermt '-61 seconds') ]]
}
deaths() { on "$1" journalctl -q -t vipswitch | grep -c 'has died' || :; }
has_died_again() { (($(deaths "$1") > $2)); }
has_other_pid() {
    local pid
    pid=$(on "$1" systemctl show "$PRODUCT-server" --property MainPID --value)
    [[ $pid != 0 && $pid != "$2" ]]
}

flush() {
    local holder since
    holder=$(holders)
    heading 'Someone flushes all addresses of the interface, and networkd configures it anew'
    settled "$holder"
    since=$(now)
    on "$holder" sh -euc 'ip address flush dev eth1; networkctl reconfigure eth1'
    until_deadline "$PATIENCE" 'the VIP is gone' lost_vip "$holder" "$since"
    all_well "$holder"
    until_deadline "$PATIENCE" "$holder speaks from its own address" own_source "$holder"
    figure 'flushed on the holder: VIP back, by the agent, after' $(($(came_back "$holder") - since))
    fact "the agent has brought it back to $holder after $(seconds $(($(came_back "$holder") - since))) s"
}

networkd() {
    local holder since
    holder=$(holders)
    heading 'systemd-networkd is restarted on the holder'
    settled "$holder"
    since=$(now)
    on "$holder" systemctl restart systemd-networkd
    all_well "$holder"
    ! lost_vip "$holder" "$since" || die 'the VIP was gone for a while'
    fact "the VIP has stayed on $holder, $(seconds "$(outage "$since")") s without a write"
    on "$holder" sh -euc 'mv /etc/systemd/network/10-lan.network.d /root/; networkctl reload
        systemctl restart systemd-networkd'
    until_deadline "$PATIENCE" 'without KeepConfiguration=static networkd removes the VIP' lost_vip "$holder" "$since"
    all_well "$holder"
    fact "without KeepConfiguration=static it is gone, and the agent brings it back after $(seconds "$(away "$holder" "$since")") s"
    on "$holder" sh -euc 'mv /root/10-lan.network.d /etc/systemd/network/; networkctl reload'
}

# Prints when the VIP came to a server last.
came_back() { vip_moves "$1" | awk '$1 == "came" { last = $2 } END { print last }'; }

# Whether the VIP left a server after a time: lost_vip HOST SINCE
lost_vip() { vip_moves "$1" | awk -v since="$2" '$1 == "left" && $2 > since { lost = 1 } END { exit !lost }'; }

cable() {
    local holder since
    holder=$(holders)
    heading 'The cable of the holder is out for two seconds'
    settled "$holder"
    down_after 60000
    since=$(now)
    cable_out "$holder" 2
    all_well "$holder"
    ! lost_vip "$holder" "$since" || die 'the VIP was gone with the carrier'
    own_source "$holder" || die "the VIP is the source address of $holder"
    figure 'cable out for 2 s: no write for' "$(outage "$since")"
    fact "the VIP has stayed on $holder; $(seconds "$(outage "$since")") s without a write"
    since=$(now)
    on "$holder" sh -euc 'networkctl down eth1; networkctl up eth1'
    all_well "$holder"
    ! lost_vip "$holder" "$since" || die 'networkctl down, networkctl up: the VIP was gone'
    figure 'networkctl down, networkctl up: no write for' "$(outage "$since")"
    fact "networkctl down, networkctl up: likewise; $(seconds "$(outage "$since")") s without a write"

    # Debian 13's networkd then takes all addresses away with the carrier, 12's the host's own.
    on "$holder" sh -euc 'mv /etc/systemd/network/10-lan.network.d /root/; networkctl reload'
    all_well "$holder"
    since=$(now)
    cable_out "$holder" 2
    until_deadline "$PATIENCE" "$holder has its own address again" has_own "$holder"
    all_well "$holder"
    until_deadline "$PATIENCE" "$holder speaks from its own address" own_source "$holder"
    figure "cable out for 2 s, without drop-in: host's own address to VIP" "$(after_own_address "$holder")"
    fact "without the drop-in: the VIP was away for $(seconds "$(away "$holder" "$since")") s, and back $(seconds "$(after_own_address "$holder")") s after the host's own address"
    on "$holder" sh -euc 'mv /root/10-lan.network.d /etc/systemd/network/; networkctl reload'
    all_well "$holder"
    usual_down_after
    settled "$holder"
}

# What connects to another server from a server comes from its own address: own_source HOST
own_source() {
    local other
    other=$(other_than "$1")
    [[ $(ip -netns "$1" -oneline route get "${ADDRESS[$other]}") == *" src ${ADDRESS[$1]} "* ]]
}

# No Sentinel lists the VIP as that of a server or of a Sentinel.
nobody_is_the_vip() {
    local host listed
    for host in "${SERVERS[@]}"; do
        is_up "$host" || continue
        listed=$(sentinel "$host" sentinel sentinels "$MASTER" && sentinel "$host" sentinel replicas "$MASTER" &&
            sentinel "$host" sentinel master "$MASTER") || return 1
        ! grep -qxF "$VIP" <<<"$listed" || return 1
    done
}

known_by_vip() {
    local old new said
    old=$(holders) new=$(other_than "$(holders)")
    heading "Networkd takes the holder's own address away with the carrier, and not the VIP"
    settled "$old"
    down_after 60000
    on "$old" sh -euc "sed -i.away /IgnoreCarrierLoss/d $DROP_IN; networkctl reload"
    cable_out "$old" 2
    until_deadline "$PATIENCE" "$old has its own address again" has_own "$old"
    # Who is restarted connects anew, and is known by where it comes from.
    on "$old" systemctl restart "$UNIT"
    all_well "$old"
    own_source "$old" || die "the VIP is the source address of $old: $(ip -netns "$old" -oneline address show eth1)"
    settled "$old"
    nobody_is_the_vip || die 'a Sentinel knows another by the VIP'
    fact "$old speaks from its own address, and everybody knows it by that"
    usual_down_after
    power_off "$old"
    all_well "$new"
    fact "$old is without power: the VIP is on $new"
    shut_down "$new"
    boot "$new"
    wait_booted "$new"
    all_well "$new"
    # One server is down, which check may well say; the VIP is as Sentinel has it.
    said=$(on "$new" vipswitch status) || die "vipswitch status: $said"
    [[ $said != *'sync'* ]] || die "status does not take all for well: $said"
    fact "$new has booted, and has the VIP again, by two of three Sentinels"
    mv "$LAB/$old.disk$DROP_IN.away" "$LAB/$old.disk$DROP_IN"
    boot "$old"
    wait_booted "$old"
    settled "$new"
    all_well "$new"
}
has_own() { [[ -n $(ip -netns "$1" -oneline address show to "${ADDRESS[$1]}" 2>/dev/null) ]]; }

# The VIP goes with the interface, and comes back: hooked HOST WHAT COMMANDS
hooked() {
    local holder=$1 since
    since=$(now)
    on "$holder" sh -euc "$3"
    until_deadline "$PATIENCE" "$2 takes the VIP away" lost_vip "$holder" "$since"
    all_well "$holder"
    until_deadline "$PATIENCE" "$2: $holder speaks from its own address" own_source "$holder"
    figure "$2: VIP away for" "$(away "$holder" "$since")"
    figure "$2: host's own address to VIP" "$(after_own_address "$holder")"
    fact "$2: the VIP is back after $(seconds "$(away "$holder" "$since")") s"
}
# Prints how long after the server's own address the VIP came back last, in microseconds; it may have been there first.
after_own_address() {
    local own back
    own=$(when "$(grep -v Deleted "$LAB/$1.addresses" | grep " ${ADDRESS[$1]}/" | tail -n 1)")
    back=$(came_back "$1")
    echo $((back > own ? back - own : 0))
}
# Prints for how long the VIP was away at the longest, in microseconds: away HOST SINCE
away() {
    vip_moves "$1" | awk -v since="$2" '
        $1 == "left" { left = $2 }
        $1 == "came" && left > since && $2 - left > most { most = $2 - left }
        END { printf "%d\n", most }'
}

interface_up() {
    local holder
    holder=$(holders)
    heading 'ifupdown and NetworkManager configure the interface anew'
    concern "$holder"
    settled "$holder"
    down_after 60000
    on "$holder" sh -euc "systemctl stop systemd-networkd.socket systemd-networkd
        ip address flush dev eth1; ip link set eth1 down
        printf 'iface eth1 inet static\n    address ${ADDRESS[$holder]}/24\n' >/etc/network/interfaces.d/eth1
        ifup eth1"
    all_well "$holder"
    hooked "$holder" 'ifdown, ifup' 'ifdown eth1; ifup eth1'

    on "$holder" sh -euc "ifdown eth1; rm /etc/network/interfaces.d/eth1 /etc/systemd/system/NetworkManager.service
        systemctl daemon-reload; systemctl start NetworkManager
        nmcli connection add type ethernet ifname eth1 con-name lan \
            ipv4.method manual ipv4.addresses ${ADDRESS[$holder]}/24 ipv6.method disabled
        nmcli connection up lan"
    all_well "$holder"
    hooked "$holder" 'nmcli connection up' 'nmcli connection up lan'

    on "$holder" sh -euc 'nmcli connection delete lan; systemctl stop NetworkManager
        ln -s /dev/null /etc/systemd/system/NetworkManager.service
        systemctl daemon-reload; systemctl start systemd-networkd'
    until_deadline "$PATIENCE" "$holder has its own address again" has_own "$holder"
    all_well "$holder"
    usual_down_after
    settled "$holder"
    concern
}

quiet() {
    local holder host since said
    holder=$(holders)
    heading 'The agent says nothing while all is well, and what it did when something was not'
    settled "$holder"
    all_well "$holder"
    since=$(now)
    # Longer than it takes to converge, once a second.
    sleep 5
    everywhere 'journalctl --sync; systemctl --quiet is-active vipswitch-agent.service'
    for host in "${SERVERS[@]}"; do
        said=$(said_by_agent "$host" "$since")
        [[ -z $said ]] || die "while all is well the agent of $host says: $said"
    done
    fact 'five seconds in which all is well leave nothing in the journal'
    since=$(now)
    on "$holder" sh -euc "ip address delete $(ip -netns "$holder" -oneline address show to "$VIP" | awk '{ print $4 }') dev eth1"
    until_deadline "$PATIENCE" 'the VIP is gone' lost_vip "$holder" "$since"
    all_well "$holder"
    figure 'ip address delete: VIP away for' "$(away "$holder" "$since")"
    said=$(on "$holder" systemctl show vipswitch --property Id --value)
    [[ $said == vipswitch-agent.service ]] || die "vipswitch.service is $said"
}

check() {
    heading 'vipswitch check names what is broken, and nothing else'
    settled "$(holders)"
    check_all "$(holders)"
}

# The same package under a higher version, on every server.
make_upgrade() {
    # shellcheck disable=SC2016
    everywhere 'cd /root; rm -rf new; dpkg-deb --raw-extract vipswitch_*.deb new
        sed -i "s/^Version: .*/&+upgraded/" new/DEBIAN/control
        dpkg-deb --root-owner-group -Znone --build new /root/upgraded.deb >/dev/null'
}

everywhere() {
    local host
    for host in "${SERVERS[@]}"; do on "$host" sh -euc "$1" || die "on $host: $1"; done
}

upgrade() {
    local holder host since before after
    holder=$(holders)
    heading 'The package is upgraded'
    settled "$holder"
    make_upgrade
    everywhere 'md5sum /etc/vipswitch.toml >/root/before'
    before=$(sentinel_pids)
    since=$(now)
    for host in "${SERVERS[@]}"; do
        on "$host" apt install /root/upgraded.deb >"$LAB/$host.output" 2>&1 || {
            cat "$LAB/$host.output" >&2
            die "the upgrade on $host"
        }
    done
    everywhere 'md5sum --quiet --check /root/before; systemctl --quiet is-active vipswitch-agent.service
        systemctl --quiet is-enabled vipswitch-agent.service; grep -q "^Version: .*upgraded" /var/lib/dpkg/status'
    held_by_only "$holder" || die "the VIP is on: $(holders)"
    after=$(sentinel_pids)
    [[ $before == "$after" ]] || die 'the upgrade has restarted Sentinel'
    fact "VIP, configuration and agent are as they were, no Sentinel was restarted, $(seconds "$(outage "$since")") s without a write"
    since=$(now)
    fail_over "$holder"
    all_well "$(other_than "$holder")"
    fact "a failover by the same Sentinels with the new executable: $(seconds "$(outage "$since")") s without a write"
    settled "$(holders)"
}

has_failed() { [[ $(on "$1" systemctl show "$UNIT" --property Result --value) != success ]]; }

says_why() {
    local said
    said=$(on "$1" sh -c "journalctl -u $UNIT; cat $SENTINEL_LOG")
    [[ $said == *'non existing or non executable'* ]]
}

sentinel_pids() {
    local host
    for host in "${SERVERS[@]}"; do on "$host" systemctl show "$UNIT" --property MainPID; done
}

remove() {
    local holder said
    holder=$(holders)
    heading 'The package is removed from the holder'
    concern "$holder"
    settled "$holder"
    said=$(on "$holder" apt remove --yes vipswitch 2>&1) || die "apt remove: $said"
    grep -E 'sentinel.conf|WARNING|vipswitch:' <<<"$said" | sed 's/^/    /'
    grep -q "$SENTINEL_CONF:[0-9]*:.*client-reconfig-script $MASTER /usr/bin/vipswitch" <<<"$said" ||
        die "it does not name file and line that call it: $said"
    on "$holder" test -e /etc/vipswitch.toml || die 'the configuration is gone'
    held_by_only "$holder" || die "the VIP is on: $(holders)"
    until_deadline "$PATIENCE" 'the client still writes' written_since "$(now)"
    fact 'it names the line in sentinel.conf that calls it; the configuration is kept, and the VIP stays for the clients'
    on "$holder" sh -c "systemctl reset-failed $UNIT; systemctl --no-block restart $UNIT"
    until_deadline "$PATIENCE" 'Sentinel fails without its hook' has_failed "$holder"
    until_deadline "$PATIENCE" 'it says so, in the journal or in its log' says_why "$holder"
    on "$holder" sh -euc "systemctl stop $UNIT; sed -i /client-reconfig-script/d $SENTINEL_CONF
        systemctl reset-failed $UNIT; systemctl start $UNIT" || die 'Sentinel does not start without the line'
    fact 'Sentinel does not start with that line, and starts without it'
    said=$(on "$holder" apt purge --yes vipswitch 2>&1) || die "apt purge: $said"
    on "$holder" test ! -e /etc/vipswitch.toml -a ! -e /run/vipswitch || die 'a purge leaves its files'
    # Not what dpkg logs, and not what README has an administrator write in other packages' folders.
    said=$(on "$holder" find / -xdev -name '*vipswitch*' -not -path '/root/*' -not -path /etc/vipswitch.password \
        -not -path '/etc/systemd/network/*' -not -path '/var/log/*')
    [[ -z $said ]] || die "a purge leaves $said"
    fact 'a purge leaves nothing but the password and what the administrator wrote elsewhere'
    concern
}

inside() {
    # A failure in a subshell comes up as one of the shell that started it.
    trap '[[ $BASH_SUBSHELL -gt 0 ]] || die "line $LINENO: $BASH_COMMAND"' ERR
    local chapter
    local -a chapters=("$@")
    ((${#chapters[@]})) || read -ra chapters <<<"${CHAPTERS_OF[$SYSTEM]}"
    trio
    install
    for chapter in "${chapters[@]}"; do "$chapter"; done
    ((${#figures[@]} == 0)) || heading "Figures: $SYSTEM"
    ((${#figures[@]} == 0)) || printf '  %s\n' "${figures[@]}"
    printf '\ntests/package/run.sh: %s chapters passed on %s after %s s\n' "${#chapters[@]}" "$SYSTEM" "$SECONDS"
}

case ${1:-} in
--inside) inside "${@:2}" ;;
-h | --help) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" ;;
*) outside "$@" ;;
esac
