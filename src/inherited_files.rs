//! What a process has from its parent and must not hand on.

use std::fs;

/// Where /proc is hidden: as many as a process may have unless somebody has allowed it more.
const LIKELY: i32 = 1024;

/// The numbers that a parent's files have first: a process gets the lowest free number (open(2)).
const FIRST: std::ops::Range<i32> = 3..64;

/// Closes every file above stderr that the parent left open: Redis before 6.2 hands its listening
/// socket down, and a child that kept it would hold Sentinel's port. To be called before this
/// process opens any of its own, the event loop's among them.
pub fn close() {
    let mut left_open = 0;
    for number in FIRST {
        left_open += usize::from(nix::unistd::close(number).is_ok());
    }
    // To list them costs the first frame more than to try these.
    if left_open > 0 {
        close_others();
    }
}

fn close_others() {
    let numbers: Vec<i32> = match fs::read_dir("/proc/self/fd") {
        Ok(open) => open
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        Err(_) => (FIRST.end..LIKELY).collect(),
    };
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The folder's own is closed already.
        let _ = nix::unistd::close(number);
    }
}
