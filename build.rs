//! What makes the release file smaller and nothing worse. Here and not in .cargo/config.toml, whose
//! flags are for every profile: a test that panics must unwind.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=packaging/without-unwinding.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") {
        return;
    }
    // No index of how to unwind: this profile aborts on a panic.
    println!("cargo::rustc-link-arg-bin=vipswitch=-Wl,--no-eh-frame-hdr");
    // Where it is Rust's own linker that links (the default for this target alone, in toolchains that bring it):
    // equal functions once, and no tables of how to unwind. Nothing unwinds here: anyhow takes no backtraces
    // without its feature std, and the panic hook none either.
    if is("TARGET", "x86_64-unknown-linux-gnu") && brings_linker() {
        println!("cargo::rustc-link-arg-bin=vipswitch=-Wl,--icf=all");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/without-unwinding.ld");
        if script.exists() {
            println!(
                "cargo::rustc-link-arg-bin=vipswitch=-Wl,-T,{}",
                script.display()
            );
        }
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
