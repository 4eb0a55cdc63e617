//! The masters that nothing could be failed over from: no replica is connected. Told once, however many VIPs they have:
//! a site of one server is so on purpose.

use std::collections::BTreeMap;

use serde::Serialize;

use super::truth::Truth;
use crate::judgement::is_alone;
use crate::report::to_json;
use crate::text::{Ink, escape, printable};

/// The JSON object, as docs/json.md documents it.
#[derive(Serialize)]
struct Row<'a> {
    without_replica: &'a [&'a str],
    problem: String,
}

/// Returns the masters without a connected replica, by what the Sentinels say.
pub(super) fn masters<'a>(truths: &BTreeMap<&'a str, Truth>) -> Vec<&'a str> {
    let is_alone = |truth: &Truth| truth.standbys.as_deref().is_some_and(is_alone);
    let alone = truths.iter().filter(|(_, truth)| is_alone(truth));
    alone.map(|(name, _)| *name).collect()
}

/// Returns the line, or the JSON object, about these masters.
pub(super) fn row(masters: &[&str], json: bool, colours: bool) -> String {
    let names: Vec<String> = masters.iter().map(|name| escape(name)).collect();
    let problem = format!(
        "no replica of {} is connected: there is nothing to fail over to. Start a replica, or look into its log: `vipswitch check` tells more.",
        names.join(", ")
    );
    match json {
        true => to_json(&Row {
            without_replica: masters,
            problem,
        }),
        false => {
            let problem = printable(&format!("PROBLEM: {problem}"));
            format!("replicas: {}", Ink::Red.paint(&problem, colours))
        }
    }
}
