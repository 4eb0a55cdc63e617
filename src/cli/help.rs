//! The longer parts of the help: what a command does, examples, exit codes.

/// The ways to run it. One line more, and the help would not fit on the smallest screen.
pub(super) const USAGE: &str = "\
vipswitch [OPTIONS] <COMMAND>   you; Sentinel's client-reconfig-script:
       vipswitch MASTER leader|observer STATE FROM-IP FROM-PORT TO-IP TO-PORT";

pub(super) const BIND: &str = "\
With an agent on this host the agent does it, and refuses where the Sentinels name another host, unless
--force is given. Without an agent it is done whatever the Sentinels say, with --force or without.

Example:
  vipswitch bind master8000

Exit codes: 0 it is here, 1 it may work later, 2 it is refused, or cannot work as it stands.";

pub(super) const UNBIND: &str = "\
With an agent on this host the agent does it, and refuses where the Sentinels name this host, unless
--force is given. Without an agent it is done whatever the Sentinels say, with --force or without.

Example:
  vipswitch unbind master8000 --dry-run

Exit codes: 0 it is not here, 1 it may work later, 2 it is refused, or cannot work as it stands.";

pub(super) const ANNOUNCE: &str = "\
A VIP that is not here is not announced.

Example:
  vipswitch announce
  vipswitch announce --for 10s   who answers, and who else claims it

Exit codes: 0 done, also where nothing is here, 1 it may work later, 2 it cannot as it stands.";

pub(super) const SYNC: &str = "\
The VIP belongs here exactly if a majority of the Sentinels names a Redis of this host, and that
Redis says that it is a master. Without a majority nothing is changed, unless every Redis of this
host says that it is a replica.

Example:
  vipswitch sync

Exit codes: 0 it agrees, 1 it may later, 2 it cannot as it stands.";

pub(super) const FAILOVER: &str = "\
It looks first, says what it will do, has one Sentinel elected by the others begin the failover,
tells what happens, and waits until all Sentinels agree. It works from every server.

Example:
  vipswitch failover --dry-run      whether it would, and to which replica
  vipswitch failover master8000

With agents no write is lost, and it refuses where one could be, unless --force is given: no replica
is connected that lacks less than 1 MiB, or an agent is missing. Without agents what is written while
the VIP moves, for about 0.3 s, is lost. It begins none while another failover goes on, for whose end
it waits 10 s.

Exit codes: 0 done, 1 it may work later or is not at its end, 2 it cannot as it stands.";

pub(super) const MAINTENANCE: &str = "\
The agent of the master's host fails over at once when its Redis dies. Not so in maintenance: then
Sentinel decides, after down-after-milliseconds. Run it on the server whose Redis is to stop.

Example:
  vipswitch maintenance master8000 on --for 30m
  vipswitch maintenance master8000 off

It outlives the agent, and no reboot.

Exit codes: 0 it holds, or is over, 1 it may work later, 2 there is no agent, or it cannot as it stands.";

pub(super) const AGENT: &str = "\
Systemd runs it, by vipswitch-agent.service.

Example:
  vipswitch agent --verbose

SIGHUP reads the configuration again; SIGTERM ends it and leaves the VIPs where they are.

Exit codes: 0 a signal ended it, 1 it may work later, 2 it cannot as it stands.";

pub(super) const CHECK: &str = "\
Run it as root on every server; it changes nothing.

Example:
  vipswitch check             what is wrong, with what to do, and the sums
  vipswitch check --verbose   every finding

Exit codes: 0 all is in place, 1 with warnings, 2 with errors.";

pub(super) const STATUS: &str = "\
Example:
  vipswitch status --json

Exit codes: 0 whatever is wrong. With --exit-code 0 all is well, 1 with warnings, 2 with errors.";

/// No blank lines but one, so that it fits on the smallest screen.
pub(super) const HELP: &str = "\
{about-with-newline}{usage-heading} {usage}

Commands:
{subcommands}
Options:
{options}";
