//! What the eyes saw in one scenario, in the order of time, and what follows from it.

use std::time::Duration;

use crate::eye::Seen;

/// What is known of all servers at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether the VIP is there.
    pub vip: [bool; 3],
    /// What each Redis says that it is.
    pub role: [String; 3],
    /// The server that each Sentinel names.
    pub named: [Option<usize>; 3],
    /// Whether the server's agent runs, and clients and peers reach the server.
    pub able: [bool; 3],
}

impl State {
    /// Returns the able servers that have the VIP.
    pub fn holders(&self) -> Vec<usize> {
        let holds = |&server: &usize| self.vip[server] && self.able[server];
        (0..3).filter(holds).collect()
    }

    /// Returns the server that most Sentinels name, if it is able and its Redis is
    /// the only one of the able ones that says that it is the master.
    pub fn decided(&self) -> Option<usize> {
        let votes = |server| {
            self.named
                .iter()
                .filter(move |named| **named == Some(server))
        };
        let mut servers = 0..3;
        let winner = servers.find(|&server| votes(server).count() >= 2)?;
        let others = (0..3).filter(|&server| server != winner);
        let says = |&server: &usize| self.able[server] && self.role[server] == "master";
        let mut others = others.filter(says);
        let is_so = self.role[winner] == "master" && others.next().is_none() && self.able[winner];
        is_so.then_some(winner)
    }

    /// Whether all is in its place: all Sentinels agree, two replicas, one holder, everything able.
    pub fn is_settled(&self) -> bool {
        let Some(winner) = self.decided() else {
            return false;
        };
        let replicas = self.role.iter().filter(|role| *role == "slave").count();
        self.able == [true; 3]
            && self.named == [Some(winner); 3]
            && replicas == 2
            && self.holders() == [winner]
    }

    fn take(&mut self, server: usize, change: &Change) {
        match change {
            Change::Able(able) => self.able[server] = *able,
            Change::Saw(Seen::Vip(is_here)) => self.vip[server] = *is_here,
            Change::Saw(Seen::Role(role)) => self.role[server].clone_from(role),
            Change::Saw(Seen::Named(named)) => self.named[server] = *named,
            Change::Saw(Seen::Held(_) | Seen::Late(_)) => {}
        }
    }
}

/// What happened on a server.
#[derive(Clone, Debug)]
pub enum Change {
    /// Its eye saw something.
    Saw(Seen),
    /// A fault begins or ends there.
    Able(bool),
}

/// What followed in one scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// The longest time in which the VIP was not just where it was decided that it belongs.
    pub unsettled: Duration,
    /// The longest time in which two able servers had the VIP.
    pub two_holders: Duration,
    /// The longest time that a write on a Redis had to wait that answered everything else.
    pub held: Duration,
    /// How long the machine did not let an eye look, in all.
    pub late: Duration,
}

/// All that happened since the scenario began.
#[derive(Debug, Default)]
pub struct History {
    first: State,
    /// What is known now.
    pub state: State,
    changes: Vec<(Duration, usize, Change)>,
}

impl History {
    /// Takes what happened on a server.
    pub fn take(&mut self, at: Duration, server: usize, change: Change) {
        self.state.take(server, &change);
        self.changes.push((at, server, change));
    }

    /// Begins a new scenario, and returns what followed in the one that ends at this time.
    pub fn judge(&mut self, end: Duration) -> Judged {
        let mut state = std::mem::replace(&mut self.first, self.state.clone());
        let mut changes = std::mem::take(&mut self.changes);
        // Those of several eyes come in any order.
        changes.sort_by_key(|(at, ..)| *at);
        let (mut unsettled, mut two) = (Longest::default(), Longest::default());
        let mut judged = Judged::default();
        let mut silences: [Silence; 3] = Default::default();
        let mut decided = state.decided();
        for (at, server, change) in &changes {
            state.take(*server, change);
            if state.decided() != decided {
                unsettled.set(false, *at);
                decided = state.decided();
            }
            let holders = state.holders();
            unsettled.set(decided.is_some_and(|server| holders != [server]), *at);
            two.set(holders.len() > 1, *at);
            match change {
                Change::Saw(Seen::Role(role)) => silences[*server].set(role == "-", *at),
                Change::Saw(Seen::Held(held)) => {
                    let silent = silences[*server].within(at.saturating_sub(*held), *at);
                    judged.held = judged.held.max(held.saturating_sub(silent));
                }
                Change::Saw(Seen::Late(late)) => judged.late += *late,
                _ => {}
            }
        }
        Judged {
            unsettled: unsettled.until(end),
            two_holders: two.until(end),
            ..judged
        }
    }

    /// Returns everything as lines, for a failed test.
    pub fn told(&self) -> String {
        let line = |(at, server, change): &(Duration, usize, Change)| {
            format!("{:.3} server{} {change:?}\n", at.as_secs_f64(), server + 1)
        };
        let mut changes = self.changes.clone();
        changes.sort_by_key(|(at, ..)| *at);
        format!(
            "at first {:?}\n{}",
            self.first,
            changes.iter().map(line).collect::<String>()
        )
    }
}

/// When a Redis answered nothing at all, which is no pause of its writes: it copies its master's data, or its disk is
/// slow.
#[derive(Default)]
struct Silence {
    since: Option<Duration>,
    over: Vec<(Duration, Duration)>,
}

impl Silence {
    fn set(&mut self, is_silent: bool, at: Duration) {
        match (is_silent, self.since) {
            (true, None) => self.since = Some(at),
            (false, Some(since)) => {
                self.over.push((since, at));
                self.since = None;
            }
            _ => {}
        }
    }

    /// Returns how long it was silent between these.
    fn within(&self, from: Duration, to: Duration) -> Duration {
        let open = self.since.map(|since| (since, to));
        let all = self.over.iter().copied().chain(open);
        all.map(|(since, end)| end.min(to).saturating_sub(since.max(from)))
            .sum()
    }
}

/// The longest time for which something held.
#[derive(Default)]
struct Longest {
    since: Option<Duration>,
    longest: Duration,
}

impl Longest {
    fn set(&mut self, holds: bool, at: Duration) {
        match (holds, self.since) {
            (true, None) => self.since = Some(at),
            (false, Some(since)) => {
                self.longest = self.longest.max(at.saturating_sub(since));
                self.since = None;
            }
            _ => {}
        }
    }

    fn until(mut self, end: Duration) -> Duration {
        self.set(false, end);
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> History {
        let state = State {
            vip: [true, false, false],
            role: ["master", "slave", "slave"].map(str::to_owned),
            named: [Some(0); 3],
            able: [true; 3],
        };
        assert!(state.is_settled());
        History {
            first: state.clone(),
            state,
            changes: Vec::new(),
        }
    }

    fn take(history: &mut History, at: u64, server: usize, seen: Seen) {
        history.take(Duration::from_secs(at), server, Change::Saw(seen));
    }

    #[test]
    fn two_holders_and_a_vip_on_nobody_are_found_whatever_comes_first() {
        let mut history = settled();
        take(&mut history, 20, 0, Seen::Vip(false));
        take(&mut history, 10, 1, Seen::Vip(true));
        take(&mut history, 23, 0, Seen::Vip(true));
        take(&mut history, 13, 1, Seen::Vip(false));
        let judged = history.judge(Duration::from_secs(30));
        assert_eq!(judged.two_holders, Duration::from_secs(3));
        assert_eq!(judged.unsettled, Duration::from_secs(3));
        assert!(history.state.is_settled());
    }

    #[test]
    fn a_write_waits_for_a_pause_only_where_all_else_is_answered() {
        let mut history = settled();
        take(&mut history, 10, 0, Seen::Role("-".into()));
        take(&mut history, 14, 0, Seen::Role("slave".into()));
        let held = Seen::Held(Duration::from_secs(5));
        take(&mut history, 14, 0, held.clone());
        assert_eq!(
            history.judge(Duration::from_secs(30)).held,
            Duration::from_secs(1)
        );
        take(&mut history, 40, 0, held);
        assert_eq!(
            history.judge(Duration::from_secs(50)).held,
            Duration::from_secs(5)
        );
    }

    #[test]
    fn a_host_without_agent_is_no_holder_and_nothing_is_late_before_it_is_decided() {
        let mut history = settled();
        history.take(Duration::from_secs(1), 0, Change::Able(false));
        take(&mut history, 2, 1, Seen::Vip(true));
        take(&mut history, 3, 1, Seen::Role("master".into()));
        take(&mut history, 9, 1, Seen::Named(Some(1)));
        take(&mut history, 9, 2, Seen::Named(Some(1)));
        let judged = history.judge(Duration::from_secs(30));
        assert_eq!(judged.two_holders, Duration::ZERO);
        assert_eq!(judged.unsettled, Duration::ZERO);
        assert_eq!(history.state.decided(), Some(1));
        assert!(!history.state.is_settled());
    }
}
