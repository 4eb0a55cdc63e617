//! The master's Redis dies while an operator's order against the truth stands.

use crate::common::eventually;
use crate::common::redis::deaths::NEVER;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};

const M: Master = MASTER_8000;

fn site() -> Site {
    let site = Site::with_agents(&[M]);
    site.down_after(NEVER);
    site.wait_until_well(&M, "server1");
    site
}

/// No order stands any more.
fn none_stands(site: &Site) {
    eventually("no order stands", || {
        SERVERS.iter().all(|server| {
            let known = site.agent(server).expect("the agent answers");
            known["masters"][0]["forced"].is_null()
        })
    });
}

#[test]
fn a_vip_that_was_taken_away_by_order_is_where_the_failover_goes() {
    let site = site();
    site.host("server1").ok("unbind --force master8000");
    assert!(site.holders(M.vip).is_empty());
    site.kill_redis(&M, "server1");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    none_stands(&site);
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", "server2");
    site.settles(&M, "server2");
}

#[test]
fn a_vip_that_was_moved_by_order_is_where_the_failover_goes() {
    let site = site();
    site.host("server1").ok("unbind --force master8000");
    site.host("server3").ok("bind --force master8000");
    assert_eq!(site.holders(M.vip), ["server3"]);
    site.kill_redis(&M, "server1");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    none_stands(&site);
}

#[test]
fn a_vip_that_was_moved_by_order_to_the_one_that_is_promoted_stays_there() {
    let site = site();
    site.host("server1").ok("unbind --force master8000");
    site.host("server2").ok("bind --force master8000");
    let watch = site.watch("server2");
    site.kill_redis(&M, "server1");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    none_stands(&site);
    site.settles(&M, "server2");
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
}
