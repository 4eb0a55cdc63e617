//! Writes what is remembered of the Sentinels, on a thread of its own: the agent moves VIPs on one thread, and a disk
//! that hangs must hold up none of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{spawn_blocking, spawn_local};

use crate::gather::remembered::{self, Memory};

/// How soon the same is compared with the file again: another run may have written it.
const COMPARED: Duration = Duration::from_secs(60);

/// Where the newest waits until it is written.
#[derive(Default)]
pub(super) struct Remembering {
    newest: RefCell<Option<Rc<Memory>>>,
    /// What was written last, and when.
    kept: RefCell<Option<(Rc<Memory>, Instant)>>,
    is_writing: Cell<bool>,
}

impl Remembering {
    /// Has this written soon, if it is news. One is written at a time; of those that wait the newest only.
    pub(super) fn keep(self: &Rc<Self>, memory: Rc<Memory>) {
        self.keep_by(memory, |memory| {
            // `check` says where this cannot be.
            let _ = remembered::write_down(memory);
        });
    }

    fn keep_by(self: &Rc<Self>, memory: Rc<Memory>, write: fn(Memory)) {
        let is_kept = |(kept, at): &(Rc<Memory>, Instant)| {
            at.elapsed() < COMPARED && (Rc::ptr_eq(kept, &memory) || *kept == memory)
        };
        if self.kept.borrow().as_ref().is_some_and(is_kept) {
            return;
        }
        *self.kept.borrow_mut() = Some((Rc::clone(&memory), Instant::now()));
        *self.newest.borrow_mut() = Some(memory);
        if self.is_writing.replace(true) {
            return;
        }
        let this = Rc::clone(self);
        spawn_local(async move {
            while let Some(memory) = this.next() {
                let memory = Memory::clone(&memory);
                // A panic there is logged by its hook.
                let _ = spawn_blocking(move || write(memory)).await;
            }
            this.is_writing.set(false);
        });
    }

    fn next(&self) -> Option<Rc<Memory>> {
        self.newest.borrow_mut().take()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::task::LocalSet;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::config::parse;
    use crate::gather::remembered::Known;

    /// Much longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    static HANGS: AtomicBool = AtomicBool::new(true);
    static WRITTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    fn disk(memory: Memory) {
        while HANGS.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let quorum = memory.of("m").unwrap().quorum;
        WRITTEN.lock().unwrap().push(quorum);
    }

    fn memory(quorum: usize) -> Rc<Memory> {
        let config = parse("[masters.m]\nvip = \"10.0.0.9\"\n", Path::new("/x")).unwrap();
        let known = Known {
            quorum,
            ..Known::default()
        };
        let mut memory = Memory::default();
        memory.learn([("m", known)], &config);
        Rc::new(memory)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_disk_that_hangs_holds_nothing_up_and_then_has_the_newest() {
        let writes = async {
            let remembering = Rc::new(Remembering::default());
            for quorum in 1..=5 {
                remembering.keep_by(memory(quorum), disk);
                // The others go on.
                tokio::task::yield_now().await;
            }
            assert!(WRITTEN.lock().unwrap().is_empty());
            HANGS.store(false, Ordering::Relaxed);
            while remembering.is_writing.get() {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(*WRITTEN.lock().unwrap(), [1, 5]);
            // The same again is no news.
            remembering.keep_by(memory(5), disk);
            assert!(!remembering.is_writing.get());
        };
        let local = LocalSet::new();
        timeout(PATIENCE, local.run_until(writes)).await.unwrap();
    }
}
