//! What the core is told, and what it has done.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Time;
use crate::config::{OnIsolation, OnRedisDeath};
use crate::election::look::Vote;
use crate::evidence::{Call, Evidence, Order, Role, Site, Word};
use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::verdict::Verdict;

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The Sentinels were asked about all masters: what each said of this one.
    Polled(String, Box<Facts>),
    /// Nobody could be asked about this master.
    NotPolled(String, Fault),
    /// A round of questions has ended.
    PollEnded,
    /// A leader promotes this replica now: its Sentinel, by where its events come from.
    Promotes(String, Endpoint, String),
    /// A leader has given up: its Sentinel.
    Aborted(String, String),
    /// Something has changed that the Sentinels know of.
    Changed,
    /// Something about this master has.
    ChangedOf(String),
    /// What a Redis of this host says.
    OwnRedis(String, SocketAddr, Own),
    /// What the chosen replica, on another host, said of its role, and how many bytes of the old master's stream it
    /// had when it was promoted.
    Chosen(String, Endpoint, Role, Option<u64>),
    /// The chosen replica, on another host, has not answered for long, or follows again, and why: from now on only a
    /// majority tells whether it is the master.
    ChosenLost(String, Endpoint, String),
    /// Writes are paused, or cannot be and why.
    Paused(String, Result<(), String>),
    /// Writes are allowed again.
    Unpaused(String),
    /// What came of an election: the Sentinel that was asked; or why none was, and whether it may have begun all the
    /// same. The votes that were asked for.
    Elected(String, Result<String, (String, bool)>, Vec<Vote>),
    /// The last vote of each Sentinel about this master, whose Redis is here.
    Votes(String, Vec<Vote>),
    /// An attempt has ended.
    Settled(String, Box<Settled>),
    /// An address was removed from an interface of this host.
    AddressGone(IpAddr),
    /// An address was added to an interface of this host.
    AddressNew(IpAddr),
    /// An interface came, went or changed.
    LinkChanged,
    /// An operator's order against the truth; `None` ends it.
    Forced(String, Option<Order>),
    /// A Redis that stops is meant to, until then ([`Time::MAX`]: until this is ended); `None` ends it.
    Maintenance(String, Option<Time>),
    /// Sentinel's call, and what this host's Sentinel says of it. It counts until then.
    Called(String, Box<(Call, Word)>, Time),
    /// Somebody wants these masters looked at, whatever was settled.
    Look(Vec<String>),
    /// Some changes of addresses and interfaces were not told.
    Lost,
    /// [`Core::wake`](super::Core::wake) is over.
    Woke,
}

/// What the Sentinels say of a master.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What they say, and what this host's Redis says.
    pub evidence: Evidence,
    /// How long a master must be silent until it counts as down.
    pub down_after: Option<Duration>,
    /// After how long the most impatient Sentinel takes a silent master for down.
    pub soonest_down: Option<Duration>,
    /// How long a leader tries.
    pub failover_timeout: Option<Duration>,
    /// Whether the Sentinels that are out of reach are enough to elect a leader.
    pub could_elect_without: bool,
    /// Whether there is a replica that could be promoted.
    pub has_replicas: bool,
    /// Whether a Sentinel says that it fails over.
    pub fails_over: bool,
    /// Which replica it promotes, and that Sentinel, by where its events come from.
    pub promoting: Option<(Endpoint, String)>,
}

/// What a Redis of this host says of itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its role, or why it says nothing.
    pub role: Result<Role, Fault>,
    /// How far its stream has come, in bytes.
    pub offset: Option<u64>,
    /// How long ago a replica last acknowledged, if any is connected.
    pub acknowledged: Option<Duration>,
    /// Its replicas, for those who ask.
    pub replicas: Vec<crate::agent::snapshot::Replica>,
    /// Its run id.
    pub run_id: Option<String>,
    /// Whether it certainly has ended: nothing listens there, and its process has ended as far as that can be seen; or it
    /// has just started.
    pub is_gone: bool,
}

/// A master of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The master-name.
    pub name: String,
    /// Its VIPs.
    pub vips: Vec<IpAddr>,
    /// What is done while this host is cut off.
    pub on_isolation: OnIsolation,
    /// What is done when its Redis, on this host, has died.
    pub on_redis_death: OnRedisDeath,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Settled {
    /// What it acted on.
    pub verdict: Option<Verdict>,
    /// What kept it from its end, if anything did.
    pub failed: Option<Fault>,
    /// Whether a VIP was bound that was not here.
    pub took_over: bool,
    /// Whether a VIP was released.
    pub released: bool,
    /// When the first VIP was bound.
    pub bound: Option<Time>,
    /// When the first frame was out.
    pub first_frame: Option<Time>,
}

/// What the next agent has to know of the last failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastFailover {
    /// Its number; 0 where there was none.
    pub epoch: u64,
    /// Until when no other is asked for.
    pub quiet_until: Time,
    /// The Redis of this host that was told to follow the promoted one, while no majority has named that.
    pub follower: Option<SocketAddr>,
}

/// What the core wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask all Sentinels about all masters.
    Poll,
    /// Ask all Sentinels about these masters.
    PollSome(Vec<String>),
    /// Make one attempt to settle this master.
    Settle(String),
    /// Watch this Redis closely: it is being promoted.
    Expect(String, SocketAddr),
    /// Ask this replica, on another host, until it says master or this time is over.
    AskChosen(String, Endpoint, Duration),
    /// Pause writes on this Redis for so long at most.
    Pause(String, SocketAddr, Duration),
    /// Have this Redis, which was told to follow another, be a master again.
    Lead(String, SocketAddr),
    /// Have a Sentinel elected and asked to fail over from this master, which has died, to one of these replicas. Of the
    /// first votes nothing came, and the others have stood for long ([`Terms`](crate::election::Terms)).
    Elect(String, Site, Vec<String>, (Vec<Vote>, Vec<Vote>)),
    /// Have clients refused in place of this master's Redis once its VIP is released, or end that.
    Refuse(String, bool),
    /// Allow writes on this Redis, after it was told to follow this new master, if there is one.
    Unpause(String, SocketAddr, Option<Endpoint>),
    /// A change of state, for the log: whether all is well, and a sentence.
    Log(String, bool, String),
}
