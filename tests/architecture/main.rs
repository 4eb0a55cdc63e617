//! Holds ARCHITECTURE.md against the sources: its table names every room of `src` in an order in which
//! each uses only those above it, and the pure ones touch nothing outside.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// A row of the table.
struct Room {
    name: String,
    /// The parts that are pure, `None` for all of it.
    pure: Option<Vec<String>>,
}

impl Room {
    fn is_pure(&self, module: &[String]) -> bool {
        match &self.pure {
            None => true,
            Some(parts) => module.get(1).is_some_and(|part| parts.contains(part)),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the table, first row first.
fn table() -> Vec<Room> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rooms: Vec<Room> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, name, pure, what, _] = cells[..] else {
                panic!("not three cells: {line}");
            };
            assert!(!what.is_empty(), "says nothing: {line}");
            let quoted = |cell: &str| -> Vec<String> {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect()
            };
            let pure = match pure {
                "P" => None,
                parts => Some(quoted(parts)),
            };
            let name = quoted(name).remove(0);
            Room { name, pure }
        })
        .collect();
    assert!(rooms.len() > 10, "the table has only {} rows", rooms.len());
    rooms
}

/// Returns all of `src` but what is compiled for tests only.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| Source::read(root(), path))
        .collect();
    let tests: BTreeSet<Vec<String>> = sources
        .iter()
        .flat_map(|source| source.test_modules.clone())
        .collect();
    let is_test = |source: &Source| {
        (1..=source.module.len()).any(|length| tests.contains(&source.module[..length]))
    };
    sources
        .into_iter()
        .filter(|source| !is_test(source))
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn assert_none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_room_stands_in_the_table_once_and_every_row_is_a_room() {
    let named: Vec<String> = table().into_iter().map(|room| room.name).collect();
    let once: BTreeSet<&String> = named.iter().collect();
    assert_eq!(once.len(), named.len(), "a room stands twice in {named:?}");
    let there: BTreeSet<String> = sources()
        .iter()
        .map(|source| source.module[0].clone())
        .collect();
    let named: BTreeSet<String> = named.into_iter().collect();
    let missing: Vec<_> = there.difference(&named).collect();
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md: {missing:?}");
    assert!(gone.is_empty(), "only in ARCHITECTURE.md: {gone:?}");
}

#[test]
fn every_room_uses_only_rooms_above_it_in_the_table() {
    let place: BTreeMap<String, usize> = table()
        .into_iter()
        .enumerate()
        .map(|(place, room)| (room.name, place))
        .collect();
    let mut findings = BTreeSet::new();
    for source in sources() {
        let from = &source.module[0];
        for to in source.uses.iter().map(|used| &used[0]) {
            // What is no room of its own is an item of lib.rs.
            let above = place.get(to).unwrap_or(&place["lib"]);
            let Some(below) = place.get(from) else {
                continue;
            };
            if to != from && above >= below {
                findings.insert(format!(
                    "{}: {from} uses {to}, which is below it",
                    source.path
                ));
            }
        }
    }
    assert_none(
        findings.into_iter().collect(),
        "arrows go up the table only",
    );
}

#[test]
fn the_parts_of_a_room_use_each_other_without_a_circle() {
    let mut parts: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        if let [room, part, ..] = &source.module[..] {
            let used = source.uses.iter().filter(|used| used[0] == *room);
            let used = used
                .filter_map(|used| used.get(1))
                .filter(|other| *other != part);
            let key = (room.clone(), part.clone());
            parts.entry(key).or_default().extend(used.cloned());
        }
    }
    // Takes away what uses nothing that is left, until nothing can be taken away.
    loop {
        let left: BTreeSet<_> = parts.keys().cloned().collect();
        let before = parts.len();
        parts.retain(|(room, _), used| {
            used.iter()
                .any(|part| left.contains(&(room.clone(), part.clone())))
        });
        if parts.len() == before {
            break;
        }
    }
    let circle: Vec<String> = parts
        .iter()
        .map(|((room, part), used)| format!("{room}::{part} uses {used:?}"))
        .collect();
    assert_none(circle, "a circle, or what uses it");
}

#[test]
fn a_pure_room_touches_nothing_outside() {
    const CRATES: [&str; 9] = [
        "hickory_resolver",
        "netlink_packet_sock_diag",
        "nix",
        "pnet_datalink",
        "rtnetlink",
        "rustix",
        "socket2",
        "syslog",
        "tokio",
    ];
    const STD: [&str; 5] = ["env", "fs", "os", "process", "thread"];
    const TYPES: [&str; 7] = [
        "SystemTime",
        "TcpListener",
        "TcpStream",
        "UdpSocket",
        "UnixDatagram",
        "UnixListener",
        "UnixStream",
    ];
    let is_outside = |path: &[String]| {
        let has = |names: &[&str], word: &String| names.contains(&word.as_str());
        has(&CRATES, &path[0])
            || path[0] == "std" && path.get(1).is_some_and(|module| has(&STD, module))
            || path.iter().any(|word| has(&TYPES, word))
            || path.ends_with(&["Instant".to_owned(), "now".to_owned()])
    };
    let table = table();
    let mut findings = Vec::new();
    for source in sources() {
        let Some(room) = table.iter().find(|room| room.name == source.module[0]) else {
            continue;
        };
        if room.is_pure(&source.module) {
            let outside = source.paths.iter().filter(|path| is_outside(path));
            findings.extend(outside.map(|path| format!("{}: {}", source.path, path.join("::"))));
        }
    }
    assert_none(
        findings,
        "a pure room has no clock, file, socket or process",
    );
}

#[test]
fn a_pure_room_uses_pure_rooms_only() {
    let table = table();
    let pure: BTreeSet<&String> = table
        .iter()
        .filter(|room| room.pure.is_none())
        .map(|room| &room.name)
        .collect();
    let mut findings = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| pure.contains(&source.module[0]))
    {
        let impure = source.uses.iter().filter(|used| !pure.contains(&used[0]));
        findings.extend(impure.map(|used| format!("{}: {}", source.path, used.join("::"))));
    }
    assert_none(findings, "what a pure room uses is pure");
}

#[test]
fn every_pure_part_is_there() {
    let there: BTreeSet<Vec<String>> = sources().into_iter().map(|source| source.module).collect();
    for room in table() {
        for part in room.pure.into_iter().flatten() {
            let module = vec![room.name.clone(), part];
            assert!(there.contains(&module), "no {module:?} in src");
        }
    }
}

#[test]
fn only_main_blocks_and_nothing_prints_with_a_macro() {
    const MACROS: [&str; 5] = ["dbg", "eprint", "eprintln", "print", "println"];
    let is = |path: &[String], end: [&str; 2]| path.ends_with(&end.map(str::to_owned));
    let mut findings = Vec::new();
    for source in sources() {
        let blocks = source.paths.iter().filter(|path| {
            path.last().is_some_and(|word| word == "block_on")
                || is(path, ["thread", "spawn"])
                || is(path, ["thread", "sleep"])
        });
        if source.module != ["main"] {
            findings.extend(blocks.map(|path| format!("{}: {}", source.path, path.join("::"))));
        }
        let prints = source
            .macros
            .iter()
            .filter(|name| MACROS.contains(&name.as_str()));
        findings.extend(prints.map(|name| format!("{}: {name}!", source.path)));
    }
    assert_none(
        findings,
        "one event loop, one thread, no macro that panics on a full stdout",
    );
}
