//! Three hosts on one network: time, links, Redis, addresses. What the Sentinels think is `sentinel`'s, and
//! who acts on the hosts is `driver`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use vipswitch::vip::Binding;

use crate::sentinel::{Saved, Sentinel, Words};

/// How many hosts there are. Each has a Redis and a Sentinel.
pub const HOSTS: usize = 3;

/// A host by its number.
pub type Host = usize;

pub const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// What the replication says of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Master,
    Replica(Host),
}

/// Whether a Sentinel's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Running,
    /// It answers nothing, and goes on where it was later (SIGSTOP, a stalled machine).
    Frozen,
    Down,
}

/// What a link between two hosts does, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Good,
    Cut,
    /// Messages take up to 7 s, and overtake each other.
    Late,
    /// Half of the messages are lost.
    Lossy,
}

/// One call of the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub is_leader: bool,
    pub from: Host,
    pub to: Host,
    /// The number of the failover that it tells of. The hook is not told; the audit is.
    pub epoch: u64,
    /// How many runs have failed already.
    pub failed: u32,
    /// Which process of Sentinel made the call: its queue dies with it.
    pub process: u32,
}

/// What drivers may react to.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Sentinel starts the hook.
    Called(Host, Call),
    /// A host has come up.
    Booted(Host),
    /// A host is gone, with every process on it.
    Died(Host),
    /// A Redis has another role now.
    Turned(Host, Role),
    /// A Redis has died.
    Fell(Host),
    /// A Sentinel published an event about the Redis of a host.
    Published(Host, &'static str, Host),
    /// The agent of a host was started, stopped, continued or killed.
    Agent(Host),
    /// The VIP was bound on a host, or removed from it.
    Address(Host, bool),
}

/// What was decided by a Sentinel as the leader of a failover.
#[derive(Clone, Debug)]
pub struct Decision {
    pub epoch: u64,
    pub master: Host,
    pub is_forced: bool,
    pub votes: usize,
    /// The host whose agent has had the Sentinel elected and asked.
    pub for_agent: Option<Host>,
    /// Whether its leader goes on under the epoch of a later failover, of which it has heard meanwhile.
    pub is_adopted: bool,
    pub at: Duration,
}

impl Decision {
    /// Returns whether a majority of the Sentinels has voted for its leader, itself or by an agent's election.
    pub fn is_voted_for(&self) -> bool {
        self.for_agent.is_some() || !self.is_forced && !self.is_adopted
    }
}

/// One host.
pub struct Machine {
    pub up: bool,
    /// When it was booted.
    pub booted: Duration,
    /// The role of the running Redis.
    pub redis: Option<Role>,
    /// How often it was started.
    pub redis_life: u32,
    /// What its configuration file says.
    pub redis_file: Role,
    /// Sentinel never promotes priority 0.
    pub priority: u32,
    pub process: Process,
    pub sentinel: Sentinel,
    /// What Sentinel's file has said, the newest last.
    pub files: Vec<Saved>,
    /// Where the VIP is bound.
    pub bound: Vec<Binding>,
    /// Whether every change fails.
    pub is_broken: bool,
    /// Whether Sentinel cannot start the hook (exec fails), so that calls are dropped.
    pub loses_calls: bool,
    /// The agent's process; `None` where there is no agent.
    pub agent: Option<Process>,
    /// Whether no Sentinel's events arrive, while the connections live.
    pub loses_events: bool,
    /// Until when Redis lets writes wait.
    pub paused_until: Duration,
}

/// What is to happen at some time.
pub enum Event {
    Tick(Host, u32),
    Deliver(Host, Host, Words),
    /// The script's turn in Sentinel's queue.
    Script(Host, Call),
    /// A driver wants to go on, with a token of its own ([`Cluster::token`]).
    Wake(Host, u64),
}

/// The three of them.
pub struct Cluster {
    pub now: Duration,
    pub machines: [Machine; HOSTS],
    pub links: [Link; HOSTS],
    pub decisions: Vec<Decision>,
    pub signals: Vec<Signal>,
    /// Whether a Sentinel was ever started with an old file.
    pub has_old_file: bool,
    /// Until when the lock of each host's VIP is held.
    pub locked: [Duration; HOSTS],
    queue: BTreeMap<(Duration, u64), Event>,
    next: u64,
    random: u64,
}

/// Returns the place of the link between two hosts: it has the third one's number.
pub fn link(one: Host, other: Host) -> usize {
    HOSTS - one - other
}

impl Cluster {
    /// Returns a healthy cluster: host 0 has the master and the VIP.
    pub fn new(seed: u64, priorities: [u32; HOSTS]) -> Cluster {
        let machine = |host: Host| {
            let role = match host {
                0 => Role::Master,
                _ => Role::Replica(0),
            };
            let sentinel = Sentinel::new(host, Saved::default(), Duration::ZERO);
            Machine {
                up: true,
                booted: Duration::ZERO,
                redis: Some(role),
                redis_life: 0,
                redis_file: role,
                priority: priorities[host],
                process: Process::Running,
                files: vec![sentinel.saved.clone()],
                sentinel,
                bound: if host == 0 {
                    vec![binding()]
                } else {
                    Vec::new()
                },
                is_broken: false,
                loses_calls: false,
                agent: None,
                loses_events: false,
                paused_until: Duration::ZERO,
            }
        };
        let mut cluster = Cluster {
            now: Duration::ZERO,
            machines: [machine(0), machine(1), machine(2)],
            links: [Link::Good; HOSTS],
            decisions: Vec::new(),
            signals: Vec::new(),
            has_old_file: false,
            locked: [Duration::ZERO; HOSTS],
            queue: BTreeMap::new(),
            next: 0,
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
        };
        for host in 0..HOSTS {
            let first = cluster.random(300);
            cluster.at(first, Event::Tick(host, 0));
        }
        cluster
    }

    /// Returns a duration below so many milliseconds (xorshift64*): a case is a function of its seed.
    pub fn random(&mut self, below: u64) -> Duration {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        ms(drawn % below.max(1))
    }

    /// Returns true once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.random(times).is_zero()
    }

    /// Lets an event happen after a while.
    pub fn at(&mut self, after: Duration, event: Event) {
        self.next += 1;
        self.queue.insert((self.now + after, self.next), event);
    }

    /// Returns the next event until then, with its time as the present.
    pub fn pop(&mut self, until: Duration) -> Option<Event> {
        let entry = self.queue.first_entry()?;
        if entry.key().0 > until {
            return None;
        }
        let ((time, _), event) = entry.remove_entry();
        self.now = time;
        Some(event)
    }

    /// Returns whether a packet gets from one host to another.
    pub fn reaches(&self, one: Host, other: Host) -> bool {
        let both = self.machines[one].up && self.machines[other].up;
        both && (one == other || self.links[link(one, other)] != Link::Cut)
    }

    /// Returns the role that a Redis tells somebody on a host, `None` where there is no answer.
    pub fn role(&self, asking: Host, of: Host) -> Option<Role> {
        self.machines[of].redis.filter(|_| self.reaches(asking, of))
    }

    /// Returns the Sentinel of a host, as somebody on another host gets answers from it.
    pub fn ask(&self, asking: Host, of: Host) -> Result<&Sentinel, Process> {
        match self.machines[of].process {
            Process::Running if self.reaches(asking, of) => Ok(&self.machines[of].sentinel),
            Process::Running | Process::Frozen => Err(Process::Frozen),
            Process::Down => Err(Process::Down),
        }
    }

    /// Returns whether an answer from one host to another is too late for a question, or lost.
    pub fn loses_answer(&mut self, one: Host, other: Host) -> bool {
        let is_bad =
            one != other && matches!(self.links[link(one, other)], Link::Late | Link::Lossy);
        is_bad && self.once_in(2)
    }

    /// Returns a number that no driver has had before.
    pub fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Makes a Redis follow another, or none. It writes its file (CONFIG REWRITE).
    pub fn slave_of(&mut self, host: Host, role: Role) {
        let machine = &mut self.machines[host];
        if machine.redis.is_none() || machine.redis == Some(role) {
            return;
        }
        machine.redis = Some(role);
        machine.redis_file = role;
        self.signals.push(Signal::Turned(host, role));
    }

    pub fn kill_redis(&mut self, host: Host) {
        self.machines[host].redis = None;
        self.signals.push(Signal::Fell(host));
    }

    pub fn start_redis(&mut self, host: Host, with_old_file: bool) {
        let machine = &mut self.machines[host];
        if !machine.up || machine.redis.is_some() {
            return;
        }
        if with_old_file {
            machine.redis_file = Role::Master;
        }
        machine.redis = Some(machine.redis_file);
        machine.redis_life += 1;
        machine.paused_until = Duration::ZERO;
        self.signals
            .push(Signal::Turned(host, self.machines[host].redis_file));
    }

    /// Starts a Sentinel with its file, or with what that said so many changes ago.
    pub fn start_sentinel(&mut self, host: Host, changes_ago: usize) {
        let now = self.now;
        let machine = &mut self.machines[host];
        if !machine.up || machine.process != Process::Down {
            return;
        }
        self.has_old_file |= changes_ago > 0;
        let place = machine.files.len().saturating_sub(1 + changes_ago);
        let mut saved = machine.files[place].clone();
        saved.leader = None;
        machine.files.push(saved.clone());
        let process = machine.sentinel.process + 1;
        machine.sentinel = Sentinel::new(host, saved, now);
        machine.sentinel.process = process;
        machine.process = Process::Running;
        let first = self.random(100);
        self.at(first, Event::Tick(host, process));
    }

    pub fn thaw(&mut self, host: Host) {
        if self.machines[host].process != Process::Frozen {
            return;
        }
        self.machines[host].process = Process::Running;
        let process = self.machines[host].sentinel.process;
        let inbox = std::mem::take(&mut self.machines[host].sentinel.inbox);
        let first = self.random(3);
        // What was in its sockets is read before or after its timer.
        for (from, words) in inbox {
            self.at(ms(1), Event::Deliver(host, from, words));
        }
        self.at(first, Event::Tick(host, process));
    }

    pub fn kill_host(&mut self, host: Host) {
        let machine = &mut self.machines[host];
        machine.up = false;
        machine.redis = None;
        machine.process = Process::Down;
        machine.agent = machine.agent.map(|_| Process::Down);
        machine.bound.clear();
        self.signals.push(Signal::Died(host));
    }

    pub fn boot(&mut self, host: Host) {
        if !self.machines[host].up {
            let machine = &mut self.machines[host];
            (machine.up, machine.booted) = (true, self.now);
            machine.agent = machine.agent.map(|_| Process::Running);
            self.signals.push(Signal::Booted(host));
        }
    }

    /// Sends a message from one Sentinel to another as the link has it.
    pub fn send(&mut self, from: Host, to: Host, words: Words) {
        if !self.reaches(from, to) {
            return;
        }
        let kind = self.links[link(from, to)];
        let takes = match kind {
            Link::Good | Link::Cut => ms(1) + self.random(5),
            Link::Late => self.random(7_000),
            Link::Lossy if self.once_in(2) => return,
            Link::Lossy => ms(1) + self.random(200),
        };
        self.at(takes, Event::Deliver(to, from, words));
    }

    /// Starts, stops, continues or kills the agent of a host that has one.
    pub fn turn_agent(&mut self, host: Host, to: Process) {
        let machine = &mut self.machines[host];
        if machine.up && machine.agent.is_some_and(|is| is != to) {
            machine.agent = Some(to);
            self.signals.push(Signal::Agent(host));
        }
    }

    /// Returns whether a call of the hook finds an agent.
    pub fn is_agent_at_work(&self, host: Host) -> bool {
        self.machines[host].agent == Some(Process::Running)
    }

    /// Returns whether nothing at all is wrong.
    pub fn is_healthy(&self) -> bool {
        let is_well = |machine: &Machine| {
            let agent = machine.agent.is_none_or(|is| is == Process::Running);
            let runs = machine.redis.is_some() && machine.process == Process::Running;
            let acts = !machine.is_broken && !machine.loses_events && !machine.loses_calls;
            machine.up && agent && runs && acts
        };
        self.machines.iter().all(is_well) && self.links == [Link::Good; HOSTS]
    }

    /// Returns the hosts that hold the VIP.
    pub fn holders(&self) -> Vec<Host> {
        let holds = |host: &Host| !self.machines[*host].bound.is_empty();
        (0..HOSTS).filter(holds).collect()
    }
}

/// The VIP where it belongs on every host.
pub fn binding() -> Binding {
    Binding {
        ifindex: 2,
        prefix: 24,
        peer: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 250)),
        usable: true,
        lasts: true,
        is_ours: true,
    }
}
