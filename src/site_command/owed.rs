//! Whether the site still has to be told where a VIP is: by what it was told last.

use serde::{Deserialize, Serialize};

use crate::failover::Host;

/// What a command finds in its environment beside the VIP and its master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The interface that the VIP is on, or the interfaces that it was on.
    pub interface: String,
    /// The old master's host, empty unless Sentinel called.
    pub from: String,
    /// The new master's host, empty unless Sentinel called.
    pub to: String,
}

impl Circumstances {
    /// Returns whether all is what this program could have written: the file that they are remembered in can
    /// be written by Sentinel's user.
    pub fn are_plain(&self) -> bool {
        let is_host = |text: &str| text.is_empty() || Host::read(text).is_some();
        self.interface.len() < 256
            && self
                .interface
                .chars()
                .all(|c| c == ' ' || c.is_ascii_graphic())
            && is_host(&self.from)
            && is_host(&self.to)
    }

    /// Returns the interface without the call.
    pub fn only_interface(&self) -> Circumstances {
        Circumstances {
            interface: self.interface.clone(),
            ..Circumstances::default()
        }
    }
}

/// What the site was told last about a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The VIP's master.
    pub master: String,
    /// Whether it was told that the VIP is here; else that it is gone.
    pub here: bool,
    /// Whether the command has succeeded. Until then it is pending.
    pub done: bool,
    /// With what.
    pub circumstances: Circumstances,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed, if it has ended.
    pub failed: Option<String>,
    /// Which process tries it.
    pub by: u32,
}

/// What a run has found or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// The VIP is here; whether this run has bound it.
    Here {
        /// Whether it was not here before, or in another place.
        is_news: bool,
    },
    /// This run has released it.
    Released,
    /// It belongs elsewhere and was not here.
    Gone {
        /// Whether Sentinel's call says that the master was on this host.
        was_master: bool,
    },
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An operator.
    ByOrder,
    /// Sentinel's call.
    ByCall,
    /// `sync`, every half minute.
    ByRoutine,
}

/// Returns whether the VIP's command is to run. `told` is what is known of the last one, an error where
/// nothing can be remembered: then `sync` must not run a command each time.
pub fn is_owed(
    now: Now,
    asked: Asked,
    circumstances: &Circumstances,
    told: Result<Option<&Told>, ()>,
) -> bool {
    match (now, asked, told) {
        (Now::Released | Now::Here { is_news: true }, _, _) => true,
        // The order is how an operator repeats it.
        (Now::Here { .. }, Asked::ByOrder, _) => true,
        // Of Sentinel's calls only a repeated one tells the site nothing new.
        (Now::Here { .. }, Asked::ByCall, Ok(Some(told))) => {
            !(told.here && told.done && told.circumstances == *circumstances)
        }
        (Now::Here { .. }, Asked::ByCall, _) => true,
        // Nothing known: a run was killed that had bound it, or somebody else has bound it.
        (Now::Here { .. }, Asked::ByRoutine, Ok(told)) => {
            !told.is_some_and(|told| told.here && told.done)
        }
        (Now::Here { .. }, Asked::ByRoutine, Err(())) => false,
        (Now::Gone { .. }, _, Ok(Some(told))) => told.here || !told.done,
        (Now::Gone { was_master }, _, _) => was_master,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: Now = Now::Here { is_news: false };
    const BOUND: Now = Now::Here { is_news: true };
    const GONE: Now = Now::Gone { was_master: false };
    const LEFT: Now = Now::Gone { was_master: true };

    fn from(host: &str) -> Circumstances {
        Circumstances {
            from: host.into(),
            ..Circumstances::default()
        }
    }

    fn told(here: bool, done: bool, host: &str) -> Told {
        Told {
            here,
            done,
            circumstances: from(host),
            ..Told::default()
        }
    }

    #[test]
    fn a_command_is_owed_until_the_site_was_told_what_is_true() {
        use Asked::{ByCall, ByOrder, ByRoutine};
        let [here, pending] = [true, false].map(|done| told(true, done, "a"));
        let [gone, unsaid] = [true, false].map(|done| told(false, done, "a"));
        let table = [
            // By order, by the same call, by another call, by routine.
            (BOUND, Ok(None), [true; 4]),
            (BOUND, Ok(Some(&here)), [true; 4]),
            (BOUND, Err(()), [true; 4]),
            (FOUND, Ok(None), [true; 4]),
            (FOUND, Ok(Some(&here)), [true, false, true, false]),
            (FOUND, Ok(Some(&pending)), [true; 4]),
            (FOUND, Ok(Some(&gone)), [true; 4]),
            (FOUND, Ok(Some(&unsaid)), [true; 4]),
            (FOUND, Err(()), [true, true, true, false]),
            (Now::Released, Ok(Some(&gone)), [true; 4]),
            (Now::Released, Err(()), [true; 4]),
            (GONE, Ok(None), [false; 4]),
            (GONE, Ok(Some(&here)), [true; 4]),
            (GONE, Ok(Some(&pending)), [true; 4]),
            (GONE, Ok(Some(&gone)), [false; 4]),
            (GONE, Ok(Some(&unsaid)), [true; 4]),
            (GONE, Err(()), [false; 4]),
            (LEFT, Ok(None), [true; 4]),
            (LEFT, Ok(Some(&gone)), [false; 4]),
            (LEFT, Err(()), [true; 4]),
        ];
        for (now, known, owed) in table {
            let asked = [
                (ByOrder, "a"),
                (ByCall, "a"),
                (ByCall, "b"),
                (ByRoutine, "a"),
            ];
            let found = asked.map(|(asked, host)| is_owed(now, asked, &from(host), known));
            assert_eq!(found, owed, "{now:?} {known:?}");
        }
    }

    #[test]
    fn what_this_program_has_not_written_is_not_handed_on() {
        let plain = |interface: &str, from: &str| {
            let circumstances = Circumstances {
                interface: interface.into(),
                from: from.into(),
                to: "redis-2".into(),
            };
            circumstances.are_plain()
        };
        assert!(plain("eth1 eth2", "fd00::1") && plain("", ""));
        assert!(!plain("eth1\n", "") && !plain("eth1", "-rf /") && !plain(&"x".repeat(300), ""));
    }
}
