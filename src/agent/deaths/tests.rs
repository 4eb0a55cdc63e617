//! An election in the agent's own world, with a Sentinel that counts who comes to it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::agent::core::{Action, Facts, Own, Time};
use crate::agent::progress::Progress;
use crate::agent::snapshot::Replica;
use crate::config;
use crate::election::hold_tests::{Sentinels, Shared, ways_to, well};
use crate::evidence::{Evidence, OwnRedis, Role, Vote as Names};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::place::Place;
use crate::redis::{self, Server};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const M: &str = "m";

/// How long the worlds here are old: what is told of an earlier moment was told then.
const AGE: Duration = Duration::from_secs(10);

/// After how long the most impatient Sentinel decides itself, as the core knows.
const DOWN: Duration = Duration::from_secs(2);

/// The replica that the Sentinels of these tests would select.
const NEAR: &str = "10.0.0.1:6379";

fn world(to: mpsc::Sender<Event>) -> Rc<World> {
    let text = format!("[masters.{M}]\nvip = '192.0.2.250/24'\n");
    let config = Rc::new(config::parse(&text, Path::new("/x")).unwrap());
    let began = Instant::now() - AGE;
    Rc::new(World::new(config, (began, Rc::new(Progress::new(began))), to).unwrap())
}

/// The Redis of this host that dies.
fn dead() -> Site {
    site("10.0.0.2", Place::Here(None))
}

fn at() -> SocketAddr {
    "10.0.0.2:6379".parse().unwrap()
}

fn site(host: &str, place: Place) -> Site {
    let host = host.parse().unwrap();
    Site {
        endpoint: Endpoint {
            host: Host::Address(host),
            port: 6379,
        },
        addresses: vec![host],
        run_id: None,
        place: Ok(place),
    }
}

/// All three Sentinels name this master.
fn named(master: &Site) -> Event {
    let vote = Names {
        who: "s".into(),
        says: Ok(master.clone()),
        epoch: 4,
        known_to: 3,
        listed_here: true,
        out_of_reach: false,
    };
    let own = OwnRedis {
        site: dead(),
        at: at(),
        is_vouched_for: true,
        role: Ok(Role::Master),
        run_id: None,
    };
    let evidence = Evidence {
        ballot: Some(Ballot {
            votes: vec![vote; 3],
            quorum: 2,
            waited: Duration::ZERO,
        }),
        own_redis: vec![own],
        ..Evidence::default()
    };
    let facts = Facts {
        evidence,
        soonest_down: Some(DOWN),
        ..Facts::default()
    };
    Event::Polled(M.into(), Box::new(facts))
}

fn says(role: Result<Role, Fault>) -> Event {
    let replica = Replica {
        at: NEAR.into(),
        lag: Some(0),
        behind: 0,
        online: true,
    };
    let own = Own {
        is_gone: role.is_err(),
        role,
        offset: None,
        acknowledged: None,
        replicas: vec![replica],
        run_id: None,
    };
    Event::OwnRedis(M.into(), at(), own)
}

/// Has the core know that the master of this host has died then. What follows is not done.
fn dies(world: &World, then: Time) {
    let mut core = world.core.borrow_mut();
    let mut told = vec![named(&dead()), Event::PollEnded, says(Ok(Role::Master))];
    told.push(says(Err(Fault::passing("refused"))));
    let followed = told.into_iter().map(|event| core.on(event, then));
    let actions = followed.last().unwrap();
    let elects = |action: &Action| matches!(action, Action::Elect(..));
    assert!(actions.iter().any(elects), "{actions:?}");
}

/// Has a Sentinel elected among these, does this while its turn is waited for, and returns why none was asked. Where the
/// machine is so busy that this is the reason it is tried again.
async fn refused(all: Sentinels, died: Duration, meanwhile: impl Fn(&World)) -> String {
    let all = Arc::new(Mutex::new(all));
    let tries = async {
        loop {
            let why = refused_once(&all, died, &meanwhile).await;
            let all = all.lock().unwrap();
            assert_eq!((all.voted, all.asked), (0, 0), "{why}");
            let is_busy = ["could not be asked", "answered in time"];
            if !is_busy.iter().any(|busy| why.contains(busy)) {
                return why;
            }
        }
    };
    let tries = LocalSet::new().run_until(timeout(PATIENCE, tries)).await;
    tries.expect("the machine is not as busy all the time")
}

async fn refused_once(all: &Shared, died: Duration, meanwhile: impl Fn(&World)) -> String {
    let (to, mut events) = mpsc::channel(16);
    let world = world(to);
    let ways = ways_to(all).await;
    world.ways.borrow_mut().insert(M.to_owned(), ways);
    dies(&world, world.now() - died);
    let turn = world.elections.acquire().await.unwrap();
    let near = vec![NEAR.to_owned()];
    let election = Rc::clone(&world).elect(M.to_owned(), dead(), near, Default::default());
    let election = spawn_local(election);
    // It goes as far as it comes.
    tokio::task::yield_now().await;
    meanwhile(&world);
    drop(turn);
    election.await.unwrap();
    let event = events.recv().await;
    let Some(Event::Elected(_, Err((why, false)), _)) = event else {
        panic!("{event:?}")
    };
    why
}

#[tokio::test(flavor = "current_thread")]
async fn a_death_that_is_over_when_the_turn_comes_has_no_sentinel_asked() {
    let promoted = site("10.0.0.1", Place::Elsewhere);
    let is_over = |world: &World| {
        let mut core = world.core.borrow_mut();
        core.on(named(&promoted), world.now());
    };
    let why = refused(well(), Duration::ZERO, is_over).await;
    assert_eq!(why, "the failover is over");
}

#[tokio::test(flavor = "current_thread")]
async fn a_turn_that_comes_when_sentinel_is_about_to_decide_has_none_asked() {
    let why = refused(well(), Duration::from_millis(600), |_| {}).await;
    assert!(why.contains("it will decide itself"), "{why}");
}

/// It has had no answer for 0.1 s, and the core does not know of that.
#[tokio::test(flavor = "current_thread")]
async fn a_sentinel_that_decides_before_another_could_begin_has_none_asked() {
    let mut all = well();
    all.down_after = 100 + u64::try_from(AHEAD.as_millis()).unwrap();
    let why = refused(all, Duration::ZERO, |_| {}).await;
    assert!(why.contains("is about to decide itself"), "{why}");
}

#[tokio::test(flavor = "current_thread")]
async fn where_no_majority_is_known_no_sentinel_is_asked() {
    let elected = async {
        let sentinel = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = sentinel.local_addr().unwrap();
        let came = Rc::new(Cell::new(0));
        let count = Rc::clone(&came);
        spawn_local(async move {
            while sentinel.accept().await.is_ok() {
                count.set(count.get() + 1);
            }
        });
        let (to, mut events) = mpsc::channel(16);
        let world = world(to);
        let way = Server::at(redis::Endpoint::Tcp(at));
        world.ways.borrow_mut().insert(M.to_owned(), vec![way]);
        // Nothing was told of any Sentinel: as after a round of questions that failed while another election went on.
        Rc::clone(&world)
            .elect(M.to_owned(), dead(), Vec::new(), Default::default())
            .await;
        (events.recv().await, came.get())
    };
    let (event, came) = LocalSet::new()
        .run_until(timeout(PATIENCE, elected))
        .await
        .unwrap();
    let Some(Event::Elected(name, Err((why, was_asked)), votes)) = event else {
        panic!("{event:?}")
    };
    assert_eq!((name.as_str(), was_asked), (M, false));
    assert_eq!(votes, []);
    assert!(why.contains("could not be asked"), "{why}");
    assert_eq!(came, 0, "connections to the Sentinel");
}
