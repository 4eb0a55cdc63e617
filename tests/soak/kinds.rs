//! The kinds of scenario.

/// A kind of scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Planned failover.
    Planned,
    /// The master's Redis is killed.
    Killed,
    /// The master's host dies and comes back.
    HostDead,
    /// An agent is killed in a planned failover, and started again later.
    AgentKilled,
    /// An agent hangs in a planned failover.
    AgentStopped,
    /// An agent is restarted in a planned failover.
    AgentRestarted,
    /// One Sentinel dies or hangs, perhaps with a planned failover.
    Sentinel,
    /// Two Sentinels die or hang.
    TwoSentinels,
    /// The VIP is removed by hand.
    Removed,
    /// The VIP is bound on another host by hand.
    Bound,
    /// A cable is out for a while.
    Flap,
    /// The master is cut off from its peers.
    CutOff,
    /// The new master is killed in a planned failover.
    Twice,
    /// The new master is cut off from its peers after a planned failover.
    NewCutOff,
    /// The leader dies between the promotion and its word of it.
    LeaderDies,
    /// All hosts lose their power, and boot in any order.
    Rebooted,
    /// The clients cannot reach the master.
    ClientsCut,
    /// A Sentinel's port cannot be reached, and it reaches no other's.
    SentinelCut,
    /// A Sentinel names a replica.
    Lies,
    /// Somebody publishes the hello of a Sentinel that does not exist.
    Forged,
    /// The master's Redis dies, and may be back a moment later with old data; its failover is asked for at once.
    Dies,
    /// The one that has its place dies, too, as soon as it is the master.
    DiesTwice,
    /// A client sends a command that kills whatever executes it.
    Command,
    /// `vipswitch failover` on any server.
    Verb,
    /// The same on two servers at the same moment.
    VerbTwice,
    /// A Redis dies in its midst.
    VerbDies,
    /// The master's server shuts down: it hands over, all of its processes end, and it comes back later.
    Leaves,
    /// The master's host dies, and clients wait in SUBSCRIBE.
    Subscribers,
}

/// All of them.
pub const KINDS: [Kind; 28] = [
    Kind::Planned,
    Kind::Killed,
    Kind::HostDead,
    Kind::AgentKilled,
    Kind::AgentStopped,
    Kind::AgentRestarted,
    Kind::Sentinel,
    Kind::TwoSentinels,
    Kind::Removed,
    Kind::Bound,
    Kind::Flap,
    Kind::CutOff,
    Kind::Twice,
    Kind::NewCutOff,
    Kind::LeaderDies,
    Kind::Rebooted,
    Kind::ClientsCut,
    Kind::SentinelCut,
    Kind::Lies,
    Kind::Forged,
    Kind::Dies,
    Kind::DiesTwice,
    Kind::Command,
    Kind::Verb,
    Kind::VerbTwice,
    Kind::VerbDies,
    Kind::Leaves,
    Kind::Subscribers,
];

impl Kind {
    /// Returns its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Planned => "planned failover",
            Kind::Killed => "Redis killed",
            Kind::HostDead => "host dead",
            Kind::AgentKilled => "planned, an agent killed",
            Kind::AgentStopped => "planned, an agent stopped",
            Kind::AgentRestarted => "planned, an agent restarted",
            Kind::Sentinel => "a Sentinel killed or stopped",
            Kind::TwoSentinels => "two Sentinels killed or stopped",
            Kind::Removed => "VIP removed by hand",
            Kind::Bound => "VIP bound on a wrong host",
            Kind::Flap => "link flap",
            Kind::CutOff => "master cut off from its peers",
            Kind::Twice => "planned, the new master killed",
            Kind::NewCutOff => "planned, the new master cut off",
            Kind::LeaderDies => "planned, the leader killed",
            Kind::Rebooted => "all hosts rebooted",
            Kind::ClientsCut => "clients cut off from the master",
            Kind::SentinelCut => "a Sentinel cut off",
            Kind::Lies => "a Sentinel lies",
            Kind::Forged => "a forged hello",
            Kind::Dies => "Redis dies, agents ask",
            Kind::DiesTwice => "Redis dies, the new master too",
            Kind::Command => "a command that kills every master",
            Kind::Verb => "vipswitch failover",
            Kind::VerbTwice => "vipswitch failover, twice at once",
            Kind::VerbDies => "vipswitch failover, a Redis dies",
            Kind::Leaves => "server shuts down and comes back",
            Kind::Subscribers => "host dead, clients in SUBSCRIBE",
        }
    }

    /// Whether no acknowledged write may be lost, as long as no Redis is taken for down.
    pub fn loses_nothing(self) -> bool {
        match self {
            Kind::Planned
            | Kind::Sentinel
            | Kind::TwoSentinels
            | Kind::Removed
            | Kind::Bound
            | Kind::ClientsCut
            | Kind::SentinelCut
            | Kind::Lies
            | Kind::Forged
            | Kind::Verb
            | Kind::VerbTwice => true,
            Kind::Killed
            | Kind::HostDead
            | Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::AgentRestarted
            | Kind::Flap
            | Kind::CutOff
            | Kind::Twice
            | Kind::NewCutOff
            | Kind::LeaderDies
            | Kind::Rebooted
            | Kind::Dies
            | Kind::DiesTwice
            | Kind::Command
            | Kind::VerbDies
            | Kind::Leaves
            | Kind::Subscribers => false,
        }
    }
}
