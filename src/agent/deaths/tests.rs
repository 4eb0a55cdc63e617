//! An election in the agent's own world, with a Sentinel that counts who comes to it.

use std::cell::Cell;
use std::path::Path;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::agent::progress::Progress;
use crate::config;
use crate::failover::{Endpoint, Host};
use crate::place::Place;
use crate::redis::{self, Server};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const M: &str = "m";

fn world(to: mpsc::Sender<Event>) -> Rc<World> {
    let text = format!("[masters.{M}]\nvip = '192.0.2.250/24'\n");
    let config = Rc::new(config::parse(&text, Path::new("/x")).unwrap());
    let began = Instant::now();
    Rc::new(World::new(config, (began, Rc::new(Progress::new(began))), to).unwrap())
}

fn dead() -> Site {
    let host = "192.0.2.1".parse().unwrap();
    Site {
        endpoint: Endpoint {
            host: Host::Address(host),
            port: 6379,
        },
        addresses: vec![host],
        run_id: None,
        place: Ok(Place::Here(None)),
    }
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
