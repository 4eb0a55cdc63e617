//! What a take-over and a release cost, side by side in one run: by `vipswitch`, by the shell
//! script that it replaces, and by a minimal static program that is the lower limit.
//!
//! Two hosts, one veth between them. A launcher on the one (`fixtures/launch.c`) takes the time
//! just before exec; the kernel of the other stamps each frame on arrival, with the same clock.
//! The programs take turns, as the machine is shared and its speed drifts: compare the numbers
//! of one run, not those of two. Nothing fails because of a time.
//!
//! Then, what a client that only reads learns of a release, and whether a take-over costs more on
//! a host that has many addresses.

#![allow(clippy::print_stdout, reason = "a benchmark is there to print")]

#[path = "../../tests/integration/common/mod.rs"]
mod common;
mod crowd;
mod launcher;
mod reader;
mod report;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::sniffer::{self, Sniffer};
use common::{Host, Lab, executable, finish};
use launcher::{Launcher, Measured};
use report::{Outcome, Spread};

const SNIFFER: &str = "sniffer-child";

const HOST: &str = "192.168.56.101";
const OTHER: &str = "192.168.56.102";
const VIP: &str = "192.168.56.250";
const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n";

/// What the minimal program is compiled with, so that it looks nothing up.
const CONSTANTS: [&str; 4] = [
    "-DIFINDEX=56",
    "-DMAC=2,0,0,0,56,101",
    "-DVIP=192,168,56,250",
    "-DPREFIX=24",
];
/// The interface that these constants are true of.
const LINK: &str = "link add eth1 index 56 address 02:00:00:00:38:65 netns master type veth \
                    peer name eth1 netns peer";

/// The script's take-over sleeps for seconds, so it takes part in a few rounds only.
const ROUNDS_PER_SCRIPT: usize = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(SNIFFER) => return sniffer::serve(),
        Some(reader::LISTENER) => return reader::listen(),
        Some(reader::READER) => return reader::read(),
        _ => {}
    }
    // `cargo test --all-targets` runs this too, without the argument and without optimization.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    measure(if is_bench { 200 } else { 2 });
}

fn measure(rounds: usize) {
    let lab = lab();
    let sniffer = Sniffer::with_child(&lab.host("peer"), [SNIFFER]);
    let mut master = Launcher::start(&lab.host("master"), &compile(&lab, "launch"));
    let mut contenders = contenders(&lab);
    println!("{rounds} rounds of take-over and release, about two minutes ...");
    for contender in &contenders {
        contender.prove(&mut master, &lab.host("master"));
    }
    for round in 0..rounds {
        for contender in &mut contenders {
            if round % contender.every == 0 {
                contender.compete(&mut master);
            }
        }
    }
    let frames = sniffer.settled(&lab.host("master"), VIP);
    let frames: Vec<Duration> = frames.iter().map(|frame| frame.time).collect();
    report::print(&contenders.map(|contender| contender.result(&frames)));
    reader::measure(&lab, &mut master, rounds.div_ceil(4));
    drop((master, sniffer, lab));
    crowd::measure(rounds.div_ceil(4));
}

/// Makes the two hosts, and the configuration.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.config(CONFIG);
    lab.add_host("master");
    lab.add_host("peer");
    lab.run("ip", LINK.split_whitespace());
    for (name, address) in [("master", HOST), ("peer", OTHER)] {
        lab.host(name).ip("link set eth1 up");
        lab.host(name)
            .ip(&format!("addr add {address}/24 dev eth1"));
    }
    lab
}

/// Compiles a program of the fixtures into the lab's folder and returns its path.
fn compile(lab: &Lab, name: &str) -> String {
    let program = text(&lab.dir().join(name));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-o", &program])
        .args(CONSTANTS)
        .arg(fixture(&format!("{name}.c")));
    finish(cc).success();
    program
}

fn fixture(name: &str) -> String {
    text(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("benches/fixtures")
            .join(name),
    )
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A program in the comparison, and what was measured of it.
struct Contender {
    name: &'static str,
    take_over: Vec<String>,
    /// The minimal program has none.
    release: Option<Vec<String>>,
    /// It takes part in every so many rounds.
    every: usize,
    file_size: Option<u64>,
    taken_over: Vec<Measured>,
    released: Vec<Measured>,
}

fn contenders(lab: &Lab) -> [Contender; 3] {
    let vipswitch = text(&executable());
    let minimal = compile(lab, "minimal");
    let script = fixture("guide.sh");
    let contender = |name, take_over, release, every, file: Option<&str>| Contender {
        name,
        take_over,
        release,
        every,
        file_size: file.map(|file| std::fs::metadata(file).unwrap().len()),
        taken_over: Vec::new(),
        released: Vec::new(),
    };
    [
        contender(
            "minimal program",
            vec![minimal.clone()],
            None,
            1,
            Some(&minimal),
        ),
        contender(
            "vipswitch",
            hook(&vipswitch, HOST),
            Some(hook(&vipswitch, OTHER)),
            1,
            Some(&vipswitch),
        ),
        contender(
            "the guide's script",
            hook(&script, HOST),
            Some(hook(&script, OTHER)),
            ROUNDS_PER_SCRIPT,
            None,
        ),
    ]
}

/// Returns Sentinel's call: the master is now at `to`.
fn hook(program: &str, to: &str) -> Vec<String> {
    words(&format!(
        "{program}\tmaster8000\tobserver\tstart\t192.168.56.109\t8000\t{to}\t8000"
    ))
}

fn words(line: &str) -> Vec<String> {
    line.split('\t').map(str::to_owned).collect()
}

/// Returns the run of `ip` after which the VIP is bound.
fn bound() -> Vec<String> {
    words(&format!("/sbin/ip\taddr\treplace\t{VIP}/24\tdev\teth1"))
}

/// Returns the run of `ip` after which it is not.
fn unbound() -> Vec<String> {
    words(&format!("/sbin/ip\taddr\tflush\tdev\teth1\tto\t{VIP}/32"))
}

impl Contender {
    /// Checks that it does what it is measured for. The first run after a build is slow, too.
    fn prove(&self, launcher: &mut Launcher, host: &Host) {
        // Each contender with a prefix length of its own.
        let is_it = |one: &String| one.starts_with(&format!("{VIP}/"));
        let is_bound = || host.addresses().iter().any(is_it);
        launcher.run_after(&unbound(), &self.take_over);
        assert!(is_bound(), "{} did not take over", self.name);
        if let Some(release) = &self.release {
            launcher.run_after(&bound(), release);
            assert!(!is_bound(), "{} did not release", self.name);
        }
    }

    fn compete(&mut self, launcher: &mut Launcher) {
        self.taken_over
            .push(launcher.run_after(&unbound(), &self.take_over));
        if let Some(release) = &self.release {
            self.released.push(launcher.run_after(&bound(), release));
        }
    }

    /// Evaluates the runs. `frames` are the times at which frames about the VIP arrived.
    fn result(&self, frames: &[Duration]) -> Outcome {
        Outcome {
            name: self.name,
            runs: self.taken_over.len(),
            file_size: self.file_size,
            peak_kib: self.peak_kib(),
            first_frame: Spread::of(self.taken_over.iter().map(|run| self.first(run, frames))),
            take_over: Spread::of(self.taken_over.iter().map(Measured::took)),
            release: self
                .release
                .as_ref()
                .map(|_| Spread::of(self.released.iter().map(Measured::took))),
        }
    }

    fn peak_kib(&self) -> u64 {
        let runs = self.taken_over.iter().chain(&self.released);
        runs.map(|run| run.peak_kib).max().unwrap()
    }

    fn first(&self, run: &Measured, frames: &[Duration]) -> Duration {
        first(run, frames).unwrap_or_else(|| panic!("{} sent no frame", self.name))
    }
}

/// Returns the time from exec to the first of `frames` that came before the end.
fn first(run: &Measured, frames: &[Duration]) -> Option<Duration> {
    let first = frames.iter().find(|time| **time > run.executed)?;
    (*first < run.ended).then(|| *first - run.executed)
}
