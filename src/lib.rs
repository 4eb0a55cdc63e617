//! Moves a virtual IP to the host of the current Redis or Valkey master.
//!
//! Every entry goes one way: [`gather`] the evidence, reach a [`verdict`], make a [`plan`], and let the
//! [`engine`] settle it. [`once`] does so for one run. The modules are public so that the tests reach them;
//! they promise nothing to other crates.

// A println! panics on a full stdout, and nothing but main ends the process.
#![warn(clippy::exit, clippy::print_stderr, clippy::print_stdout)]
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

pub mod abstract_lock;
pub mod agent;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dated;
pub mod deeds;
pub mod election;
pub mod engine;
pub mod evidence;
pub mod exit;
pub mod failover;
pub mod few;
pub mod frames;
pub mod gather;
pub mod hosts;
pub mod inherited_files;
pub mod judgement;
pub mod kernel;
pub mod kernel_error;
pub mod link;
pub mod lock;
pub mod log;
pub mod once;
pub mod outcome;
pub mod place;
pub mod plan;
pub mod privilege;
pub mod redis;
pub mod report;
pub mod runtime_folder;
pub mod site_command;
pub mod text;
pub mod trusted_file;
pub mod units;
pub mod verdict;
pub mod vip;

use std::ffi::OsString;
use std::time::Instant;

/// Does what the arguments of this process ask for. It was started at `started`.
///
/// `arguments` start with the program's name. Returns how the process is to end; nothing below
/// this function ends it, except that a panic aborts after its message reached the log.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, started: Instant) -> exit::Exit {
    let arguments: Vec<OsString> = arguments.into_iter().skip(1).collect();
    commands::dispatch(&arguments, started).await
}
