//! What each command does. A verb gathers what it needs, hands it to [`once`], and
//! reports; it decides nothing.

mod afterwards;
mod announce;
mod announcer;
mod check;

mod completions;

mod failover;
mod hook;
mod maintenance;
mod operate;
mod site_command;
mod status;
mod tickler;
mod with_agent;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;

use crate::agent;
use crate::cli::{self, Command, Detached, Options, Stop, Verb};
use crate::config::{self, Config};
use crate::evidence::Order;
use crate::exit::{self, Exit, Fault};
use crate::log::{self, Level};
use crate::once;
use crate::report::quote;
use crate::text::{escape, printable};

/// Does what the arguments, without the program's name, ask for.
pub async fn dispatch(arguments: &[OsString], started: Instant) -> Exit {
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(Stop::Call(fault)) => return refuse_call(arguments, &fault).await,
        Err(Stop::Clap(error)) => return print_clap(&error).await,
    };
    let cli = match command {
        Command::Hook(failover) => return hook::run(&failover, arguments, started).await,
        Command::Detached(detached) => return go_on(&detached, started).await,
        Command::Operator(cli) => cli,
    };
    let options = &cli.options;
    let done = match &cli.verb {
        Verb::Bind(of) => operate::order(Order::Bind, of, options, started).await,
        Verb::Unbind(of) => operate::order(Order::Unbind, of, options, started).await,
        Verb::Sync(of) => operate::sync(&of.masters, options, started).await,
        Verb::Announce(announce) => announce::run(announce, options, started).await,
        Verb::Status(of) => status::run(of, options, started).await,
        Verb::Failover(of) => failover::run(of, options, started).await,
        Verb::Maintenance(of) => maintenance::run(of, options, started).await,
        Verb::Agent if options.dry_run => Err(not_dry().into()),
        Verb::Agent => agent::run(&config_path(options), started).await,
        Verb::Check => check::run(options).await,
        Verb::Version => version().await,
        Verb::Completions { shell } => completions::run(*shell).await,
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            log::stderr(&format!("{error:#}")).await;
            exit::of(&error)
        }
    }
}

/// An agent that changes nothing would be none, and one that changes something is not what was asked for.
fn not_dry() -> Fault {
    Fault::permanent("an agent has no --dry-run")
        .remedy("vipswitch sync --dry-run tells what it would do now.")
}

/// Goes on with what another run has left. Nobody reads what it prints.
async fn go_on(detached: &Detached, started: Instant) -> Exit {
    let done = match detached {
        Detached::Announcer(of) => announcer::run(of).await,
        Detached::SiteCommand(of) => site_command::run(of, started).await,
        Detached::Tickler(of) => tickler::run(of).await,
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit::of(&error);
            log::line(
                level(exit),
                &format!("msg={}", quote(&format!("{error:#}"))),
            )
            .await;
            exit
        }
    }
}

async fn version() -> anyhow::Result<Exit> {
    print(concat!("vipswitch ", env!("CARGO_PKG_VERSION"), "\n")).await?;
    Ok(Exit::Done)
}

/// Reads the configuration that the options, the environment or the default name, with these masters in it.
/// Passing faults are retried for as long as a run has patience.
async fn load(
    options: &Options,
    masters: &[impl AsRef<str>],
    started: Instant,
) -> Result<Config, Fault> {
    load_until(options, masters, started + once::PATIENCE).await
}

/// As [`load`], and retries passing faults until then.
async fn load_until(
    options: &Options,
    masters: &[impl AsRef<str>],
    until: Instant,
) -> Result<Config, Fault> {
    config::load(&config_path(options), masters, until).await
}

/// Returns the configuration's path: the options', the environment's, or the default.
fn config_path(options: &Options) -> PathBuf {
    let environment = std::env::var_os("VIPSWITCH_CONFIG").filter(|name| !name.is_empty());
    let path = options
        .config
        .clone()
        .or_else(|| environment.map(PathBuf::from));
    path.unwrap_or_else(|| config::DEFAULT_PATH.into())
}

/// Ends a call of Sentinel's that makes no sense. It has to be in the log as well as on stderr,
/// which goes to /dev/null under a daemonized Sentinel.
async fn refuse_call(arguments: &[OsString], fault: &Fault) -> Exit {
    let shown = arguments
        .iter()
        .map(|argument| escape(&argument.to_string_lossy()));
    let pairs: Vec<(&str, String)> = KEYS.into_iter().zip(shown).collect();
    hook::refuse(fault, &pairs).await
}

/// What the log calls the arguments of Sentinel's call, and one too many.
const KEYS: [&str; 8] = [
    "master",
    "role",
    "state",
    "from",
    "from_port",
    "to",
    "to_port",
    "further",
];

/// Prints clap's text: help and version to stdout, mistakes to stderr.
async fn print_clap(error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    if error.use_stderr() {
        // It quotes the arguments as they are.
        let lines: Vec<String> = text.trim_end().lines().map(printable).collect();
        log::stderr_lines(&lines).await;
        return Exit::Permanent;
    }
    match print(&text).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            log::stderr(&format!("{error:#}")).await;
            exit::of(&error)
        }
    }
}

/// Returns whether stdout shows colours: on a terminal that has them, unless NO_COLOR says
/// otherwise (no-color.org).
fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// Writes text to stdout. A reader that has gone (`| head`) has had what it wanted.
///
/// # Errors
///
/// A full or failing stdout is passing.
async fn print(text: &str) -> anyhow::Result<()> {
    match log::stdout(text).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

/// Returns the level of the log line of a run that ended so.
fn level(exit: Exit) -> Level {
    match exit {
        Exit::Done => Level::Notice,
        Exit::Passing => Level::Warning,
        Exit::Permanent => Level::Error,
    }
}
