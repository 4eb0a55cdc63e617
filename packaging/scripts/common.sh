# shellcheck shell=sh
# Copied into the maintainer scripts of the .deb and the .rpm and into install.sh: what
# they have in common. $root is empty, or the folder that stands for /.

say() { printf 'vipswitch: %s\n' "$*" >&2; }

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

# Names the running Sentinels that may not change addresses yet.
say_who_needs_a_restart() {
    [ -d /run/systemd/system ] && [ -z "$root" ] || return 0
    # CAP_NET_ADMIN and CAP_NET_RAW, bits 12 and 13.
    systemctl list-units --plain --no-legend --state=active 'redis-sentinel*.service' 'valkey-sentinel*.service' |
        while read -r unit rest; do
            pid=$(systemctl show --property MainPID --value "$unit")
            effective=$(sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) || continue
            [ $((0x${effective:-0} & 0x3000)) = $((0x3000)) ] ||
                say "$unit runs without the right to change addresses. Restart it once: systemctl restart $unit"
        done
}
