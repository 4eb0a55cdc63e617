# shellcheck shell=bash
# What can only be broken on a booted server, and the findings by which `vipswitch check` must name
# it there: these and no others, and none at all before and after.

readonly BROKEN=server3 # a replica that is never promoted
# What /usr/bin/vipswitch leads to.
readonly EXECUTABLE=/usr/lib/vipswitch/vipswitch

# systemd counts starts, and refuses the sixth within ten seconds.
forget='systemctl reset-failed redis-sentinel'

# On the broken server, by sh.
here() { on "$BROKEN" sh -euc "$1"; }

# Gives Sentinel's unit these lines after all others, and restarts it. It may fail to start.
unit() {
    here 'mkdir -p /etc/systemd/system/redis-sentinel.service.d'
    printf '[Service]\n' | cat - <(printf '%s\n' "$@") |
        put "$BROKEN" /etc/systemd/system/redis-sentinel.service.d/zz-broken.conf
    restart_sentinel
}
unit_mended() {
    here 'rm -r /etc/systemd/system/redis-sentinel.service.d'
    restart_sentinel
}
restart_sentinel() {
    # A Sentinel that cannot start is started again and again, up to a limit.
    here "systemctl daemon-reload; systemctl stop redis-sentinel; $forget
        timeout 5 systemctl start redis-sentinel 2>/dev/null || systemctl stop redis-sentinel"
}

# Runs commands on the broken server while its Sentinel is stopped.
without_sentinel() { here "systemctl stop redis-sentinel; $1; $forget; systemctl start redis-sentinel"; }

# New connections from the broken server to a server's port vanish, those that are there go on.
firewall() {
    here "nft -f - <<'END'
table inet broken { chain output { type filter hook output priority 0
    ip daddr $1 tcp dport $2 tcp flags & (syn | ack) == syn drop
}; }
END"
}

# In the network namespace alone: a container's /proc/sys cannot be written to.
set_sysctl() { nsenter --net="/run/netns/$BROKEN" -- sysctl --quiet --write "$1"; }

# Mounts the executable noexec, for the running Sentinel as well; check runs by its other name then.
noexec() {
    here "ln $EXECUTABLE /root/vipswitch; mount --bind $EXECUTABLE $EXECUTABLE
        pid=\$(systemctl show --property MainPID --value redis-sentinel)
        nsenter --mount --target \$pid mount -o remount,bind,noexec $EXECUTABLE
        mount -o remount,bind,noexec $EXECUTABLE"
}

# Puts an executable that says another version in the place of the agent's, as an upgrade does without a restart.
other_version() {
    here "cp -p $EXECUTABLE /root/old; cp -p $EXECUTABLE /root/new
        sed -i \"s/\$($EXECUTABLE --version | sed 's/.* //; s/[.]/[.]/g')/9.9.9/g\" /root/new; mv /root/new $EXECUTABLE"
}

# Another machine that has the VIP.
rival() {
    plug_in rival
    ip -netns rival address add "$VIP/24" dev eth1
    ip -netns rival link set eth1 up
}

# WHAT IS BROKEN | THE FINDINGS | BREAK IT | MEND IT
CHECKS=$(
    cat <<'EOT'
the agent is stopped | agent agent-sign | here 'systemctl stop vipswitch-agent' | here 'systemctl start vipswitch-agent'
the agent hangs | agent | until_deadline "$PATIENCE" 'the agent gives its sign' has_sign; here 'systemctl service-watchdogs no; systemctl kill --signal STOP vipswitch-agent' | here 'systemctl kill --signal CONT vipswitch-agent; systemctl service-watchdogs yes'
what hands over at a shutdown is stopped | handover | here 'systemctl stop vipswitch-handover' | here 'systemctl start vipswitch-handover'
the agent is of another version | agent | other_version | here "mv /root/old $EXECUTABLE"
the agent's user may not read the configuration | config-readable | here 'chgrp root /etc/vipswitch.toml' | here 'chgrp redis /etc/vipswitch.toml'
the agent's user may not read the password | config-readable | here 'chmod 600 /etc/vipswitch.password' | here 'chmod 640 /etc/vipswitch.password'
the agent does not know what was configured since | agent-verdict monitored | here "cp -p /etc/vipswitch.toml /root/; printf '[masters.later]\nvip = \"192.168.56.249/24\"\n' >>/etc/vipswitch.toml" | here 'cat /root/vipswitch.toml >/etc/vipswitch.toml'
Sentinel's user is in another group than the socket's | agent-socket | here 'chgrp root /run/vipswitch/agent.sock' | here 'systemctl restart vipswitch-agent'
Sentinel's user may not pass to the socket | agent-socket | here 'chmod 700 /run/vipswitch' | here 'chmod 755 /run/vipswitch'
ExecPaths= with its own libraries only | exec-paths | unit ExecPaths= 'ExecPaths=/usr/bin/redis-sentinel /usr/lib/x86_64-linux-gnu /usr/lib64' | unit_mended
no client-reconfig-script | client-reconfig-script | without_sentinel "sed -i /client-reconfig-script/d /etc/redis/sentinel.conf" | without_sentinel "echo 'sentinel client-reconfig-script $MASTER /usr/bin/vipswitch' >>/etc/redis/sentinel.conf"
client-reconfig-script is another program | client-reconfig-script | without_sentinel "sed -i '/client-reconfig-script/s,[^ ]*$,/lib/systemd/systemd,' /etc/redis/sentinel.conf" | without_sentinel "sed -i '/client-reconfig-script/s,[^ ]*$,/usr/bin/vipswitch,' /etc/redis/sentinel.conf"
Sentinel is stopped | sentinel | here 'systemctl stop redis-sentinel' | without_sentinel :
the executable has file capabilities | file-capabilities | here "setcap cap_net_admin,cap_net_raw+ep $EXECUTABLE" | here "setcap -r $EXECUTABLE"
the executable is root's alone | executable | here "chmod 700 $EXECUTABLE" | here "chmod 755 $EXECUTABLE"
the executable is mounted noexec | exec-paths | unit NoExecPaths= ExecPaths=; noexec | here "umount $EXECUTABLE; rm /root/vipswitch"; unit_mended
the executable was replaced, as by an upgrade | | here "cp -p $EXECUTABLE /root/new; mv /root/new $EXECUTABLE" | :
the configuration is root's alone | config-readable | here 'chmod 600 /etc/vipswitch.toml' | here 'chmod 640 /etc/vipswitch.toml'
everyone can write the configuration | config | here 'chmod 666 /etc/vipswitch.toml' | here 'chmod 640 /etc/vipswitch.toml'
a sysctl: arp_ignore | sysctl | set_sysctl net.ipv4.conf.all.arp_ignore=8 | set_sysctl net.ipv4.conf.all.arp_ignore=0
a sysctl: drop_gratuitous_arp | sysctl | set_sysctl net.ipv4.conf.eth1.drop_gratuitous_arp=1 | set_sysctl net.ipv4.conf.eth1.drop_gratuitous_arp=0
a firewall keeps a Redis out of reach | redis-reachable | firewall 192.168.56.102 8000 | here 'nft delete table inet broken'
a firewall keeps a Sentinel out of reach | sentinel-reachable | firewall 192.168.56.101 6800 | here 'nft delete table inet broken'
another machine has the VIP, too | claimed | rival | unplug rival
this replica's server has the VIP, too | agent agent-sign claimed own-address | here "systemctl stop vipswitch-agent; ip address add $VIP/32 dev eth1" | here "ip address delete $VIP/32 dev eth1; systemctl start vipswitch-agent"
the password of Redis is wrong | redis-role | here 'cp -p /etc/vipswitch.password /root/; echo wrong >/etc/vipswitch.password' | here 'cp -p /root/vipswitch.password /etc/'
a site command that is root's alone | agent-verdict site-command | here "cp /etc/vipswitch.toml /root/; cp /bin/true /opt/; chmod 700 /opt/true; sed -i '/^redis_password_file/a on_take_over = { command = [\"/opt/true\"] }' /etc/vipswitch.toml" | here 'cat /root/vipswitch.toml >/etc/vipswitch.toml; rm /opt/true'
min-replicas-to-write is 0 | min-replicas | redis $BROKEN config set min-replicas-to-write 0 | redis $BROKEN config set min-replicas-to-write 1
down-after-milliseconds is 1000 | down-after | sentinel $BROKEN sentinel set $MASTER down-after-milliseconds 1000 | sentinel $BROKEN sentinel set $MASTER down-after-milliseconds 2000
the quorum is 1 | quorum | sentinel $BROKEN sentinel set $MASTER quorum 1 | sentinel $BROKEN sentinel set $MASTER quorum 2
nothing listens at /dev/log | log | here 'mv /run/systemd/journal/dev-log /run/systemd/journal/away' | here 'mv /run/systemd/journal/away /run/systemd/journal/dev-log'
EOT
)
readonly CHECKS

# Prints the names of what is wrong, by its JSON, and its exit code: findings
findings() {
    local output status=0 program=vipswitch
    [[ ! -e $LAB/$BROKEN.disk/root/vipswitch ]] || program=/root/vipswitch
    output=$(on "$BROKEN" "$program" check --json --quiet) || status=$?
    printf '%s\n' "$output" >"$LAB/findings"
    sed -n 's/.*"check":"\([^"]*\)".*/\1/p' <<<"$output" | sort -u | xargs
    case $output in
    *'"level":"error"'*) ((status == 2)) ;;
    *'"level":"warning"'*) ((status == 1)) ;;
    *) ((status == 0)) ;;
    esac || die "vipswitch check exits $status with: $output"
}

# Of an agent that was stopped before it had a sign there is none.
has_sign() { [[ $(redis "$BROKEN" pubsub numsub vipswitch:agent | tail -n 1) -ge 1 ]]; }

finds_only() {
    found=$(findings)
    [[ $found == "$1" ]]
}

# Waits, because a Sentinel that was restarted has to meet the others again.
expect() {
    local deadline=$(($(now) + PATIENCE * 1000000))
    until finds_only "$(tr ' ' '\n' <<<"$1" | sort -u | xargs)"; do
        (($(now) < deadline)) || {
            cat "$LAB/findings" >&2
            die "$2: vipswitch check names \"$found\" and not \"$1\""
        }
    done
}

check_all() {
    local what names break mend found broken=0
    concern "$BROKEN"
    expect '' 'before anything is broken'
    fact "before anything is broken: nothing"
    # On a descriptor of its own: the commands below read standard input.
    while IFS='|' read -r -u 3 what names break mend; do
        what=${what% } names=$(xargs <<<"$names")
        eval "$break" >/dev/null
        expect "$names" "$what"
        eval "$mend" >/dev/null
        expect '' "$what, and mended"
        fact "$what: ${names:-nothing}"
        broken=$((broken + 1))
    done 3<<<"$CHECKS"
    fact "$broken things were broken and mended"
    concern
}
