//! Once a minute the network is asked who answers for each VIP: what counts is the effect, not this host's belief.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use pnet_base::MacAddr;
use tokio::time::sleep;

use super::core::Stands;
use super::world::{Answer, World};
use crate::exit::Fault;
use crate::frames::{Question, claimants};
use crate::kernel::Snapshot;
use crate::link::Link;
use crate::log::{self, Level};
use crate::report::{pair, quote};
use crate::text::escape;
use crate::vip::{Vip, choose_interface};

/// The pause between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// How long others may take to answer. A neighbour answers in well under a millisecond, a busy one in some hundred.
const ANSWER: Duration = Duration::from_millis(500);

/// A VIP, and where its holder can be asked for.
struct Place {
    master: String,
    vip: IpAddr,
    link: Link,
}

/// Asks, for ever.
pub(super) async fn ask_every_minute(world: Rc<World>) {
    loop {
        sleep(EVERY).await;
        // What cannot be asked now is asked in a minute.
        if let Ok((places, own)) = places(&world).await {
            ask(&world, &places, &own).await;
        }
    }
}

async fn ask(world: &World, places: &[Place], own: &[MacAddr]) {
    let question = |place: &'_ Place| (place.vip, place.link.clone());
    let asked: Vec<(IpAddr, Link)> = places.iter().map(question).collect();
    let questions: Vec<Question> = asked
        .iter()
        .map(|(vip, link)| Question { vip: *vip, link })
        .collect();
    let stood: Vec<Option<Stands>> = places.iter().map(|place| stands(world, place)).collect();
    let answers = claimants(&questions, own, ANSWER).await;
    let told = places.iter().zip(stood).zip(answers);
    // Before anything is waited for: a VIP that has moved meanwhile was answered for by its last holder, rightly.
    let told: Vec<(&Place, Answer)> = told
        .filter(|((place, stood), _)| stands(world, place) == *stood)
        .filter_map(|((place, stood), answer)| Some((place, (sorted(&answer.ok()?), stood))))
        .collect();
    for (place, answer) in told {
        if let (macs, Some(Stands::Here)) = &answer
            && !macs.is_empty()
        {
            world.announcers.again(place.vip);
        }
        let before = world.answers.borrow_mut().insert(place.vip, answer.clone());
        // The same answer means something else once the VIP has come or gone.
        if before.as_ref() != Some(&answer) {
            note(place, &answer, before.is_none()).await;
        }
    }
}

/// Returns them in an order that does not depend on who was faster.
fn sorted(macs: &[MacAddr]) -> Vec<String> {
    let mut macs: Vec<String> = macs.iter().map(MacAddr::to_string).collect();
    macs.sort_unstable();
    macs
}

fn stands(world: &World, place: &Place) -> Option<Stands> {
    let core = world.core.borrow();
    core.master(&place.master)
        .and_then(|master| master.stands())
}

/// Writes to the log what is not as it should be, once for each change.
async fn note(place: &Place, (macs, stands): &Answer, is_first: bool) {
    let (stands, macs) = (*stands, macs.as_slice());
    let sentence = match (stands, macs) {
        (Some(Stands::Here), []) | (None, _) => return,
        (Some(Stands::Here), macs) => {
            // This host contests the claim; the operator is told the rival's hardware address.
            format!(
                "{} is here, and answered for by {}, too",
                place.vip,
                macs.join(", ")
            )
        }
        (Some(Stands::Elsewhere), []) => format!("nobody answers for {}", place.vip),
        (Some(Stands::Elsewhere), [_]) if is_first => return,
        (Some(Stands::Elsewhere), [holder]) => format!("{holder} answers for {}", place.vip),
        (Some(Stands::Elsewhere), macs) => {
            format!(
                "{} is answered for by several: {}",
                place.vip,
                macs.join(", ")
            )
        }
    };
    let is_well = matches!((stands, macs), (Some(Stands::Elsewhere), [_]));
    let level = if is_well {
        Level::Notice
    } else {
        Level::Warning
    };
    let mut line = format!("msg={}", quote(&sentence));
    pair(&mut line, "master", &escape(&place.master));
    log::line(level, &line).await;
}

/// Returns where each VIP's holder can be asked for, and the hardware addresses of this host.
async fn places(world: &World) -> Result<(Vec<Place>, Vec<MacAddr>), Fault> {
    let config = world.config();
    let snapshot = Snapshot::knowing(
        &world.netlink,
        config.vips().map(|vip| vip.address).collect(),
    );
    let mut places = Vec::new();
    for (name, master) in &config.masters {
        for vip in &master.vips {
            let link = link(world, &snapshot, vip, master.interface.as_deref()).await?;
            let asked = link.filter(|link| link.mac.is_some() && link.carrier);
            places.extend(asked.map(|link| Place {
                master: name.clone(),
                vip: vip.address,
                link,
            }));
        }
    }
    let links = world.netlink.links().await?;
    Ok((places, links.iter().filter_map(|link| link.mac).collect()))
}

async fn link(
    world: &World,
    snapshot: &Snapshot<'_>,
    vip: &Vip,
    interface: Option<&str>,
) -> Result<Option<Link>, Fault> {
    let seen = snapshot.see(vip.address, interface).await?;
    let bound = seen.bound.first().map(|binding| binding.ifindex);
    let chosen = choose_interface(vip, &seen, None)
        .ok()
        .map(|(ifindex, _)| ifindex);
    match bound.or(chosen) {
        Some(ifindex) => world.netlink.link(ifindex).await,
        None => Ok(None),
    }
}
