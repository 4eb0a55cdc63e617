//! The Sentinels whose events the agent hears. Each is followed by a task of its own that tells the core what it hears.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use super::core::Event;
use super::credentials::Shown;
use super::sentinels::{Heard, News, follow};
use crate::failover::{Endpoint, Host};
use crate::gather::Member;
use crate::redis::events::{self, What};
use crate::redis::{Instance, MasterAddress, Server};

/// How much may wait that a Sentinel has said.
const QUEUE: usize = 256;

/// How long a connection goes on once another one has subscribed: what was published until then may still be on its way on
/// it. One to a Sentinel that is listed elsewhere now goes on so long, too.
const OVERLAP: Duration = Duration::from_secs(1);

/// A Sentinel whose events are followed as long as this is kept.
pub(super) struct Followed {
    /// Every way in which it was listed last.
    listed_as: Vec<Instance>,
    /// Whether it answered the last question of the last round, where it was waited for.
    has_answered: Option<bool>,
    task: AbortHandle,
    is_up: Rc<Cell<bool>>,
    shown: Shown,
    /// Another connection is to take this one's place, which is not made anew then: it would show once more what is not to
    /// be shown any more.
    is_replaced: Rc<Cell<bool>>,
    /// The connection before, until events arrive on this one: none is lost between the two.
    before: Before,
}

type Before = Rc<RefCell<Option<Box<Followed>>>>;

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    /// Follows a Sentinel. The connection `before` goes on until this one's events arrive.
    fn begin(
        core: mpsc::Sender<Event>,
        (server, reloads): (Server, u64),
        before: Option<Followed>,
    ) -> Followed {
        let is_up = Rc::new(Cell::new(false));
        let (to, mut heard) = mpsc::channel::<Heard<()>>(QUEUE);
        let (up, by) = (Rc::clone(&is_up), server.endpoint.to_string());
        let shown = Shown::new(server.clone(), reloads);
        let note = shown.note();
        let before: Before = Rc::new(RefCell::new(before.and_then(Followed::that_hears)));
        let replaced = Rc::clone(&before);
        let is_replaced = Rc::new(Cell::new(false));
        let is_last = Rc::clone(&is_replaced);
        let task = spawn_local(async move {
            let pass_on = async {
                while let Some(Heard { news, .. }) = heard.recv().await {
                    let no = match &news {
                        News::Down(no) => Some(no),
                        News::Up | News::Event(_) => None,
                    };
                    up.set(no.is_none());
                    note(no);
                    if no.is_none() {
                        replaced.take().into_iter().for_each(|it| linger(*it));
                    }
                    // It is closed only when this world ends.
                    let _ = core.send(event(news, &by)).await;
                    if is_last.get() && !up.get() {
                        return;
                    }
                }
            };
            select(pin!(follow(server, (), to)), pin!(pass_on)).await;
        });
        Followed {
            listed_as: Vec::new(),
            has_answered: None,
            task: task.abort_handle(),
            is_up,
            shown,
            is_replaced,
            before,
        }
    }

    /// Returns the connection of these two on which events arrive, if there is one.
    fn that_hears(self) -> Option<Box<Followed>> {
        let before = self.before.take();
        self.is_replaced.set(true);
        match self.is_up.get() {
            true => Some(Box::new(self)),
            false => before.filter(|before| before.is_up.get()),
        }
    }

    /// Returns whether it answered last: the last round of questions, or where that did not wait for it, the last
    /// question on the connection of its events.
    pub(super) fn is_in_reach(&self) -> bool {
        self.has_answered.unwrap_or(self.is_up())
    }

    /// Returns whether it answers, and its events do not arrive.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_in_reach() && !self.is_up()
    }

    /// Returns whether its events arrive.
    pub(super) fn is_up(&self) -> bool {
        let before = self.before.borrow();
        self.is_up.get() || before.as_ref().is_some_and(|before| before.is_up.get())
    }
}

/// Follows a Sentinel for a moment more, whose events come on another connection, or who is not listed any more.
fn linger(followed: Followed) {
    spawn_local(async move {
        sleep(OVERLAP).await;
        drop(followed);
    });
}

/// Follows the events of each of these Sentinels, by where it is; `are_all` tells whether every Sentinel that is listed
/// is among them, so that no other is followed. A connection that is up needs no name: a Sentinel is followed on while
/// nobody knows where it is. One that is to be asked in another way since one of so many `reloads`, or that does not accept
/// what it is shown, is followed anew.
pub(super) fn follow_all<'a>(
    followed: &mut BTreeMap<String, Followed>,
    members: impl Iterator<Item = &'a Member>,
    (are_all, reloads): (bool, u64),
    to: &mpsc::Sender<Event>,
) {
    if are_all {
        followed
            .values_mut()
            .for_each(|one| one.has_answered = Some(false));
    }
    let mut known = BTreeSet::new();
    let mut nowhere = Vec::new();
    for member in members {
        let Some(server) = &member.server else {
            nowhere.push(member);
            continue;
        };
        let at = server.endpoint.to_string();
        if known.insert(at.clone()) {
            let mut one = match followed.remove(&at) {
                Some(one) if one.shown.holds(server, reloads) => one,
                before => {
                    // One of a user who is not Sentinel's any more is not heard until then.
                    let before = before.filter(|it| it.shown.is_of_same_users(server));
                    Followed::begin(to.clone(), (server.clone(), reloads), before)
                }
            };
            one.listed_as.clone_from(&member.listed_as);
            one.has_answered = member.has_answered;
            followed.insert(at, one);
        }
    }
    if are_all {
        let is_listed = |(at, one): &(&String, &Followed)| {
            let mut nowhere = nowhere.iter();
            known.contains(*at) || nowhere.any(|member| member.is_same(&one.listed_as))
        };
        let over = followed.iter().filter(|one| !is_listed(one));
        let over: Vec<String> = over.map(|(at, _)| at.clone()).collect();
        let over = over.iter().filter_map(|at| followed.remove(at));
        let over = over.filter_map(Followed::that_hears);
        over.for_each(|it| linger(*it));
    }
}

/// Whatever may have been missed is found by asking.
fn event(news: News, by: &str) -> Event {
    let News::Event(events::Event { master, what }) = news else {
        return Event::Changed;
    };
    match what {
        What::Promotes(to) => match endpoint(&to) {
            Some(to) => Event::Promotes(master, to, by.to_owned()),
            None => Event::Changed,
        },
        What::Aborted => Event::Aborted(master, by.to_owned()),
        // Sentinel's own state, of all masters.
        What::Promoted(_) | What::Switched(_) | What::Changed if master.is_empty() => {
            Event::Changed
        }
        What::Promoted(_) | What::Switched(_) | What::Changed => Event::ChangedOf(master),
    }
}

pub(super) fn endpoint(at: &MasterAddress) -> Option<Endpoint> {
    Some(Endpoint {
        host: Host::read(&at.host)?,
        port: at.port,
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::redis::Endpoint as Way;

    fn member(name: &str, port: Option<u16>) -> Member {
        let listed_as = Instance {
            host: name.into(),
            port: 26379,
            run_id: Some(format!("id of {name}")),
            flags: Vec::new(),
        };
        let at = port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Member {
            listed_as: vec![listed_as],
            server: at.map(|at| Server::at(Way::Tcp(at))),
            has_answered: Some(at.is_some()),
        }
    }

    fn local(port: Option<u16>) -> Member {
        Member {
            listed_as: Vec::new(),
            ..member("", port)
        }
    }

    #[test]
    fn a_sentinel_is_followed_until_it_is_not_listed_any_more() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (to, _events) = mpsc::channel(QUEUE);
            let mut followed = BTreeMap::new();
            let mut follow = |members: &[Member], are_all| {
                follow_all(&mut followed, members.iter(), (are_all, 0), &to);
                let all = followed.iter();
                let each = all.map(|(at, followed)| (at[10..].to_owned(), followed.task.id()));
                each.collect::<Vec<_>>()
            };
            let all = [local(Some(1)), member("b", Some(2)), member("c", Some(3))];
            let begun = follow(&all, true);
            assert_eq!(begun.len(), 3);
            // The names do not resolve in this round: the connections are those of before.
            let unresolved = [local(None), member("b", None), member("c", None)];
            assert_eq!(follow(&unresolved, true), begun);
            // Nobody is known to list it, as one of the masters could not be asked about.
            assert_eq!(follow(&all[..1], false), begun);
            // It is listed elsewhere, which is known again.
            let moved = follow(&[local(Some(1)), member("b", Some(4))], true);
            let ports: Vec<&str> = moved.iter().map(|(port, _)| port.as_str()).collect();
            assert_eq!(ports, ["1", "4"]);
            assert_eq!(moved[0], begun[0]);
        });
    }

    #[test]
    fn a_connection_goes_on_at_a_reload_or_until_the_next_one_hears() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (to, _events) = mpsc::channel(QUEUE);
            let mut followed = BTreeMap::new();
            // It never answers.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut follow = |password: &str, reloads: u64| {
                let mut one = local(Some(port));
                let server = one.server.as_mut().unwrap();
                server.password = Some(password.to_owned());
                follow_all(&mut followed, [&one].into_iter(), (true, reloads), &to);
                let one = followed.values().next().unwrap();
                (one.task.clone(), Rc::clone(&one.is_up), one.is_up())
            };
            let (first, is_up, _) = follow("a", 0);
            is_up.set(true);
            assert_eq!(follow("a", 1).0.id(), first.id());
            // A round of questions that began before a reload knows an older password.
            let (second, _, hears) = follow("b", 2);
            assert_eq!(follow("a", 1).0.id(), second.id());
            // The next one was not accepted yet: the first is heard on, also beside another one.
            assert!(hears && second.id() != first.id());
            let (third, is_up, hears) = follow("c", 3);
            tokio::task::yield_now().await;
            assert!(hears && !first.is_finished() && second.is_finished());
            is_up.set(true);
            let (_, _, hears) = follow("d", 4);
            tokio::task::yield_now().await;
            assert!(hears && first.is_finished() && !third.is_finished());
            // Once it ends it is not made anew: it would show a password that is not to be shown any more.
            let (fourth, is_up, _) = follow("e", 5);
            drop(listener);
            let ends = async {
                while !third.is_finished() {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), ends)
                .await
                .unwrap();
            assert!(!fourth.is_finished());
            // Nor is one kept that hears nothing.
            is_up.set(false);
            let (fifth, _, hears) = follow("f", 6);
            tokio::task::yield_now().await;
            assert!(!hears && fourth.is_finished());
            // Nor one that is not listed any more, and was not heard.
            follow_all(&mut followed, std::iter::empty(), (true, 7), &to);
            tokio::task::yield_now().await;
            assert!(fifth.is_finished());
        });
    }
}
