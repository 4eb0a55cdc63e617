//! Failovers on purpose: an operator's `vipswitch failover`, alone, twice at once or while a Redis dies; and that of a
//! server that shuts down.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::common::redis::SERVERS;
use crate::common::{Finished, executable, finish_within};
use crate::faults::{Happened, any_but, pause};
use crate::ground::Ground;
use crate::random::Random;

/// Longer than all that the verb waits for.
const LONGEST: Duration = Duration::from_secs(120);

/// Begins the verb on a server.
fn begin(ground: &Ground, server: usize, words: &[&str]) -> JoinHandle<Finished> {
    let mut command = ground.site.host(SERVERS[server]).command(executable());
    command.args(["failover", "--json"]).args(words);
    thread::spawn(move || finish_within(command, LONGEST))
}

/// What came of it.
struct Ended {
    done: Finished,
    told: Value,
}

impl Ended {
    fn of(verb: JoinHandle<Finished>) -> Ended {
        let done = verb.join().expect("the verb ends");
        let told = serde_json::from_str(done.stdout.trim());
        let told = told.unwrap_or_else(|error| panic!("{error}: {done}"));
        Ended { done, told }
    }

    fn was_asked(&self) -> bool {
        self.told["asked"] == true
    }

    fn is_done(&self) -> bool {
        self.told["done"] == true
    }

    /// Says in a few words what came of it.
    fn words(&self) -> String {
        match (self.was_asked(), self.is_done()) {
            (_, true) => format!("done, {} bytes behind", self.told["bytes_behind"]),
            (true, false) => format!("asked, not done: {}", self.told["error"]),
            (false, _) => format!("not asked: {}", self.told["error"]),
        }
    }
}

fn words(random: &mut Random) -> &'static [&'static str] {
    match random.one_in(2) {
        true => &["--now"],
        false => &[],
    }
}

/// On any server.
pub fn one(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    let (on, words) = (random.below(3), words(random));
    let ended = Ended::of(begin(ground, on, words));
    let told = format!(", on server{} {words:?}: {}", on + 1, ended.words());
    let mut happened = Happened::told(told);
    if ended.was_asked() && !ended.done.status.success() && ground.is_undisturbed() {
        happened.wrong(format!("it was asked for and failed: {}", ended.done));
    }
    if ended.is_done() {
        ground.until_moved_from(master);
    }
    happened
}

/// On two servers at the same moment, or nearly so.
pub fn two(ground: &mut Ground, random: &mut Random) -> Happened {
    let first = random.below(3);
    let second = any_but(random, first);
    let each = [first, second].map(|on| {
        let verb = begin(ground, on, words(random));
        pause(random, 0, 50);
        verb
    });
    let promotions = ground.site.promotions();
    let ended = each.map(Ended::of);
    let [one, other] = &ended;
    let told = format!(
        ", on server{}: {}; on server{}: {}",
        first + 1,
        one.words(),
        second + 1,
        other.words()
    );
    let mut happened = Happened::told(told);
    let asked = ended.iter().filter(|one| one.was_asked()).count();
    let promotions = ground.site.promotions() - promotions;
    if promotions > asked && ground.is_undisturbed() {
        happened.wrong(format!(
            "{promotions} promotions, and {asked} were asked for"
        ));
    }
    happened
}

/// While a Redis dies: the master's, or one that may have been chosen.
pub fn one_and_a_death(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    let (on, dies) = (random.below(3), random.below(3));
    let verb = begin(ground, on, &["--now"]);
    pause(random, 0, 1000);
    ground.kill_redis(dies);
    let ended = Ended::of(verb);
    if dies == master {
        ground.until_moved_from(master);
    }
    pause(random, 0, 2000);
    Happened::told(format!(
        ", on server{}, server{}'s Redis dies: {}",
        on + 1,
        dies + 1,
        ended.words()
    ))
}

/// The master's server hands over, as its shutdown has it do, and then all of its processes end.
pub fn leaves(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    let ended = Ended::of(begin(ground, master, &["--from-this-host"]));
    ground.able(master, false);
    let mut services = ["8000", "sentinel", "agent"];
    random.shuffle(&mut services);
    for service in services {
        ground.end(master, service, "TERM");
    }
    ground.link(master, "down");
    ground.vip(master, "del", 32);
    ground.until_moved_from(master);
    pause(random, 0, 3000);
    Happened {
        loses_nothing: ended.is_done(),
        ..Happened::told(format!(": {}", ended.words()))
    }
}
