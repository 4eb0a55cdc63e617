//! A snapshot as the text that Prometheus reads (OpenMetrics 1.0).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::agent::snapshot::{Master, Snapshot};

/// The media type of the text.
pub(super) const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The buckets of a take-over, in seconds: the budget is 0.02 from the promotion on.
const BUCKETS: [f64; 11] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
];

/// What a master's verdict can be.
const VERDICTS: [&str; 4] = ["here", "elsewhere", "stays", "fault"];

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter<f64, AtomicU64>>;

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What has to be counted from scrape to scrape, because a snapshot has the newest take-overs only. Of more than
/// those between two scrapes the others are missing.
pub(super) struct Recorder {
    take_overs: Histograms,
    /// How many of each master's take-overs are in there.
    seen: BTreeMap<String, u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder {
            take_overs: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            seen: BTreeMap::new(),
        }
    }
}

impl Recorder {
    /// Returns the text of a snapshot.
    pub(super) fn text(&mut self, snapshot: &Snapshot) -> String {
        self.learn(snapshot);
        let mut registry = Registry::with_prefix("vipswitch");
        about_agent(&mut registry, snapshot);
        about_vips(&mut registry, snapshot);
        about_masters(&mut registry, snapshot);
        about_replicas(&mut registry, snapshot);
        registry.register(
            "take_over_seconds",
            "From the first sign of a failover to the first announcement here",
            self.take_overs.clone(),
        );
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn learn(&mut self, snapshot: &Snapshot) {
        for master in &snapshot.masters {
            let seen = self.seen.entry(master.name.clone()).or_default();
            let histogram = self.take_overs.get_or_create(&of(master));
            let new = master.take_overs.saturating_sub(*seen);
            let number = usize::try_from(new).unwrap_or(usize::MAX);
            let newest = master.take_over_seconds.iter().rev().take(number);
            newest.for_each(|seconds| histogram.observe(*seconds));
            *seen = master.take_overs;
        }
        // A configuration that was read again may have fewer masters.
        let is_there = |name: &str| snapshot.masters.iter().any(|master| master.name == name);
        self.seen.retain(|name, _| {
            let keep = is_there(name);
            if !keep {
                self.take_overs.remove(&vec![("master", name.clone())]);
            }
            keep
        });
    }
}

/// Returns the label that every metric of a master has.
fn of(master: &Master) -> Labels {
    vec![("master", master.name.clone())]
}

/// Returns a master's label and another.
fn with(master: &Master, key: &'static str, value: &str) -> Labels {
    vec![("master", master.name.clone()), (key, value.to_owned())]
}

fn gauges(
    registry: &mut Registry,
    name: &str,
    help: &str,
    all: impl Iterator<Item = (Labels, f64)>,
) {
    let family = Gauges::default();
    for (labels, value) in all {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

/// Each name ends in `_total`, which the library adds.
fn counters(
    registry: &mut Registry,
    name: &str,
    help: &str,
    all: impl Iterator<Item = (Labels, f64)>,
) {
    let family = Counters::default();
    for (labels, value) in all {
        family.get_or_create(&labels).inc_by(value.max(0.0));
    }
    registry.register(name, help, family);
}

fn about_agent(registry: &mut Registry, snapshot: &Snapshot) {
    let version = vec![("version", snapshot.version.clone())];
    let alone = |value: f64| std::iter::once((Labels::new(), value));
    registry.register("build", "The agent", Info::new(version));
    let sentinels = &snapshot.sentinels;
    let in_reach = sentinels.iter().filter(|one| one.in_reach).count();
    gauges(
        registry,
        "sentinels",
        "Sentinels that the agent follows",
        alone(sentinels.len() as f64),
    );
    gauges(
        registry,
        "sentinels_in_reach",
        "Sentinels that answered the last question",
        alone(in_reach as f64),
    );
    gauges(
        registry,
        "pending_commands",
        "Site commands that have not succeeded yet",
        alone(snapshot.pending_commands as f64),
    );
    counters(
        registry,
        "drift_repaired",
        "How often the agent mended what something else had changed",
        alone(snapshot.drift_repaired as f64),
    );
}

fn about_vips(registry: &mut Registry, snapshot: &Snapshot) {
    let vips = || {
        let each = |master| vips_of(master);
        snapshot.masters.iter().flat_map(each)
    };
    gauges(
        registry,
        "holder",
        "Whether the VIP is bound on this host",
        vips().map(|(labels, here, _)| (labels, f64::from(u8::from(here)))),
    );
    counters(
        registry,
        "rivals",
        "How often another host claimed the VIP",
        vips().map(|(labels, _, claims)| (labels, claims)),
    );
}

fn vips_of(master: &Master) -> impl Iterator<Item = (Labels, bool, f64)> {
    let each = master.vips.iter();
    each.map(move |vip| {
        let labels = with(master, "vip", &vip.address);
        (labels, vip.here, vip.claims as f64)
    })
}

fn about_masters(registry: &mut Registry, snapshot: &Snapshot) {
    let masters = || snapshot.masters.iter();
    let verdicts = masters().flat_map(|master| {
        VERDICTS.map(|verdict| {
            let is_it = u8::from(master.verdict == verdict);
            (with(master, "verdict", verdict), f64::from(is_it))
        })
    });
    gauges(
        registry,
        "verdict",
        "Where the VIP belongs: 1 for the verdict that holds",
        verdicts,
    );
    gauges(
        registry,
        "known_clients",
        "Clients of another host that would be told if this one took the VIP over",
        masters().map(|master| (of(master), master.known_clients as f64)),
    );
    counters(
        registry,
        "failovers",
        "Failovers in which the agent took a VIP over",
        masters().map(|master| (of(master), master.failovers as f64)),
    );
    counters(
        registry,
        "paused_seconds",
        "How long writes were paused in all",
        masters().map(|master| (of(master), master.paused_seconds)),
    );
}

fn about_replicas(registry: &mut Registry, snapshot: &Snapshot) {
    let replicas = || {
        let each = |master: &'_ Master| -> Vec<(Labels, Option<u64>, u64)> {
            let replicas = master.replicas.iter();
            let each = replicas.map(|one| (with(master, "replica", &one.at), one.lag, one.behind));
            each.collect()
        };
        snapshot.masters.iter().flat_map(each)
    };
    gauges(
        registry,
        "replication_lag_seconds",
        "How long ago a replica of this host's master last acknowledged",
        replicas().filter_map(|(labels, lag, _)| Some((labels, lag? as f64))),
    );
    gauges(
        registry,
        "replication_lag_bytes",
        "How many bytes a replica is behind this host's master",
        replicas().map(|(labels, _, behind)| (labels, behind as f64)),
    );
}
