//! What goes before all else: the release of a VIP whose Redis has died. That may be back within some milliseconds, and
//! everything that this thread does meanwhile comes on top of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long everything else waits at most: ten times as long as a release takes. One that waits for a lock or the kernel
/// must not hold up the failover.
const MOMENT: Duration = Duration::from_millis(20);

/// The urgent work that goes on.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    number: Cell<usize>,
    none: Notify,
}

/// Urgent work, until it is dropped.
#[must_use]
#[derive(Debug)]
pub(super) struct Turn(Rc<Urgent>);

impl Urgent {
    /// Notes that some begins.
    pub(super) fn begin(self: &Rc<Self>) -> Turn {
        self.number.set(self.number.get() + 1);
        Turn(Rc::clone(self))
    }

    /// Waits until there is none, for a moment at most.
    pub(super) async fn over(&self) {
        self.over_within(MOMENT).await;
    }

    async fn over_within(&self, most: Duration) {
        let none = async {
            while self.number.get() > 0 {
                self.none.notified().await;
            }
        };
        let _ = timeout(most, none).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let left = self.0.number.get().saturating_sub(1);
        self.0.number.set(left);
        if left == 0 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// Much longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "current_thread")]
    async fn everything_else_waits_for_all_of_it_and_for_a_moment_at_most() {
        let waits = async {
            let urgent = Rc::new(Urgent::default());
            urgent.over_within(PATIENCE).await;
            let (first, second) = (urgent.begin(), urgent.begin());
            let is_over = Rc::new(Cell::new(false));
            let (waiting, told) = (Rc::clone(&urgent), Rc::clone(&is_over));
            let other = spawn_local(async move {
                waiting.over_within(PATIENCE).await;
                told.set(true);
            });
            drop(first);
            tokio::task::yield_now().await;
            assert!(!is_over.get());
            drop(second);
            other.await.unwrap();
            let _hangs = urgent.begin();
            urgent.over().await;
        };
        LocalSet::new().run_until(waits).await;
    }
}
