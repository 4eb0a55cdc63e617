//! Text to [`Config`].

mod source;
mod tables;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use self::source::Source;
use self::tables::{AgentTable, MasterTable, OneOrMany, SentinelTable, Tables, TlsTable, Users};
use self::values::is_link_local;
use super::{Agent, ClientCertificate, Config, DEFAULT_SENTINEL, Master, Sentinel, Tls};
use crate::exit::Fault;
use crate::failover::Host;
use crate::text::escape;
use crate::vip::Vip;

/// The longest pause between two announcements of the agent.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

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
    tables.sort_unstable_by_key(|(name, _)| name.span().start);
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
                users: Vec::new(),
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
            users: match table.user {
                None => Vec::new(),
                Some(Users::One(user)) => vec![user],
                Some(Users::Many(users)) => users,
            },
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
}

#[cfg(test)]
mod tests;
