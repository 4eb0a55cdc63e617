//! What Sentinel publishes about its masters (`sentinelEvent` in sentinel.c). Anybody who may publish on a Sentinel
//! could forge an event: it is a reason to look, and to be ready, never a proof. Pure.

use super::MasterAddress;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The master-name.
    pub master: String,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The leader has chosen this replica, and promotes it now.
    Promotes(MasterAddress),
    /// This replica was promoted.
    Promoted(MasterAddress),
    /// The master is here now.
    Switched(MasterAddress),
    /// The failover was given up.
    Aborted,
    /// Something else that can change an answer.
    Changed,
}

/// The channels that are worth listening to. The choice is published in the same tick of Sentinel's timer as
/// `+failover-state-send-slaveof-noone`; SLAVEOF NO ONE follows in the next one, 50 to 100 ms later.
pub const CHANNELS: [&str; 21] = [
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "+promoted-slave",
    "+switch-master",
    "+failover-end",
    "+failover-end-for-timeout",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-x-sdown",
    "+odown",
    "-odown",
    "+config-update-from",
    "+convert-to-slave",
    "+sentinel",
    "+sentinel-address-switch",
    "+slave",
    "+reset-master",
    "+monitor",
    "-monitor",
];

/// The longest payload that is read, in bytes: three names of hosts and of a master.
const LONGEST: usize = 4096;

/// Reads an event: `slave NAME IP PORT @ MASTER MASTER-IP MASTER-PORT`, `master MASTER IP PORT`, or for
/// `+switch-master` `MASTER OLD-IP OLD-PORT NEW-IP NEW-PORT`. Sentinel monitors no name with a space in it
/// (`sentinel monitor` is read word by word).
pub fn read(channel: &str, payload: &str) -> Option<Event> {
    if payload.len() > LONGEST {
        return None;
    }
    let words: Vec<&str> = payload.split_ascii_whitespace().collect();
    let event = |master: &str, what| {
        let master = master.to_owned();
        Some(Event { master, what })
    };
    let what = match channel {
        "+selected-slave"
        | "+failover-state-send-slaveof-noone"
        | "+failover-state-wait-promotion" => What::Promotes,
        "+promoted-slave" => What::Promoted,
        "+switch-master" => {
            let [master, _, _, host, port, ..] = words[..] else {
                return None;
            };
            return event(master, What::Switched(address(host, port)?));
        }
        _ => {
            let master = match words[..] {
                ["master", master, ..] => master,
                [_, _, _, _, "@", master, ..] => master,
                _ => return None,
            };
            let is_abort = channel.starts_with("-failover-abort-");
            return event(
                master,
                if is_abort {
                    What::Aborted
                } else {
                    What::Changed
                },
            );
        }
    };
    let ["slave", _, host, port, "@", master, ..] = words[..] else {
        return None;
    };
    event(master, what(address(host, port)?))
}

fn address(host: &str, port: &str) -> Option<MasterAddress> {
    Some(MasterAddress {
        host: host.to_owned(),
        port: port.parse().ok().filter(|port| *port != 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_promotion_is_read_from_the_leaders_events() {
        let at = |host: &str| MasterAddress {
            host: host.into(),
            port: 6380,
        };
        let slave = "slave 10.0.0.2:6380 10.0.0.2 6380 @ m 10.0.0.1 6379";
        let v6 = "slave [fd00::2]:6380 fd00::2 6380 @ my.master-1 fd00::1 6379";
        let names = "slave redis2:6380 redis2 6380 @ m redis1 6379";
        for (channel, payload, master, what) in [
            (
                "+selected-slave",
                slave,
                "m",
                What::Promotes(at("10.0.0.2")),
            ),
            (
                "+failover-state-wait-promotion",
                v6,
                "my.master-1",
                What::Promotes(at("fd00::2")),
            ),
            ("+promoted-slave", names, "m", What::Promoted(at("redis2"))),
            (
                "+switch-master",
                "m 10.0.0.1 6379 10.0.0.2 6380",
                "m",
                What::Switched(at("10.0.0.2")),
            ),
            (
                "-failover-abort-slave-timeout",
                "master m 10.0.0.1 6379",
                "m",
                What::Aborted,
            ),
            (
                "+odown",
                "master m 10.0.0.1 6379 #quorum 2/2",
                "m",
                What::Changed,
            ),
            ("+slave", slave, "m", What::Changed),
        ] {
            let event = read(channel, payload);
            let expected = Event {
                master: master.into(),
                what,
            };
            assert_eq!(event, Some(expected), "{channel} {payload}");
        }
        for (channel, payload) in [
            ("+selected-slave", "master m 10.0.0.1 6379"),
            ("+selected-slave", "slave a 10.0.0.2 0 @ m b 1"),
            ("+switch-master", "m 10.0.0.1 6379 10.0.0.2"),
            ("+odown", ""),
        ] {
            assert_eq!(read(channel, payload), None, "{channel} {payload}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_makes_anything_but_a_clean_result(
            channel in prop_oneof![prop::sample::select(CHANNELS.to_vec()), Just("other")],
            payload in "(slave|master|@|[a-z0-9.:]{1,5}| ){0,20}|.*",
        ) {
            let _ = read(channel, &payload);
        }
    }
}
