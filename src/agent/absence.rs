//! What it means for a host that no agent runs there, and whether one is meant to.

use std::path::Path;

use super::socket_path::socket_path;
use crate::units::{AGENT, Units};

/// What moves the VIP meanwhile.
pub const MEANWHILE: &str =
    "Sentinel's call and `vipswitch sync` move the VIP, about 1 s later than an agent";

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

#[cfg(test)]
mod tests {
    use super::*;

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
