//! Ways in which the master's Redis ends, or seems to.

use crate::common::eventually;
use crate::common::redis::deaths::NEVER;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};

const M: Master = MASTER_8000;

/// A Redis on server1 that ends like this is failed over at once, and is a replica when it is back.
fn ends(more_conf: &str, end: impl Fn(&Site)) {
    let mut site = Site::unstarted();
    site.add_conf(more_conf, "");
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site.down_after(NEVER);
    site.wait_until_well(&M, "server1");
    site.wait_until_replicas_have_data("server1", 2);
    end(&site);
    site.forget("server1-8000");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", "server2");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
}

/// Redis writes its report before it ends, and says nothing meanwhile.
#[test]
fn a_redis_that_crashes_is_failed_over_at_once() {
    ends("enable-debug-command yes", |site| {
        let answer = site.ask("server1", M.port, &["debug", "segfault"]);
        assert_eq!(answer, None);
    });
}

#[test]
fn a_redis_that_aborts_is_failed_over_at_once() {
    ends("", |site| site.signal_service("server1", "8000", "ABRT"));
}

#[test]
fn a_redis_that_is_shut_down_without_a_snapshot_is_failed_over_at_once() {
    ends("", |site| {
        let answer = site.ask("server1", M.port, &["shutdown", "nosave"]);
        assert_eq!(answer, None);
    });
}

/// It has not died: only Sentinel can say that it is of no use.
#[test]
fn a_redis_that_hangs_is_left_to_sentinel_which_fails_over() {
    let site = Site::with_agents(&[M]);
    let redis = site.listener("server1", M.port);
    site.down_after(2_000);
    site.signal(&redis, "STOP");
    site.settles(&M, "server2");
    site.never_down_of(&SERVERS);
    assert_eq!((site.promotions(), site.asked()), (1, 0));
    // It goes on as the master that it was, and nobody reaches it by the VIP.
    let watch = site.watch("server1");
    site.go_on(&redis);
    site.wait_until_follows(&M, "server1", "server2");
    site.settles(&M, "server2");
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    assert_eq!((site.promotions(), site.asked()), (1, 0));
}

/// It hangs for so long that its agent has given up, and is killed then.
#[test]
fn a_redis_that_is_killed_while_it_hangs_is_failed_over_at_once() {
    let site = Site::with_agents(&[M]);
    site.down_after(NEVER);
    site.wait_until_well(&M, "server1");
    let redis = site.listener("server1", M.port);
    site.signal(&redis, "STOP");
    eventually("its agent knows nothing of it any more", || {
        let known = site.agent("server1").expect("the agent answers");
        known["masters"][0]["redis"][0]["role"] != "master"
    });
    assert_eq!(site.holders(M.vip), ["server1"]);
    site.end_service("server1", "8000", "KILL");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
}
