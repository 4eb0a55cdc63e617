//! How a run ends, and which failure leads to which end. Sentinel's retry rules rest on these
//! numbers (`sentinelCollectTerminatedScripts` in sentinel.c).

use std::fmt;

/// The exit codes, and what Sentinel does with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: the host is as it should be, changed or not. Sentinel is done with this call.
    Done,
    /// 1: a passing fault outlived this run's own retries. Sentinel runs the same arguments
    /// again after 30 s, then 60 s and so on, at most 10 runs in all.
    Passing,
    /// 2: it can never work as it stands. Sentinel logs `-script-error` and drops the call.
    Permanent,
}

impl Exit {
    /// Returns the number for the operating system.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Passing => 1,
            Exit::Permanent => 2,
        }
    }

    /// Returns the end of a run in which several things were done: a passing fault among them
    /// asks for another run, even beside a permanent one, because that run can still mend it.
    ///
    /// ```
    /// use vipswitch::exit::{Exit, Kind};
    /// // Not the highest number wins.
    /// let exit = Exit::of_all([None, Some(Kind::Permanent), Some(Kind::Passing)]);
    /// assert_eq!((exit, exit.code()), (Exit::Passing, 1));
    /// assert_eq!(Exit::of_all([None]), Exit::Done);
    /// ```
    pub fn of_all(kinds: impl IntoIterator<Item = Option<Kind>>) -> Exit {
        let mut exit = Exit::Done;
        for kind in kinds.into_iter().flatten() {
            match kind {
                Kind::Passing => return Exit::Passing,
                Kind::Permanent => exit = Exit::Permanent,
            }
        }
        exit
    }
}

impl Exit {
    /// Returns the end of several runs, as [`Exit::of_all`] has it.
    pub fn worst(exits: impl IntoIterator<Item = Exit>) -> Exit {
        Exit::of_all(
            exits
                .into_iter()
                .map(|exit| match exit {
                    Exit::Done => None,
                    Exit::Passing => Some(Kind::Passing),
                    Exit::Permanent => Some(Kind::Permanent),
                })
                .collect::<Vec<_>>(),
        )
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Passing => Exit::Passing,
            Kind::Permanent => Exit::Permanent,
        }
    }
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Another try may succeed.
    Passing,
    /// No try will succeed until somebody changes something.
    Permanent,
}

/// A failure whose cause is understood: its kind, what was tried and why it failed, and what
/// to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Decides the exit code.
    pub kind: Kind,
    text: String,
    remedy: Option<String>,
    lacks_privilege: bool,
}

impl Fault {
    /// Returns a fault that another try may not meet again.
    pub fn passing(text: impl Into<String>) -> Self {
        Fault {
            kind: Kind::Passing,
            text: text.into(),
            remedy: None,
            lacks_privilege: false,
        }
    }

    /// Returns a fault that stays until somebody changes something.
    pub fn permanent(text: impl Into<String>) -> Self {
        Fault {
            kind: Kind::Permanent,
            text: text.into(),
            remedy: None,
            lacks_privilege: false,
        }
    }

    /// Returns the fault with a sentence that says what to do.
    pub fn remedy(mut self, sentence: impl Into<String>) -> Self {
        self.remedy = Some(sentence.into());
        self
    }

    /// Returns the fault as that of a process which may not do what it tried.
    pub fn for_lack_of_privilege(mut self) -> Self {
        self.lacks_privilege = true;
        self
    }

    /// Returns whether a process with more privileges, such as the agent, could have done it.
    pub fn lacks_privilege(&self) -> bool {
        self.lacks_privilege
    }

    /// Returns what to do about it, if that is known.
    pub fn what_to_do(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// Returns the fault with what had been reached by then before it.
    pub fn within(mut self, reached: &str) -> Self {
        self.text = format!("{reached}: {}", self.text);
        self
    }

    /// Returns what was tried and why it failed, without what to do.
    pub fn cause(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            // A server's own words may end a sentence.
            Some(remedy) if self.text.ends_with(['.', '?', '!']) => {
                write!(f, "{} {remedy}", self.text)
            }
            Some(remedy) => write!(f, "{}. {remedy}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Fault {}

/// A deed that stopped half-way: why, and what it had done by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted<T> {
    /// Why it stopped.
    pub fault: Fault,
    /// What it had done.
    pub done: T,
}

impl<T: Default> From<Fault> for Halted<T> {
    /// A deed that had done nothing yet.
    fn from(fault: Fault) -> Self {
        Halted {
            fault,
            done: T::default(),
        }
    }
}

/// Returns the exit code for an error, by its kind if it has a kind. A fault without a kind counts as
/// passing, because a dropped call loses the VIP for good and a
/// superfluous retry loses half a minute.
///
/// ```
/// use anyhow::Context as _;
/// use vipswitch::exit::{self, Exit, Fault};
/// // Context goes around a fault. Text made of it would lose the kind.
/// let refused = Err::<(), _>(Fault::permanent("refused"));
/// let error = refused.clone().context("tried").unwrap_err();
/// assert_eq!(exit::of(&error), Exit::Permanent);
/// let text = anyhow::anyhow!("{}", refused.unwrap_err());
/// assert_eq!(exit::of(&text), Exit::Passing);
/// ```
pub fn of(error: &anyhow::Error) -> Exit {
    error
        .downcast_ref::<Fault>()
        .map_or(Exit::Passing, |fault| fault.kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn done_is_0_so_that_sentinel_is_done() {
        assert_eq!(Exit::Done.code(), 0);
    }

    #[test]
    fn passing_is_1_so_that_sentinel_retries() {
        assert_eq!(Exit::Passing.code(), 1);
    }

    #[test]
    fn permanent_is_2_so_that_sentinel_drops_the_call() {
        assert_eq!(Exit::Permanent.code(), 2);
    }

    #[test]
    fn context_does_not_hide_the_kind() {
        let error = anyhow::Error::new(Fault::permanent("no")).context("tried");
        assert_eq!(of(&error), Exit::Permanent);
        let error = Err::<(), _>(Fault::passing("no"))
            .context("tried")
            .unwrap_err();
        assert_eq!(of(&error), Exit::Passing);
    }

    #[test]
    fn an_unclassified_error_is_retried() {
        assert_eq!(of(&anyhow::anyhow!("what is this")), Exit::Passing);
    }

    #[test]
    fn one_passing_fault_asks_for_another_run_even_beside_a_permanent_one() {
        use Kind::{Passing, Permanent};
        assert_eq!(Exit::of_all([]), Exit::Done);
        assert_eq!(Exit::of_all([None, None]), Exit::Done);
        assert_eq!(Exit::of_all([None, Some(Permanent)]), Exit::Permanent);
        assert_eq!(
            Exit::of_all([Some(Permanent), Some(Passing)]),
            Exit::Passing
        );
    }

    #[test]
    fn the_remedy_is_a_sentence_of_its_own() {
        let fault = Fault::permanent("cannot do it: it is closed").remedy("Open it.");
        assert_eq!(fault.to_string(), "cannot do it: it is closed. Open it.");
    }
}
