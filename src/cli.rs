//! What the arguments of the command line mean. Nothing here looks at the world.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::Fault;
use crate::failover::{self, Failover};

/// The ways to run it. One line more, and the help would not fit on the smallest screen.
const USAGE: &str = "\
vipswitch [OPTIONS] <COMMAND>   you; Sentinel's client-reconfig-script:
       vipswitch MASTER leader|observer STATE FROM-IP FROM-PORT TO-IP TO-PORT";

const BIND: &str = "\
With an agent on this host the agent does it, and refuses where the Sentinels name another host, unless
--force is given. Without an agent it is done whatever the Sentinels say, with --force or without.

Example:
  vipswitch bind master8000";

const UNBIND: &str = "\
With an agent on this host the agent does it, and refuses where the Sentinels name this host, unless
--force is given. Without an agent it is done whatever the Sentinels say, with --force or without.

Example:
  vipswitch unbind master8000 --dry-run";

const SYNC: &str = "\
The VIP belongs here exactly if a majority of the Sentinels names a Redis of this host, and that
Redis says that it is a master. Without a majority nothing is changed.

Example:
  vipswitch sync

Exit codes: 0 it agrees, 1 it may later, 2 it cannot as it stands.";

const FAILOVER: &str = "\
It looks first, says what it will do, has one Sentinel elected by the others begin the failover,
tells what happens, and waits until all Sentinels agree. It works from every server.

Example:
  vipswitch failover --dry-run      whether it would, and to which replica
  vipswitch failover master8000

It refuses where writes could be lost, unless --force is given; never while a failover goes on.

Exit codes: 0 done, 1 it may work later or is not at its end, 2 it cannot as it stands.";

const MAINTENANCE: &str = "\
The agent of the master's host fails over at once when its Redis dies. Not so in maintenance: then
Sentinel decides, after down-after-milliseconds. Run it on the server whose Redis is to stop.

Example:
  vipswitch maintenance master8000 on --for 30m
  vipswitch maintenance master8000 off

It outlives the agent, and no reboot.";

const AGENT: &str = "\
Systemd runs it, by vipswitch-agent.service.

Example:
  vipswitch agent --verbose

SIGHUP reads the configuration again; SIGTERM ends it and leaves the VIPs where they are.

Exit codes: 0 a signal ended it, 1 it may work later, 2 it cannot as it stands.";

const CHECK: &str = "\
Run it as root on every server; it changes nothing.

Example:
  vipswitch check             what is wrong, with what to do, and the sums
  vipswitch check --verbose   every finding

Exit codes: 0 all is in place, 1 with warnings, 2 with errors.";

const STATUS: &str = "\
Example:
  vipswitch status --json

Exit codes: 0 whatever is wrong. With --exit-code 0 all is well, 1 with warnings, 2 with errors.";

/// No blank lines but one, so that it fits on the smallest screen.
const HELP: &str = "\
{about-with-newline}{usage-heading} {usage}

Commands:
{subcommands}
Options:
{options}";

/// Moves a virtual IP to the host of the current Redis or Valkey master
#[derive(Debug, Parser)]
#[command(
    version,
    override_usage = USAGE,
    help_template = HELP,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What goes for every command.
    #[command(flatten)]
    pub options: Options,
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Read this, not $VIPSWITCH_CONFIG or /etc/vipswitch.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print what would be done and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print the log line as well; check: every finding
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// The masters that a command is about.
#[derive(Args, Clone, Debug)]
pub struct Masters {
    /// The master-name, as in sentinel.conf; every configured one if none is given
    #[arg(value_name = "MASTER")]
    pub masters: Vec<String>,
}

/// The masters that an order is about, which takes over or releases: never all of them by oversight.
#[derive(Args, Clone, Debug)]
pub struct Chosen {
    /// The master-name, as in sentinel.conf; may be left out where only one is configured
    #[arg(value_name = "MASTER", conflicts_with = "all")]
    pub masters: Vec<String>,
    /// Every configured master
    #[arg(long)]
    pub all: bool,
}

/// An order about some masters.
#[derive(Args, Clone, Debug)]
pub struct Ordered {
    /// What it is about.
    #[command(flatten)]
    pub of: Chosen,
    /// Against what the Sentinels say, until the next failover or the opposite command
    #[arg(long)]
    pub force: bool,
}

/// What `announce` is about.
#[derive(Args, Clone, Debug)]
pub struct Announce {
    /// What it announces.
    #[command(flatten)]
    pub of: Masters,
    /// Go on for this long (10s, 2m), every second, and tell who answers
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
}

/// What `failover` is about.
#[derive(Args, Clone, Debug)]
pub struct Planned {
    /// The master-name, as in sentinel.conf; may be left out where only one is configured
    #[arg(value_name = "MASTER")]
    pub master: Option<String>,
    /// Do not wait for the moment in which Sentinel decides fastest, 10 s at most
    #[arg(long)]
    pub now: bool,
    /// Do it where writes could be lost, too
    #[arg(long)]
    pub force: bool,
    /// Before a shutdown: every master on this host at the same time, in 15 s at most, or the one that is named
    #[arg(long, conflicts_with_all = ["now", "force"])]
    pub from_this_host: bool,
}

/// What `maintenance` is about.
#[derive(Args, Clone, Debug)]
pub struct Maintenance {
    /// The master-name, as in sentinel.conf
    #[arg(value_name = "MASTER")]
    pub master: String,
    /// Whether it begins or ends
    #[arg(value_name = "on|off", hide_possible_values = true)]
    pub switch: Switch,
    /// End it after this time (90s, 30m, 2h), at most 7 days
    #[arg(long = "for", value_name = "TIME", value_parser = long_duration)]
    pub time: Option<Duration>,
}

/// Whether something begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It begins.
    On,
    /// It ends.
    Off,
}

/// What `status` is about.
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// What it tells of.
    #[command(flatten)]
    pub of: Masters,
    /// Exit 0 if all is well, 1 with warnings, 2 with errors
    #[arg(long, conflicts_with = "watch")]
    pub exit_code: bool,
    /// Print again each second until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// What other runs of vipswitch start, detached. It is no command of the operator's, so that no help, no
/// completion and no suggestion names it.
#[derive(Clone, Debug, Parser)]
#[command(name = "vipswitch")]
pub enum Detached {
    /// Go on announcing VIPs.
    #[command(name = ANNOUNCER)]
    Announcer(Announcer),
    /// Run a command of the site's own.
    #[command(name = SITE_COMMAND)]
    SiteCommand(SiteCommand),
    /// Tell clients that a VIP is gone.
    #[command(name = TICKLER)]
    Tickler(Tickler),
}

/// The first argument of an announcer's process.
pub const ANNOUNCER: &str = "announcer";
/// The first argument of the process of a site's command.
pub const SITE_COMMAND: &str = "site-command";
/// The first argument of a tickler's process.
pub const TICKLER: &str = "tickler";

/// What an announcer's process is told.
#[derive(Args, Clone, Debug)]
pub struct Announcer {
    /// A VIP that it announces, as JSON.
    #[arg(long = "job", required = true)]
    pub jobs: Vec<String>,
    /// The file with the configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What the process of a site's command is told.
#[derive(Args, Clone, Debug)]
pub struct SiteCommand {
    /// Which command of the configuration it runs, and for what, as JSON.
    #[arg(long = "job")]
    pub job: String,
    /// The file with the configuration, which alone says what is run.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What a tickler's process is told.
#[derive(Args, Clone, Debug)]
pub struct Tickler {
    /// A VIP whose clients it tells, as JSON.
    #[arg(long = "job", required = true)]
    pub jobs: Vec<String>,
}

/// The longest time that `announce --for` takes.
const LONGEST: Duration = Duration::from_secs(3600);

/// The longest maintenance that has an end of its own.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(7 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    time(text, &UNITS[..2], LONGEST)
        .ok_or_else(|| "give it as 10s or 2m, at least 1s and at most 60m".to_owned())
}

fn long_duration(text: &str) -> Result<Duration, String> {
    time(text, &UNITS, LONGEST_MAINTENANCE)
        .ok_or_else(|| "give it as 90s, 30m or 2h, at least 1s and at most 168h".to_owned())
}

const UNITS: [(char, u64); 3] = [('s', 1), ('m', 60), ('h', 3600)];

/// Reads a number of seconds, or of another unit with its letter behind it.
fn time(text: &str, units: &[(char, u64)], longest: Duration) -> Option<Duration> {
    let mut units = units
        .iter()
        .filter_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let (number, unit) = units.next().unwrap_or((text, 1));
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero() && *time <= longest)
}

/// The operator's commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Take the VIP over, on this host
    #[command(after_help = BIND)]
    Bind(Ordered),
    /// Release the VIP from this host
    #[command(after_help = UNBIND)]
    Unbind(Ordered),
    /// Announce again what this host holds
    #[command(after_help = "Example:\n  vipswitch announce")]
    Announce(Announce),
    /// Tell who is master, who holds the VIP, and who else claims it
    #[command(after_help = STATUS)]
    Status(Status),
    /// Make this host agree with the Sentinels, once (boot, timers)
    #[command(after_help = SYNC)]
    Sync(Masters),
    /// Make another server the master, so that no write is lost
    #[command(after_help = FAILOVER)]
    Failover(Planned),
    /// Let a Redis stop without a failover at once (with agent)
    #[command(after_help = MAINTENANCE)]
    Maintenance(Maintenance),
    /// Stay resident and follow every Sentinel (a service runs it)
    #[command(after_help = AGENT)]
    Agent,
    /// Tell whether all is in place for a failover on this host
    #[command(after_help = CHECK)]
    Check,
    /// Print the version
    #[command(hide = true)]
    Version,
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  vipswitch completions bash > /etc/bash_completion.d/vipswitch"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The shells of servers: for these there are completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

/// What this process was started for.
#[derive(Debug)]
pub enum Command {
    /// Sentinel's call.
    Hook(Failover),
    /// An operator's.
    Operator(Cli),
    /// Another run of vipswitch leaves something to be gone on with.
    Detached(Detached),
}

/// Why the arguments mean nothing, or ask for text alone.
#[derive(Debug)]
pub enum Stop {
    /// Sentinel's call with a wrong argument.
    Call(Fault),
    /// clap's: a mistake, or the text of `--help` or `--version`.
    Clap(clap::Error),
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// See [`Stop`].
pub fn parse(arguments: &[OsString]) -> Result<Command, Stop> {
    if Failover::is_call(arguments) {
        return Failover::parse(arguments)
            .map(Command::Hook)
            .map_err(Stop::Call);
    }
    // Not clap's own, which would be one line too many on the screen.
    let asked = match arguments {
        [help, verb @ ..] if help == "help" && verb.len() < 2 => {
            [verb, &["--help".into()]].concat()
        }
        _ => arguments.to_vec(),
    };
    let named = std::iter::once(OsString::from("vipswitch")).chain(asked);
    let is_detached = |word: &OsString| {
        [ANNOUNCER, SITE_COMMAND, TICKLER]
            .iter()
            .any(|verb| word == verb)
    };
    if arguments.first().is_some_and(is_detached) {
        return Detached::try_parse_from(named)
            .map(Command::Detached)
            .map_err(Stop::Clap);
    }
    match Cli::try_parse_from(named) {
        Ok(cli) => Ok(Command::Operator(cli)),
        Err(error) => Err(meant_as_call(arguments, &error).map_or(Stop::Clap(error), Stop::Call)),
    }
}

/// Whether options stand before a call of Sentinel's, as in a try by hand.
fn is_call_behind_options(arguments: &[OsString]) -> bool {
    let is_call = |place: usize| arguments.get(place..).is_some_and(Failover::is_call);
    (1..arguments.len()).any(is_call)
}

/// Returns what is wrong with a call of Sentinel's that is not quite one: a role in second place,
/// or seven words that are no options, show what was meant.
fn meant_as_call(arguments: &[OsString], error: &clap::Error) -> Option<Fault> {
    use clap::error::ErrorKind::{InvalidSubcommand, UnknownArgument};
    let is_role = arguments
        .get(1)
        .is_some_and(|word| word == "leader" || word == "observer");
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    let seven_words = arguments.len() == 7 && !arguments.iter().any(is_option);
    let meant = match error.kind() {
        InvalidSubcommand => is_role || seven_words,
        UnknownArgument => is_role,
        _ => false,
    };
    if is_call_behind_options(arguments) {
        let text = "options do not go before Sentinel's call, which has none";
        return Some(Fault::permanent(text).remedy(
            "Name another configuration in the environment: VIPSWITCH_CONFIG=FILE vipswitch MASTER leader …",
        ));
    }
    if !meant {
        return None;
    }
    match arguments.len() {
        7 => Failover::parse(arguments).err(),
        number => Some(failover::wrong_number(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ')
            .filter(|word| !word.is_empty())
            .map(OsString::from)
            .collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_master_named_like_a_command_is_still_sentinels_call() {
        for name in ["bind", "status", "completions"] {
            let call = format!("{name} observer start 10.0.0.1 6379 10.0.0.2 6379");
            let Ok(Command::Hook(failover)) = parse(&words(&call)) else {
                panic!("{call}")
            };
            assert_eq!(failover.master, name);
        }
    }

    #[test]
    fn a_mistyped_command_is_not_told_of_the_announcer() {
        for line in ["anouncer", "announcr", "nouncer --job={}", "--help"] {
            let Err(Stop::Clap(error)) = parse(&words(line)) else {
                panic!("{line}")
            };
            assert!(!error.render().to_string().contains(ANNOUNCER), "{error}");
        }
        let Ok(Command::Detached(Detached::Announcer(announcer))) =
            parse(&words("announcer --job={} --config=/x"))
        else {
            panic!("it is not known")
        };
        assert_eq!(
            (announcer.jobs, announcer.config),
            (vec!["{}".to_owned()], "/x".into())
        );
    }

    #[test]
    fn options_go_before_and_after_the_command() {
        for line in ["--json --config /x bind m n", "bind m --json n --config /x"] {
            let Ok(Command::Operator(cli)) = parse(&words(line)) else {
                panic!("{line}")
            };
            assert!(cli.options.json && !cli.options.dry_run);
            assert_eq!(cli.options.config, Some("/x".into()));
            let Verb::Bind(order) = cli.verb else {
                panic!("{line}")
            };
            assert_eq!(
                (order.of.masters, order.force),
                (vec!["m".into(), "n".into()], false)
            );
        }
    }

    #[test]
    fn a_call_that_is_not_quite_one_is_told_what_a_call_looks_like() {
        for line in [
            "m leader start 10.0.0.1 6379 10.0.0.2",
            "m leader start 10.0.0.1 6379 10.0.0.2 6379 more",
            "m leader",
            "m sentinel start 10.0.0.1 6379 10.0.0.2 6379",
            "m leader start",
            "bnid leader",
        ] {
            let Err(Stop::Call(fault)) = parse(&words(line)) else {
                panic!("{line}")
            };
            assert!(fault.to_string().contains(failover::USAGE), "{fault}");
        }
        let line = "--config F m leader start 10.0.0.1 6379 10.0.0.2 6379";
        let Err(Stop::Call(fault)) = parse(&words(line)) else {
            panic!("{line}")
        };
        assert!(
            fault.to_string().contains("VIPSWITCH_CONFIG=FILE"),
            "{fault}"
        );
        for line in [
            "bnid",
            "bnid m8000 m8001",
            "--dry-run bnid m n",
            "--config X statsu",
            "--config X --json bnid m n o p",
            "bind --jsno",
            "status -v -q",
            "",
        ] {
            assert!(matches!(parse(&words(line)), Err(Stop::Clap(_))), "{line}");
        }
    }

    #[test]
    fn a_time_is_seconds_or_minutes() {
        for (text, seconds) in [
            ("10s", Some(10)),
            ("10", Some(10)),
            ("2m", Some(120)),
            ("60m", Some(3600)),
            ("61m", None),
            ("0", None),
            ("s", None),
            ("-1s", None),
            ("1h", Some(3600)),
            ("2h", None),
            ("99999999999999999999m", None),
        ] {
            assert_eq!(
                duration(text).ok(),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn a_maintenance_may_last_hours() {
        for (text, seconds) in [("90s", Some(90)), ("2h", Some(7200)), ("169h", None)] {
            let line = format!("maintenance m on --for {text}");
            let read = match parse(&words(&line)) {
                Ok(Command::Operator(Cli {
                    verb: Verb::Maintenance(of),
                    ..
                })) => of.time,
                _ => None,
            };
            assert_eq!(read, seconds.map(Duration::from_secs), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_argument_list_makes_anything_but_a_clean_result(
            list in prop::collection::vec(prop_oneof![
                Just("bind".to_owned()), Just("leader".to_owned()), Just("--json".to_owned()),
                Just("--config".to_owned()), Just("6379".to_owned()), ".*",
            ], 0..10),
        ) {
            let list: Vec<OsString> = list.into_iter().map(OsString::from).collect();
            let _ = parse(&list);
        }
    }
}
