# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_vipswitch_global_optspecs
    string join \n config= dry-run json v/verbose q/quiet h/help V/version
end

function __fish_vipswitch_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_vipswitch_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_vipswitch_using_subcommand
    set -l cmd (__fish_vipswitch_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c vipswitch -n "__fish_vipswitch_needs_command" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_needs_command" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -s V -l version -d 'Print version'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "bind" -d 'Take the VIP over, on this host'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "unbind" -d 'Release the VIP from this host'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "announce" -d 'Announce again what this host holds'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "status" -d 'Tell who is master, who holds the VIP, and who else claims it'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "sync" -d 'Make this host agree with the Sentinels, once (boot, timers)'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "failover" -d 'Make another server the master; with agents no write is lost'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "maintenance" -d 'Let a Redis stop without a failover at once (with agent)'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "agent" -d 'Stay resident and follow every Sentinel (a service runs it)'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "check" -d 'Tell whether all is in place for a failover on this host'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "version" -d 'Print the version'
complete -c vipswitch -n "__fish_vipswitch_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -l all -d 'Every configured master'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -l force -d 'Against what the Sentinels say, until the next failover or the opposite command'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand bind" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -l all -d 'Every configured master'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -l force -d 'Against what the Sentinels say, until the next failover or the opposite command'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand unbind" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -l for -d 'Go on for this long (10s, 2m), every second, and tell who answers' -r
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand announce" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -l exit-code -d 'Exit 0 if all is well, 1 with warnings, 2 with errors'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -l watch -d 'Print again each second until interrupted'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand status" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand sync" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand sync" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand sync" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand sync" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand sync" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand sync" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -l now -d 'Do not wait for the moment in which Sentinel decides fastest, 10 s at most'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -l force -d 'Do it where writes could be lost, too'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -l from-this-host -d 'Before a shutdown: every master on this host at the same time, in 15 s at most, or the one that is named'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand failover" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -l for -d 'End it after this time (90s, 30m, 2h), at most 7 days' -r
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand maintenance" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand agent" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand agent" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand agent" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand agent" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand agent" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand agent" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand check" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand check" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand check" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand check" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand check" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand check" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand version" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand version" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand version" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand version" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand version" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand version" -s h -l help -d 'Print help'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand completions" -l config -d 'Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml' -r -F
complete -c vipswitch -n "__fish_vipswitch_using_subcommand completions" -l dry-run -d 'Print what would be done and change nothing'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand completions" -l json -d 'Print JSON, one object per line'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand completions" -s v -l verbose -d 'Print the log line as well; check: every finding'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand completions" -s q -l quiet -d 'Print errors only'
complete -c vipswitch -n "__fish_vipswitch_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
