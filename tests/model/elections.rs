//! Two or three agents, or operators, want a failover of the same master at the same time: every order of what they ask
//! and of what the Sentinels do is played, with requests and answers that are lost between any two steps. What each
//! does next is decided by the rules that the program uses; the Sentinels follow `sentinelVoteLeader` and
//! `sentinelStartFailover` of sentinel.c.

use std::time::Duration;

use stateright::{Checker, Model, Property};
use vipswitch::election::look::{Candidate, Listed, Look, Vote, Voted};
use vipswitch::election::rules::{self, ABOVE, Plan, Round, Terms};
use vipswitch::redis::MasterAddress;

const SENTINELS: usize = 3;

/// A Sentinel, as far as this master's failover is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Sentinel {
    /// `sentinel.current_epoch`, of all masters.
    current: u64,
    /// Whom it voted for, and when.
    vote: (Option<usize>, u64),
    /// The epoch of its own failover, while that goes on.
    fails_over: Option<u64>,
    /// Whether that has its own vote: its timer gives that a tick later.
    has_voted: bool,
}

impl Sentinel {
    fn votes(&mut self, for_whom: usize, epoch: u64) {
        self.current = self.current.max(epoch);
        if self.vote.1 < epoch && self.current <= epoch {
            self.vote = (Some(for_whom), self.current);
        }
    }
}

/// A vote, and whether its Sentinel fails over.
type Seen = ((Option<usize>, u64), bool);

/// What a requester does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Doing {
    #[default]
    Nothing,
    Looks([Option<Seen>; SENTINELS]),
    Elects(Election),
    Asks(Election),
    /// It has asked, or has given up.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Election {
    asked: usize,
    epoch: u64,
    above: usize,
    round: Round,
    /// The votes that count as over in it.
    over: Vec<(Option<usize>, u64)>,
    voted: [Option<Answer>; SENTINELS],
    reached: [bool; SENTINELS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answer {
    before: (Option<usize>, u64),
    now: (Option<usize>, u64),
    busy: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    sentinels: [Sentinel; SENTINELS],
    requesters: Vec<Doing>,
    /// The votes that are counted as over.
    over: Vec<(Option<usize>, u64)>,
    /// The votes that were there when it was begun to wait whether anything comes of them.
    noted: Option<Vec<(Option<usize>, u64)>>,
    /// The requesters that went on with an election then.
    old: Vec<usize>,
    /// The epochs of all failovers that were begun.
    begun: Vec<u64>,
    /// How many messages may still be lost, how often another master's election may raise an epoch, and how often nothing
    /// may come of votes for so long that another round may begin.
    losses: u8,
    others: u8,
    rounds: u8,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Event {
    /// A requester looks at all Sentinels, or all but one.
    Looks(usize, Option<usize>),
    /// A requester reaches a Sentinel; the answer arrives, or is lost.
    Reaches(usize, usize, bool),
    /// A requester goes on with what was answered until then.
    GoesOn(usize),
    /// It asks the elected Sentinel; the request arrives, or is lost.
    Begins(usize, bool),
    /// A hello of the first brings the second its epoch.
    Hello(usize, usize),
    /// A Sentinel votes about another master.
    Other(usize),
    /// The timer of a Sentinel that fails over.
    Tick(usize),
    /// It is begun to wait whether anything comes of the votes that are there.
    Notes,
    /// 5 s later: they count as over, and whoever has given up begins another round. Whoever went on with an election
    /// already when the wait began has given up meanwhile, as it may ask for 4 s only.
    IsOver,
}

struct Elections {
    requesters: usize,
    losses: u8,
    others: u8,
    rounds: u8,
    /// Whether the votes of which nothing came are those of others, and not known to have been given up.
    are_of_others: bool,
    /// Which flaw the requesters have, to see that it is found.
    flaw: Flaw,
    /// Whether they look at one Sentinel after another, and not at all at the same moment: many more orders.
    looks_slowly: bool,
    /// Whether all would choose the same Sentinel: they need not, as some may not answer.
    leaving: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// They ask without votes.
    NoVotes,
    /// They do not look at what a voter voted for before.
    BlindVoters,
    /// They ask whatever time has passed since they began.
    AskLate,
    /// They count all votes up to the highest epoch as over, whoever they are for.
    OverUpTo,
}

fn id(sentinel: usize) -> String {
    format!("s{sentinel}")
}

fn address(sentinel: usize) -> String {
    format!("10.0.0.{}", sentinel + 1)
}

fn vote((leader, epoch): (Option<usize>, u64)) -> Vote {
    Vote::new(&leader.map(id).unwrap_or_default(), epoch)
}

impl Elections {
    fn terms(&self, over: &[(Option<usize>, u64)], requester: usize) -> Terms {
        let leaving = self.leaving.get(requester).map(|host| address(*host));
        Terms {
            needed: 2,
            leaving: leaving.iter().map(|at| at.parse().unwrap()).collect(),
            is_here: false,
            near: None,
            ahead: None,
            over: over.iter().copied().map(vote).collect(),
            stood: Vec::new(),
            taken: 0,
        }
    }

    fn look(place: usize, (last, busy): Seen) -> Look {
        Look {
            who: format!("{}:26379", address(place)),
            address: address(place).parse().ok(),
            run_id: Some(id(place)),
            names_it: true,
            master: MasterAddress {
                host: "10.0.0.9".into(),
                port: 6379,
            },
            flags: flags(busy),
            config_epoch: 0,
            // Of other masters only what was won is told.
            highest_epoch: 0,
            vote: vote(last),
            tilt: Some(false),
            replicas: vec![Candidate {
                at: "10.0.0.8:6379".into(),
                run_id: "r".into(),
                flags: Vec::new(),
                link_is_up: true,
                priority: 100,
                offset: 0,
                follows: true,
                answered: Duration::ZERO,
                told: Duration::ZERO,
            }],
            sentinels: Vec::<Listed>::new(),
            down_after: Duration::from_secs(5),
            silent: Duration::ZERO,
        }
    }

    fn plan(election: &Election) -> Plan {
        Plan {
            asked: election.asked,
            run_id: id(election.asked),
            epoch: election.epoch + ABOVE[election.above],
            config_epoch: 0,
            replicas: Vec::new(),
        }
    }

    fn reaches(&self, world: &mut World, (requester, sentinel): (usize, usize), arrives: bool) {
        let there = &mut world.sentinels[sentinel];
        match &mut world.requesters[requester] {
            Doing::Nothing | Doing::Looks(_) => {
                let mut seen = match &world.requesters[requester] {
                    Doing::Looks(seen) => *seen,
                    _ => Default::default(),
                };
                seen[sentinel] = Some((there.vote, there.fails_over.is_some())).filter(|_| arrives);
                world.requesters[requester] = Doing::Looks(seen);
            }
            Doing::Elects(election) => {
                let plan = Elections::plan(election);
                let before = there.vote;
                match (election.round, sentinel == plan.asked) {
                    (Round::First, _) => there.votes(plan.asked, plan.epoch),
                    (Round::Second, false) => there.votes(plan.asked, plan.epoch + 1),
                    (Round::Second, true) | (Round::Still, _) => {}
                }
                election.reached[sentinel] = true;
                election.voted[sentinel] = Some(Answer {
                    before,
                    now: there.vote,
                    busy: there.fails_over.is_some(),
                })
                .filter(|_| arrives);
            }
            Doing::Asks(_) | Doing::Done => {}
        }
    }

    fn goes_on(&self, world: &mut World, requester: usize) {
        let next = match &world.requesters[requester] {
            Doing::Looks(seen) => {
                let looks: Vec<Option<Look>> = seen
                    .iter()
                    .enumerate()
                    .map(|(place, seen)| seen.map(|seen| Elections::look(place, seen)))
                    .collect();
                let mut terms = self.terms(&world.over, requester);
                if self.are_of_others {
                    terms.stood = std::mem::take(&mut terms.over);
                    terms.end_stood(&looks);
                }
                match rules::plan(&terms, &looks) {
                    Ok(plan) => {
                        let over = world.over.iter().copied();
                        let election = Election {
                            over: over.filter(|it| terms.over.contains(&vote(*it))).collect(),
                            asked: plan.asked,
                            epoch: plan.epoch,
                            above: 0,
                            round: Round::First,
                            voted: Default::default(),
                            reached: Default::default(),
                        };
                        match self.flaw {
                            Flaw::NoVotes => Doing::Asks(election),
                            _ => Doing::Elects(election),
                        }
                    }
                    Err(_) => Doing::Done,
                }
            }
            Doing::Elects(election) => {
                let terms = self.terms(&election.over, requester);
                self.counts(&terms, election)
            }
            other => other.clone(),
        };
        world.requesters[requester] = next;
    }

    fn counts(&self, terms: &Terms, election: &Election) -> Doing {
        let plan = Elections::plan(election);
        let voted: Vec<Option<Voted>> = election
            .voted
            .iter()
            .map(|answer| {
                let answer = answer.as_ref()?;
                let is_blind = self.flaw == Flaw::BlindVoters;
                let blind = match election.round {
                    Round::First => Vote::default(),
                    Round::Second | Round::Still => Vote::new(&plan.run_id, plan.epoch),
                };
                Some(Voted {
                    who: String::new(),
                    before: if is_blind { blind } else { vote(answer.before) },
                    now: vote(answer.now),
                    flags: flags(answer.busy && !is_blind),
                    config_epoch: 0,
                })
            })
            .collect();
        match (
            rules::is_elected(terms, &plan, election.round, &voted),
            election.round,
        ) {
            (Ok(()), Round::First) => Doing::Elects(election.of(Round::Second, election.above)),
            (Ok(()), Round::Second | Round::Still) => Doing::Asks(election.clone()),
            // Two tries are enough to see what a further one does.
            (Err(_), Round::First)
                if election.above == 0 && rules::is_too_old(terms, &plan, &voted) =>
            {
                Doing::Elects(election.of(Round::First, 1))
            }
            (Err(_), _) => Doing::Done,
        }
    }

    fn begins(world: &mut World, requester: usize, arrives: bool) {
        let Doing::Asks(Election { asked, .. }) = world.requesters[requester] else {
            return;
        };
        world.requesters[requester] = Doing::Done;
        let there = &mut world.sentinels[asked];
        if arrives && there.fails_over.is_none() {
            there.current += 1;
            there.fails_over = Some(there.current);
            world.begun.push(there.current);
            world.begun.sort_unstable();
        }
    }
}

impl Election {
    /// Returns another round of the same, which nobody has answered yet.
    fn of(&self, round: Round, above: usize) -> Election {
        Election {
            above,
            round,
            voted: Default::default(),
            reached: Default::default(),
            ..self.clone()
        }
    }
}

impl World {
    fn notes(&mut self) {
        self.rounds -= 1;
        let votes = self.sentinels.iter().map(|there| there.vote);
        self.noted = Some(votes.filter(|(_, epoch)| *epoch > 0).collect());
        let requesters = self.requesters.iter().enumerate();
        let goes_on =
            requesters.filter(|(_, doing)| !matches!(doing, Doing::Nothing | Doing::Done));
        self.old = goes_on.map(|(requester, _)| requester).collect();
    }

    fn is_over(&mut self, flaw: Flaw) {
        self.over.extend(self.noted.take().into_iter().flatten());
        if flaw == Flaw::OverUpTo {
            let highest = self.over.iter().map(|(_, epoch)| *epoch).max();
            let all = (1..=highest.unwrap_or_default())
                .flat_map(|epoch| (0..SENTINELS).map(move |leader| (Some(leader), epoch)));
            self.over = all.collect();
        }
        self.over.sort_unstable();
        self.over.dedup();
        let old = std::mem::take(&mut self.old);
        for (requester, doing) in self.requesters.iter_mut().enumerate() {
            if *doing == Doing::Done || old.contains(&requester) && flaw != Flaw::AskLate {
                *doing = Doing::Nothing;
            }
        }
    }
}

fn flags(busy: bool) -> Vec<String> {
    let busy = busy.then(|| "failover_in_progress".to_owned());
    busy.into_iter().collect()
}

impl Model for Elections {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            requesters: vec![Doing::Nothing; self.requesters],
            losses: self.losses,
            others: self.others,
            rounds: self.rounds,
            ..World::default()
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Event>) {
        for (requester, doing) in world.requesters.iter().enumerate() {
            if *doing == Doing::Nothing && !self.looks_slowly {
                actions.push(Event::Looks(requester, None));
                if world.losses > 0 {
                    actions.extend((0..SENTINELS).map(|at| Event::Looks(requester, Some(at))));
                }
                continue;
            }
            let reach = |actions: &mut Vec<Event>, sentinel: usize| {
                actions.push(Event::Reaches(requester, sentinel, true));
                if world.losses > 0 {
                    actions.push(Event::Reaches(requester, sentinel, false));
                }
            };
            let answered = match doing {
                Doing::Nothing => {
                    (0..SENTINELS).for_each(|at| reach(actions, at));
                    0
                }
                Doing::Looks(seen) => {
                    (0..SENTINELS)
                        .filter(|at| seen[*at].is_none())
                        .for_each(|at| reach(actions, at));
                    seen.iter().flatten().count()
                }
                Doing::Elects(election) => {
                    (0..SENTINELS)
                        .filter(|at| !election.reached[*at])
                        .for_each(|at| reach(actions, at));
                    election.voted.iter().flatten().count()
                }
                Doing::Asks(_) => {
                    actions.push(Event::Begins(requester, true));
                    if world.losses > 0 {
                        actions.push(Event::Begins(requester, false));
                    }
                    0
                }
                Doing::Done => 0,
            };
            if answered >= 2 {
                actions.push(Event::GoesOn(requester));
            }
        }
        if world.noted.is_some() {
            actions.push(Event::IsOver);
        } else if world.rounds > 0 {
            actions.push(Event::Notes);
        }
        for from in 0..SENTINELS {
            for to in 0..SENTINELS {
                if world.sentinels[from].current > world.sentinels[to].current {
                    actions.push(Event::Hello(from, to));
                }
            }
            if world.others > 0 {
                actions.push(Event::Other(from));
            }
            if world.sentinels[from].fails_over.is_some() && !world.sentinels[from].has_voted {
                actions.push(Event::Tick(from));
            }
        }
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        match event {
            Event::Looks(requester, silent) => {
                world.losses -= u8::from(silent.is_some());
                for sentinel in (0..SENTINELS).filter(|at| Some(*at) != silent) {
                    self.reaches(&mut world, (requester, sentinel), true);
                }
                self.goes_on(&mut world, requester);
            }
            Event::Reaches(requester, sentinel, arrives) => {
                world.losses -= u8::from(!arrives);
                self.reaches(&mut world, (requester, sentinel), arrives);
            }
            Event::GoesOn(requester) => self.goes_on(&mut world, requester),
            Event::Begins(requester, arrives) => {
                world.losses -= u8::from(!arrives);
                Elections::begins(&mut world, requester, arrives);
            }
            Event::Hello(from, to) => {
                world.sentinels[to].current = world.sentinels[from].current;
            }
            Event::Other(sentinel) => {
                world.others -= 1;
                world.sentinels[sentinel].current += 1;
            }
            Event::Notes => world.notes(),
            Event::IsOver => world.is_over(self.flaw),
            Event::Tick(sentinel) => {
                let there = &mut world.sentinels[sentinel];
                there.has_voted = true;
                if let Some(epoch) = there.fails_over {
                    there.votes(sentinel, epoch);
                }
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no two masters of one epoch", |_, world: &World| {
                world.begun.windows(2).all(|two| two[0] != two[1])
            }),
            Property::always("one failover", |_, world: &World| world.begun.len() <= 1),
            Property::sometimes("a failover", |_, world: &World| !world.begun.is_empty()),
        ]
    }
}

fn check(model: Elections) -> usize {
    found_nothing(&model.checker().spawn_bfs().join())
}

/// Returns how many states were looked at.
fn found_nothing(checked: &impl Checker<Elections>) -> usize {
    for (name, path) in checked.discoveries() {
        let path = path.into_actions();
        assert!(name == "a failover", "{name}: {path:#?}");
    }
    checked.unique_state_count()
}

fn plays_all() -> bool {
    std::env::var_os("VIPSWITCH_MODEL_SLOW").is_some()
}

fn of(requesters: usize, losses: u8, others: u8) -> Elections {
    Elections {
        requesters,
        losses,
        others,
        rounds: 0,
        are_of_others: false,
        flaw: Flaw::None,
        looks_slowly: false,
        // They are on different hosts, so that they choose different Sentinels.
        leaving: vec![0, 1, 2],
    }
}

/// Every order takes minutes; it is played where `VIPSWITCH_MODEL_SLOW` is set.
fn also_slowly(model: impl Fn() -> Elections) {
    eprintln!("{} states", check(model()));
    if plays_all() {
        let slow = Elections {
            looks_slowly: true,
            ..model()
        };
        eprintln!("{} states", check(slow));
    }
}

#[test]
fn two_requesters_begin_one_failover_whatever_is_lost() {
    also_slowly(|| of(2, 1, 0));
}

#[test]
fn two_requesters_begin_one_failover_while_other_masters_raise_the_epoch() {
    also_slowly(|| of(2, 0, 1));
}

#[test]
fn another_round_begins_no_second_failover() {
    also_slowly(|| Elections {
        rounds: 1,
        ..of(2, 0, 0)
    });
}

/// A part of the states is played, and all where `VIPSWITCH_MODEL_SLOW` is set.
#[test]
fn votes_of_others_that_have_stood_for_long_begin_no_second_failover_whatever_is_lost() {
    let model = Elections {
        rounds: 1,
        are_of_others: true,
        ..of(2, 1, 0)
    };
    let mut checker = model.checker();
    if !plays_all() {
        checker = checker.target_state_count(200_000);
    }
    let checked = checker.spawn_dfs().join();
    eprintln!("{} states", found_nothing(&checked));
}

/// There are more than seven million states: a part of them is played, and all where `VIPSWITCH_MODEL_SLOW` is set.
#[test]
fn three_requesters_begin_one_failover() {
    let mut checker = of(3, 0, 0).checker();
    if !plays_all() {
        checker = checker.target_state_count(200_000);
    }
    let checked = checker.spawn_dfs().join();
    eprintln!("{} states", found_nothing(&checked));
}

#[test]
fn a_requester_that_asks_without_votes_or_does_not_look_at_them_is_found() {
    for (flaw, what, (losses, others)) in [
        (Flaw::NoVotes, "no two masters of one epoch", (0, 1)),
        (Flaw::BlindVoters, "one failover", (0, 1)),
        (Flaw::AskLate, "one failover", (0, 0)),
        (Flaw::OverUpTo, "one failover", (1, 0)),
    ] {
        // It is found after some 3 million states, where VIPSWITCH_MODEL_SLOW is set.
        if flaw == Flaw::OverUpTo && !plays_all() {
            continue;
        }
        let model = Elections {
            flaw,
            rounds: u8::from(matches!(flaw, Flaw::AskLate | Flaw::OverUpTo)),
            ..of(2, losses, others)
        };
        let checked = model.checker().spawn_dfs().join();
        assert!(checked.discovery(what).is_some(), "{flaw:?}");
    }
}
