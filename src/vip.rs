//! The virtual IP: which addresses can be one, and which interface it belongs on.

use std::fmt;
use std::net::IpAddr;

use crate::exit::Fault;

/// A virtual IP with the prefix length that it is bound with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Vip {
    /// The address that clients use.
    pub address: IpAddr,
    /// The prefix length in bits, at most 32 for IPv4 and 128 for IPv6.
    pub prefix: u8,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Vip {
    /// Reads `ADDRESS` or `ADDRESS/PREFIX`. Without a prefix length it is the whole address,
    /// /32 or /128.
    ///
    /// # Errors
    ///
    /// Says, as the end of a sentence that starts with the text, why this is no VIP.
    ///
    /// ```
    /// use vipswitch::vip::Vip;
    /// assert_eq!(Vip::parse("10.0.0.250").unwrap().to_string(), "10.0.0.250/32");
    /// assert_eq!(Vip::parse("fd00::250/64").unwrap().prefix, 64);
    /// // With its prefix length an address may be the subnet's own.
    /// assert!(Vip::parse("10.0.0.0").is_ok() && Vip::parse("10.0.0.0/24").is_err());
    /// assert!(Vip::parse("::ffff:10.0.0.250").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Vip, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| "is no IPv4 or IPv6 address".to_owned())?;
        let whole = bits(address);
        let prefix = match prefix {
            None => whole,
            Some(digits) => parse_prefix(digits)
                .filter(|prefix| (1..=whole).contains(prefix))
                .ok_or_else(|| format!("has a prefix length that is not from 1 to {whole}"))?,
        };
        match not_a_host(address, prefix) {
            Some(what) => Err(format!("is {what}, not the address of a host")),
            None => Ok(Vip { address, prefix }),
        }
    }
}

impl From<Vip> for String {
    fn from(vip: Vip) -> String {
        vip.to_string()
    }
}

impl TryFrom<String> for Vip {
    type Error = String;

    fn try_from(text: String) -> Result<Vip, String> {
        Vip::parse(&text).map_err(|why| format!("{text} {why}"))
    }
}

fn parse_prefix(digits: &str) -> Option<u8> {
    // u8::from_str alone would take a leading plus sign.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// Returns the number of bits of an address of this family.
pub fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Returns what an address is, if a single host cannot have it.
fn not_a_host(address: IpAddr, prefix: u8) -> Option<&'static str> {
    let subnet = Subnet { address, prefix };
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of \"this network\" (RFC 1122)"),
        // A /31 has no broadcast address (RFC 3021), a /32 is nothing but a host.
        IpAddr::V4(_) if prefix < 31 && subnet.host_bits() == 0 => Some("its subnet's own address"),
        IpAddr::V4(_) if prefix < 31 && subnet.host_bits() == subnet.host_mask() => {
            Some("its subnet's broadcast address")
        }
        // RFC 4291 section 2.6.1; RFC 6164 exempts /127.
        IpAddr::V6(_) if prefix < 127 && subnet.host_bits() == 0 => {
            Some("its subnet's router anycast address")
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("an IPv4-mapped address (write the IPv4 address)")
        }
        _ => None,
    }
}

/// An address of an interface and the prefix length that makes its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Any address in it.
    pub address: IpAddr,
    /// The prefix length in bits.
    pub prefix: u8,
}

impl Subnet {
    /// Returns whether `address` lies in this subnet. A subnet of one address holds only that.
    ///
    /// ```
    /// use vipswitch::vip::Subnet;
    /// let subnet = |prefix| Subnet { address: "10.0.0.2".parse().unwrap(), prefix };
    /// assert!(subnet(24).holds("10.0.0.25".parse().unwrap()));
    /// assert!(!subnet(32).holds("10.0.0.25".parse().unwrap()));
    /// ```
    pub fn holds(&self, address: IpAddr) -> bool {
        let mask = !self.host_mask();
        bits(self.address) == bits(address) && number(self.address) & mask == number(address) & mask
    }

    fn host_mask(&self) -> u128 {
        let host = bits(self.address).saturating_sub(self.prefix);
        1u128
            .checked_shl(host.into())
            .map_or(u128::MAX, |power| power - 1)
    }

    fn host_bits(&self) -> u128 {
        number(self.address) & self.host_mask()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// One place where a VIP is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The interface's number.
    pub ifindex: u32,
    /// The prefix length, which may be another than the configured one.
    pub prefix: u8,
    /// The address itself; on a point-to-point link the peer's.
    pub peer: IpAddr,
    /// Whether it works: false while, and after, duplicate address detection finds another.
    pub usable: bool,
    /// Whether it stays as it is: no lifetime ends it, and an IPv6 one is never chosen as a source.
    pub lasts: bool,
    /// Whether it bears our mark.
    pub is_ours: bool,
}

/// What may say on which interface a VIP belongs. Interfaces are given by the kernel's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates<'a> {
    /// The interface that the configuration names, and its number if there is such a one.
    pub configured: Option<(&'a str, Option<u32>)>,
    /// The interfaces with an address of their own, no VIP, whose subnet holds the VIP; the smallest subnet
    /// first.
    pub subnets: Vec<u32>,
    /// Where the VIP is bound.
    pub bound: Vec<Binding>,
}

/// Why a VIP belongs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The configuration says so.
    Configured,
    /// Its subnet holds the VIP.
    Subnet,
    /// It carries the address of this host's Redis; in a hook's call that is TO-IP.
    CarriesTo,
    /// The VIP is there already and nothing says that it belongs elsewhere.
    BoundThere,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Chosen::Configured => "configured",
            Chosen::Subnet => "its subnet holds the VIP",
            Chosen::CarriesTo => "it carries the address of this host's Redis",
            Chosen::BoundThere => "the VIP is already there",
        })
    }
}

/// Returns the interface for a VIP: as configured, else one whose subnet holds the VIP, else the
/// one that carries TO-IP, `carries_to`. Of several with such a subnet it is the one that has the
/// VIP already, so that a call that is repeated moves nothing.
///
/// # Errors
///
/// None found is permanent: it needs somebody to name one.
pub fn choose_interface(
    vip: &Vip,
    among: &Candidates,
    carries_to: Option<u32>,
) -> Result<(u32, Chosen), Fault> {
    match among.configured {
        Some((_, Some(ifindex))) => return Ok((ifindex, Chosen::Configured)),
        Some((name, None)) => return Err(no_such_interface(vip, name)),
        None => {}
    }
    let bound = || among.bound.iter().map(|binding| binding.ifindex);
    let bound_in_subnet = bound().find(|ifindex| among.subnets.contains(ifindex));
    bound_in_subnet
        .or(among.subnets.first().copied())
        .map(|ifindex| (ifindex, Chosen::Subnet))
        .or(carries_to.map(|ifindex| (ifindex, Chosen::CarriesTo)))
        .or(bound().next().map(|ifindex| (ifindex, Chosen::BoundThere)))
        .ok_or_else(|| {
            Fault::permanent(format!(
                "found no interface for {vip}: no interface of this host has a subnet that holds it"
            ))
            .remedy("Name one with `interface = \"…\"` in the configuration.")
        })
}

fn no_such_interface(vip: &Vip, name: &str) -> Fault {
    Fault::permanent(format!(
        "cannot bind {vip} to {name}: this host has no interface of that name"
    ))
    .remedy(
        "Correct `interface` in the configuration, or leave it out: then it is found by subnet.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vip(text: &str) -> Vip {
        Vip::parse(text).unwrap()
    }

    #[test]
    fn without_a_prefix_length_it_is_the_whole_address() {
        assert_eq!(vip("10.0.0.1").to_string(), "10.0.0.1/32");
        assert_eq!(vip("fd00::1").to_string(), "fd00::1/128");
        assert_eq!(vip("10.0.0.1/24").prefix, 24);
        assert_eq!(vip("fd00::1/64").prefix, 64);
        assert_eq!(vip("10.0.0.0/31").prefix, 31);
        assert_eq!(vip("fd00::/127").prefix, 127);
    }

    #[test]
    fn what_no_single_host_can_have_is_refused() {
        for (text, why) in [
            ("10.0.0.1/33", "prefix length"),
            ("10.0.0.1/0", "prefix length"),
            ("10.0.0.1/+8", "prefix length"),
            ("10.0.0.1/", "prefix length"),
            ("fd00::1/129", "prefix length"),
            ("10.0.0.1/24/24", "prefix length"),
            ("10.0.0.256", "no IPv4 or IPv6"),
            ("", "no IPv4 or IPv6"),
            ("server1", "no IPv4 or IPv6"),
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("127.0.0.2/8", "loopback"),
            ("::1", "loopback"),
            ("224.0.0.18", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("10.0.0.255/24", "broadcast"),
            ("10.0.0.0/24", "subnet's own"),
            ("0.1.2.3", "this network"),
            ("fd00::/64", "anycast"),
            ("::ffff:10.0.0.1", "IPv4-mapped"),
        ] {
            let error = Vip::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_subnet_holds_its_addresses_and_no_others() {
        let subnet = |text| {
            let Vip { address, prefix } = vip(text);
            Subnet { address, prefix }
        };
        let holds = |text, address: &str| subnet(text).holds(address.parse().unwrap());
        assert!(holds("10.0.0.2/24", "10.0.0.250"));
        assert!(!holds("10.0.0.2/24", "10.0.1.250"));
        assert!(!holds("10.0.0.2/32", "10.0.0.25"));
        assert!(holds("fd00::2/64", "fd00::ffff"));
        assert!(!holds("fd00::2/64", "fd00:0:0:1::"));
        assert!(!holds("10.0.0.2/24", "::ffff:10.0.0.3"));
        assert!(
            Subnet {
                address: "::".parse().unwrap(),
                prefix: 0
            }
            .holds("fd00::".parse().unwrap())
        );
    }

    #[test]
    fn the_configured_interface_wins_then_the_subnet_then_the_one_with_to() {
        let vip = vip("10.0.0.250/24");
        let peer = vip.address;
        let on = |ifindex| Binding {
            peer,
            ifindex,
            prefix: 24,
            usable: true,
            lasts: true,
            is_ours: true,
        };
        let among = |configured, subnets: &[u32], bound: &[u32]| Candidates {
            configured,
            subnets: subnets.to_vec(),
            bound: bound.iter().map(|ifindex| on(*ifindex)).collect(),
        };
        let eth1 = Some(("eth1", Some(1)));
        for (among, carries_to, choice) in [
            (among(eth1, &[2], &[3]), Some(4), (1, Chosen::Configured)),
            (among(None, &[2, 5], &[]), Some(4), (2, Chosen::Subnet)),
            (among(None, &[2, 5], &[3]), Some(4), (2, Chosen::Subnet)),
            // It is where it may be: it stays.
            (among(None, &[2, 5], &[3, 5]), Some(4), (5, Chosen::Subnet)),
            (among(None, &[], &[3]), Some(4), (4, Chosen::CarriesTo)),
            (among(None, &[], &[3]), None, (3, Chosen::BoundThere)),
        ] {
            assert_eq!(
                choose_interface(&vip, &among, carries_to),
                Ok(choice),
                "{among:?}"
            );
        }
        for (among, said) in [
            (
                among(None, &[], &[]),
                "found no interface for 10.0.0.250/24",
            ),
            (
                among(Some(("eth9", None)), &[2], &[2]),
                "no interface of that name",
            ),
        ] {
            let fault = choose_interface(&vip, &among, None).unwrap_err();
            assert_eq!(fault.kind, crate::exit::Kind::Permanent);
            assert!(fault.to_string().contains(said), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "[0-9a-f:./]{0,20}") {
            if let Ok(vip) = Vip::parse(&text) {
                prop_assert_eq!(Vip::parse(&vip.to_string()), Ok(vip));
            }
        }
    }
}
