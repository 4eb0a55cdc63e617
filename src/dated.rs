//! An answer, and since when it may be as old: who waits for it may be stopped meanwhile (by SIGSTOP, or with its machine),
//! and what was answered before lies in a socket for as long.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked whether this process goes on.
const LOOK: Duration = Duration::from_millis(250);

/// How late such a look may be, but for a stop or a very busy machine.
const LATE: Duration = Duration::from_millis(500);

/// Returns the answer, and since when no stop can have made it older.
pub async fn dated<T>(answer: impl Future<Output = T>) -> (T, Instant) {
    let mut answer = pin!(answer);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ran = Instant::now();
    // The last moment before it was stopped, if it was.
    let mut stopped = None;
    loop {
        let answered = tokio::select! {
            biased;
            answered = &mut answer => Some(answered),
            _ = looks.tick() => None,
        };
        let now = Instant::now();
        if now.saturating_duration_since(ran) > LOOK + LATE {
            stopped = Some(ran);
        }
        ran = now;
        if let Some(answered) = answered {
            return (answered, stopped.unwrap_or(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const STOP: Duration = Duration::from_secs(1);

    /// An answer that arrives in parts, beside a thread that does not go on in their midst, or at their end.
    async fn stopped(parts: [Duration; 2]) {
        sleep(parts[0]).await;
        std::thread::sleep(STOP);
        sleep(parts[1]).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_is_as_old_as_a_stop_in_its_midst() {
        let (none, some) = (Duration::ZERO, 2 * LOOK);
        for parts in [[none, none], [some, none], [none, some], [some, some]] {
            let (_, at) = dated(stopped(parts)).await;
            assert!(at.elapsed() >= STOP + parts[1], "{parts:?}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_was_long_in_coming_is_not_old() {
        // A busy machine may stop this process, too.
        for _ in 0..100 {
            let began = Instant::now();
            let (_, at) = dated(sleep(4 * LATE)).await;
            if at >= began + 4 * LATE {
                return;
            }
        }
        panic!("each was old");
    }
}
