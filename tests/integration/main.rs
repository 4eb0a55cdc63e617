//! The executable in real network namespaces, with real Redis and real Sentinels: a module for each
//! subject, which runs alone by `cargo test --test integration SUBJECT::`.

mod address;
mod agent_requests;
mod announcer;
mod check;
mod command_line;
mod common;
mod configuration;
mod documents;
mod dry_run;
mod each_system_call;
mod engine;
mod hand_over;
mod hook;
mod hook_arguments;
mod interface;
mod kernel_faults;
mod lock;
mod log;
mod peers;
mod pending_command;
mod place;
mod privilege;
mod redis_client;
mod release;
mod rivals;
mod sentinel;
mod silent_sentinel;
mod site_command;
mod status;
mod sync;
mod sync_many;
mod take_over;
mod tickle;
mod votes;
mod with_agent;
