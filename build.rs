//! What makes the release file smaller and nothing worse. Here and not in .cargo/config.toml, whose
//! flags are for every profile: a test that panics must unwind.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") {
        return;
    }
    // No index of how to unwind: this profile aborts on a panic. packaging/build.sh leaves out the tables of
    // Rust's functions, too, but not those of libgcc: without its own its unwinder aborts, and anyhow calls
    // it under RUST_BACKTRACE=1.
    println!("cargo::rustc-link-arg-bin=vipswitch=-Wl,--no-eh-frame-hdr");
    // Equal functions once, where it is Rust's own linker that links: it can do that, and is the
    // default for this target alone, in toolchains that bring it.
    if is("TARGET", "x86_64-unknown-linux-gnu") && brings_linker() {
        println!("cargo::rustc-link-arg-bin=vipswitch=-Wl,--icf=all");
    }
}

fn brings_linker() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    PathBuf::from(sysroot.trim())
        .join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld.lld")
        .exists()
}
