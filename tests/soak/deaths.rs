//! A Redis that dies beside agents that ask for its failover at once: it may be back a moment later, with old data or
//! none, and the next master may die, too.

use std::time::{Duration, Instant};

use crate::common::redis::deaths::{KEYS, Keeps};
use crate::common::redis::{MASTER_8000, SERVERS};
use crate::faults::{Happened, pause};
use crate::ground::Ground;
use crate::history::State;
use crate::random::Random;

/// How long Redis waits before it sends its data to a replica that asks for it, which this site does not have it do
/// otherwise. A promotion that takes longer finds a replica that a master without data has emptied.
const SENT_AFTER: Duration = Duration::from_secs(4);

/// How long it may take until something has come of a death.
const COMES: Duration = Duration::from_secs(60);

/// How long a writer that had an answer may take to note it.
const NOTED: Duration = Duration::from_secs(1);

/// What is known of a death until the end of its scenario.
struct Death {
    master: usize,
    /// The run ids before.
    ids: Vec<Option<String>>,
    promotions: usize,
    logged: usize,
    /// Whether the next master was there before its replicas could be emptied.
    is_quick: bool,
}

impl Death {
    fn expect(ground: &mut Ground, master: usize) -> Death {
        Death {
            master,
            ids: ground.run_ids(),
            promotions: ground.site.promotions(),
            logged: ground.site.log().len(),
            is_quick: false,
        }
    }

    fn asked(&self, ground: &Ground) -> usize {
        ground.logged_since(self.logged, " and asked to fail over")
    }

    /// Waits until something has come of it: another master, or that Sentinel is to decide about a Redis that is back.
    fn until_known(&self, ground: &mut Ground, is_back: bool) {
        let master = self.master;
        ground.comes_within(COMES, |ground| {
            let has_heir = heir(ground.look(), master).is_some();
            let is_left = ground.logged_since(self.logged, "Sentinel decides: ") > 0;
            has_heir || is_back && is_left
        });
    }

    /// Returns what must not be, once all is well again.
    fn judge(
        self,
        ground: &mut Ground,
        written: &crate::writer::Written,
        late: Duration,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let now_on = ground.master();
        let was_asked = self.asked(ground) > 0;
        // Where Sentinel was left to decide, a master that is back in time stays one, with what it has.
        if !was_asked || now_on == self.master {
            return wrong;
        }
        let until = ground.left[self.master] + NOTED + late;
        let known = |id: &String| self.ids.iter().flatten().any(|one| one == id);
        let heir = ground.site.run_id(&MASTER_8000, SERVERS[now_on]);
        for (id, last) in &written.by {
            if !known(id) && Some(id) != heir.as_ref() && *last > until {
                wrong.push(format!(
                    "{id} was reborn and acknowledged writes through the VIP until {last:?}, which had left at {until:?}"
                ));
            }
        }
        let kept = ground.site.written(&MASTER_8000, SERVERS[now_on]);
        let kept = kept.iter().filter(|key| key.starts_with("wbase")).count();
        if self.is_quick && kept != KEYS {
            wrong.push(format!(
                "{kept} of {KEYS} keys are left that all replicas had"
            ));
        }
        let promotions = ground.site.promotions() - self.promotions;
        if promotions > 1 && late.is_zero() && ground.downs() == ground.downs_before {
            wrong.push(format!("{promotions} promotions"));
        }
        wrong
    }
}

/// Returns the server of another master.
fn heir(state: &State, master: usize) -> Option<usize> {
    (0..3).find(|&other| other != master && state.role[other] == "master")
}

fn prepare(ground: &mut Ground, random: &mut Random, master: usize) -> Keeps {
    ground.count_as_down_after(random.any(&[5_000, 5_000, 5_000, 30_000]));
    let keeps = random.any(&[Keeps::Nothing, Keeps::Snapshot, Keeps::Log]);
    ground.keep(master, keeps);
    ground.forget_failovers();
    keeps
}

/// The master's Redis is killed, and started again 10 to 300 ms later or not at all.
pub fn dies(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    let keeps = prepare(ground, random, master);
    let after = (!random.one_in(4)).then(|| random.time(10, 300));
    pause(random, 0, 1000);
    let mut death = Death::expect(ground, master);
    let began = Instant::now();
    match after {
        Some(after) => ground
            .site
            .kill_and_restart(&MASTER_8000, SERVERS[master], after),
        None => ground.kill_redis(master),
    }
    death.until_known(ground, after.is_some());
    death.is_quick = began.elapsed() < SENT_AFTER && heir(ground.look(), master).is_some();
    let asked = death.asked(ground);
    let back = after.map(|after| format!("back after {after:?} with {keeps:?}"));
    let back = back.unwrap_or_else(|| "not back".to_owned());
    pause(random, 0, 2000);
    let mut happened = Happened::told(format!(", {back}, asked {asked} times"));
    if asked > 1 {
        happened.wrong(format!("asked {asked} times for one death"));
    }
    happened.afterwards = Some(Box::new(move |ground, judged, written| {
        death.judge(ground, written, judged.late)
    }));
    happened
}

/// The master's Redis is killed, and the next one as soon as it is the master: only the first failover is asked for.
pub fn dies_twice(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    ground.count_as_down_after(5_000);
    ground.forget_failovers();
    pause(random, 0, 1000);
    let death = Death::expect(ground, master);
    ground.kill_redis(master);
    let second = ground.until_promoted_beside(master);
    ground.kill_redis(second);
    ground.until_moved_from(second);
    let asked = death.asked(ground);
    let mut happened = Happened::told(format!(", server{} too, asked {asked} times", second + 1));
    if asked > 1 {
        happened.wrong(format!("asked {asked} times within a minute"));
    }
    happened
}

/// A client sends a command that kills its master, again and again, until two are dead.
pub fn command(ground: &mut Ground, random: &mut Random, master: usize) -> Happened {
    ground.count_as_down_after(5_000);
    ground.forget_failovers();
    let death = Death::expect(ground, master);
    let client = ground.killing_client();
    ground.comes_within(COMES, |ground| {
        let silent = ground.look().role.iter().filter(|role| *role == "-");
        silent.count() >= 2
    });
    drop(client);
    // They have ended of themselves.
    let listens = |server: &usize| ground.site.listens(&MASTER_8000, SERVERS[*server]);
    let (alive, dead): (Vec<usize>, Vec<usize>) = (0..3).partition(listens);
    for server in dead {
        let name = format!("{}-{}", SERVERS[server], MASTER_8000.port);
        ground.site.forget(&name);
    }
    // Where the dead ones are back sooner, the last master is one again, with nothing.
    if alive.len() == 1 && random.one_in(2) {
        ground.until("the last one is the master", |state| {
            state.decided() == Some(alive[0])
        });
    }
    let asked = death.asked(ground);
    let mut happened = Happened::told(format!(", asked {asked} times"));
    if asked > 1 {
        happened.wrong(format!("asked {asked} times within a minute"));
    }
    happened
}
