//! The seven arguments of Sentinel's call as a type. What the call means for this host is
//! `plan`'s to say, and whether it is still true is Sentinel's.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

use crate::exit::Fault;
use crate::text::escape;

/// What the Sentinel that started this run was doing. It never decides anything: the leader is
/// any Sentinel, usually not the one on the new master's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It led the failover.
    Leader,
    /// It heard of the failover from another.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Leader => "leader",
            Role::Observer => "observer",
        })
    }
}

/// An address or a name, as Redis announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address, an IPv4-mapped IPv6 address already unmapped.
    Address(IpAddr),
    /// A name (`announce-hostnames yes`, Redis 6.2 and later), to be resolved.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl Host {
    /// Reads an address or a name, `None` if it is neither.
    ///
    /// ```
    /// use vipswitch::failover::Host;
    /// // One host has one form, so that hosts can be compared.
    /// assert_eq!(Host::read("::ffff:10.0.0.1"), Host::read("10.0.0.1"));
    /// assert_eq!(Host::read("redis-1"), Some(Host::Name("redis-1".into())));
    /// // A mistyped address is not a name.
    /// assert_eq!(Host::read("10.0.0.256"), None);
    /// ```
    pub fn read(text: &str) -> Option<Host> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(Host::Address(address.to_canonical())),
            Err(_) => is_host_name(text).then(|| Host::Name(text.to_owned())),
        }
    }
}

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host.
    pub host: Host,
    /// Its TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// One call of Sentinel: this master moved from there to here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The master-name.
    pub master: String,
    /// The caller's role.
    pub role: Role,
    /// `start` since Redis 2.8; anything else is accepted, as nothing depends on it.
    pub state: String,
    /// The old master, where Sentinel knew one and names it in a way that can be read.
    pub from: Option<Endpoint>,
    /// FROM-IP and FROM-PORT as they came where they cannot be read, for the log.
    pub unread_from: Option<String>,
    /// The new master.
    pub to: Endpoint,
}

/// The words that make a list of seven arguments Sentinel's call.
const ROLES: [(&str, Role); 2] = [("leader", Role::Leader), ("observer", Role::Observer)];

/// What Sentinel's call looks like, for messages.
pub const USAGE: &str = "vipswitch MASTER leader|observer STATE FROM-IP FROM-PORT TO-IP TO-PORT";

impl Failover {
    /// Returns whether these arguments are Sentinel's call: exactly seven, the second of them
    /// a role. Decided before anything else looks, so that a master named `bind` works.
    ///
    /// ```
    /// use vipswitch::failover::Failover;
    /// let words = |line: &str| line.split(' ').map(Into::into).collect::<Vec<_>>();
    /// assert!(Failover::is_call(&words("bind leader start 10.0.0.1 6379 10.0.0.2 6379")));
    /// assert!(!Failover::is_call(&words("bind leader")));
    /// ```
    pub fn is_call(arguments: &[OsString]) -> bool {
        arguments.len() == 7 && ROLES.iter().any(|(word, _)| arguments[1] == *word)
    }

    /// Reads Sentinel's call.
    ///
    /// # Errors
    ///
    /// Every one is permanent and names the argument: the same arguments will never be better. FROM has
    /// none, as it decides nothing.
    pub fn parse(arguments: &[OsString]) -> Result<Failover, Fault> {
        let [master, role, state, from, from_port, to, to_port] = arguments else {
            return Err(wrong_number(arguments.len()));
        };
        let [master, role, state, to, to_port] = [
            text(master, "MASTER")?,
            text(role, "ROLE")?,
            text(state, "STATE")?,
            text(to, "TO-IP")?,
            text(to_port, "TO-PORT")?,
        ];
        let (from, from_port) = (from.to_string_lossy(), from_port.to_string_lossy());
        let from_read = from_endpoint(&from, &from_port);
        let role = ROLES
            .iter()
            .find(|(word, _)| *word == role)
            .map(|(_, role)| *role)
            .ok_or_else(|| bad("ROLE", role, "is neither leader nor observer"))?;
        Ok(Failover {
            master: master_name(master)?.to_owned(),
            role,
            state: state.to_owned(),
            unread_from: from_read.is_err().then(|| format!("{from} {from_port}")),
            from: from_read.unwrap_or_default(),
            to: to_endpoint(to, to_port)?,
        })
    }

    /// Returns whether the call says that something moved. Sentinel gives the new master for
    /// both when it cannot resolve its name, ports included.
    pub fn carries_information(&self) -> bool {
        self.from.as_ref() != Some(&self.to)
    }
}

/// Returns the fault of a call with some other number of arguments than seven.
pub fn wrong_number(number: usize) -> Fault {
    Fault::permanent(format!(
        "Sentinel's call has seven arguments, this one has {number}"
    ))
    .remedy(format!("It looks like this: {USAGE}."))
}

fn text<'a>(argument: &'a OsString, name: &str) -> Result<&'a str, Fault> {
    argument.to_str().ok_or_else(|| {
        Fault::permanent(format!(
            "{name} is not valid UTF-8: \"{}\"",
            escape(&argument.to_string_lossy())
        ))
    })
}

fn bad(name: &str, value: &str, why: &str) -> Fault {
    Fault::permanent(format!("{name} \"{}\" {why}", escape(value)))
        .remedy(format!("Sentinel's call is: {USAGE}."))
}

fn master_name(name: &str) -> Result<&str, Fault> {
    if name.is_empty() {
        return Err(bad("MASTER", name, "is empty"));
    }
    Ok(name)
}

fn from_endpoint(host: &str, port: &str) -> Result<Option<Endpoint>, Fault> {
    let port = parse_port("FROM-PORT", port)?;
    if host.is_empty() {
        return Ok(None);
    }
    Ok(Some(Endpoint {
        host: parse_host("FROM-IP", host)?,
        port,
    }))
}

fn to_endpoint(host: &str, port: &str) -> Result<Endpoint, Fault> {
    let host = parse_host("TO-IP", host)?;
    match parse_port("TO-PORT", port)? {
        0 => Err(bad("TO-PORT", port, "is 0, where no Redis listens")),
        port => Ok(Endpoint { host, port }),
    }
}

fn parse_port(name: &str, value: &str) -> Result<u16, Fault> {
    if value.is_empty() {
        return Err(bad(name, value, "is empty"));
    }
    // u16::from_str alone would take a leading plus sign.
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(name, value, "is not a port number"));
    }
    value
        .parse()
        .map_err(|_| bad(name, value, "is above 65535"))
}

fn parse_host(name: &str, value: &str) -> Result<Host, Fault> {
    if value.is_empty() {
        return Err(bad(name, value, "is empty"));
    }
    Host::read(value).ok_or_else(|| bad(name, value, "is neither an address nor a host name"))
}

/// Returns whether `value` can be a host name (RFC 1123 section 2.1, and the underscore that
/// the field uses): at most 253 bytes, and no last label of digits alone, which would be a
/// mistyped address.
fn is_host_name(value: &str) -> bool {
    let name = value.strip_suffix('.').unwrap_or(value);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(arguments: [&str; 7]) -> Result<Failover, Fault> {
        Failover::parse(&arguments.map(OsString::from))
    }

    const GOOD: [&str; 7] = [
        "m", "leader", "start", "10.0.0.1", "6379", "10.0.0.2", "6380",
    ];

    fn with(place: usize, value: &str) -> Result<Failover, Fault> {
        let mut arguments = GOOD;
        arguments[place] = value;
        call(arguments)
    }

    #[test]
    fn a_plain_call_is_read() {
        let failover = call(GOOD).unwrap();
        assert_eq!(failover.master, "m");
        assert_eq!(failover.role, Role::Leader);
        assert_eq!(failover.state, "start");
        assert_eq!(failover.from.as_ref().unwrap().to_string(), "10.0.0.1:6379");
        assert_eq!(failover.to.to_string(), "10.0.0.2:6380");
        assert!(failover.carries_information());
    }

    #[test]
    fn seven_arguments_with_a_role_are_a_call_whatever_the_master_is_named() {
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for name in ["bind", "status", "--help", "-v", "m"] {
            assert!(Failover::is_call(&arguments(&[
                name, "observer", "", "", "", "", ""
            ])));
        }
        assert!(!Failover::is_call(&arguments(&[
            "m", "Leader", "", "", "", "", ""
        ])));
        assert!(!Failover::is_call(&arguments(&[
            "m", "leader", "", "", "", ""
        ])));
        assert!(!Failover::is_call(&arguments(&[
            "m", "leader", "", "", "", "", "", ""
        ])));
        assert!(!Failover::is_call(&[]));
    }

    #[test]
    fn any_state_and_an_empty_from_are_fine() {
        for state in ["", "start", "end", "abort", "failover", "\u{7}"] {
            assert!(with(2, state).is_ok());
        }
        assert_eq!(with(3, "").unwrap().from, None);
        assert_eq!(with(4, "0").unwrap().from.unwrap().port, 0);
    }

    #[test]
    fn a_from_that_cannot_be_read_decides_nothing() {
        for (place, value, shown) in [
            (3, "fe80::1%eth0", "fe80::1%eth0 6379"),
            (3, "10.0.0.256", "10.0.0.256 6379"),
            (4, "", "10.0.0.1 "),
            (4, "+1", "10.0.0.1 +1"),
            (4, "65536", "10.0.0.1 65536"),
        ] {
            let failover = with(place, value).unwrap();
            assert_eq!(failover.from, None);
            assert_eq!(failover.unread_from.as_deref(), Some(shown));
            assert!(failover.carries_information());
        }
        assert_eq!(with(3, "").unwrap().unread_from, None);
    }

    #[test]
    fn mapped_addresses_are_unmapped_and_names_kept() {
        let to = |value| with(5, value).unwrap().to.host;
        assert_eq!(
            to("::ffff:10.0.0.2"),
            Host::Address("10.0.0.2".parse().unwrap())
        );
        assert_eq!(to("fd00::2"), Host::Address("fd00::2".parse().unwrap()));
        assert_eq!(
            to("redis-2.example.com"),
            Host::Name("redis-2.example.com".into())
        );
        assert_eq!(to("redis_2."), Host::Name("redis_2.".into()));
    }

    #[test]
    fn bad_arguments_are_permanent_and_named() {
        let long = "x".repeat(4096);
        let cases: &[(usize, &str, &str)] = &[
            (0, "", "MASTER \"\" is empty"),
            (
                1,
                "sentinel",
                "ROLE \"sentinel\" is neither leader nor observer",
            ),
            (5, "", "TO-IP \"\" is empty"),
            (5, "[fd00::2]", "TO-IP \"[fd00::2]\" is neither"),
            (5, "10.0.0", "TO-IP \"10.0.0\" is neither"),
            (5, "a b", "TO-IP \"a b\" is neither"),
            (5, "a\nb", "TO-IP \"a\\nb\" is neither"),
            (5, "-a", "TO-IP \"-a\" is neither"),
            (5, "a..b", "TO-IP \"a..b\" is neither"),
            (5, &long, "TO-IP \"xxx"),
            (6, "", "TO-PORT \"\" is empty"),
            (6, "0", "TO-PORT \"0\" is 0"),
            (6, "65536", "TO-PORT \"65536\" is above 65535"),
            (6, "six", "TO-PORT \"six\" is not a port number"),
        ];
        for (place, value, message) in cases {
            let fault = with(*place, value).unwrap_err();
            assert_eq!(fault.kind, crate::exit::Kind::Permanent, "{message}");
            assert!(
                fault.to_string().starts_with(message),
                "{fault} / {message}"
            );
        }
    }

    #[test]
    fn from_equal_to_to_carries_no_information_but_another_port_does() {
        let to = [
            "m", "leader", "start", "10.0.0.2", "6380", "10.0.0.2", "6380",
        ];
        assert!(!call(to).unwrap().carries_information());
        let port = [
            "m", "leader", "start", "10.0.0.2", "6379", "10.0.0.2", "6380",
        ];
        assert!(call(port).unwrap().carries_information());
        let mapped = [
            "m",
            "leader",
            "start",
            "::ffff:10.0.0.2",
            "6380",
            "10.0.0.2",
            "6380",
        ];
        assert!(!call(mapped).unwrap().carries_information());
    }

    proptest! {
        #[test]
        fn no_arguments_make_anything_but_a_clean_result(words in prop::collection::vec(".*", 0..9)) {
            let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
            let _ = Failover::is_call(&arguments);
            if let Err(fault) = Failover::parse(&arguments) {
                prop_assert!(!fault.to_string().chars().any(char::is_control));
            }
        }
    }
}
