//! An agent that was stopped: another host may have taken the VIP over meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::redis::{MASTER_8000, Master, Site};
use crate::common::sniffer::{Frame, Sniffer};
use crate::common::{Host, eventually};
use crate::rivals::{by, claim};

const M: Master = MASTER_8000;

/// How long a stop lasts here: one of less than 2 s is no longer than what is known may be old.
const COUNTS: Duration = Duration::from_secs(4);

/// How many announcements of the VIP a host has sent. What its kernel answers is none.
fn announcements(sniffer: &Sniffer, host: &Host) -> usize {
    let vip = [192, 168, 56, 250];
    let is_gratuitous =
        |frame: &&Frame| frame.is_arp() && frame.bytes[28..32] == vip && frame.bytes[38..42] == vip;
    let (frames, is_its) = (sniffer.settled(host, M.vip), by(host));
    let its = frames.iter().filter(|frame| is_its(frame));
    its.filter(is_gratuitous).count()
}

/// Stops the agent of the VIP's holder, does `meanwhile`, pulls the holder's interface down and up, and lets the agent
/// go on, cut off from the other servers. Returns who hears what it says.
fn stopped(site: &Site, meanwhile: impl FnOnce()) -> Sniffer {
    let one = site.host("server1");
    let pid = site.agent_pid("server1");
    site.signal(&pid, "STOP");
    let began = Instant::now();
    meanwhile();
    thread::sleep(COUNTS.saturating_sub(began.elapsed()));
    one.ip("link set eth1 down");
    one.ip("link set eth1 up");
    assert!(one.has(M.bound), "its kernel keeps it");
    site.isolate("server1");
    let sniffer = Sniffer::start(&site.host("client"));
    site.go_on(&pid);
    sniffer
}

#[test]
fn an_agent_that_was_stopped_does_not_announce_a_vip_that_another_host_has() {
    let site = Site::with_agents(&[M]);
    let (one, two) = (site.host("server1"), site.host("server2"));
    let sniffer = stopped(&site, || {
        site.fail_over(&M, "server3", "server2");
        eventually("the VIP is taken over", || two.has(M.bound));
    });
    for _ in 0..3 {
        claim(&two, 1);
        site.seconds_pass("server1", 1.0);
    }
    assert_eq!(announcements(&sniffer, &one), 0);
    site.rejoin("server1");
    site.settles(&M, "server2");
    assert_eq!(announcements(&sniffer, &one), 0);
}

#[test]
fn an_agent_that_was_stopped_announces_its_vip_once_it_is_told_that_it_is_still_here() {
    let site = Site::with_agents(&[M]);
    let one = site.host("server1");
    // Nobody knows that this is not another host's.
    let sniffer = stopped(&site, || {});
    site.seconds_pass("server1", 3.0);
    assert_eq!(announcements(&sniffer, &one), 0);
    site.rejoin("server1");
    eventually("it is announced", || announcements(&sniffer, &one) > 0);
    site.settles(&M, "server1");
}
