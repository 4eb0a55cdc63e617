//! Moves a virtual IP to the host of the current Redis or Valkey master.
//!
//! One run reads from top to bottom in [`run`](mod@run): what was asked, what the kernel says,
//! what follows, carried out, verified. The modules are public so that the tests reach them;
//! they promise nothing to other crates.

// A println! panics on a full stdout, and nothing but main ends the process.
#![warn(clippy::exit, clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

pub mod announce;
pub mod announcer;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod errno;
pub mod exit;
pub mod failover;
pub mod inherited;
pub mod link;
pub mod lock;
pub mod log;
pub mod name;
pub mod netlink;
pub mod observe;
pub mod plan;
pub mod privilege;
pub mod release;
pub mod report;
pub mod resolve;
pub mod run;
pub mod sentinel;
pub mod site_command;
pub mod take_over;
pub mod text;
pub mod trusted;
pub mod vip;

use std::ffi::OsString;
use std::time::Instant;

/// Does what the arguments of this process ask for.
///
/// `arguments` start with the program's name. Returns how the process is to end; nothing below
/// this function ends it, except that a panic aborts after its message reached the log.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> exit::Exit {
    let started = Instant::now();
    log::install_panic_hook();
    let arguments: Vec<OsString> = arguments.into_iter().skip(1).collect();
    commands::dispatch(&arguments, started)
}
