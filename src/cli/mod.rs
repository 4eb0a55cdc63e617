//! What the arguments of the command line mean. Nothing here looks at the world.

mod detached;
mod help;
mod times;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub use self::detached::{
    ANNOUNCER, Announcer, Detached, SITE_COMMAND, SiteCommand, TICKLER, Tickler,
};
use self::help::{
    AGENT, ANNOUNCE, BIND, CHECK, FAILOVER, HELP, MAINTENANCE, STATUS, SYNC, UNBIND, USAGE,
};
use self::times::{duration, long_duration};
use crate::exit::Fault;
use crate::failover::{self, Failover};

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
#[command(allow_missing_positional = true)]
pub struct Maintenance {
    /// The master-name, as in sentinel.conf; may be left out where only one is configured
    #[arg(value_name = "MASTER")]
    pub master: Option<String>,
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
    #[command(after_help = ANNOUNCE)]
    Announce(Announce),
    /// Tell who is master, who holds the VIP, and who else claims it
    #[command(after_help = STATUS)]
    Status(Status),
    /// Make this host agree with the Sentinels, once (boot, timers)
    #[command(after_help = SYNC)]
    Sync(Masters),
    /// Make another server the master; with agents no write is lost
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
        Err(error) => Err(match meant_as_call(arguments, &error) {
            Some(fault) => Stop::Call(fault),
            None => Stop::Clap(with_usage(arguments, error)),
        }),
    }
}

/// Returns the mistake with the command's usage, which clap leaves out where a value is wrong: `maintenance MASTER`
/// lacks a word, and `on|off` alone does not tell where it goes.
fn with_usage(arguments: &[OsString], mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() != ErrorKind::InvalidValue || error.get(ContextKind::Usage).is_some() {
        return error;
    }
    let mut cli = Cli::command();
    cli.build();
    let verb = arguments
        .iter()
        .find_map(|word| cli.find_subcommand(word)?.get_name().to_owned().into());
    if let Some(verb) = verb.and_then(|verb: String| cli.find_subcommand_mut(verb)) {
        let usage = ContextValue::StyledStr(verb.render_usage());
        error.insert(ContextKind::Usage, usage);
    }
    error
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
    fn a_maintenance_may_be_about_the_only_master() {
        for (line, name) in [("maintenance on", None), ("maintenance m on", Some("m"))] {
            let Ok(Command::Operator(Cli {
                verb: Verb::Maintenance(of),
                ..
            })) = parse(&words(line))
            else {
                panic!("{line}")
            };
            assert_eq!((of.master.as_deref(), of.switch), (name, Switch::On));
        }
        for line in ["maintenance m", "--json maintenance m --for 1h"] {
            let Err(Stop::Clap(error)) = parse(&words(line)) else {
                panic!("{line}")
            };
            let said = error.render().to_string();
            assert!(said.contains("Usage: vipswitch maintenance"), "{said}");
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
