# shellcheck shell=bash
# A server that is shut down, or whose Redis is stopped, hands over first: under load, and no acknowledged write is lost.

# shellcheck disable=SC2154 # password and nspawn are the lab's

# How many clients write.
readonly WRITERS=4

# A client that counts in a key of its own, on one connection as long as that lasts: each line of its file is the time of
# an answer in microseconds, and the counter in it.
# shellcheck disable=SC2016
readonly WRITER='
use strict; use IO::Socket::INET; use Time::HiRes qw(time sleep); use POSIX;
my ($vip, $port, $password, $key) = @ARGV;
my $socket;
sub say_to { my $line = join "", "*" . @_ . "\r\n", map { "\$" . length($_) . "\r\n$_\r\n" } @_; syswrite $socket, $line }
sub answer {
    my ($ready, $line) = ("", "");
    while ($line !~ /\n/) {
        vec($ready = "", fileno $socket, 1) = 1;
        return undef if !select $ready, undef, undef, 2;
        return undef if !sysread $socket, $line, 512, length $line;
    }
    return $line;
}
$SIG{PIPE} = "IGNORE"; $| = 1;
while () {
    $socket = IO::Socket::INET->new(PeerAddr => $vip, PeerPort => $port, Timeout => 0.1) or sleep(0.005), next;
    next if !say_to("AUTH", $password) || (answer() // "") !~ /^\+OK/;
    while (say_to("INCR", $key)) {
        my $said = answer() // last;
        last if $said !~ /^:(\d+)/;
        printf "%d %d\n", time() * 1e6, $1;
    }
    close $socket;
}'

declare -a writers=()

load_on() {
    local number
    redis "$(holders)" del "${WRITERS_KEYS[@]}" >/dev/null
    for ((number = 0; number < WRITERS; number++)); do
        # nsenter becomes the client, which can be ended so; a function would be its shell.
        nsenter --net=/run/netns/client -- perl -e "$WRITER" "$VIP" "$REDIS_PORT" "$password" "load$number" \
            >"$LAB/load$number" 2>/dev/null &
        writers[number]=$!
    done
    until_deadline "$PATIENCE" 'all clients write' load_goes_on "$(now)"
}
WRITERS_KEYS=(load0 load1 load2 load3)

load_off() {
    kill "${writers[@]}" 2>/dev/null || :
    wait "${writers[@]}" 2>/dev/null || :
    writers=()
}

# Whether every client has had an answer since a time.
load_goes_on() {
    local number
    for ((number = 0; number < WRITERS; number++)); do
        [[ $(tail -n 1 "$LAB/load$number" | cut -d ' ' -f 1) -gt $1 ]] || return 1
    done
}

# Ends the load, and looks whether the master has every write that was acknowledged: none_lost MASTER WHAT SINCE
none_lost() {
    local number lost gap worst=0 written=0 has last
    until_deadline "$PATIENCE" "$2: all clients write again" load_goes_on "$(now)"
    load_off
    for ((number = 0; number < WRITERS; number++)); do
        # The last line may be cut.
        sed -i '$d' "$LAB/load$number"
        # A counter that is not above the one before it was acknowledged once more: the writes before it are lost.
        read -r lost gap last < <(awk -v since="$3" '
            $2 <= counter { lost += counter - $2 + 1 }
            $1 > since && time && $1 - time > gap { gap = $1 - time }
            { time = $1; counter = $2 }
            END { print lost + 0, gap + 0, counter + 0 }' "$LAB/load$number")
        has=$(redis "$1" get "load$number")
        ((has >= last)) || lost=$((lost + last - has))
        ((lost == 0)) || die "$2: $lost acknowledged writes of client $number are lost"
        ((gap <= worst)) || worst=$gap
        written=$((written + last))
    done
    figure "$2: no write for" "$worst"
    fact "$2: 0 of $written acknowledged writes lost, $(seconds "$worst") s without one"
}

# Reboots a server as an operator does. How far: its systemd says so, and its firmware is this function.
rebooted() {
    until_deadline "$PATIENCE" "$1 is shut down" fails is_up "$1"
    grep -q 'Rebooting' "$LAB/$1.console" || die "$1 is not rebooted"
    kill -KILL "${nspawn[$1]}" 2>/dev/null || :
    is_gone "$1"
    boot "$1"
    wait_booted "$1"
}

handover() {
    local old new since
    old=$(holders) new=$(other_than "$(holders)")
    heading 'The holder is shut down, under load: it hands over first'
    settled "$old"
    # Sentinel would take a minute to notice.
    down_after 60000
    load_on
    since=$(now)
    shut_down "$old"
    all_well "$new"
    none_lost "$new" 'poweroff of the holder' "$since"
    boot "$old"
    wait_booted "$old"
    until_deadline "$PATIENCE" "the agent of $old is at work after its boot" is_at_work "$old"
    settled "$new"
    held_by_only "$new" || die "the VIP is on: $(holders)"

    heading 'The holder is rebooted, under load'
    old=$(holders) new=$(other_than "$(holders)")
    on "$old" systemctl --quiet is-active vipswitch-handover
    load_on
    since=$(now)
    on "$old" systemctl --no-block reboot
    all_well "$new"
    none_lost "$new" 'reboot of the holder' "$since"
    rebooted "$old"
    until_deadline "$PATIENCE" "the agent of $old is at work after its boot" is_at_work "$old"
    settled "$new"
    held_by_only "$new" || die "the VIP is on: $(holders)"

    heading 'A replica is shut down: nothing is handed over'
    since=$(now)
    shut_down "$old"
    fact "$old, a replica, was shut down after $(seconds $(($(now) - since))) s"
    held_by_only "$new" || die "the VIP is on: $(holders)"
    boot "$old"
    wait_booted "$old"
    usual_down_after
    settled "$new"
}

stopped() {
    local old new since
    local drop_in=/etc/systemd/system/$PRODUCT-server.service.d
    old=$(holders) new=$(other_than "$(holders)")
    heading "systemctl stop $PRODUCT-server with the drop-in, under load"
    settled "$old"
    down_after 60000
    on "$old" sh -euc "mkdir -p $drop_in
        cp /usr/share/doc/vipswitch/examples/systemd/$PRODUCT-server.conf $drop_in/vipswitch.conf; systemctl daemon-reload"
    load_on
    since=$(now)
    on "$old" systemctl stop "$PRODUCT-server"
    all_well "$new"
    none_lost "$new" "systemctl stop $PRODUCT-server" "$since"
    on "$old" systemctl start "$PRODUCT-server"
    settled "$new"
    # Its own stop is as quick as ever.
    since=$(now)
    on "$old" systemctl restart "$PRODUCT-server"
    fact "a replica was restarted after $(seconds $(($(now) - since))) s"
    on "$old" sh -euc "rm -r $drop_in; systemctl daemon-reload"
    usual_down_after
    settled "$new"
}
