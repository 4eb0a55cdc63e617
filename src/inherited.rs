//! What a process has from its parent and must not hand on.

use std::fs;

/// Closes every file above stderr that the parent left open: Redis before 6.2 hands its listening
/// socket down, and a child that kept it would hold Sentinel's port. To be called before this
/// process opens any of its own.
pub fn close_files() {
    let open = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The folder's own is closed already.
        let _ = nix::unistd::close(number);
    }
}
