//! Clients that wait in SUBSCRIBE on the VIP of a host that dies: the next holder tells them, and nobody else.

use std::time::Duration;

use crate::SOON;
use crate::common::redis::crowd::{After, Crowd, End};
use crate::common::redis::{MASTER_8000, SERVERS, address};
use crate::common::{eventually, wait_for};
use crate::faults::{Happened, die, pause};
use crate::ground::Ground;
use crate::random::Random;

/// The port of services that nobody is told of.
const OTHER: u16 = 9000;

/// How long it may take until the clients know it, on a machine that has too much to do.
const KNOWN: Duration = Duration::from_secs(60);

/// The master's host dies with them.
pub fn lose_their_host(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    let number = 20 + random.below(300);
    let site = &ground.site;
    // One on the VIP that is no Redis of the configuration, one on each other host that is not on the VIP.
    let services: Vec<_> = SERVERS.iter().map(|one| site.beside(one, OTHER)).collect();
    let others = (0..3).filter(|server| *server != master);
    let mut untouched: Vec<Crowd> = others
        .clone()
        .map(|server| site.crowd((&address(SERVERS[server]), OTHER), 3, After::Nothing))
        .collect();
    untouched.push(site.crowd((MASTER_8000.vip, OTHER), 3, After::Nothing));
    let after = random.any(&[After::Nothing, After::Reconnect]);
    let crowd = site.crowd((MASTER_8000.vip, MASTER_8000.port), number, after);
    eventually("the agents know the clients", || {
        others.clone().all(|server| {
            let known = site.agent(SERVERS[server]).unwrap_or_default();
            known["masters"][0]["known_clients"].as_u64() >= Some(number as u64)
        })
    });
    die(ground, master);
    ground.until_moved_from(master);
    let all_know = || (first_ends(&crowd).len() >= number).then_some(());
    let is_known = wait_for(KNOWN, all_know).is_some();
    ground.look();
    let touched: usize = untouched.iter().map(|one| one.ended().len()).sum();
    let ends = first_ends(&crowd);
    drop((crowd, untouched, services));
    ground.vip(master, "del", 32);
    pause(random, 0, 1000);
    let came = ground.came;
    let mut happened = Happened::told(format!(", {number} subscribers, {after:?}"));
    if !is_known {
        happened.wrong(format!("{} of {number} were told", ends.len()));
    }
    if touched > 0 {
        happened.wrong(format!("{touched} clients of others were reset"));
    }
    let odd: Vec<&End> = ends
        .iter()
        .filter(|end| end.how != "Connection reset by peer")
        .collect();
    if !odd.is_empty() {
        happened.wrong(format!("not reset: {odd:?}"));
    }
    let last = ends.iter().map(|end| end.at).fold(0.0, f64::max);
    let took_over = (0..3)
        .filter(|server| *server != master)
        .map(|server| came[server])
        .max();
    let slowest = Duration::from_secs_f64(last).saturating_sub(took_over.unwrap_or_default());
    happened.told += &format!(", the last reset after {slowest:?}");
    happened.afterwards = Some(Box::new(move |_, judged, _| {
        let is_late = slowest > SOON + judged.late;
        let text = || format!("a client was told only {slowest:?} after the take-over");
        is_late.then(text).into_iter().collect()
    }));
    happened
}

/// Returns the ends of the first connections: a client that has connected anew may be cut off by what follows.
fn first_ends(crowd: &Crowd) -> Vec<End> {
    let ends = crowd.ended().into_iter();
    ends.filter(|end| end.is_first).collect()
}
