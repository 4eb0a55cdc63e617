//! What came of looking after a VIP's clients, in one line of the log.

use super::{Holder, Job, Told};
use crate::exit::Fault;
use crate::log::{self, Level};
use crate::report::{pair, quote};
use crate::text::escape;

/// Writes a job's line to the log.
pub async fn log_end(job: &Job, told: &Result<Told, Fault>) {
    let level = match told {
        Ok(told) if told.holder.is_some() => Level::Notice,
        _ => Level::Warning,
    };
    log::line(level, &line(job, told)).await;
}

/// Returns a job's line.
fn line(job: &Job, told: &Result<Told, Fault>) -> String {
    let Job { master, vip, .. } = job;
    let sentence = match told {
        Ok(told) => {
            let holder = match told.holder {
                Some(Holder::ThisHost) => "this host has it again".to_owned(),
                Some(Holder::Other(mac)) => format!("{mac} has it now"),
                None => "nobody was heard to take it over".to_owned(),
            };
            let clients = match told.clients {
                1 => "1 client that".to_owned(),
                number => format!("{number} clients that"),
            };
            format!("told {clients} came in just before {vip} went: {holder}")
        }
        Err(fault) => {
            format!("cannot tell the clients that came in just before {vip} went: {fault}")
        }
    };
    let mut line = format!("msg={}", quote(&sentence));
    pair(&mut line, "master", &escape(master));
    pair(&mut line, "vip", &vip.to_string());
    if let Ok(told) = told {
        pair(&mut line, "clients", &told.clients.to_string());
        pair(&mut line, "packets", &told.packets.to_string());
    }
    line
}
