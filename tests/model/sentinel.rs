//! One Sentinel's mind, after sentinel.c of Redis 7.0: function by function where the order of things matters
//! to a VIP. Left out: offsets that mean anything, DOWN by -LOADING, scripts beyond the hook.

pub mod votes;

use std::time::Duration;

use crate::cluster::{
    Call, Cluster, Decision, Event, HOSTS, Host, Process, Role, Signal, link, ms,
};

pub const QUORUM: usize = 2;
pub const DOWN_AFTER: Duration = ms(2_000);
pub const FAILOVER_TIMEOUT: Duration = ms(10_000);
const HELLO: Duration = ms(2_000);
const INFO: Duration = ms(10_000);
const ASK: Duration = ms(1_000);
const TILT: Duration = ms(30_000);
/// `SENTINEL_ELECTION_TIMEOUT`, and no more than the failover's.
const ELECTION: Duration = ms(10_000);

/// What Sentinel writes into its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    pub master: Host,
    pub current_epoch: u64,
    pub config_epoch: u64,
    /// Its last vote; who got it is not in the file.
    pub leader: Option<Host>,
    pub leader_epoch: u64,
}

/// What Sentinels tell each other.
#[derive(Clone, Debug)]
pub enum Words {
    Hello {
        current_epoch: u64,
        master: Host,
        config_epoch: u64,
    },
    /// SENTINEL IS-MASTER-DOWN-BY-ADDR: with a candidate it asks for a vote.
    IsDown {
        master: Host,
        epoch: u64,
        candidate: Option<Host>,
    },
    /// The answer: whether the master is down, and whom the last vote went to.
    Down(bool, Option<(Host, u64)>),
}

/// Where a leader's failover stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    None,
    WaitStart,
    SelectReplica,
    SendNoOne,
    WaitPromotion,
    Reconfigure,
    UpdateConfig,
}

/// A Redis as a Sentinel sees it.
#[derive(Clone, Debug)]
struct Seen {
    ok_at: Duration,
    info_at: Option<Duration>,
    is_master: bool,
    role_since: Duration,
    follows: Option<Host>,
    follows_since: Duration,
    is_down: bool,
    down_since: Option<Duration>,
    offset: Duration,
    was_told: bool,
}

/// Another Sentinel as this one sees it.
#[derive(Clone, Debug, Default)]
struct Peer {
    ok_at: Duration,
    is_down: bool,
    answered: Duration,
    says_down: bool,
    leader: Option<(Host, u64)>,
}

/// A Sentinel.
#[derive(Clone, Debug)]
pub struct Sentinel {
    me: Host,
    pub saved: Saved,
    pub state: State,
    pub process: u32,
    /// What came while it was frozen.
    pub inbox: Vec<(Host, Words)>,
    is_forced: bool,
    /// The host whose agent has had it elected and asked.
    for_agent: Option<Host>,
    failover_epoch: u64,
    votes: usize,
    started: Option<Duration>,
    changed: Duration,
    pub promoted: Option<Host>,
    is_down: bool,
    seen: [Seen; HOSTS],
    peers: [Peer; HOSTS],
    ticked: Duration,
    /// When its timer is due; earlier events of it were put off.
    due: Duration,
    tilt_until: Duration,
    next_hello: Duration,
    asked: [Duration; HOSTS],
}

impl Sentinel {
    pub fn new(me: Host, saved: Saved, now: Duration) -> Sentinel {
        let peer = Peer {
            ok_at: now,
            ..Peer::default()
        };
        Sentinel {
            me,
            seen: std::array::from_fn(|host| Seen::new(host == saved.master, now)),
            saved,
            state: State::None,
            process: 0,
            inbox: Vec::new(),
            is_forced: false,
            for_agent: None,
            failover_epoch: 0,
            votes: 0,
            started: None,
            changed: now,
            promoted: None,
            is_down: false,
            peers: std::array::from_fn(|_| peer.clone()),
            ticked: now,
            due: now,
            tilt_until: Duration::ZERO,
            next_hello: now,
            asked: [Duration::ZERO; HOSTS],
        }
    }

    /// Returns the master as `get-master-addr-by-name` and hellos name it: the new one already while
    /// replicas are being reconfigured (sentinelGetCurrentMasterAddress).
    pub fn names(&self) -> Host {
        match (self.state, self.promoted) {
            (State::Reconfigure | State::UpdateConfig, Some(promoted)) => promoted,
            _ => self.saved.master,
        }
    }

    /// Returns whether it takes the master for down, for its flags.
    pub fn flags(&self) -> (bool, bool, bool) {
        let s_down = self.seen[self.saved.master].is_down;
        (s_down, self.is_down, self.state != State::None)
    }

    /// Returns the host whose agent has asked for the failover that goes on.
    pub fn fails_over_for(&self) -> Option<Host> {
        self.for_agent.filter(|_| self.state != State::None)
    }

    /// Returns what must not change any more at rest.
    pub fn standing(&self) -> (Host, u64, u64, State, bool) {
        let Saved {
            master,
            current_epoch,
            config_epoch,
            ..
        } = self.saved;
        let any_down = self.seen.iter().any(|seen| seen.is_down);
        (master, current_epoch, config_epoch, self.state, any_down)
    }

    /// sentinelVoteLeader: one vote for each epoch, for whoever asks first.
    fn vote(
        &mut self,
        epoch: u64,
        candidate: Host,
        now: Duration,
        desync: Duration,
    ) -> Option<(Host, u64)> {
        self.saved.current_epoch = self.saved.current_epoch.max(epoch);
        if self.saved.leader_epoch < epoch && self.saved.current_epoch <= epoch {
            self.saved.leader = Some(candidate);
            self.saved.leader_epoch = self.saved.current_epoch;
            if candidate != self.me {
                self.started = Some(now + desync);
            }
        }
        self.saved
            .leader
            .map(|leader| (leader, self.saved.leader_epoch))
    }

    /// sentinelResetMasterAndChangeAddress.
    fn change_master(&mut self, to: Host, now: Duration) {
        self.saved.master = to;
        self.saved.leader = None;
        self.state = State::None;
        self.is_forced = false;
        self.promoted = None;
        self.is_down = false;
        self.seen = std::array::from_fn(|host| Seen::new(host == to, now));
    }

    /// sentinelMasterLooksSane.
    fn is_master_sane(&self, now: Duration) -> bool {
        let master = &self.seen[self.saved.master];
        let is_fresh = master.info_at.is_some_and(|at| now - at < INFO * 2);
        master.is_master && !master.is_down && !self.is_down && is_fresh
    }

    /// sentinelSelectSlave.
    fn select(&self, now: Duration, priorities: [u32; HOSTS]) -> Option<Host> {
        let master_down = self.seen[self.saved.master].is_down;
        let valid = if master_down { ms(5_000) } else { INFO * 3 };
        let can = |host: &Host| {
            let seen = &self.seen[*host];
            let is_fresh = seen.info_at.is_some_and(|at| now - at <= valid);
            *host != self.saved.master
                && !seen.is_down
                && now - seen.ok_at <= ms(5_000)
                && priorities[*host] != 0
                && is_fresh
        };
        let order = |host: &Host| {
            (
                priorities[*host],
                std::cmp::Reverse(self.seen[*host].offset),
                *host,
            )
        };
        (0..HOSTS).filter(can).min_by_key(order)
    }

    fn go(&mut self, state: State, now: Duration) {
        self.state = state;
        self.changed = now;
    }

    /// sentinelAbortFailover.
    fn abort(&mut self, now: Duration) {
        self.go(State::None, now);
        self.is_forced = false;
        self.promoted = None;
    }

    fn is_tilted(&self, now: Duration) -> bool {
        now < self.tilt_until
    }

    fn is_busy(&self) -> bool {
        self.state != State::None || self.seen[self.saved.master].is_down
    }
}

impl Seen {
    fn new(is_master: bool, now: Duration) -> Seen {
        Seen {
            ok_at: now,
            info_at: None,
            is_master,
            role_since: now,
            follows: None,
            follows_since: now,
            is_down: false,
            down_since: None,
            offset: Duration::ZERO,
            was_told: false,
        }
    }

    /// sentinelRedisInstanceNoDownFor.
    fn not_down_for(&self, time: Duration, now: Duration) -> bool {
        self.down_since.is_none_or(|since| now - since > time)
    }
}

impl Cluster {
    fn mind(&mut self, host: Host) -> &mut Sentinel {
        &mut self.machines[host].sentinel
    }

    fn publish(&mut self, by: Host, event: &'static str, of: Host) {
        self.signals.push(Signal::Published(by, event, of));
    }

    /// Writes the file where what it says has changed.
    fn flush(&mut self, host: Host) {
        let machine = &mut self.machines[host];
        // The address that it writes is the promoted one's already (rewriteConfigSentinelOption).
        let saved = Saved {
            master: machine.sentinel.names(),
            ..machine.sentinel.saved.clone()
        };
        match machine.files.last_mut() {
            // A change of epochs alone rewrites the newest; a new configuration is one to go back from.
            Some(last)
                if last.config_epoch == saved.config_epoch && last.master == saved.master =>
            {
                *last = saved;
            }
            _ => machine.files.push(saved),
        }
    }

    /// sentinelTimer of one Sentinel.
    pub fn tick(&mut self, host: Host, process: u32) {
        let machine = &self.machines[host];
        if machine.process != Process::Running || machine.sentinel.process != process {
            return;
        }
        let now = self.now;
        let mind = self.mind(host);
        if now < mind.due {
            return;
        }
        if now - mind.ticked > ms(2_000) {
            mind.tilt_until = now + TILT;
        }
        mind.ticked = now;
        self.ping(host);
        self.info(host);
        if now >= self.mind(host).next_hello {
            self.hello(host);
        }
        if !self.mind(host).is_tilted(now) {
            self.judge(host);
            self.fail_over(host);
            self.ask_others(host, false);
        }
        self.flush(host);
        let mind = self.mind(host);
        let pause = if mind.is_busy() { ms(90) } else { ms(900) };
        let jitter = self.random(20);
        self.tick_in(host, pause + jitter);
    }

    /// A Sentinel's timer goes ten times a second. Where nothing goes on the model looks less often.
    fn tick_in(&mut self, host: Host, pause: Duration) {
        let due = self.now + pause;
        let mind = self.mind(host);
        mind.due = due;
        let process = mind.process;
        self.at(pause, Event::Tick(host, process));
    }

    fn ping(&mut self, host: Host) {
        let now = self.now;
        for other in 0..HOSTS {
            if self.role(host, other).is_some() {
                self.mind(host).seen[other].ok_at = now;
            }
            if self.ask(host, other).is_ok() {
                self.mind(host).peers[other].ok_at = now;
            }
        }
    }

    /// INFO every 10 s, of replicas every second while something goes on.
    fn info(&mut self, host: Host) {
        let now = self.now;
        for of in 0..HOSTS {
            let mind = self.mind(host);
            let is_urgent = of != mind.saved.master && (mind.is_down || mind.state != State::None);
            let period = if is_urgent { ms(1_000) } else { INFO };
            let seen = &mind.seen[of];
            let is_due = seen.info_at.is_none_or(|at| now - at >= period);
            if !is_due {
                continue;
            }
            if let Some(role) = self.role(host, of) {
                self.refresh(host, of, role);
            }
        }
    }

    /// sentinelRefreshInstanceInfo.
    fn refresh(&mut self, host: Host, of: Host, role: Role) {
        let now = self.now;
        let offset = self.random(3);
        let mind = self.mind(host);
        let seen = &mut mind.seen[of];
        seen.info_at = Some(now);
        seen.offset = offset;
        let is_master = role == Role::Master;
        if seen.is_master != is_master {
            seen.is_master = is_master;
            seen.role_since = now;
            seen.follows_since = now;
        }
        if let Role::Replica(master) = role
            && seen.follows != Some(master)
        {
            seen.follows = Some(master);
            seen.follows_since = now;
        }
        if mind.is_tilted(now) || of == mind.saved.master {
            return;
        }
        let seen = &mind.seen[of];
        let master = mind.saved.master;
        match role {
            Role::Master if mind.promoted == Some(of) => {
                if mind.state == State::WaitPromotion {
                    self.promoted(host, of);
                }
            }
            Role::Master => {
                let wait = HELLO * 4;
                let is_odd = now - seen.role_since > wait && seen.not_down_for(wait, now);
                if is_odd && mind.is_master_sane(now) {
                    self.publish(host, "+convert-to-slave", of);
                    self.slave_of(of, Role::Replica(master));
                }
            }
            Role::Replica(follows) if follows != master && mind.promoted != Some(of) => {
                let is_odd = now - seen.follows_since > FAILOVER_TIMEOUT
                    && seen.not_down_for(FAILOVER_TIMEOUT, now);
                if is_odd && mind.is_master_sane(now) {
                    self.publish(host, "+fix-slave-config", of);
                    self.slave_of(of, Role::Replica(master));
                }
            }
            Role::Replica(_) => {}
        }
    }

    /// The leader sees its replica promoted: from now on the configuration is the new one.
    fn promoted(&mut self, host: Host, new: Host) {
        let now = self.now;
        let mind = self.mind(host);
        mind.saved.config_epoch = mind.failover_epoch;
        mind.go(State::Reconfigure, now);
        mind.next_hello = now;
        let decision = Decision {
            epoch: mind.failover_epoch,
            master: new,
            is_forced: mind.is_forced,
            votes: mind.votes,
            for_agent: mind.for_agent,
            is_adopted: false,
            at: now,
        };
        let from = mind.saved.master;
        self.decisions.push(decision);
        self.publish(host, "+promoted-slave", new);
        self.publish(host, "+failover-state-reconf-slaves", new);
        self.call(host, true, from, new);
    }

    /// Queues a call of the hook; a script starts on a later tick.
    fn call(&mut self, host: Host, is_leader: bool, from: Host, to: Host) {
        let after = ms(1) + self.random(100);
        let mind = self.mind(host);
        let call = Call {
            is_leader,
            from,
            to,
            epoch: mind.saved.config_epoch,
            failed: 0,
            process: mind.process,
        };
        self.at(after, Event::Script(host, call));
    }

    /// A script's turn has come.
    pub fn script(&mut self, host: Host, call: Call) {
        let machine = &self.machines[host];
        if machine.process == Process::Down || machine.sentinel.process != call.process {
            return;
        }
        if machine.process == Process::Frozen {
            self.at(ms(500), Event::Script(host, call));
        } else if !machine.loses_calls {
            self.signals.push(Signal::Called(host, call));
        }
    }

    /// A script has ended: exit 1 runs again after 30 s, doubling, 10 runs in all
    /// (sentinelCollectTerminatedScripts); 0 and 2 are done.
    pub fn script_ended(&mut self, host: Host, mut call: Call, exit: u8) {
        call.failed += 1;
        if exit == 1 && call.failed < 10 {
            let after = ms(30_000) * 2_u32.pow(call.failed - 1);
            self.at(after, Event::Script(host, call));
        }
    }

    /// A hello goes to the other Sentinels directly and through every Redis that both reach.
    fn hello(&mut self, host: Host) {
        let jitter = self.random(100);
        let now = self.now;
        let mind = self.mind(host);
        mind.next_hello = now + HELLO + jitter;
        let words = Words::Hello {
            current_epoch: mind.saved.current_epoch,
            master: mind.names(),
            config_epoch: mind.saved.config_epoch,
        };
        for other in (0..HOSTS).filter(|other| *other != host) {
            if self.reaches(host, other) {
                self.send(host, other, words.clone());
                continue;
            }
            let third = link(host, other);
            if self.role(host, third).is_some() && self.reaches(third, other) {
                self.send(third, other, words.clone());
            }
        }
    }

    /// A message arrives.
    pub fn deliver(&mut self, to: Host, from: Host, words: Words) {
        match self.machines[to].process {
            Process::Down => return,
            Process::Frozen => {
                self.mind(to).inbox.push((from, words));
                return;
            }
            Process::Running => {}
        }
        let now = self.now;
        let desync = self.random(1_000);
        match words {
            Words::Hello {
                current_epoch,
                master,
                config_epoch,
            } => self.hear(to, current_epoch, master, config_epoch),
            Words::IsDown {
                master,
                epoch,
                candidate,
            } => {
                let mind = self.mind(to);
                let is_same = mind.saved.master == master;
                let is_down = is_same && mind.seen[master].is_down && !mind.is_tilted(now);
                let leader = candidate
                    .filter(|_| is_same)
                    .and_then(|candidate| mind.vote(epoch, candidate, now, desync));
                self.flush(to);
                self.send(to, from, Words::Down(is_down, leader));
            }
            Words::Down(is_down, leader) => {
                let peer = &mut self.mind(to).peers[from];
                peer.answered = now;
                peer.says_down = is_down;
                if leader.is_some() {
                    peer.leader = leader;
                }
            }
        }
    }

    /// sentinelProcessHelloMessage.
    fn hear(&mut self, host: Host, current_epoch: u64, master: Host, config_epoch: u64) {
        let now = self.now;
        let mind = self.mind(host);
        mind.saved.current_epoch = mind.saved.current_epoch.max(current_epoch);
        if mind.saved.config_epoch < config_epoch {
            mind.saved.config_epoch = config_epoch;
            let from = mind.saved.master;
            let (named, is_forced, votes) = (mind.names(), mind.is_forced, mind.votes);
            if from == master && named != master {
                // sentinel.c compares with the old master: a leader that is still reconfiguring replicas
                // goes on, and from now on tells of its own choice under the later failover's epoch.
                self.decisions.push(Decision {
                    epoch: config_epoch,
                    master: named,
                    is_forced,
                    votes,
                    for_agent: None,
                    is_adopted: true,
                    at: now,
                });
            } else if from != master {
                self.publish(host, "+config-update-from", master);
                self.publish(host, "+switch-master", master);
                self.call(host, false, from, master);
                self.mind(host).change_master(master, now);
            }
        }
        self.flush(host);
    }

    /// sentinelCheckSubjectivelyDown and sentinelCheckObjectivelyDown.
    fn judge(&mut self, host: Host) {
        let now = self.now;
        let mind = self.mind(host);
        let master = mind.saved.master;
        for (of, seen) in mind.seen.iter_mut().enumerate() {
            let is_silent = now - seen.ok_at > DOWN_AFTER;
            let is_odd =
                of == master && !seen.is_master && now - seen.role_since > DOWN_AFTER + INFO * 2;
            let is_down = is_silent || is_odd;
            if is_down && !seen.is_down {
                seen.down_since = Some(now);
            }
            seen.is_down = is_down;
        }
        for peer in &mut mind.peers {
            peer.is_down = now - peer.ok_at > DOWN_AFTER;
            if now - peer.answered > ASK * 5 {
                peer.says_down = false;
                peer.leader = None;
            }
        }
        let others = mind.peers.iter().filter(|peer| peer.says_down).count();
        mind.is_down = mind.seen[master].is_down && 1 + others >= QUORUM;
    }

    /// sentinelAskMasterStateToOtherSentinels.
    fn ask_others(&mut self, host: Host, at_once: bool) {
        let now = self.now;
        let mind = self.mind(host);
        if !mind.seen[mind.saved.master].is_down {
            return;
        }
        let words = Words::IsDown {
            master: mind.saved.master,
            epoch: mind.saved.current_epoch,
            candidate: (mind.state != State::None).then_some(host),
        };
        for other in (0..HOSTS).filter(|other| *other != host) {
            let mind = self.mind(host);
            if at_once || now - mind.asked[other] >= ASK {
                mind.asked[other] = now;
                self.send(host, other, words.clone());
            }
        }
    }

    /// sentinelStartFailoverIfNeeded and sentinelFailoverStateMachine.
    fn fail_over(&mut self, host: Host) {
        let now = self.now;
        let mind = self.mind(host);
        let is_held_back = mind
            .started
            .is_some_and(|started| now < started + FAILOVER_TIMEOUT * 2);
        if mind.is_down && mind.state == State::None && !is_held_back {
            self.start_failover(host);
            self.ask_others(host, true);
        }
        match self.mind(host).state {
            State::None => {}
            State::WaitStart => self.wait_start(host),
            State::SelectReplica => {
                let priorities = self.priorities();
                let mind = self.mind(host);
                match mind.select(now, priorities) {
                    None => self.abort(host, "-failover-abort-no-good-slave"),
                    Some(chosen) => {
                        mind.promoted = Some(chosen);
                        mind.go(State::SendNoOne, now);
                        self.publish(host, "+selected-slave", chosen);
                        self.publish(host, "+failover-state-send-slaveof-noone", chosen);
                    }
                }
            }
            State::SendNoOne => self.send_no_one(host),
            State::WaitPromotion => {
                let mind = self.mind(host);
                if now - mind.changed > FAILOVER_TIMEOUT {
                    self.abort(host, "-failover-abort-slave-timeout");
                }
            }
            State::Reconfigure => self.reconfigure(host),
            State::UpdateConfig => {
                let mind = self.mind(host);
                let new = mind.names();
                mind.change_master(new, now);
                self.publish(host, "+switch-master", new);
            }
        }
    }

    fn priorities(&self) -> [u32; HOSTS] {
        std::array::from_fn(|host| self.machines[host].priority)
    }

    /// sentinelStartFailover.
    fn start_failover(&mut self, host: Host) {
        let now = self.now;
        let desync = self.random(1_000);
        let mind = self.mind(host);
        mind.saved.current_epoch += 1;
        mind.failover_epoch = mind.saved.current_epoch;
        mind.for_agent = None;
        mind.started = Some(now + desync);
        mind.votes = 0;
        mind.go(State::WaitStart, now);
        let master = mind.saved.master;
        self.publish(host, "+try-failover", master);
    }

    /// SENTINEL FAILOVER: no vote is asked for.
    ///
    /// # Errors
    ///
    /// The word of its refusal.
    pub fn force_failover(&mut self, host: Host) -> Result<(), &'static str> {
        let (now, priorities) = (self.now, self.priorities());
        if self.machines[host].process != Process::Running {
            return Err("no answer");
        }
        let mind = self.mind(host);
        if mind.state != State::None {
            return Err("-INPROG");
        }
        if mind.select(now, priorities).is_none() {
            return Err("-NOGOODSLAVE");
        }
        self.start_failover(host);
        self.mind(host).is_forced = true;
        self.flush(host);
        let moment = self.random(100);
        self.tick_in(host, moment);
        Ok(())
    }

    /// The same, asked for by the agent of a host that has had this Sentinel elected.
    ///
    /// # Errors
    ///
    /// The word of its refusal.
    pub fn force_for_agent(&mut self, host: Host, by: Host) -> Result<(), &'static str> {
        self.force_failover(host)?;
        self.mind(host).for_agent = Some(by);
        Ok(())
    }

    fn abort(&mut self, host: Host, event: &'static str) {
        let now = self.now;
        let mind = self.mind(host);
        let about = mind.promoted.unwrap_or(mind.saved.master);
        mind.abort(now);
        self.publish(host, event, about);
    }

    /// sentinelFailoverWaitStart, with sentinelGetLeader.
    fn wait_start(&mut self, host: Host) {
        let now = self.now;
        let mind = self.mind(host);
        let of_now = |peer: &Peer| {
            peer.leader
                .filter(|(_, epoch)| *epoch == mind.saved.current_epoch)
        };
        let mut votes = [0; HOSTS];
        for (leader, _) in mind.peers.iter().filter_map(of_now) {
            votes[leader] += 1;
        }
        let most = (0..HOSTS)
            .max_by_key(|one| votes[*one])
            .filter(|one| votes[*one] > 0);
        let epoch = mind.failover_epoch;
        let mine = mind.vote(epoch, most.unwrap_or(host), now, ms(500));
        if let Some((leader, _)) = mine.filter(|(_, of)| *of == epoch) {
            votes[leader] += 1;
        }
        let most = (0..HOSTS).max_by_key(|one| votes[*one]).unwrap_or(host);
        let needed = (HOSTS / 2 + 1).max(QUORUM);
        let is_elected = most == host && votes[host] >= needed;
        mind.votes = votes[host];
        if is_elected || mind.is_forced {
            mind.is_forced &= !is_elected;
            mind.go(State::SelectReplica, now);
            let master = mind.saved.master;
            self.publish(host, "+elected-leader", master);
            self.publish(host, "+failover-state-select-slave", master);
        } else if mind
            .started
            .is_none_or(|started| now > started + ELECTION.min(FAILOVER_TIMEOUT))
        {
            self.abort(host, "-failover-abort-not-elected");
        }
    }

    /// sentinelFailoverSendSlaveOfNoOne.
    fn send_no_one(&mut self, host: Host) {
        let now = self.now;
        let mind = self.mind(host);
        let Some(chosen) = mind.promoted else {
            return;
        };
        if self.role(host, chosen).is_some() {
            self.slave_of(chosen, Role::Master);
            self.mind(host).go(State::WaitPromotion, now);
            self.publish(host, "+failover-state-wait-promotion", chosen);
        } else if now - self.mind(host).changed > FAILOVER_TIMEOUT {
            self.abort(host, "-failover-abort-slave-timeout");
        }
    }

    /// sentinelFailoverReconfNextSlave and sentinelFailoverDetectEnd. A promoted Redis that is down keeps the
    /// leader in this state.
    fn reconfigure(&mut self, host: Host) {
        let now = self.now;
        let mind = self.mind(host);
        let Some(new) = mind.promoted.filter(|new| !mind.seen[*new].is_down) else {
            return;
        };
        let is_late = now - mind.changed > FAILOVER_TIMEOUT;
        let old = mind.saved.master;
        let mut is_done = true;
        for other in (0..HOSTS).filter(|other| *other != new && *other != old) {
            let seen = &mut self.machines[host].sentinel.seen[other];
            let follows = !seen.is_master && seen.follows == Some(new);
            if follows || seen.is_down {
                continue;
            }
            is_done = false;
            if !seen.was_told || is_late {
                seen.was_told = true;
                if self.role(host, other).is_some() {
                    self.slave_of(other, Role::Replica(new));
                }
            }
        }
        if is_done || is_late {
            self.publish(host, "+failover-end", new);
            self.mind(host).go(State::UpdateConfig, now);
        }
    }
}
