//! Whether a take-over costs more on a host that has many addresses: three hosts side by side,
//! which take turns.

use std::time::Duration;

use crate::common::sniffer::Sniffer;
use crate::common::{Lab, executable};
use crate::launcher::{Launcher, Measured};
use crate::report::{Spread, pair};
use crate::{HOST, SNIFFER, VIP, compile, first, hook, lab, text, unbound};

/// How many addresses the hosts have before the take-over.
const CROWDS: [usize; 3] = [1, 100, 5_000];

/// Measures and prints it.
pub fn measure(rounds: usize) {
    let mut crowds = CROWDS.map(Crowd::new);
    for _ in 0..=rounds {
        for crowd in &mut crowds {
            crowd.compete();
        }
    }
    println!("\nTake-over on a host with many addresses, {rounds} runs each: median, p90");
    println!(
        "{:>10}{:>26}{:>26}{:>26}",
        "addresses", "minimal: first frame", "vipswitch: first frame", "vipswitch: exit"
    );
    for crowd in crowds {
        crowd.print();
    }
}

/// A host, its only peer, and what was measured there.
struct Crowd {
    addresses: usize,
    programs: [Vec<String>; 2],
    runs: [Vec<Measured>; 2],
    master: Launcher,
    sniffer: Sniffer,
    lab: Lab,
}

impl Crowd {
    fn new(addresses: usize) -> Crowd {
        let lab = lab();
        let others = (1..addresses).map(|number| {
            let [.., high, low] = number.to_be_bytes();
            format!("addr add 10.1.{high}.{low}/32 dev eth1\n")
        });
        let batch = lab.file("addresses", others.collect::<String>());
        let host = lab.host("master");
        host.run("ip", ["-batch", &text(&batch)]);
        Crowd {
            addresses,
            programs: [
                vec![compile(&lab, "minimal")],
                hook(&text(&executable()), HOST),
            ],
            runs: [Vec::new(), Vec::new()],
            master: Launcher::start(&host, &compile(&lab, "launch")),
            sniffer: Sniffer::with_child(&lab.host("peer"), [SNIFFER]),
            lab,
        }
    }

    fn compete(&mut self) {
        for (program, runs) in self.programs.iter().zip(&mut self.runs) {
            runs.push(self.master.run_after(&unbound(), program));
        }
    }

    /// Prints a row. The first run is not in it: it is slow.
    fn print(self) {
        let frames = self.sniffer.settled(&self.lab.host("master"), VIP);
        let frames: Vec<Duration> = frames.iter().map(|frame| frame.time).collect();
        let [minimal, vipswitch] = self.runs.each_ref().map(|runs| {
            let firsts = runs[1..].iter().map(|run| first(run, &frames));
            Spread::of(firsts.map(|time| time.expect("a frame before the end")))
        });
        let exit = Spread::of(self.runs[1][1..].iter().map(Measured::took));
        println!(
            "{:>10}{:>26}{:>26}{:>26}",
            self.addresses,
            pair(&minimal),
            pair(&vipswitch),
            pair(&exit)
        );
    }
}
