//! What makes the release file smaller and nothing worse. Here and not in .cargo/config.toml, whose
//! flags are for every profile: a test that panics must unwind.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") {
        return;
    }
    // No index of how to unwind: this profile aborts on a panic.
    println!("cargo::rustc-link-arg-bin=vipswitch=-Wl,--no-eh-frame-hdr");
    // Equal functions once. Rust brings the linker that can do it for this target alone.
    if is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bin=vipswitch=-Wl,--icf=all");
    }
}
