# shellcheck shell=bash
# The agent's service on booted servers: what systemd does to it, what its sandbox lets it do, and the way to it from
# a package that had none.

agent_pid() { on "$1" systemctl show vipswitch-agent.service --property MainPID --value; }

# What the agent has told systemd of itself.
status_text() { on "$1" systemctl show vipswitch-agent.service --property StatusText --value; }

# Another process of the agent is at work: is_another HOST PID
is_another() {
    local pid
    pid=$(agent_pid "$1")
    # One that hangs counts as active until the watchdog ends it: its number is looked at first, and again afterwards.
    [[ $pid != 0 && $pid != "$2" ]] && is_at_work "$1" && [[ $(agent_pid "$1") == "$pid" ]]
}

# What the journal has about the agent's unit since a time: said_by_agent HOST SINCE
said_by_agent() {
    on "$1" journalctl --quiet --output=cat --since "@$(($2 / 1000000)).$(printf %06d $(($2 % 1000000)))" \
        --unit vipswitch-agent.service
}
has_said() { [[ $(said_by_agent "$1" "$2") == *"$3"* ]]; }

# Replaces the agent's process on a server, which must not concern the VIP: replaced HOST WHAT COMMAND
replaced() {
    local pid since
    since=$(now) pid=$(agent_pid "$1")
    on "$1" sh -euc "$3"
    until_deadline "$PATIENCE" "$2: another agent is at work" is_another "$1" "$pid"
    held_by_only "$1" || die "$2: the VIP is on: $(holders)"
    ! lost_vip "$1" "$since" || die "$2: the VIP was gone for a while"
    fact "$2: another agent is at work after $(seconds $(($(now) - since))) s, and the VIP has stayed"
}

service() {
    local holder pid since
    holder=$(holders)
    heading "The agent is killed, hangs, is restarted, reads its configuration again, runs the site's command"
    concern "$holder"
    settled "$holder"
    [[ $(status_text "$holder") == *": here" ]] || die "systemd shows $(status_text "$holder")"
    [[ $(status_text "$(other_than "$holder")") == *": elsewhere" ]] || die 'systemd shows another state on the other host'
    replaced "$holder" 'kill -9' 'systemctl kill --signal KILL --kill-who main vipswitch-agent'
    replaced "$holder" 'systemctl restart' 'systemctl restart vipswitch-agent'
    replaced "$holder" 'kill -STOP' 'systemctl kill --signal STOP --kill-who main vipswitch-agent'

    since=$(now) pid=$(agent_pid "$holder")
    on "$holder" sh -euc 'cp -p /etc/vipswitch.toml /root/; echo "[masters" >>/etc/vipswitch.toml; systemctl reload vipswitch-agent'
    until_deadline "$PATIENCE" 'it says that the configuration is broken' has_said "$holder" "$since" 'the configuration stays as it was'
    [[ $(agent_pid "$holder") == "$pid" ]] || die 'a broken configuration ends the agent'
    # In its sandbox, as its user: it can write where the unit lets it.
    on "$holder" sh -euc 'cp -p /root/vipswitch.toml /etc/
        sed -i "/^redis_password_file/a on_release = { command = [\"/usr/bin/touch\", \"/var/lib/vipswitch/released\"] }" /etc/vipswitch.toml
        systemctl reload vipswitch-agent'
    until_deadline "$PATIENCE" 'it has read the configuration again' has_said "$holder" "$since" 'the configuration was read again'
    held_by_only "$holder" || die "the VIP is on: $(holders)"
    fact 'a broken configuration changes nothing, and a whole one is read again by the same process'

    since=$(now)
    fail_over "$holder"
    all_well "$(other_than "$holder")"
    until_deadline "$PATIENCE" "the site's command has run" on "$holder" test -e /var/lib/vipswitch/released
    fact "after a failover the site's command has run"
    on "$holder" sh -euc 'cp -p /root/vipswitch.toml /etc/; rm /var/lib/vipswitch/released; systemctl reload vipswitch-agent'
    settled "$(other_than "$holder")"
    concern
}

# --- from a package without agent ----------------------------------------------------------------

# A package as it was before there was an agent: timer, and drop-ins by which Sentinel's hook has its privileges.
make_old() {
    everywhere "cd /root; rm -rf old; dpkg-deb --raw-extract vipswitch_*.deb old
        sed -i 's/^Version: .*/Version: 0.0.1/' old/DEBIAN/control
        cd old; rm -r DEBIAN/preinst DEBIAN/postrm DEBIAN/triggers DEBIAN/md5sums usr/lib/sysusers.d
        rm usr/lib/systemd/system/vipswitch-agent.service usr/lib/systemd/system/vipswitch.service
        mkdir usr/lib/systemd/system/$UNIT.service.d
        cp usr/share/doc/vipswitch/examples/systemd/$UNIT.conf usr/lib/systemd/system/$UNIT.service.d/vipswitch.conf
        printf '#!/bin/sh\nset -e\nsystemctl daemon-reload\ndeb-systemd-helper enable vipswitch-sync.timer\nsystemctl start vipswitch-sync.timer\n' >DEBIAN/postinst
        printf '#!/bin/sh\n' >DEBIAN/prerm
        dpkg-deb --root-owner-group -Znone --build . /root/old.deb >/dev/null"
}

# As "everywhere"; what it prints is the last server's, in $LAB/output.
everywhere_quietly() {
    local host
    for host in "${SERVERS[@]}"; do
        on "$host" sh -euc "$1" >"$LAB/output" 2>&1 || {
            cat "$LAB/output" >&2
            die "on $host: $1"
        }
    done
}

# A failover that a hook without agent must follow on both hosts.
moves_without_agent() {
    local holder
    holder=$(holders)
    fail_over "$holder"
    all_well "$(other_than "$holder")"
    settled "$(holders)"
}

from_timer() {
    local holder before block
    holder=$(holders)
    heading 'A package without agent is upgraded, and then the agent is used, as docs/install.md says'
    settled "$holder"
    make_old
    everywhere_quietly "systemctl disable --now vipswitch-agent; dpkg --install --force-downgrade /root/old.deb
        chown -R root: /run/vipswitch /var/lib/vipswitch
        chgrp root /etc/vipswitch.password; chmod 600 /etc/vipswitch.password
        systemctl restart $UNIT; systemctl --quiet is-active vipswitch-sync.timer"
    settled "$holder"
    moves_without_agent
    fact 'with the old package: a failover by the hook alone'

    before=$(sentinel_pids)
    everywhere_quietly 'apt install --yes /root/vipswitch_*.deb'
    grep 'vipswitch: ' "$LAB/output" | sort -u | sed 's/^/    /'
    [[ $before == "$(sentinel_pids)" ]] || die 'the upgrade has restarted Sentinel'
    everywhere "systemctl --quiet is-active vipswitch-sync.timer; systemctl --quiet is-enabled vipswitch-sync.timer
        test \"\$(systemctl is-enabled vipswitch-agent || :)\" = disabled; test -e /etc/systemd/system/$UNIT.service.d/vipswitch.conf"
    moves_without_agent
    everywhere "systemctl restart $UNIT"
    settled "$(holders)"
    moves_without_agent
    fact 'upgraded: failovers by the hook alone, with the old Sentinels and with restarted ones'

    blocks_of "$ROOT/docs/install.md" "$LAB/from-timer"
    for block in "$LAB"/from-timer/*; do
        [[ -s $block ]] || die 'docs/install.md has no block of commands'
        run_block "$block"
    done
    settled "$(holders)"
    everywhere "systemctl --quiet is-active vipswitch-agent; test \"\$(systemctl is-enabled vipswitch-sync.timer || :)\" = disabled
        test -z \"\$(systemctl show $UNIT --property AmbientCapabilities --value)\""
    moves_without_agent
    everywhere 'vipswitch check --quiet' || die 'not all is well'
    fact 'with the agent: Sentinel has no privilege any more, a failover, and check finds nothing'
}
