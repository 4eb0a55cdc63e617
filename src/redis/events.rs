//! What Sentinel publishes about its masters. `slave NAME IP PORT @ MASTER MASTER-IP MASTER-PORT`
//! (sentinelEvent in sentinel.c); a name with spaces cannot be monitored. Anybody who may publish on a Sentinel could
//! forge one: an event is a reason to look, and to be ready, never a proof.

use super::MasterAddress;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The master-name as Sentinel wrote it, to be escaped where it is shown. Empty where the event is about all
    /// masters of that Sentinel (`+tilt`).
    pub master: String,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The leader has chosen this replica, and promotes it now: `+selected-slave`,
    /// `+failover-state-send-slaveof-noone`, `+failover-state-wait-promotion`.
    Promotes(MasterAddress),
    /// This replica was promoted: `+promoted-slave`.
    Promoted(MasterAddress),
    /// The master is here now: `+switch-master`.
    Switched(MasterAddress),
    /// The failover was given up: `-failover-abort-…`.
    Aborted,
    /// Something else that can change an answer: `+odown`, `+sentinel`, `+slave`, `+reset-master` and others.
    Changed,
}

/// The channels that are read. A Sentinel publishes much more (`+sdown` of every replica, `-dup-sentinel`, `+new-epoch`);
/// what nobody reads is not subscribed to.
pub const CHANNELS: [&str; 29] = [
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "+promoted-slave",
    "+switch-master",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-x-sdown",
    // Up to Redis 2.6, and when a master comes back in the middle.
    "-failover-abort-master-is-back",
    "+try-failover",
    "+failover-detected",
    "+failover-end",
    "+failover-end-for-timeout",
    "+odown",
    "-odown",
    "+sentinel",
    "+sentinel-address-switch",
    "+slave",
    "+convert-to-slave",
    "+config-update-from",
    "+role-change",
    "+reset-master",
    "+monitor",
    "-monitor",
    "+set",
    "+reboot",
    "+tilt",
    "-tilt",
];

/// The longest event, in bytes. Two names have 255 each (RFC 1035), and a master-name seldom more than 64.
const LONGEST: usize = 4096;

/// Reads what was published on a channel, `None` where it is no event of [`CHANNELS`] or not of the shape that
/// Sentinel gives it.
pub fn read(channel: &str, payload: &str) -> Option<Event> {
    if payload.len() > LONGEST || payload.chars().any(char::is_control) {
        return None;
    }
    let words: Vec<&str> = payload.split(' ').collect();
    match channel {
        "+selected-slave"
        | "+failover-state-send-slaveof-noone"
        | "+failover-state-wait-promotion" => replica(&words, What::Promotes),
        "+promoted-slave" => replica(&words, What::Promoted),
        "+switch-master" => match words.as_slice() {
            [master, _, _, host, port] => event(master, What::Switched(address(host, port)?)),
            _ => None,
        },
        "+tilt" | "-tilt" => Some(Event {
            master: String::new(),
            what: What::Changed,
        }),
        _ if !CHANNELS.contains(&channel) => None,
        _ if channel.starts_with("-failover-abort-") => event(master(&words)?, What::Aborted),
        _ => event(master(&words)?, What::Changed),
    }
}

/// Reads `slave NAME IP PORT @ MASTER …`.
fn replica(words: &[&str], what: fn(MasterAddress) -> What) -> Option<Event> {
    match words {
        ["slave", _, host, port, "@", master, ..] => event(master, what(address(host, port)?)),
        _ => None,
    }
}

/// Returns the master that an event is about: `master NAME IP PORT …`, or behind the `@` of another instance.
fn master<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["master", name, _, _, ..] => Some(name),
        ["slave" | "sentinel", _, _, _, "@", name, ..] => Some(name),
        _ => None,
    }
}

fn event(master: &str, what: What) -> Option<Event> {
    let named = !master.is_empty();
    named.then(|| Event {
        master: master.to_owned(),
        what,
    })
}

fn address(host: &str, port: &str) -> Option<MasterAddress> {
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let known = !host.is_empty();
    known.then(|| MasterAddress {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(host: &str, port: u16) -> MasterAddress {
        let host = host.to_owned();
        MasterAddress { host, port }
    }

    fn about(master: &str, what: What) -> Option<Event> {
        let master = master.to_owned();
        Some(Event { master, what })
    }

    #[test]
    fn each_event_of_a_failover_says_which_replica_it_is_about() {
        let payload = "slave 10.0.0.2:6379 10.0.0.2 6379 @ m1 10.0.0.1 6379";
        let replica = || at("10.0.0.2", 6379);
        for channel in [
            "+selected-slave",
            "+failover-state-send-slaveof-noone",
            "+failover-state-wait-promotion",
        ] {
            assert_eq!(
                read(channel, payload),
                about("m1", What::Promotes(replica()))
            );
        }
        assert_eq!(
            read("+promoted-slave", payload),
            about("m1", What::Promoted(replica()))
        );
        assert_eq!(
            read("+switch-master", "m1 10.0.0.1 6379 10.0.0.2 6379"),
            about("m1", What::Switched(replica()))
        );
    }

    #[test]
    fn names_and_ipv6_addresses_are_read_as_they_stand() {
        assert_eq!(
            read("+switch-master", "m1 redis-1 6379 fd00::2 6380"),
            about("m1", What::Switched(at("fd00::2", 6380)))
        );
        assert_eq!(
            read(
                "+selected-slave",
                "slave [fd00::2]:6379 redis-2.example 6379 @ m1 redis-1.example 6379"
            ),
            about("m1", What::Promotes(at("redis-2.example", 6379)))
        );
    }

    #[test]
    fn what_may_change_an_answer_names_its_master() {
        for (channel, payload) in [
            ("+odown", "master m1 10.0.0.1 6379 #quorum 3/2"),
            (
                "+sentinel",
                "sentinel 8f1d 10.0.0.3 26379 @ m1 10.0.0.1 6379",
            ),
            (
                "+slave",
                "slave 10.0.0.2:6379 10.0.0.2 6379 @ m1 10.0.0.1 6379",
            ),
            ("+monitor", "master m1 10.0.0.1 6379 quorum 2"),
            ("+set", "master m1 10.0.0.1 6379 quorum 1"),
        ] {
            assert_eq!(
                read(channel, payload),
                about("m1", What::Changed),
                "{channel}"
            );
        }
        assert_eq!(
            read("+tilt", "#tilt mode entered"),
            about("", What::Changed)
        );
        for reason in ["no-good-slave", "slave-timeout", "not-elected", "x-sdown"] {
            let channel = format!("-failover-abort-{reason}");
            let payload = "master m1 10.0.0.1 6379";
            assert_eq!(read(&channel, payload), about("m1", What::Aborted));
        }
    }

    #[test]
    fn another_shape_is_no_event() {
        for (channel, payload) in [
            ("+switch-master", "m1 10.0.0.1 6379 10.0.0.2 0"),
            ("+switch-master", "m1 10.0.0.1 6379 10.0.0.2 65536"),
            ("+switch-master", "m1 10.0.0.1 6379  6379"),
            ("+switch-master", " 10.0.0.1 6379 10.0.0.2 6379"),
            ("+switch-master", "m1 10.0.0.1 6379 10.0.0.2\u{1b} 6379"),
            ("+promoted-slave", "master m1 10.0.0.1 6379"),
            ("+promoted-slave", "slave a 10.0.0.2 6379 m1"),
            ("+sdown", "master m1 10.0.0.1 6379"),
            ("-failover-abort-", "master m1 10.0.0.1 6379"),
            ("+odown", ""),
        ] {
            assert_eq!(read(channel, payload), None, "{channel} {payload:?}");
        }
        let long = format!("{} 10.0.0.1 6379 10.0.0.2 6379", "m".repeat(LONGEST));
        assert_eq!(read("+switch-master", &long), None);
    }

    proptest! {
        #[test]
        fn an_event_says_nothing_that_was_not_published(
            channel in prop::sample::select(CHANNELS.as_slice()),
            payload in "((master|slave|sentinel|@|m1|[^ ]{0,6}|[0-9]{1,6}) ){0,9}",
        ) {
            if let Some(event) = read(channel, &payload) {
                prop_assert!(payload.contains(&event.master));
                if let What::Promotes(at) | What::Promoted(at) | What::Switched(at) = event.what {
                    let words: Vec<&str> = payload.split(' ').collect();
                    prop_assert!(words.contains(&at.host.as_str()) && at.port > 0);
                }
            }
        }
    }
}
