//! Text to [`Config`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{
    Address, Agent, ClientCertificate, Config, DEFAULT_SENTINEL, LONGEST, Master, OnIsolation,
    OnRedisDeath, Password, Sentinel, SiteCommand, TIMEOUT, Tls, nearest,
};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::text::escape;
use crate::vip::Vip;

/// The file's shape, as serde reads it; what the values mean is checked after.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    masters: BTreeMap<Spanned<String>, MasterTable>,
    sentinel: Option<SentinelTable>,
    tls: Option<TlsTable>,
    #[serde(default)]
    hosts: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    agent: Option<AgentTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterTable {
    vip: Spanned<OneOrMany>,
    interface: Option<Spanned<String>>,
    #[serde(default)]
    announce_to: Vec<Spanned<String>>,
    redis_username: Option<String>,
    redis_password_file: Option<Spanned<String>>,
    tls: Option<Spanned<bool>>,
    on_take_over: Option<CommandTable>,
    on_release: Option<CommandTable>,
    #[serde(default)]
    on_isolation: OnIsolation,
    #[serde(default)]
    on_redis_death: OnRedisDeath,
    #[serde(default = "yes")]
    tell_clients: bool,
}

/// The default of a setting that is on unless it is turned off.
const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    socket_group: Option<Spanned<String>>,
    metrics: Option<Spanned<String>>,
    announce_every: Option<Spanned<u64>>,
    #[serde(default)]
    release_on_stop: bool,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table: { command = [\"/path/of/program\", \"argument\"] }"
)]
struct CommandTable {
    command: Spanned<Vec<String>>,
    timeout_seconds: Option<Spanned<u64>>,
    #[serde(default)]
    required: bool,
}

/// One address, or a list of them in which each keeps its place in the file.
enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

/// By hand, because serde's `untagged` loses the places.
struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an address such as \"192.168.56.250/24\", or a list of them")
    }

    fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(OneOrMany::Many(texts))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentinelTable {
    address: Option<Spanned<String>>,
    username: Option<String>,
    password: Option<Spanned<String>>,
    password_file: Option<Spanned<String>>,
    tls: Option<Spanned<bool>>,
    #[serde(default)]
    peers: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsTable {
    ca_file: Spanned<String>,
    cert_file: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
}

/// Reads a configuration from its text. `path` is for messages alone.
///
/// # Errors
///
/// Every one is permanent and gives file, line, column and the key or value that is wrong.
pub fn parse(text: &str, path: &Path) -> Result<Config, Fault> {
    let source = Source { text, path };
    let file: Tables = toml::from_str(text).map_err(|error| source.syntax(&error))?;
    let tls = file.tls.map(|table| source.tls(table)).transpose()?;
    let mut tables: Vec<(Spanned<String>, MasterTable)> = file.masters.into_iter().collect();
    // In the order of the file, so that of two that clash the later one is named.
    tables.sort_by_key(|(name, _)| name.span().start);
    let mut masters = BTreeMap::new();
    let mut holders = HashMap::new();
    for (name, table) in tables {
        if name.get_ref().is_empty() {
            return Err(source.at(name.span(), "a master's name is empty"));
        }
        // Sentinel's file cannot name such a one either.
        if name.get_ref().contains(char::is_control) {
            let shown = escape(name.get_ref());
            return Err(source.at(name.span(), format!("\"{shown}\" is no master's name")));
        }
        let master = source.master(name.get_ref(), table, &mut holders, tls.as_ref())?;
        masters.insert(name.into_inner(), master);
    }
    if masters.is_empty() {
        return Err(
            Fault::permanent(format!("{} names no master", path.display()))
                .remedy("Add a table [masters.NAME] with `vip = \"ADDRESS/PREFIX\"`."),
        );
    }
    Ok(Config {
        path: path.to_owned(),
        masters,
        sentinel: source.sentinel(file.sentinel, tls.as_ref())?,
        tls,
        hosts: source.hosts(file.hosts, &holders)?,
        agent: source.agent(file.agent)?,
    })
}

/// The rules of `dev_valid_name` in the kernel's net/core/dev.c: at most 15 bytes (IFNAMSIZ with its final
/// zero), not `.` or `..`, no slash, colon or white space.
fn is_interface_name(text: &str) -> bool {
    let is_wrong = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    (1..16).contains(&text.len()) && text != "." && text != ".." && !text.contains(is_wrong)
}

/// Returns the interface's name in a text that somebody has copied: `eth1@if3` or `2: eth1:` from `ip link`,
/// the label `eth1:0` of an address.
fn meant_interface(text: &str) -> Option<&str> {
    let unnumbered = match text.split_once(": ") {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => text,
    };
    let name = unnumbered.trim().split(['@', ':']).next()?;
    is_interface_name(name).then_some(name)
}

/// The text that is being read, for messages that name a place in it.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    /// Reads one master's table. `holders` has the master of each VIP so far.
    fn master(
        &self,
        name: &str,
        table: MasterTable,
        holders: &mut HashMap<IpAddr, String>,
        tls: Option<&Tls>,
    ) -> Result<Master, Fault> {
        let span = table.vip.span();
        let texts = match table.vip.into_inner() {
            OneOrMany::One(text) => vec![(span, text)],
            OneOrMany::Many(list) if list.is_empty() => {
                return Err(self.at(span, "`vip` is an empty list"));
            }
            OneOrMany::Many(list) => list
                .into_iter()
                .map(|text| (text.span(), text.into_inner()))
                .collect(),
        };
        let mut vips = Vec::with_capacity(texts.len());
        for (span, text) in texts {
            let vip = Vip::parse(&text).map_err(|why| {
                self.at(span.clone(), format!("`vip` \"{}\" {why}", escape(&text)))
            })?;
            if let Some(holder) = holders.insert(vip.address, name.to_owned()) {
                let what = format!(
                    "{} is already a VIP of master \"{}\"",
                    vip.address,
                    escape(&holder)
                );
                return Err(self.at(span, what));
            }
            if is_link_local(vip.address) {
                let what = format!(
                    "{} is link-local: every link has its own, so it cannot be a VIP",
                    vip.address
                );
                return Err(self.at(span, what));
            }
            vips.push(vip);
        }
        let interface = table
            .interface
            .map(|name| self.interface(name))
            .transpose()?;
        let announce_to = table
            .announce_to
            .iter()
            .map(|peer| self.peer(peer))
            .collect::<Result<_, _>>()?;
        let redis_password = self.password(None, table.redis_password_file)?;
        let on_take_over = table
            .on_take_over
            .map(|command| self.command(command))
            .transpose()?;
        let on_release = table
            .on_release
            .map(|command| self.command(command))
            .transpose()?;
        Ok(Master {
            vips,
            interface,
            announce_to,
            redis_username: table.redis_username,
            redis_password,
            tls: self.wants_tls(table.tls, tls)?,
            on_take_over,
            on_release,
            on_isolation: table.on_isolation,
            on_redis_death: table.on_redis_death,
            tell_clients: table.tell_clients,
        })
    }

    fn command(&self, table: CommandTable) -> Result<SiteCommand, Fault> {
        let span = table.command.span();
        let argv = table.command.into_inner();
        if !argv.first().is_some_and(|program| program.starts_with('/'))
            || argv.iter().any(|word| word.contains('\0'))
        {
            return Err(self.at(
                span,
                "`command` is a list that starts with the absolute path of a program",
            ));
        }
        let timeout = match table.timeout_seconds {
            None => TIMEOUT,
            Some(seconds) if (1..=LONGEST.as_secs()).contains(seconds.get_ref()) => {
                Duration::from_secs(*seconds.get_ref())
            }
            Some(seconds) => {
                let what = format!("`timeout_seconds` is from 1 to {}", LONGEST.as_secs());
                return Err(self.at(seconds.span(), what));
            }
        };
        Ok(SiteCommand {
            argv,
            timeout,
            required: table.required,
        })
    }

    fn peer(&self, peer: &Spanned<String>) -> Result<IpAddr, Fault> {
        let text = peer.get_ref();
        let unusable = |address: &IpAddr| {
            address.is_unspecified() || address.is_multicast() || address.is_loopback()
        };
        text.parse()
            .ok()
            .filter(|address| !unusable(address))
            .ok_or_else(|| {
                self.at(
                    peer.span(),
                    format!(
                        "`announce_to` \"{}\" is not the address of a neighbour",
                        escape(text)
                    ),
                )
            })
    }

    /// Reads the name of an interface. The kernel would take an at sign, but nobody names one so: `ip link`
    /// shows the interface at the other end behind it.
    fn interface(&self, name: Spanned<String>) -> Result<String, Fault> {
        let text = name.get_ref();
        if is_interface_name(text) && !text.contains('@') {
            return Ok(name.into_inner());
        }
        let what = format!(
            "`interface` \"{}\" is no name that an interface can have",
            escape(text)
        );
        let fault = self.at(name.span(), what);
        Err(match meant_interface(text) {
            Some(meant) => fault.remedy(format!("Write \"{}\".", escape(meant))),
            None => fault.remedy("`ip -br link` shows the names, of at most 15 bytes."),
        })
    }

    fn sentinel(
        &self,
        sentinel: Option<SentinelTable>,
        tls: Option<&Tls>,
    ) -> Result<Sentinel, Fault> {
        let Some(table) = sentinel else {
            return Ok(Sentinel {
                address: DEFAULT_SENTINEL,
                username: None,
                password: None,
                tls: false,
                peers: Vec::new(),
            });
        };
        let address = match table.address {
            None => DEFAULT_SENTINEL,
            Some(text) => self.address(&text)?,
        };
        Ok(Sentinel {
            address,
            username: table.username,
            password: self.password(table.password, table.password_file)?,
            tls: self.wants_tls(table.tls, tls)?,
            peers: table
                .peers
                .iter()
                .map(|peer| self.sentinel_peer(peer))
                .collect::<Result<_, _>>()?,
        })
    }

    fn agent(&self, table: Option<AgentTable>) -> Result<Agent, Fault> {
        let Some(table) = table else {
            return Ok(Agent::default());
        };
        let defaults = Agent::default();
        Ok(Agent {
            socket_group: table
                .socket_group
                .map(|group| self.group(group))
                .transpose()?,
            metrics: table.metrics.map(|text| self.metrics(&text)).transpose()?,
            announce_every: match table.announce_every {
                None => defaults.announce_every,
                Some(seconds) if *seconds.get_ref() <= LONGEST_PAUSE.as_secs() => {
                    Duration::from_secs(*seconds.get_ref())
                }
                Some(seconds) => {
                    let what = format!(
                        "`announce_every` is a number of seconds up to {}, and 0 is never",
                        LONGEST_PAUSE.as_secs()
                    );
                    return Err(self.at(seconds.span(), what));
                }
            },
            release_on_stop: table.release_on_stop,
        })
    }

    fn group(&self, name: Spanned<String>) -> Result<String, Fault> {
        let text = name.get_ref();
        if !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ':') {
            return Ok(name.into_inner());
        }
        let shown = escape(text);
        Err(self.at(
            name.span(),
            format!("`socket_group` \"{shown}\" is no name of a group"),
        ))
    }

    fn metrics(&self, text: &Spanned<String>) -> Result<SocketAddr, Fault> {
        text.get_ref().parse().map_err(|_| {
            let what = format!(
                "`metrics` \"{}\" is not ADDRESS:PORT, such as \"127.0.0.1:9641\" or \"[::1]:9641\"",
                escape(text.get_ref())
            );
            self.at(text.span(), what)
        })
    }

    fn sentinel_peer(&self, text: &Spanned<String>) -> Result<Endpoint, Fault> {
        match address(text.get_ref()) {
            Some(Address::Tcp(host, port)) => Ok(Endpoint { host, port }),
            _ => {
                let what = format!(
                    "`peers` \"{}\" is not ADDRESS:PORT, such as \"192.168.56.102:26379\" or \"[fd00::102]:26379\", nor NAME:PORT",
                    escape(text.get_ref())
                );
                Err(self.at(text.span(), what))
            }
        }
    }

    fn address(&self, text: &Spanned<String>) -> Result<Address, Fault> {
        address(text.get_ref()).ok_or_else(|| {
            let what = format!(
                "`address` \"{}\" is not ADDRESS:PORT, such as \"127.0.0.1:26379\" or \"[::1]:26379\", nor NAME:PORT, nor the absolute path of a socket",
                escape(text.get_ref())
            );
            self.at(text.span(), what)
        })
    }

    /// Reads what Sentinel calls each host. `vips` has the master of each VIP.
    fn hosts(
        &self,
        table: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
        vips: &HashMap<IpAddr, String>,
    ) -> Result<BTreeMap<String, Vec<Host>>, Fault> {
        let mut hosts: BTreeMap<String, Vec<Host>> = BTreeMap::new();
        for (name, called) in table {
            if !matches!(Host::read(name.get_ref()), Some(Host::Name(_))) {
                let shown = escape(name.get_ref());
                let what =
                    format!("\"{shown}\" is not the name of a host, as `hostname` prints it");
                return Err(self.at(name.span(), what));
            }
            let mut list = Vec::with_capacity(called.len());
            for text in called {
                let host = self.called(&text, vips)?;
                let mut others = hosts.iter().filter(|(_, list)| list.contains(&host));
                if let Some((other, _)) = others.next() {
                    let what = format!("{host} is already one of host \"{}\"", escape(other));
                    return Err(self.at(text.span(), what));
                }
                list.push(host);
            }
            hosts.insert(name.into_inner(), list);
        }
        Ok(hosts)
    }

    fn called(
        &self,
        text: &Spanned<String>,
        vips: &HashMap<IpAddr, String>,
    ) -> Result<Host, Fault> {
        let shown = escape(text.get_ref());
        let why = match Host::read(text.get_ref()) {
            None => "is neither an address nor a name",
            Some(Host::Address(address)) if vips.contains_key(&address) => "is a VIP",
            Some(Host::Address(address))
                if address.is_loopback() || address.is_unspecified() || address.is_multicast() =>
            {
                "is not the address of one host"
            }
            Some(host) => return Ok(host),
        };
        Err(self.at(text.span(), format!("`hosts`: \"{shown}\" {why}")))
    }

    fn tls(&self, table: TlsTable) -> Result<Tls, Fault> {
        let client = match (table.cert_file, table.key_file) {
            (None, None) => None,
            (Some(cert_file), Some(key_file)) => Some(ClientCertificate {
                cert_file: self.absolute("cert_file", cert_file)?,
                key_file: self.absolute("key_file", key_file)?,
            }),
            (Some(alone), None) | (None, Some(alone)) => {
                let what = "`cert_file` and `key_file` belong together";
                return Err(self.at(alone.span(), what));
            }
        };
        Ok(Tls {
            ca_file: self.absolute("ca_file", table.ca_file)?,
            client,
        })
    }

    fn absolute(&self, key: &str, path: Spanned<String>) -> Result<PathBuf, Fault> {
        if Path::new(path.get_ref()).is_absolute() {
            return Ok(path.into_inner().into());
        }
        let shown = escape(path.get_ref());
        let what = format!("`{key}` \"{shown}\" is not an absolute path");
        Err(self.at(path.span(), what))
    }

    fn wants_tls(&self, key: Option<Spanned<bool>>, tls: Option<&Tls>) -> Result<bool, Fault> {
        match key {
            Some(key) if *key.get_ref() && tls.is_none() => Err(self
                .at(
                    key.span(),
                    "`tls = true` needs to know whose certificates to believe",
                )
                .remedy("Add a table [tls] with `ca_file = \"/path/of/ca.crt\"`.")),
            key => Ok(key.is_some_and(Spanned::into_inner)),
        }
    }

    fn password(
        &self,
        here: Option<Spanned<String>>,
        file: Option<Spanned<String>>,
    ) -> Result<Option<Password>, Fault> {
        match (here, file) {
            (Some(_), Some(file)) => Err(self.at(
                file.span(),
                "`password` and `password_file` exclude each other",
            )),
            (Some(here), None) => Ok(Some(Password::Here(here.into_inner()))),
            (None, Some(file)) if !Path::new(file.get_ref()).is_absolute() => {
                let path = escape(file.get_ref());
                let what = format!("the file of a password, \"{path}\", is no absolute path");
                Err(self.at(file.span(), what))
            }
            (None, file) => Ok(file.map(|file| Password::File(file.into_inner().into()))),
        }
    }

    fn at(&self, span: Range<usize>, what: impl Into<String>) -> Fault {
        let (line, column) = line_and_column(self.text, span.start);
        Fault::permanent(format!(
            "{}:{line}:{column}: {}",
            self.path.display(),
            what.into()
        ))
    }

    /// Words an error of the TOML parser or of serde, and adds the nearest known key to one
    /// that is unknown.
    fn syntax(&self, error: &toml::de::Error) -> Fault {
        let message = escape(
            error
                .message()
                .lines()
                .next()
                .unwrap_or("is not valid TOML"),
        )
        .replace("a sequence", "a list");
        let fault = self.at(error.span().unwrap_or(0..0), &message);
        if ["float", "integer", "number", "key with no value"]
            .iter()
            .any(|word| message.contains(word))
        {
            return fault.remedy("Put an address in quotes: vip = \"192.168.56.250/24\".");
        }
        let mut quoted = error.message().split('`').skip(1).step_by(2);
        match quoted.next() {
            Some(key) if error.message().starts_with("unknown field") => match nearest(key, quoted)
            {
                Some(near) => fault.remedy(format!("Did you mean `{near}`?")),
                None => fault,
            },
            _ => fault,
        }
    }
}

/// The longest pause between two announcements of the agent.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The longest path of a Unix socket, in bytes: `sun_path` in unix(7) with its final zero has 108.
const LONGEST_SOCKET: usize = 107;

/// Reads where Sentinel listens: the path of a socket, or an address or a name with a port.
fn address(text: &str) -> Option<Address> {
    if text.starts_with('/') {
        let fits = text.len() <= LONGEST_SOCKET && !text.contains('\0');
        return fits.then(|| Address::Unix(text.into()));
    }
    let (host, port) = match text.parse::<SocketAddrV6>() {
        Ok(v6) => (Host::Address(v6.ip().to_canonical()), v6.port()),
        Err(_) => {
            let (host, port) = text.rsplit_once(':')?;
            let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            let host = Some(host).filter(|host| !host.contains(':'));
            (Host::read(host?)?, port?.parse().ok()?)
        }
    };
    (port != 0).then_some(Address::Tcp(host, port))
}

/// fe80::/10 (RFC 4291 section 2.5.6).
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Returns line and column, both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Config, Fault> {
        parse(text, Path::new("v.toml"))
    }

    const GOOD: &str = "[masters.m]\nvip = \"10.0.0.250/24\"\n";

    #[test]
    fn the_plain_case_needs_two_lines() {
        let config = read(GOOD).unwrap();
        assert_eq!(
            config.masters["m"].vips,
            [Vip::parse("10.0.0.250/24").unwrap()]
        );
        assert_eq!(config.masters["m"].interface, None);
        assert_eq!(config.sentinel.address.to_string(), "127.0.0.1:26379");
    }

    #[test]
    fn everything_that_can_be_said() {
        let config = read(
            "[masters.\"my.master-1\"]\nvip = ['10.0.0.250', 'fd00::250/64']\ninterface = 'eth1'\nannounce_to = ['10.0.0.1', 'fd00::1']\n\
             [masters.m]\nvip = '10.0.0.251'\n\
             [sentinel]\naddress = '[::1]:6800'\nusername = 'u'\npassword_file = '/etc/p'\n",
        )
        .unwrap();
        let master = &config.masters["my.master-1"];
        assert_eq!(master.vips.len(), 2);
        assert_eq!(master.interface.as_deref(), Some("eth1"));
        assert_eq!(master.announce_to.len(), 2);
        assert_eq!(config.sentinel.address.to_string(), "[::1]:6800");
        assert_eq!(config.sentinel.username.as_deref(), Some("u"));
        assert_eq!(
            config.sentinel.password,
            Some(Password::File("/etc/p".into()))
        );
        assert_eq!(config.vips().count(), 3);
        let config =
            read("[masters.m]\nvip = '10.0.0.1'\n[sentinel]\npassword = 's3cret'\n").unwrap();
        assert!(config.has_password() && !format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn peers_are_addresses_or_names_with_a_port() {
        let peers = |list: &str| {
            let text = format!("{GOOD}[sentinel]\npeers = [{list}]\n");
            read(&text).map(|config| config.sentinel.peers)
        };
        let named = peers(
            "'192.168.56.102:6800', 'redis3:6801', '[fd00::103]:6802', '[::ffff:10.0.0.4]:1'",
        );
        let named: Vec<String> = named.unwrap().iter().map(ToString::to_string).collect();
        let expected = [
            "192.168.56.102:6800",
            "redis3:6801",
            "[fd00::103]:6802",
            "10.0.0.4:1",
        ];
        assert_eq!(named, expected);
        assert_eq!(peers("").unwrap(), []);
        for wrong in [
            "192.168.56.102",
            "/run/s.sock",
            "fd00::103:6802",
            "a b:1",
            ":6800",
            "x:0",
        ] {
            let fault = peers(&format!("'10.0.0.1:1', '{wrong}'")).unwrap_err();
            let begins = format!("v.toml:4:24: `peers` \"{wrong}\" is not ADDRESS:PORT");
            assert!(fault.to_string().starts_with(&begins), "{fault}");
        }
    }

    #[test]
    fn a_sentinel_on_a_unix_socket_may_have_others_with_tls() {
        let text =
            format!("{GOOD}[sentinel]\naddress = '/s'\ntls = true\n[tls]\nca_file = '/ca'\n");
        assert!(read(&text).unwrap().sentinel.tls);
    }

    #[test]
    fn sentinel_listens_at_an_address_a_name_or_a_socket() {
        let listens = |address: &str| {
            let text = format!("{GOOD}[sentinel]\naddress = '{address}'\n");
            read(&text).map(|config| config.sentinel.address)
        };
        let socket = format!("/{}", "x".repeat(106));
        for (text, address) in [
            (
                "192.168.56.101:6800",
                Address::Tcp(Host::Address([192, 168, 56, 101].into()), 6800),
            ),
            (
                "redis_1.example.com:6800",
                Address::Tcp(Host::Name("redis_1.example.com".into()), 6800),
            ),
            (
                "/run/redis/s.sock",
                Address::Unix("/run/redis/s.sock".into()),
            ),
            (&socket, Address::Unix(socket.clone().into())),
        ] {
            assert_eq!(listens(text), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
        let mapped = listens("[::ffff:10.0.0.1]:6800").unwrap();
        assert_eq!(mapped.to_string(), "10.0.0.1:6800");
        for text in [
            "",
            ":1",
            "/",
            "a",
            "a:",
            "a:x",
            "a:+1",
            "a:0",
            "a:65536",
            "::1:6800",
            "[::1]",
            "[a]:1",
            "a b:1",
            "10.0.0.256:1",
            "run/redis.sock",
            "-a:1",
        ] {
            // A folder is a path, too; to connect to it fails.
            assert_eq!(listens(text).is_err(), text != "/", "{text}");
        }
        assert!(listens(&format!("{socket}x")).is_err());
    }

    #[test]
    fn tls_is_off_until_configured() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.tls, None);
        assert!(!config.sentinel.tls && !config.masters["m"].tls);
        let config = read(
            "[masters.m]\nvip = '10.0.0.1'\ntls = true\n[sentinel]\ntls = false\n\
             [tls]\nca_file = '/ca'\ncert_file = '/c'\nkey_file = '/k'\n",
        )
        .unwrap();
        assert!(!config.sentinel.tls && config.masters["m"].tls);
        let client = ClientCertificate {
            cert_file: "/c".into(),
            key_file: "/k".into(),
        };
        let expected = Tls {
            ca_file: "/ca".into(),
            client: Some(client),
        };
        assert_eq!(config.tls, Some(expected));
    }

    #[test]
    fn wrong_tls_is_named_with_its_place() {
        let with = |text: &str| format!("{GOOD}{text}");
        for (text, message) in [
            (
                with("tls = true\n"),
                "v.toml:3:7: `tls = true` needs to know whose certificates to believe. Add a table [tls] with `ca_file = \"/path/of/ca.crt\"`.",
            ),
            (
                with("[sentinel]\ntls = true\n"),
                "v.toml:4:7: `tls = true` needs",
            ),
            (with("[tls]\n"), "v.toml:3:1: missing field `ca_file`"),
            (
                with("[tls]\nca_file = 'ca'\n"),
                "v.toml:4:11: `ca_file` \"ca\" is not an absolute path",
            ),
            (
                with("[tls]\nca_file = '/ca'\nkey_file = '/k'\n"),
                "v.toml:5:12: `cert_file` and `key_file` belong together",
            ),
            (
                with("[tls]\nca_file = '/ca'\ncertfile = '/c'\n"),
                "v.toml:5:1: unknown field `certfile`, expected one of `ca_file`, `cert_file`, `key_file`. Did you mean `cert_file`?",
            ),
        ] {
            assert_refused(&[(&text, message)]);
        }
    }

    #[test]
    fn hosts_say_what_sentinel_calls_each() {
        let config = read(&format!(
            "{GOOD}[hosts]\nredis1 = ['203.0.113.101', '::ffff:203.0.113.9']\n'redis2.example.com' = ['nat2.example']\n"
        ))
        .unwrap();
        let host = |text: &str| Host::read(text).unwrap();
        for (named, own, is_own) in [
            ("203.0.113.101", "redis1", Some(true)),
            ("203.0.113.101", "REDIS1.example.com", Some(true)),
            ("203.0.113.9", "redis1", Some(true)),
            ("203.0.113.101", "redis2", Some(false)),
            ("nat2.example", "redis2", Some(true)),
            ("203.0.113.102", "redis1", None),
        ] {
            let said = config.is_own(&[host("10.9.9.9"), host(named)], own);
            assert_eq!(said, is_own, "{named} {own}");
        }
    }

    #[test]
    fn hosts_that_say_nothing_of_one_host_are_refused() {
        let with = |text: &str| format!("{GOOD}[hosts]\n{text}");
        for (text, message) in [
            (
                "redis1 = ['10.0.0.9', '10.0.0.9 ']",
                "v.toml:4:23: `hosts`: \"10.0.0.9 \" is neither an address nor a name",
            ),
            (
                "a = ['127.0.0.1']",
                "v.toml:4:6: `hosts`: \"127.0.0.1\" is not the address of one host",
            ),
            (
                "a = ['::']",
                "v.toml:4:6: `hosts`: \"::\" is not the address of one host",
            ),
            (
                "a = ['10.0.0.250']",
                "v.toml:4:6: `hosts`: \"10.0.0.250\" is a VIP",
            ),
            (
                "a = ['1.2.3.4']\nb = ['1.2.3.4']",
                "v.toml:5:6: 1.2.3.4 is already one of host \"a\"",
            ),
            (
                "'10.0.0.9' = []",
                "v.toml:4:1: \"10.0.0.9\" is not the name of a host",
            ),
            ("a = '1.2.3.4'", "v.toml:4:5: invalid type"),
        ] {
            assert_refused(&[(&with(text), message)]);
        }
    }

    fn assert_refused(cases: &[(&str, &str)]) {
        for (text, message) in cases {
            let fault = read(text).unwrap_err();
            assert_eq!(fault.kind, Kind::Permanent);
            assert!(
                fault.to_string().starts_with(message),
                "{text:?}\n  {fault}\n  {message}"
            );
        }
    }

    #[test]
    fn wrong_keys_and_shapes_are_named_with_their_place_and_the_nearest_known_key() {
        assert_refused(&[
            (
                "[master.m]",
                "v.toml:1:2: unknown field `master`, expected one of `masters`, `sentinel`, `tls`, `hosts`, `agent`. Did you mean `masters`?",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterfaces = 'e'",
                "v.toml:3:1: unknown field `interfaces`, expected one of `vip`, `interface`, `announce_to`, `redis_username`, `redis_password_file`, `tls`, `on_take_over`, `on_release`, `on_isolation`, `on_redis_death`, `tell_clients`. Did you mean `interface`?",
            ),
            (
                "[sentinel]\nadress = 'x'\n",
                "v.toml:2:1: unknown field `adress`",
            ),
            ("[masters.m]\nzzz = 1", "v.toml:2:1: unknown field `zzz`"),
            (
                "[masters.m]\ninterface = 'eth1'",
                "v.toml:1:1: missing field `vip`",
            ),
            (
                "[masters.m]\nvip = 1",
                "v.toml:2:7: invalid type: integer `1`, expected an address such as \\\"192.168.56.250/24\\\"",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\nvip = '10.0.0.2'",
                "v.toml:3:1: duplicate key",
            ),
            ("[masters.m]\nvip = '10.0.0.1", "v.toml:2:"),
        ]);
    }

    #[test]
    fn wrong_values_are_named_with_their_place() {
        assert_refused(&[
            (
                "[masters.m]\nvip = []",
                "v.toml:2:7: `vip` is an empty list",
            ),
            (
                "[masters.m]\nvip = ['10.0.0.1',\n  '10.0.0.256']",
                "v.toml:3:3: `vip` \"10.0.0.256\" is no IPv4 or IPv6 address",
            ),
            (
                "[masters.m]\nvip = ['10.0.0.1', 5]",
                "v.toml:2:20: invalid type: integer `5`",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1/33'",
                "v.toml:2:7: `vip` \"10.0.0.1/33\" has a prefix length",
            ),
            (
                "[masters.m]\nvip = '224.0.0.1'",
                "v.toml:2:7: `vip` \"224.0.0.1\" is a multicast address",
            ),
            (
                "[masters.m]\nvip = ['10.0.0.1', '10.0.0.1/24']",
                "v.toml:2:20: 10.0.0.1 is already a VIP of master \"m\"",
            ),
            (
                "[masters.a]\nvip = '10.0.0.1'\n[masters.b]\nvip = '10.0.0.1/24'",
                "v.toml:4:7: 10.0.0.1 is already a VIP of master \"a\"",
            ),
            (
                "[masters.b]\nvip = '10.0.0.1'\n[masters.a]\nvip = '10.0.0.1/24'",
                "v.toml:4:7: 10.0.0.1 is already a VIP of master \"b\"",
            ),
            (
                "[masters.m]\nvip = 'fe80::250/64'",
                "v.toml:2:7: fe80::250 is link-local: every link has its own",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\nannounce_to = ['router']",
                "v.toml:3:16: `announce_to` \"router\" is not the address of a neighbour",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\non_release = { command = ['sh', '-c', 'x'] }",
                "v.toml:3:26: `command` is a list that starts with the absolute path",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\non_take_over = { command = ['/bin/x'], timeout_seconds = 21 }",
                "v.toml:3:58: `timeout_seconds` is from 1 to 20",
            ),
            (
                "[masters.'']\nvip = '10.0.0.1'",
                "v.toml:1:10: a master's name is empty",
            ),
            (
                "[sentinel]\naddress = '127.0.0.1'\n[masters.m]\nvip = '10.0.0.1'",
                "v.toml:2:11: `address` \"127.0.0.1\" is not ADDRESS:PORT",
            ),
            (
                "[sentinel]\naddress = '127.0.0.1:0'\n[masters.m]\nvip = '10.0.0.1'",
                "v.toml:2:11: `address`",
            ),
            (
                "[sentinel]\npassword_file = 'p'\n[masters.m]\nvip = '10.0.0.1'",
                "v.toml:2:17: the file of a password, \"p\", is no absolute path",
            ),
            (
                "[sentinel]\npassword = 's'\npassword_file = '/p'\n[masters.m]\nvip = '10.0.0.1'",
                "v.toml:3:17: `password` and `password_file` exclude each other",
            ),
            ("# nothing\n", "v.toml names no master"),
            ("", "v.toml names no master"),
        ]);
    }

    #[test]
    fn a_name_that_no_interface_has_is_refused_with_the_one_that_is_meant() {
        assert_refused(&[
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = 'sixteen-bytes-xx'",
                "v.toml:3:13: `interface` \"sixteen-bytes-xx\" is no name",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = 'eth1@if3'",
                "v.toml:3:13: `interface` \"eth1@if3\" is no name that an interface can have. Write \"eth1\".",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = 'enp0s31f6.1000@enp0s31f6'",
                "v.toml:3:13: `interface` \"enp0s31f6.1000@enp0s31f6\" is no name that an interface can have. Write \"enp0s31f6.1000\".",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = 'eth1:0'",
                "v.toml:3:13: `interface` \"eth1:0\" is no name that an interface can have. Write \"eth1\".",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = '2: eth1@if3: '",
                "v.toml:3:13: `interface` \"2: eth1@if3: \" is no name that an interface can have. Write \"eth1\".",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = '@if3'",
                "v.toml:3:13: `interface` \"@if3\" is no name that an interface can have. `ip -br link` shows",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = 'a/b'",
                "v.toml:3:13: `interface`",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = '..'",
                "v.toml:3:13: `interface`",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = ''",
                "v.toml:3:13: `interface`",
            ),
            (
                "[masters.m]\nvip = '10.0.0.1'\ninterface = 'é h'",
                "v.toml:3:13: `interface`",
            ),
        ]);
    }

    #[test]
    fn an_unknown_master_is_told_the_nearest_known_one() {
        let config =
            read("[masters.master8000]\nvip = '10.0.0.1'\n[masters.other]\nvip = '10.0.0.2'")
                .unwrap();
        assert!(config.master("master8000").is_ok());
        let message = |name| config.master(name).unwrap_err().to_string();
        assert_eq!(
            message("master800"),
            "no master \"master800\" in the configuration. Did you mean \"master8000\"?"
        );
        assert_eq!(
            message("qqqqq"),
            "no master \"qqqqq\" in the configuration. It knows: master8000, other."
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_anything_but_a_clean_result(text in ".*") {
            let _ = read(&text);
        }

        #[test]
        fn no_value_makes_anything_but_a_clean_result(key in "(vip|interface|address|[a-z]{1,9})", value in "(\"[^\"]{0,30}\"|\\[[^\\]]{0,30}\\]|[0-9]{1,5})") {
            let text = format!("[sentinel]\n{key} = {value}\n[masters.m]\n{key} = {value}\nvip = {value}\n");
            if let Err(fault) = read(&text) {
                prop_assert_eq!(fault.kind, Kind::Permanent);
            }
        }
    }
}
