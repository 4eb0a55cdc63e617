//! How a failover goes, from what the Sentinels, both Redis, the kernel and this host's agent say. Pure: every sign comes
//! with the time since the election began. What cannot be known from here is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::agent::sentinels::{Heard, News};
use crate::agent::snapshot::Timeline;
use crate::failover::Endpoint;
use crate::gather::sites::endpoint;
use crate::redis::MasterAddress;
use crate::redis::events::What;

/// A sign.
#[derive(Debug)]
pub(super) enum Seen {
    /// The Sentinels have voted for the Sentinel that is to be asked.
    Voted,
    /// It was asked.
    Asked,
    /// What a Sentinel published, by its place.
    Heard(Heard<usize>),
    /// A Sentinel names another master than before.
    Named(usize, Endpoint),
    /// This Redis says that it is the master.
    Turned(Endpoint),
    /// This replica does not tell whether it is the master.
    Silent(Endpoint),
    /// The old master has become a replica.
    Follows,
    /// The VIPs are here, or not: as it is at first, and whenever that changes.
    Vips(bool),
    /// What this host's agent has seen, and when it began, since the election did.
    Agent(Box<Timeline>, f64),
}

/// When what happened, in milliseconds since the election began; null for what did not happen, or cannot be known from
/// this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Times {
    /// The Sentinels had voted for the Sentinel that was to be asked.
    pub(super) voted: Option<f64>,
    /// It was asked.
    pub(super) asked: Option<f64>,
    /// It had chosen the replica.
    pub(super) chosen: Option<f64>,
    /// Writes were paused.
    pub(super) paused: Option<f64>,
    /// The replica said that it is the master.
    pub(super) master: Option<f64>,
    /// The VIP was here.
    pub(super) bound: Option<f64>,
    /// The first frame was out.
    pub(super) first_frame: Option<f64>,
    /// The VIP was released here.
    pub(super) released: Option<f64>,
    /// Writes were allowed again.
    pub(super) unpaused: Option<f64>,
    /// The old master followed the new one.
    pub(super) followed: Option<f64>,
    /// All Sentinels named the new master.
    pub(super) agreed: Option<f64>,
}

/// The course of one failover.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The master-name.
    name: String,
    /// When what happened.
    pub(super) times: Times,
    /// The new master.
    pub(super) to: Option<Endpoint>,
    /// What the new master lacked when it was promoted.
    pub(super) bytes_behind: Option<u64>,
    /// Whom each Sentinel names that names another than before.
    pub(super) named: BTreeMap<usize, Endpoint>,
    /// The Sentinels that are waited for.
    waited_for: Vec<usize>,
    /// The Sentinel that was asked, by its place.
    asked: usize,
    /// Whether this host's agent tells when the VIPs move, which it knows better than an observer.
    has_agent: bool,
    /// Whether the VIPs are here, where that is known.
    pub(super) vips: Option<bool>,
    /// The replicas that do not tell.
    silent: Vec<Endpoint>,
    /// Whether that has given up.
    pub(super) is_aborted: bool,
    /// Whether this host's agent has come to its end of it.
    pub(super) has_agent_ended: bool,
}

impl Course {
    /// Returns that of a failover that `asked` is to begin, which is over once all that are `waited_for` agree.
    pub(super) fn new(name: &str, asked: usize, waited_for: Vec<usize>) -> Course {
        Course {
            name: name.to_owned(),
            asked,
            waited_for,
            ..Course::default()
        }
    }

    /// Returns the same where this host has an agent, or has none.
    pub(super) fn beside_agent(self, has_agent: bool) -> Course {
        Course { has_agent, ..self }
    }

    /// Returns whether the new master does not tell.
    pub(super) fn is_heir_silent(&self) -> bool {
        self.to.as_ref().is_some_and(|to| self.silent.contains(to))
    }

    /// Returns the Sentinels that do not name the new master yet.
    pub(super) fn late(&self) -> impl Iterator<Item = usize> {
        let places = self.waited_for.iter().copied();
        places.filter(|place| !self.named.contains_key(place))
    }

    /// Takes a sign. Returns what is to be told, in words, with its time.
    pub(super) fn see(&mut self, seen: Seen, at: Duration) -> Vec<(f64, String)> {
        let at = crate::report::milliseconds(at);
        let mut told = Vec::new();
        let mut tell = |of: &mut Option<f64>, at: f64, text: String| {
            if of.is_none() {
                *of = Some(at);
                told.push((at, text));
            }
        };
        let times = &mut self.times;
        match seen {
            Seen::Voted => tell(&mut times.voted, at, "the Sentinels have voted".into()),
            Seen::Asked => tell(&mut times.asked, at, "asked".into()),
            Seen::Heard(heard) => self.hear(heard, at, &mut told),
            Seen::Named(place, master) => {
                self.to.get_or_insert_with(|| master.clone());
                self.named.insert(place, master);
                if self.late().next().is_none() {
                    let number = self.named.len();
                    let text = match number {
                        1 => "the Sentinel names it".to_owned(),
                        number => format!("all {number} Sentinels name it"),
                    };
                    tell(&mut self.times.agreed, at, text);
                }
            }
            Seen::Turned(master) => {
                tell(&mut times.master, at, format!("{master} is master"));
                self.to = Some(master);
            }
            Seen::Silent(replica) => self.silent.push(replica),
            Seen::Follows => {
                tell(&mut times.followed, at, "the old master follows it".into());
            }
            Seen::Vips(now) => match (self.vips.replace(now), now) {
                _ if self.has_agent => {}
                (Some(false), true) => tell(&mut times.bound, at, "the VIP is here".into()),
                (Some(true), false) => {
                    tell(&mut times.released, at, "the VIP is released here".into());
                }
                _ => {}
            },
            Seen::Agent(of, began) => {
                let steps = [
                    (&mut times.paused, of.paused, "writes paused"),
                    (&mut times.bound, of.bound, "the VIP is here"),
                    (&mut times.first_frame, of.first_frame, "first frame"),
                    (&mut times.released, of.released, "the VIP is released here"),
                    (&mut times.unpaused, of.unpaused, "writes allowed"),
                ];
                for (time, when, text) in steps {
                    if let Some(when) = when {
                        let at = ((began + when) * 1000.0).round() / 1000.0;
                        tell(time, at, text.to_owned());
                    }
                }
                self.bytes_behind = of.bytes_behind.or(self.bytes_behind);
                let is_paused = of.paused.is_some() && of.unpaused.is_none();
                self.has_agent_ended = !of.ended.is_empty() && !is_paused;
            }
        }
        told.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        told
    }

    fn hear(&mut self, heard: Heard<usize>, at: f64, told: &mut Vec<(f64, String)>) {
        let News::Event(event) = heard.news else {
            return;
        };
        if event.master != self.name {
            return;
        }
        match event.what {
            What::Promotes(to) if self.times.chosen.is_none() => {
                let Some(to) = read(&to) else { return };
                self.times.chosen = Some(at);
                told.push((at, format!("{to} is chosen")));
                self.to = Some(to);
            }
            // Candidates that were not elected give up, too.
            What::Aborted if heard.key == self.asked && self.times.asked.is_some() => {
                self.is_aborted = true;
            }
            _ => {}
        }
    }
}

fn read(at: &MasterAddress) -> Option<Endpoint> {
    endpoint(&at.host, at.port).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::events::Event;

    const NEW: &str = "10.0.0.2";

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    fn at() -> Endpoint {
        endpoint(NEW, 6379).unwrap()
    }

    fn event(key: usize, what: What) -> Seen {
        let master = "m".to_owned();
        let news = News::Event(Event { master, what });
        Seen::Heard(Heard { key, news })
    }

    fn chosen() -> What {
        What::Promotes(MasterAddress {
            host: NEW.into(),
            port: 6379,
        })
    }

    #[test]
    fn each_step_is_told_once_with_its_first_time() {
        let mut course = Course::new("m", 1, vec![0, 1]);
        course.see(Seen::Voted, ms(3));
        course.see(Seen::Asked, ms(4));
        let told = course.see(event(1, chosen()), ms(60));
        assert_eq!(told, [(60.0, "10.0.0.2:6379 is chosen".to_owned())]);
        assert!(course.see(event(1, chosen()), ms(110)).is_empty());
        assert_eq!(course.see(Seen::Turned(at()), ms(170)).len(), 1);
        assert!(course.see(Seen::Named(1, at()), ms(350)).is_empty());
        let told = course.see(Seen::Named(0, at()), ms(400));
        assert_eq!(told, [(400.0, "all 2 Sentinels name it".to_owned())]);
        let times = &course.times;
        assert_eq!((times.chosen, times.agreed), (Some(60.0), Some(400.0)));
        assert_eq!(times.paused, None, "nobody has told of it");
    }

    #[test]
    fn what_the_agent_tells_late_has_its_own_time_and_order() {
        let mut course = Course::new("m", 0, vec![0]);
        let mut of = Timeline {
            paused: Some(1.0),
            released: Some(52.0),
            bytes_behind: Some(0),
            ended: "released".into(),
            ..Timeline::default()
        };
        let told = course.see(Seen::Agent(Box::new(of.clone()), 60.0), ms(200));
        let times: Vec<f64> = told.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [61.0, 112.0]);
        assert!(!course.has_agent_ended, "writes are paused still");
        of.unpaused = Some(54.0);
        course.see(Seen::Agent(Box::new(of), 60.0), ms(250));
        assert!(course.has_agent_ended);
        assert_eq!(course.bytes_behind, Some(0));
    }

    #[test]
    fn only_the_silence_of_the_one_that_was_chosen_counts() {
        let mut course = Course::new("m", 0, vec![0]);
        course.see(Seen::Silent(endpoint("10.0.0.3", 6379).unwrap()), ms(1));
        course.see(event(0, chosen()), ms(60));
        assert!(!course.is_heir_silent());
        course.see(Seen::Silent(at()), ms(70));
        assert!(course.is_heir_silent());
    }

    #[test]
    fn only_the_sentinel_that_was_asked_gives_it_up() {
        let mut course = Course::new("m", 1, vec![0, 1]);
        // Of an earlier one.
        course.see(event(1, What::Aborted), ms(1));
        course.see(Seen::Asked, ms(4));
        course.see(event(0, What::Aborted), ms(100));
        assert!(!course.is_aborted);
        course.see(event(1, What::Aborted), ms(200));
        assert!(course.is_aborted);
    }
}
