//! What it means for a host that no agent runs there, and whether one is meant to: by its unit, or as other hosts have
//! one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::chosen::site_may_be_asked;
use super::sign::{self, Sign};
use super::socket_path::socket_path;
use crate::config::Config;
use crate::evidence::Site;
use crate::redis::{Server, redis_server};
use crate::report::finding::{Verdict, warning};
use crate::units::{AGENT, Units};

/// How many Redis are looked at at once.
const AT_ONCE: usize = 64;

/// How often is looked again where a sign is missing: after a failover an agent needs a second until it is connected.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What moves the VIP meanwhile.
pub const MEANWHILE: &str = "`vipswitch sync` moves the VIP, and Sentinel's call where Sentinel has the privileges, about 1 s later than an agent";

/// What to do where an agent is meant to run.
pub const REMEDY: &str =
    "systemctl start vipswitch-agent; journalctl -u vipswitch-agent tells why it ended.";

/// Returns what shows that an agent is meant to run on this host, on which none does; `None` where nothing does.
pub fn is_meant(units: Option<&Units>) -> Option<&'static str> {
    sign(units, socket_path().is_ok_and(|path| is_there(&path)))
}

fn is_there(socket: &Path) -> bool {
    socket.symlink_metadata().is_ok()
}

/// An agent that ends in good order takes its socket away. Where systemd knows its unit, that is what counts.
fn sign(units: Option<&Units>, has_left_socket: bool) -> Option<&'static str> {
    let get = |key| units.map_or("", |units| units.get(AGENT, key));
    match (get("UnitFileState"), get("ActiveState")) {
        ("enabled" | "enabled-runtime", _) => Some("vipswitch-agent.service is enabled"),
        ("masked", _) => None,
        (_, "failed") => Some("vipswitch-agent.service has failed"),
        (_, "active" | "activating" | "reloading") => Some("vipswitch-agent.service is active"),
        ("", _) if has_left_socket => Some("one has left its socket, and so was killed"),
        _ => None,
    }
}

/// Looks whether this host, or the master's, lacks an agent while another host of this master has one, and judges that.
/// `redises` are the master and its replicas, `has_own` tells whether this host's agent answers, `within` is for Redis'
/// own answers. Returns the Redis of a host that lacks it, and what is wrong.
pub async fn among(
    (config, name): (&Config, &str),
    redises: &[Site],
    has_own: bool,
    within: Duration,
) -> Vec<(SocketAddr, Verdict)> {
    let mut lacking = Vec::new();
    for look in 1..=LOOKS {
        let signs = redises.iter().map(async |site| match site.is_here() {
            true if has_own => Sign::There,
            _ => match way((config, name), site) {
                Some(way) => sign::look(&way, within).await,
                None => Sign::Untold("its address is not known".into()),
            },
        });
        let signs: Vec<Sign> = stream::iter(signs).buffered(AT_ONCE).collect().await;
        let all: Vec<(&Site, Sign)> = redises.iter().zip(signs).collect();
        lacking = without_agent(&all);
        // Whether this host has one is known for certain.
        let may_pass = matches!(all.first(), Some((site, Sign::Absent)) if !site.is_here());
        if lacking.is_empty() || !may_pass || look == LOOKS {
            break;
        }
        sleep(PAUSE).await;
    }
    lacking
}

fn way((config, name): (&Config, &str), site: &Site) -> Option<Server> {
    let master = config.master(name).ok()?;
    let at = address(site)?;
    let server = redis_server(config, master, at).ok()?;
    Some(match site_may_be_asked(config, master, site, at) {
        true => server,
        false => server.without_credentials(),
    })
}

fn address(site: &Site) -> Option<SocketAddr> {
    let first = site.addresses.first();
    first.map(|address| SocketAddr::new(*address, site.endpoint.port))
}

/// The master comes first. What is wrong on the host of another replica `check` tells there.
fn without_agent(all: &[(&Site, Sign)]) -> Vec<(SocketAddr, Verdict)> {
    let has_one = |sign: &Sign| matches!(sign, Sign::There | Sign::Silent);
    if !all.iter().any(|(_, sign)| has_one(sign)) {
        return Vec::new();
    }
    let judge = |(place, (site, sign)): (usize, &(&Site, Sign))| {
        let text = match (sign, site.is_here(), place) {
            (Sign::Absent, true, _) => "this host has no agent, and others have one",
            (Sign::Absent, false, 0) => {
                "no agent on the master's host is connected to it, and other hosts have one"
            }
            (Sign::Silent, false, 0) => "the agent on the master's host does not answer",
            _ => return None,
        };
        let (here, remedy) = match sign {
            Sign::Silent => ("", "Look at it there: systemctl status vipswitch-agent"),
            _ if site.is_here() => ("", REMEDY),
            _ => ("Start it there: ", "systemctl start vipswitch-agent"),
        };
        let cost = "while the master is there, `vipswitch failover` is refused, and in any other failover writes are lost";
        Some((
            address(site)?,
            warning(format!("{text}: {cost}"), format!("{here}{remedy}")),
        ))
    };
    all.iter().enumerate().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::{Endpoint, Host};
    use crate::place::Place;

    #[test]
    fn an_agent_is_missing_where_another_host_has_one() {
        let site = |number: u8, is_here: bool| {
            let address = [10, 0, 0, number].into();
            Site {
                endpoint: Endpoint {
                    host: Host::Address(address),
                    port: 6379,
                },
                addresses: vec![address],
                run_id: None,
                place: Ok(if is_here {
                    Place::Here(None)
                } else {
                    Place::Elsewhere
                }),
            }
        };
        use Sign::{Absent, Silent, There};
        let untold = || Sign::Untold("no".into());
        // Which of three is this host; what is seen at the master and at two replicas -> of whom that is told.
        for (own, signs, expected) in [
            (1, [There, There, There], vec![]),
            (1, [Absent, Absent, Absent], vec![]),
            (1, [untold(), There, There], vec![]),
            (1, [There, There, Absent], vec![]),
            (3, [There, There, Absent], vec![3]),
            (1, [Absent, There, There], vec![1]),
            (2, [Absent, There, There], vec![1]),
            (2, [Absent, Absent, Silent], vec![1, 2]),
            (2, [Silent, There, There], vec![1]),
        ] {
            let sites = [1, 2, 3].map(|number| site(number, number == own));
            let all: Vec<(&Site, Sign)> = sites.iter().zip(signs).collect();
            let told = without_agent(&all);
            let told: Vec<String> = told.iter().map(|(at, _)| at.ip().to_string()).collect();
            let expected: Vec<String> = expected
                .iter()
                .map(|n: &i32| format!("10.0.0.{n}"))
                .collect();
            assert_eq!(told, expected, "{own} {all:?}");
        }
    }

    #[test]
    fn an_agent_is_meant_by_its_unit_or_else_by_the_socket_that_it_has_left() {
        for (file, active, socket, expected) in [
            ("enabled", "inactive", false, Some("is enabled")),
            ("enabled", "failed", true, Some("is enabled")),
            ("disabled", "failed", false, Some("has failed")),
            ("disabled", "active", false, Some("is active")),
            ("disabled", "inactive", true, None),
            ("masked", "failed", true, None),
            ("", "inactive", true, Some("its socket")),
            ("", "", false, None),
        ] {
            let text = format!("Id={AGENT}\nActiveState={active}\nUnitFileState={file}\n");
            let sign = sign(Some(&Units::read(text)), socket);
            let is_it = match (sign, expected) {
                (Some(sign), Some(expected)) => sign.contains(expected),
                (sign, expected) => sign == expected,
            };
            assert!(is_it, "{file} {active} {socket}: {sign:?}");
        }
        assert!(sign(None, true).is_some());
        assert_eq!(sign(None, false), None);
    }
}
