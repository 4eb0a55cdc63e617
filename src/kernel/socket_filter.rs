//! The filter that makes sock_diag list the sockets of some addresses and no others: the kernel looks at
//! every socket of the host, but sends only these. Pure. The bytes are those of `inet_diag_bc_op` and
//! `inet_diag_hostcond` in the kernel's include/uapi/linux/inet_diag.h.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};

use crate::vip::bits;

/// How many addresses one filter may have: a jump to its end has 16 bits.
pub const MOST: usize = 1000;

/// INET_DIAG_REQ_BYTECODE, the attribute of a request that has the filter.
const BYTECODE: u16 = 1;
/// INET_DIAG_BC_S_COND: the socket's own address is compared.
const SOURCE: u8 = 7;
/// INET_DIAG_BC_D_COND: the address of the other end is.
const DESTINATION: u8 = 8;
/// INET_DIAG_BC_JMP.
const JUMP: u8 = 1;
/// The length of an operation without its operand.
const OPERATION: usize = 4;
/// The length of a condition without its address.
const CONDITION: usize = 8;

/// The port of a condition that any port meets (`inet_diag_bc_run` in net/ipv4/inet_diag.c).
const ANY_PORT: i32 = -1;

/// Returns the attribute that follows a request for a list. Sockets whose own address is one of
/// these pass, the IPv4-mapped ones of an IPv4 address as well (`inet_diag_bc_run` in
/// net/ipv4/inet_diag.c). Without an address nothing passes.
pub fn of_sources(addresses: &[IpAddr]) -> Vec<u8> {
    of_conditions(SOURCE, addresses.iter().map(|address| (*address, ANY_PORT)))
}

/// Returns the same for sockets whose other end has one of these addresses.
pub fn of_destinations(addresses: &[IpAddr]) -> Vec<u8> {
    let ends = addresses.iter().map(|address| (*address, ANY_PORT));
    of_conditions(DESTINATION, ends)
}

/// Returns the same for sockets whose own address and port are one of these.
pub fn of_endpoints(endpoints: &[SocketAddr]) -> Vec<u8> {
    of_conditions(
        SOURCE,
        endpoints.iter().map(|at| (at.ip(), at.port().into())),
    )
}

fn of_conditions(of: u8, ends: impl DoubleEndedIterator<Item = (IpAddr, i32)>) -> Vec<u8> {
    let mut code = Vec::new();
    // From the end on, as each jump says how far that is.
    for (place, (address, port)) in ends.rev().enumerate() {
        let mut before = condition(of, address, port);
        if place > 0 {
            before.extend(operation(JUMP, OPERATION, OPERATION + code.len()));
        }
        before.append(&mut code);
        code = before;
    }
    if code.is_empty() {
        // A jump behind the end refuses.
        code.extend(operation(JUMP, OPERATION, 2 * OPERATION));
    }
    let mut attribute = Vec::with_capacity(OPERATION + code.len());
    attribute.extend(((OPERATION + code.len()) as u16).to_ne_bytes());
    attribute.extend(BYTECODE.to_ne_bytes());
    attribute.append(&mut code);
    attribute
}

/// Returns one condition. Met, it goes on at the operation that follows; else behind that one, which
/// for the last condition is behind the end.
fn condition(of: u8, address: IpAddr, port: i32) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    };
    let length = OPERATION + CONDITION + octets.len();
    let mut bytes = operation(of, length, length + OPERATION).to_vec();
    bytes.extend([family, bits(address), 0, 0]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(octets);
    bytes
}

/// Returns an operation that goes on so many bytes after its own start.
fn operation(code: u8, yes: usize, no: usize) -> [u8; OPERATION] {
    let no = (no as u16).to_ne_bytes();
    [code, yes as u8, no[0], no[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `inet_diag_bc_run` does with a socket of this address.
    fn passes(attribute: &[u8], family: u8, address: &[u8]) -> bool {
        passes_with(attribute, family, address, 8000)
    }

    fn passes_with(attribute: &[u8], family: u8, address: &[u8], port: i32) -> bool {
        let number = |at: &[u8]| u16::from_ne_bytes([at[0], at[1]]) as usize;
        assert_eq!(number(attribute), attribute.len());
        let mut code = &attribute[OPERATION..];
        while !code.is_empty() {
            let is_met = [SOURCE, DESTINATION].contains(&code[0]) && {
                let end = code[1] as usize;
                let wanted = &code[OPERATION + CONDITION..end];
                let mapped = [&[0; 10][..], &[0xff; 2], wanted].concat();
                let of_port = i32::from_ne_bytes(code[8..12].try_into().unwrap());
                (of_port == ANY_PORT || of_port == port)
                    && (code[4] == family && wanted == address
                        || code[4] == AF_INET && family == AF_INET6 && mapped == address)
            };
            let on = if is_met {
                code[1] as usize
            } else {
                number(&code[2..])
            };
            if on > code.len() {
                assert_eq!(on, code.len() + OPERATION, "the kernel takes no other");
                return false;
            }
            code = &code[on..];
        }
        true
    }

    #[test]
    fn the_sockets_of_these_addresses_pass_and_no_others() {
        let all: [IpAddr; 3] = ["10.0.0.2", "fd00::2", "10.0.0.25"].map(|one| one.parse().unwrap());
        for number in 0..=all.len() {
            let filter = of_sources(&all[..number]);
            for (place, address) in all.iter().enumerate() {
                let (family, octets) = match address {
                    IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
                };
                assert_eq!(passes(&filter, family, &octets), place < number);
                if let IpAddr::V4(v4) = address {
                    let mapped = v4.to_ipv6_mapped().octets();
                    assert_eq!(passes(&filter, AF_INET6, &mapped), place < number);
                }
            }
            assert!(!passes(&filter, AF_INET, &[10, 0, 0, 3]));
            assert!(!passes(&filter, AF_INET6, &[0; 16]));
        }
    }

    #[test]
    fn the_sockets_of_these_endpoints_pass_and_no_others() {
        let all = ["10.0.0.2:8000", "10.0.0.2:8001", "[fd00::2]:8000"];
        let filter = of_endpoints(&all.map(|one| one.parse().unwrap()));
        for (address, port, is_one) in [
            ([10, 0, 0, 2], 8000, true),
            ([10, 0, 0, 2], 8001, true),
            ([10, 0, 0, 2], 8002, false),
            ([10, 0, 0, 3], 8000, false),
        ] {
            assert_eq!(passes_with(&filter, AF_INET, &address, port), is_one);
        }
        let v6: std::net::Ipv6Addr = "fd00::2".parse().unwrap();
        assert!(passes_with(&filter, AF_INET6, &v6.octets(), 8000));
        assert!(!passes_with(&filter, AF_INET6, &v6.octets(), 8001));
    }

    #[test]
    fn the_other_end_is_compared_where_that_is_meant() {
        let vip: IpAddr = "10.0.0.250".parse().unwrap();
        let [own, other] = [of_sources(&[vip]), of_destinations(&[vip])];
        assert_eq!((own[OPERATION], other[OPERATION]), (SOURCE, DESTINATION));
        assert_eq!(own[OPERATION + 1..], other[OPERATION + 1..]);
    }

    #[test]
    fn the_largest_filter_fits_its_jumps() {
        let address = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]);
        let filter = of_sources(&[address; MOST]);
        assert!(filter.len() < u16::MAX as usize);
        assert!(!passes(&filter, AF_INET6, &[1; 16]));
    }
}
