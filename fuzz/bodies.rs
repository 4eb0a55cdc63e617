//! What each fuzz target does with its bytes, and what must hold whatever they are. A target in
//! `targets/` calls one function; `tests/corpora` calls the same with every file of `corpus/`.

// Each target uses one of them.
#![allow(dead_code)]

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use pnet_base::MacAddr;
use vipswitch::agent::request::{LONGEST, Request, Verb, failover};
use vipswitch::cli::{self, Command, Stop};
use vipswitch::exit::{Fault, Kind};
use vipswitch::frames::{Heard, arp as arp_frames, hear, ndp as ndp_frames, tcp as tcp_frames};
use vipswitch::redis::reply::{ANSWER_LIMIT, Decoder, VALUES_LIMIT, Value, decode};
use vipswitch::redis::{NoAnswer, readers, redis_fault, sentinel_fault};
use vipswitch::text::escape;
use vipswitch::vip::Vip;
use vipswitch::{config, hosts as hosts_file};

/// The longest error text, in bytes.
const TEXT_LIMIT: usize = 8192;

/// The hardware address of this host in the frames of the corpus.
const MAC: MacAddr = MacAddr(0x02, 0, 0, 0, 0, 0x65);
/// The VIPs in the frames of the corpus.
const VIP4: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 250);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);

/// The arguments of a process, with a zero byte between them.
pub fn argv(data: &[u8]) {
    let arguments: Vec<OsString> = match data.is_empty() {
        true => Vec::new(),
        false => data
            .split(|byte| *byte == 0)
            .map(|argument| OsString::from_vec(argument.to_vec()))
            .collect(),
    };
    match cli::parse(&arguments) {
        Ok(Command::Hook(failover)) => {
            assert_eq!(arguments.len(), 7);
            assert!(!failover.master.is_empty());
            // A name is data, and escaped where it is shown.
            assert_shown(&escape(&failover.master));
            assert_shown(&failover.to.to_string());
        }
        Ok(Command::Operator(cli)) => drop(format!("{cli:?}")),
        Ok(Command::Detached(of)) => drop(format!("{of:?}")),
        Err(Stop::Call(fault)) => {
            assert_eq!(fault.kind, Kind::Permanent);
            assert_fault(&fault);
        }
        Err(Stop::Clap(error)) => assert!(!error.render().to_string().is_empty()),
    }
}

/// What somebody sends to the agent's socket: a line of JSON.
pub fn requests(data: &[u8]) {
    // What is longer is refused before it is read.
    let line = &data[..data.len().min(LONGEST)];
    let request = match Request::read(line) {
        Ok(request) => request,
        Err(why) => return assert_shown(&why),
    };
    // It is told to an agent as it was meant.
    let again = serde_json::to_vec(&request).unwrap_or_default();
    assert_eq!(Request::read(&again).as_ref(), Ok(&request));
    if let Verb::Hook(arguments) = &request.verb {
        match failover(arguments) {
            Ok(call) => {
                assert_eq!(arguments.len(), 7);
                assert_shown(&escape(&call.master));
                assert_shown(&call.to.to_string());
            }
            Err(fault) => {
                assert_eq!(fault.kind, Kind::Permanent);
                assert_fault(&fault);
            }
        }
    }
}

/// The text of a configuration file.
pub fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let path = Path::new("/etc/vipswitch.toml");
    match config::parse(text, path) {
        Ok(config) => {
            for name in config.masters.keys() {
                assert!(
                    config
                        .master(name)
                        .is_ok_and(|master| !master.vips.is_empty())
                );
            }
            for vip in config.vips() {
                assert_eq!(Vip::parse(&vip.to_string()).as_ref(), Ok(vip));
            }
            assert_shown(&config.sentinel.address.to_string());
        }
        Err(fault) => {
            assert_eq!(fault.kind, Kind::Permanent);
            assert!(
                fault.to_string().starts_with("/etc/vipswitch.toml"),
                "{fault}"
            );
            assert_fault(&fault);
        }
    }
}

/// What a server sends: replies, one behind the other, cut into pieces anywhere.
pub fn answers(data: &[u8]) {
    let mut rest = data;
    loop {
        let whole = decode(rest);
        for pieces in [&[1][..], &[2], &[3, 1, 7], &[64], &[1 << 14]] {
            let in_pieces = decode_in_pieces(rest, pieces);
            match (&whole, &in_pieces) {
                (Ok(whole), Ok(in_pieces)) => assert_eq!(whole, in_pieces),
                // Less of another protocol is quoted where less has arrived.
                (Err(_), Err(_)) => {}
                _ => panic!("{whole:?} at once, {in_pieces:?} in pieces of {pieces:?}"),
            }
        }
        match whole {
            Ok(Some((value, used))) => {
                assert!(0 < used && used <= rest.len().min(ANSWER_LIMIT));
                assert!(measure(&value).values <= VALUES_LIMIT + 1);
                assert!(measure(&value).depth <= 9);
                assert_same_again(&value);
                rest = &rest[used..];
            }
            Ok(None) => return assert!(rest.len() <= ANSWER_LIMIT),
            Err(malformed) => {
                return assert_shown(&NoAnswer::from(malformed).to_string());
            }
        }
    }
}

/// An event names a master that was in it, or none at all.
fn assert_event(value: &Value) {
    let Value::Array(list) = value else { return };
    if let [_, Value::Text(channel), Value::Text(payload)] = list.as_slice()
        && let Some(event) = readers::event(channel, payload)
    {
        assert!(payload.contains(&event.master));
        assert!(!event.master.chars().any(char::is_control));
    }
}

/// What a subscription and the questions to Sentinel and Redis bring: the values are read as each of
/// the answers that are expected.
pub fn events(data: &[u8]) {
    let mut rest = data;
    let mut arrived = Vec::new();
    while let Ok(Some((value, used))) = decode(rest) {
        rest = &rest[used..];
        arrived.push(match value {
            Value::Error(text) => Err(NoAnswer::of_error(&text)),
            value => Ok(value),
        });
    }
    for answer in &arrived {
        assert_read(readers::read_address(answer.clone()));
        match answer {
            Ok(value) => {
                assert_read(readers::instances(value));
                assert_read(readers::of_role(value));
                assert_read(readers::of_info(value));
                assert_event(value);
            }
            Err(no) => assert_no_answer(no),
        }
    }
    for three in arrived.windows(3) {
        let server = three[2].as_ref().ok();
        assert_read(readers::state(three[0].clone(), three[1].clone(), server));
    }
    for four in arrived.chunks_exact(4) {
        if let Ok(four) = <[_; 4]>::try_from(four.to_vec()) {
            assert_read(readers::view(four));
        }
    }
}

/// An ARP frame.
pub fn arp(data: &[u8]) {
    let claim = arp_frames::claim(data, VIP4);
    if let Some(mac) = claim {
        assert_eq!(data[22..28], mac.octets());
        assert_eq!(data[28..32], VIP4.octets());
    }
    let answer = arp_frames::answer(data, MAC, VIP4);
    if let Some(peer) = answer {
        assert_ne!(peer, VIP4);
        assert_eq!(data[28..32], peer.octets());
        assert_eq!(data[32..42], [&MAC.octets()[..], &VIP4.octets()].concat());
    }
    assert_heard(hear(data, MAC, VIP4.into()), claim, answer.map(Into::into));
    if let Some(reply) = arp_frames::reply_to(data, MAC, VIP4) {
        assert_eq!(arp_frames::claim(&reply, VIP4), Some(MAC));
        assert!(reply[0] & 1 == 0 && reply[..6] == data[22..28]);
    }
}

/// A neighbor discovery frame.
pub fn ndp(data: &[u8]) {
    let claim = ndp_frames::claim(data, VIP6);
    if let Some(mac) = claim {
        assert_eq!(data[62..78], VIP6.octets());
        let named = |bytes: &[u8]| bytes.windows(6).any(|bytes| bytes == mac.octets());
        assert!(data[6..12] == mac.octets() || named(&data[78..]));
    }
    let answer = ndp_frames::answer(data, MAC, VIP6);
    if let Some(peer) = answer {
        assert_ne!(peer, VIP6);
        assert_eq!(data[62..78], peer.octets());
        assert_eq!(data[..6], MAC.octets());
    }
    assert_heard(hear(data, MAC, VIP6.into()), claim, answer.map(Into::into));
    if let Some(advert) = ndp_frames::advertisement_to(data, MAC, VIP6, false) {
        assert_eq!(ndp_frames::claim(&advert, VIP6), Some(MAC));
        assert!(advert[0] & 1 == 0 && advert[..6] == data[6..12]);
    }
}

/// A TCP segment in an IP packet, for either VIP.
pub fn segments(data: &[u8]) {
    for vip in [VIP4.into(), VIP6.into()] {
        let Some(answer) = tcp_frames::refusal(data, vip) else {
            continue;
        };
        let header = answer.len() - 20;
        let (sent, received) = (&answer[header..], &data[header..]);
        // A reset, which goes back where it came from. IPv4 options come before the segment.
        assert_eq!(sent[13] & 0b0000_0100, 0b0000_0100);
        if vip.is_ipv6() || data[0] == 0x45 {
            assert_eq!(sent[..2], received[2..4]);
            assert_eq!(sent[2..4], received[..2]);
            assert_eq!(received[13] & 0b0000_0100, 0);
        }
        // Nobody answers it.
        assert_eq!(tcp_frames::refusal(&answer, vip), None);
    }
}

/// The text of a hosts(5) file.
pub fn hosts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words = text.split_ascii_whitespace().take(8);
    for name in words.chain(["redis-2", "", "."]) {
        let found = hosts_file::find(data, name);
        assert!(found.len() <= text.lines().count());
        assert_eq!(hosts_file::find(data, &name.to_ascii_uppercase()), found);
        assert_eq!(hosts_file::find(data, &format!("{name}.")), found);
        for address in found {
            let is_address = |word: &str| word.parse() == Ok(address);
            assert!(
                text.split(['#', ' ', '\t', '\n', '\r', '\x0c'])
                    .any(is_address)
            );
        }
    }
}

/// Decodes as a connection does: again with each piece that arrives.
fn decode_in_pieces(
    data: &[u8],
    pieces: &[usize],
) -> Result<Option<(Value, usize)>, vipswitch::redis::reply::Malformed> {
    let mut decoder = Decoder::default();
    let mut arrived = 0;
    for piece in pieces.iter().cycle() {
        arrived = data.len().min(arrived + piece);
        if let Some(value) = decoder.decode(&data[..arrived])? {
            assert!(decoder.used() <= arrived);
            return Ok(Some((value, decoder.used())));
        }
        if arrived == data.len() {
            break;
        }
    }
    Ok(None)
}

struct Measure {
    values: usize,
    depth: usize,
}

fn measure(value: &Value) -> Measure {
    let Value::Array(list) = value else {
        return Measure {
            values: 1,
            depth: 1,
        };
    };
    let mut of_list = Measure {
        values: 1,
        depth: 1,
    };
    for one in list.iter().map(measure) {
        of_list.values += one.values;
        of_list.depth = of_list.depth.max(one.depth + 1);
    }
    of_list
}

/// What was decoded is decoded the same from its own encoding.
fn assert_same_again(value: &Value) {
    let mut encoded = Vec::new();
    encode(value, &mut encoded);
    // Bytes that are not UTF-8 were replaced by longer ones.
    if encoded.len() <= ANSWER_LIMIT {
        assert_eq!(decode(&encoded), Ok(Some((value.clone(), encoded.len()))));
    }
}

fn encode(value: &Value, bytes: &mut Vec<u8>) {
    let mut line = |text: String| bytes.extend_from_slice(text.as_bytes());
    match value {
        Value::Nil => line("$-1\r\n".into()),
        Value::Int(number) => line(format!(":{number}\r\n")),
        Value::Text(text) => line(format!("${}\r\n{text}\r\n", text.len())),
        Value::Error(text) => line(format!("-{text}\r\n")),
        Value::Array(list) => {
            line(format!("*{}\r\n", list.len()));
            list.iter().for_each(|value| encode(value, bytes));
        }
    }
}

fn assert_read<T>(read: Result<T, NoAnswer>) {
    if let Err(no) = read {
        assert_no_answer(&no);
    }
}

fn assert_no_answer(no: &NoAnswer) {
    assert_shown(&no.to_string());
    assert_fault(&sentinel_fault(no, "127.0.0.1:26379"));
    assert_fault(&redis_fault(no, "127.0.0.1:6379", "master8000"));
}

fn assert_heard(heard: Option<Heard>, claim: Option<MacAddr>, answer: Option<std::net::IpAddr>) {
    match heard {
        Some(Heard::Rival(mac)) => assert!(mac != MAC && claim == Some(mac)),
        Some(Heard::Answer(peer)) => assert_eq!(answer, Some(peer)),
        None => assert!(answer.is_none() && claim.is_none_or(|mac| mac == MAC)),
    }
}

fn assert_fault(fault: &Fault) {
    assert_shown(&fault.to_string());
}

/// Nothing in a text for people moves the cursor, turns the direction of writing, or fills the
/// screen.
fn assert_shown(text: &str) {
    let is_bidirectional = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_shown = |c: char| !c.is_control() && !is_bidirectional(c);
    assert!(text.chars().all(is_shown), "{text:?}");
    assert!(text.len() <= TEXT_LIMIT, "{} bytes", text.len());
}
