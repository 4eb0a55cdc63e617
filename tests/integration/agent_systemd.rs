//! What the agent tells systemd, or whoever listens where systemd would.

use std::os::unix::net::UnixDatagram;

use crate::agent_announcements::{Agent, lab};
use crate::common::{PATIENCE, executable, wait_for};

#[test]
fn systemd_is_told_that_the_agent_is_ready_and_again_and_again_that_it_is_alive() {
    let lab = lab(0);
    let server = lab.host("server1");
    let path = lab.unique("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let mut command = server.command(executable());
    command.arg("agent").env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "400000");
    let _agent = Agent::start_by(&server, command);
    let (mut told, mut buffer) = (Vec::new(), [0; 1024]);
    // The last two come as long as it lives.
    for expected in ["READY=1", "STATUS=m: here", "WATCHDOG=1", "WATCHDOG=1"] {
        let has_come = || {
            while let Ok(length) = systemd.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                told.push(text.trim_end().to_owned());
            }
            let place = told.iter().position(|one| one == expected)?;
            told.remove(place);
            Some(())
        };
        let has_come = wait_for(PATIENCE, has_come);
        assert!(has_come.is_some(), "no {expected} in {told:?}");
    }
}
