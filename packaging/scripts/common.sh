# shellcheck shell=sh
# Copied into the maintainer scripts of the .deb and the .rpm and into install.sh: what
# they have in common. $root is empty, or the folder that stands for /.

say() { printf 'vipswitch: %s\n' "$*" >&2; }

# Makes the agent's user, and lets it into the group of Sentinel's user: the agent's socket is that group's,
# and the configuration that group's to read. Where $root is not the running system, sysusers.d does the first.
make_user() {
    [ -z "$root" ] || return 0
    if ! getent passwd vipswitch >/dev/null; then
        if command -v systemd-sysusers >/dev/null; then
            systemd-sysusers vipswitch.conf
        else
            useradd --system --user-group --no-create-home --home-dir /nonexistent \
                --shell /usr/sbin/nologin vipswitch
        fi || say 'cannot make the user vipswitch, whom the agent runs as'
    fi
    for group in redis valkey; do
        ! getent group "$group" >/dev/null || id -nG vipswitch 2>/dev/null | grep -qw "$group" ||
            usermod --append --groups "$group" vipswitch ||
            say "cannot make vipswitch a member of the group $group"
    done
}

# Keeps what gives a Sentinel's hook its privileges, before an upgrade to a package that does not bring it any
# more: as the administrator's, for the Sentinels that call vipswitch. Whoever has a drop-in of that name keeps that.
keep_drop_ins() {
    [ -n "$(named_by_sentinel '[^[:space:]]*vipswitch')" ] || return 0
    for unit in redis-sentinel.service redis-sentinel@.service valkey-sentinel.service valkey-sentinel@.service; do
        old=$root/usr/lib/systemd/system/$unit.d/vipswitch.conf new=$root/etc/systemd/system/$unit.d/vipswitch.conf
        [ -f "$old" ] || continue
        if [ -e "$new" ] || [ -h "$new" ]; then continue; fi
        mkdir -p "${new%/*}"
        {
            echo "$kept, because Sentinel's hook needs it until the agent is at work."
            echo "# Then: rm $new; systemctl daemon-reload; systemctl restart ${unit%.service}"
            cat "$old"
        } >"$new.new"
        chmod 644 "$new.new"
        mv "$new.new" "$new"
        say "kept for Sentinel until the agent is at work: $new"
    done
}
kept='# Kept by an upgrade of vipswitch'

# Removes them again.
remove_kept_drop_ins() {
    for file in "$root"/etc/systemd/system/redis-sentinel*.service.d/vipswitch.conf \
        "$root"/etc/systemd/system/valkey-sentinel*.service.d/vipswitch.conf; do
        grep -qs "^$kept" "$file" || continue
        rm -f "$file"
        rmdir "${file%/*}" 2>/dev/null || :
    done
}

# Names the next step of a server that has worked without agent until now.
say_how_to_use_the_agent() {
    if [ -n "$root" ] || [ ! -d /run/systemd/system ]; then return 0; fi
    systemctl --quiet is-enabled vipswitch-sync.timer 2>/dev/null || return 0
    ! systemctl --quiet is-enabled vipswitch-agent.service 2>/dev/null || return 0
    say 'all works as before. The agent is new, and faster; to use it: let it read the password file, if there is one'
    say '    (chgrp vipswitch FILE; chmod 640 FILE), then systemctl enable --now vipswitch-agent'
    say '    and, once it is active, systemctl disable --now vipswitch-sync.timer'
}

# Lets Sentinel's group read the configuration, which is root's alone as it comes. Whoever has
# changed owner, group or mode keeps that.
share_configuration() {
    [ "$(stat -c %u:%g:%a "$root/etc/vipswitch.toml" 2>/dev/null)" = 0:0:640 ] || return 0
    for group in redis valkey; do
        if getent group "$group" >/dev/null; then
            chgrp "$group" "$root/etc/vipswitch.toml"
            return 0
        fi
    done
}

# Prints FILE:LINE:TEXT for each line of Sentinel's configurations that names the executable $1.
named_by_sentinel() {
    start='^[[:space:]]*sentinel[[:space:]]+"?client-reconfig-script"?[[:space:]]+[^[:space:]]+[[:space:]]+'
    for file in "$root"/etc/*sentinel*.conf "$root"/etc/redis*.conf "$root"/etc/valkey*.conf \
        "$root"/etc/redis/*.conf "$root"/etc/valkey/*.conf "$root"/etc/redis/*/*.conf \
        "$root"/etc/valkey/*/*.conf "$root"/etc/sentinel/*.conf "$root"/usr/local/etc/*.conf \
        "$root"/usr/local/etc/redis/*.conf "$root"/var/lib/redis/*.conf "$root"/var/lib/valkey/*.conf; do
        [ ! -f "$file" ] || grep -aEinH "${start}[\"']?${1}[\"']?[[:space:]]*\$" "$file" || :
    done
}

# Says so if a Sentinel still calls the executable $1, an extended regular expression, which is about to
# go. It is no reason to refuse: a removal that fails halfway helps nobody, and the running Sentinel
# goes on.
warn_if_named() {
    named=$(named_by_sentinel "$1")
    [ -n "$named" ] || return 0
    say 'WARNING: a Sentinel still calls the executable that is being removed:'
    printf '%s\n' "$named" | while IFS= read -r line; do say "    $line"; done
    say 'From now on its failovers move no VIP, and its NEXT START FAILS. For each file, stop the Sentinel, then'
    printf '%s\n' "$named" | cut -d: -f1 | uniq | while IFS= read -r file; do
        say "    sed -i '\\|client-reconfig-script.*/vipswitch|d' '$file'"
    done
    say 'and start it again. A VIP that is bound on this host stays bound.'
}
