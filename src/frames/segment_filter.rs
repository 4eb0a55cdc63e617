//! The filter of a packet socket that lets pass what a host would answer for a VIP, and nothing else: all else that the
//! host receives would be work for nothing (linux/Documentation/networking/filter.rst).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::SockFilter;

/// BPF_LD with BPF_W, BPF_H and BPF_B | BPF_ABS, BPF_JMP with BPF_JEQ and BPF_JSET | BPF_K, and BPF_RET | BPF_K of
/// linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// SKF_AD_OFF + SKF_AD_PKTTYPE of linux/filter.h, and PACKET_HOST of linux/if_packet.h: what is for this host alone.
const PACKET_TYPE: u32 = 0xffff_f004;
const PACKET_HOST: u32 = 0;

/// Where the IP header begins.
const IP: u32 = 14;
/// What of the fragment field makes a fragment: more of them, and an offset (RFC 791 section 3.1).
const FRAGMENT: u32 = 0x3fff;
const TCP: u32 = 6;
const ICMPV6: u32 = 58;
const NEIGHBOR_SOLICITATION: u32 = 135;

/// What must hold of a frame.
enum Test {
    /// What is loaded so from there is this.
    Is(u16, u32, u32),
    /// What is loaded so from there has none of these bits.
    HasNone(u16, u32, u32),
}

/// Returns the filter for whole Ethernet frames: TCP segments to the VIP that are no fragments; for IPv6 neighbor
/// solicitations for it as well.
pub fn segments(vip: IpAddr) -> Vec<SockFilter> {
    let mut code = match vip {
        IpAddr::V4(vip) => pass(&segments_v4(vip)),
        IpAddr::V6(vip) => {
            let mut code = pass(&segments_v6(vip));
            code.extend(pass(&solicitations(vip)));
            code
        }
    };
    code.push(SockFilter::new(RETURN, 0, 0, 0));
    code
}

fn segments_v4(vip: Ipv4Addr) -> Vec<Test> {
    vec![
        Test::Is(LOAD_BYTE, PACKET_TYPE, PACKET_HOST),
        Test::Is(LOAD_BYTE, IP + 9, TCP),
        Test::HasNone(LOAD_HALF, IP + 6, FRAGMENT),
        Test::Is(LOAD_WORD, IP + 16, vip.to_bits()),
    ]
}

fn segments_v6(vip: Ipv6Addr) -> Vec<Test> {
    let mut tests = vec![
        Test::Is(LOAD_BYTE, PACKET_TYPE, PACKET_HOST),
        Test::Is(LOAD_BYTE, IP + 6, TCP),
    ];
    tests.extend(address(IP + 24, vip));
    tests
}

fn solicitations(vip: Ipv6Addr) -> Vec<Test> {
    let mut tests = vec![
        Test::Is(LOAD_BYTE, IP + 6, ICMPV6),
        Test::Is(LOAD_BYTE, IP + 40, NEIGHBOR_SOLICITATION),
    ];
    tests.extend(address(IP + 48, vip));
    tests
}

fn address(at: u32, address: Ipv6Addr) -> impl Iterator<Item = Test> {
    let bits = address.to_bits();
    let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
    let offsets = (at..).step_by(4);
    offsets
        .zip(words)
        .map(|(at, word)| Test::Is(LOAD_WORD, at, word))
}

/// Returns instructions that take a frame of which all of this holds, and else go on behind them.
fn pass(tests: &[Test]) -> Vec<SockFilter> {
    let mut code = Vec::new();
    for (place, test) in tests.iter().enumerate() {
        // Over the other tests, two instructions each, and the return.
        let out = (2 * (tests.len() - place) - 1) as u8;
        let (load, at, jump) = match *test {
            Test::Is(load, at, value) => (load, at, SockFilter::new(JUMP_IF_EQUAL, 0, out, value)),
            Test::HasNone(load, at, bits) => (load, at, SockFilter::new(JUMP_IF_SET, out, 0, bits)),
        };
        code.extend([SockFilter::new(load, 0, 0, at), jump]);
    }
    code.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    code
}
