//! The interface that a VIP belongs on, as far as it may keep the network from hearing of the VIP.

use std::fs;
use std::net::IpAddr;

use super::network::Trial;
use crate::frames::PacketSocket;
use crate::link::Link;
use crate::privilege::Capability;
use crate::vip::Vip;

/// The sysctls that may hurt an IPv4 VIP, and those that may hurt an IPv6 VIP.
const SYSCTLS: [&[&str]; 2] = [
    &["arp_ignore", "drop_gratuitous_arp"],
    &["disable_ipv6", "drop_unsolicited_na"],
];

/// The interface that a VIP belongs on.
#[derive(Clone, Debug)]
pub struct Interface {
    pub link: Link,
    /// Whether frames can be sent on it.
    pub socket: Trial,
    /// Its sysctls for the VIP's family. Of `all` and the interface's own the greater counts for IPv4
    /// (IN_DEV_MAXCONF in include/linux/inetdevice.h); IPv6 has no such `all`.
    pub sysctls: Vec<(&'static str, u32)>,
    /// The file by which systemd-networkd manages it, and whether that lets the VIP stay.
    pub networkd: Option<(String, bool)>,
}

impl Interface {
    /// Looks at the interface of a VIP.
    pub fn look(link: &Link, vip: &Vip) -> Interface {
        let (family, names, whose) = match vip.address {
            IpAddr::V4(_) => ("ipv4", SYSCTLS[0], &["all", &link.name][..]),
            IpAddr::V6(_) => ("ipv6", SYSCTLS[1], &[link.name.as_str()][..]),
        };
        let sysctl = |name: &&'static str| {
            let paths = whose
                .iter()
                .map(|whose| format!("/proc/sys/net/{family}/conf/{whose}/{name}"));
            let values = paths.filter_map(|path| read(&path).trim().parse().ok());
            (*name, values.max().unwrap_or_default())
        };
        let networkd_file = format!("/run/systemd/netif/links/{}", link.index);
        Interface {
            link: link.clone(),
            socket: Trial::of(PacketSocket::sender(link), Capability::NetRaw),
            sysctls: names.iter().map(sysctl).collect(),
            networkd: networkd(&read(&networkd_file), read, drop_ins),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns the .network file by which systemd-networkd manages an interface, and whether addresses
/// that networkd does not know stay (systemd.network(5)). `link` is the text of networkd's file about
/// the interface. Where it names no drop-ins (there are none, or systemd is older than 251) they are listed.
fn networkd(
    link: &str,
    read: impl Fn(&str) -> String,
    list: impl Fn(&str) -> Vec<String>,
) -> Option<(String, bool)> {
    let file = value(link, "NETWORK_FILE").filter(|file| !file.is_empty())?;
    let mut files = vec![file.to_owned()];
    // As sd_network_link_get_network_file_dropins reads it.
    match value(link, "NETWORK_FILE_DROPINS") {
        Some(named) => files.extend(named.trim_matches('"').split(':').map(str::to_owned)),
        None => files.extend(list(file)),
    }
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let mut last_first = texts.iter().rev();
    let set = last_first.find_map(|text| value(text, "KeepConfiguration"));
    let keeps = matches!(set, Some("yes" | "true" | "on" | "1" | "static"));
    Some((file.to_owned(), keeps))
}

/// Returns the drop-ins of a .network file in the order in which networkd reads them: by their names, whatever
/// folder they are in.
fn drop_ins(file: &str) -> Vec<String> {
    let name = file.rsplit('/').next().unwrap_or_default();
    let folders =
        ["/usr/lib", "/run", "/etc"].map(|root| format!("{root}/systemd/network/{name}.d"));
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let mut found: Vec<_> = entries
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "conf")
    });
    found.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    found
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

/// Returns the last value of a key.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let values = text.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix(key)?.trim_start();
        rest.strip_prefix('=')
    });
    values.map(str::trim).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_file_on_keeping_addresses_counts() {
        let read = |file: &str| match file {
            "/static" => "[Network]\nKeepConfiguration = static\n".to_owned(),
            "/dhcp" => "KeepConfiguration=dhcp-on-stop".to_owned(),
            _ => "[Match]\nName=eth1\n[Network]\nDHCP=yes\n".to_owned(),
        };
        for (file, drop_ins, expected) in [
            ("/plain", "", Some(false)),
            ("/plain", "/a:/static", Some(true)),
            ("/static", "/dhcp", Some(false)),
            ("", "", None),
        ] {
            let link = format!("NETWORK_FILE_DROPINS=\"{drop_ins}\"\nNETWORK_FILE={file}\n");
            let keeps = networkd(&link, read, |_| Vec::new()).map(|(_, keeps)| keeps);
            assert_eq!(keeps, expected, "{link}");
        }
        // networkd writes no line about drop-ins where it has read none.
        for (listed, expected) in [(vec![], false), (vec!["/static".to_owned()], true)] {
            let keeps = networkd("NETWORK_FILE=/plain", read, |_| listed.clone());
            assert_eq!(keeps.map(|(_, keeps)| keeps), Some(expected));
        }
    }
}
