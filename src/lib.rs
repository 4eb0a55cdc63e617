//! Moves a virtual IP to the host of the current Redis or Valkey master.
//!
//! One run reads from top to bottom in [`run`](mod@run): what was asked, what the kernel says,
//! what follows, carried out, verified. The modules are public so that the tests reach them;
//! they promise nothing to other crates.

// A println! panics on a full stdout, and nothing but main ends the process.
#![warn(clippy::exit, clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

pub mod abstract_lock;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod deeds;
pub mod exit;
pub mod failover;
pub mod frames;
pub mod hosts;
pub mod inherited_files;
pub mod kernel;
pub mod kernel_error;
pub mod link;
pub mod lock;
pub mod log;
pub mod plan;
pub mod privilege;
pub mod report;
pub mod run;
pub mod sentinel;
pub mod site_command;
pub mod text;
pub mod trusted_file;
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
