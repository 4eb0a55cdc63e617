//! The corpora of `fuzz/` as plain tests: every file, every beginning of it, and every byte of it
//! changed, through the function that its fuzz target calls.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;

/// How many cuts, and how many changed bytes, each file gets at most.
const PLACES: usize = 400;

fn feed(corpus: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(corpus);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut fed = 0;
    for file in files {
        let path = file.unwrap().path();
        let data = fs::read(&path).unwrap();
        // Shown only where a body panics.
        println!("{}", path.display());
        body(&data);
        feed_beginnings(&data, body);
        feed_changed(&data, body);
        fed += 1;
    }
    assert!(fed > 0, "no file in {folder:?}");
}

fn feed_beginnings(data: &[u8], body: fn(&[u8])) {
    for end in (0..data.len()).step_by(data.len() / PLACES + 1) {
        println!("the first {end} bytes");
        body(&data[..end]);
    }
}

fn feed_changed(data: &[u8], body: fn(&[u8])) {
    let mut changed = data.to_vec();
    for place in (0..data.len()).step_by(data.len() / PLACES + 1) {
        let byte = data[place];
        for other in [byte ^ 0x01, byte ^ 0x80, 0, 0xff] {
            println!("byte {place} is {other:#04x}");
            changed[place] = other;
            body(&changed);
        }
        changed[place] = byte;
    }
}

#[test]
fn no_arguments_make_anything_but_a_clean_result() {
    feed("argv", bodies::argv);
}

#[test]
fn no_configuration_makes_anything_but_a_clean_result() {
    feed("toml", bodies::toml);
}

#[test]
fn answers_are_the_same_in_whatever_pieces_they_arrive() {
    feed("answers", bodies::answers);
}

#[test]
fn no_answer_makes_anything_but_a_clean_result() {
    feed("events", bodies::events);
}

#[test]
fn an_arp_frame_says_no_more_than_is_in_it() {
    feed("arp", bodies::arp);
}

#[test]
fn a_neighbor_discovery_frame_says_no_more_than_is_in_it() {
    feed("ndp", bodies::ndp);
}

#[test]
fn a_hosts_file_gives_addresses_that_are_in_it() {
    feed("hosts", bodies::hosts);
}

#[test]
fn no_request_to_the_agent_makes_anything_but_a_clean_result() {
    feed("requests", bodies::requests);
}

#[test]
fn no_segment_is_answered_but_by_a_reset() {
    feed("segments", bodies::segments);
}
