//! Single values: what a text in the file means, or why it means nothing.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::source::Source;
use super::tables::CommandTable;
use crate::config::{Address, LONGEST, Password, SiteCommand, TIMEOUT, Tls};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::text::escape;

impl Source<'_> {
    pub(super) fn command(&self, table: CommandTable) -> Result<SiteCommand, Fault> {
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

    pub(super) fn peer(&self, peer: &Spanned<String>) -> Result<IpAddr, Fault> {
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
    pub(super) fn interface(&self, name: Spanned<String>) -> Result<String, Fault> {
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

    pub(super) fn group(&self, name: Spanned<String>) -> Result<String, Fault> {
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

    pub(super) fn metrics(&self, text: &Spanned<String>) -> Result<SocketAddr, Fault> {
        text.get_ref().parse().map_err(|_| {
            let what = format!(
                "`metrics` \"{}\" is not ADDRESS:PORT, such as \"127.0.0.1:9641\" or \"[::1]:9641\"",
                escape(text.get_ref())
            );
            self.at(text.span(), what)
        })
    }

    pub(super) fn sentinel_peer(&self, text: &Spanned<String>) -> Result<Endpoint, Fault> {
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

    pub(super) fn address(&self, text: &Spanned<String>) -> Result<Address, Fault> {
        address(text.get_ref()).ok_or_else(|| {
            let what = format!(
                "`address` \"{}\" is not ADDRESS:PORT, such as \"127.0.0.1:26379\" or \"[::1]:26379\", nor NAME:PORT, nor the absolute path of a socket",
                escape(text.get_ref())
            );
            self.at(text.span(), what)
        })
    }

    pub(super) fn absolute(&self, key: &str, path: Spanned<String>) -> Result<PathBuf, Fault> {
        if Path::new(path.get_ref()).is_absolute() {
            return Ok(path.into_inner().into());
        }
        let shown = escape(path.get_ref());
        let what = format!("`{key}` \"{shown}\" is not an absolute path");
        Err(self.at(path.span(), what))
    }

    pub(super) fn wants_tls(
        &self,
        key: Option<Spanned<bool>>,
        tls: Option<&Tls>,
    ) -> Result<bool, Fault> {
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

    pub(super) fn password(
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
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
