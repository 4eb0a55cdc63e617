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
    /// How systemd-networkd manages it; `None` where it does not.
    pub networkd: Option<Networkd>,
}

/// What systemd-networkd does to the addresses of an interface that it has not given to it
/// (systemd.network(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networkd {
    /// The .network file by which it manages the interface.
    pub file: String,
    /// Whether they stay when networkd restarts or configures the interface anew (`KeepConfiguration=`).
    pub keeps: bool,
    /// Whether they stay when the cable is out for a moment (`IgnoreCarrierLoss=`).
    pub ignores_carrier_loss: bool,
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

/// Returns how systemd-networkd manages an interface. `link` is the text of networkd's file about the
/// interface. Where it names no drop-ins (there are none, or systemd is older than 251) they are listed.
fn networkd(
    link: &str,
    read: impl Fn(&str) -> String,
    list: impl Fn(&str) -> Vec<String>,
) -> Option<Networkd> {
    let file = value(link, "NETWORK_FILE").filter(|file| !file.is_empty())?;
    let mut files = vec![file.to_owned()];
    // As sd_network_link_get_network_file_dropins reads it.
    match value(link, "NETWORK_FILE_DROPINS") {
        Some(named) => files.extend(named.trim_matches('"').split(':').map(str::to_owned)),
        None => files.extend(list(file)),
    }
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let set = |key| texts.iter().rev().find_map(|text| value(text, key));
    let keeps = set("KeepConfiguration");
    // Who configures without carrier ignores its loss, unless told otherwise.
    let ignores = set("IgnoreCarrierLoss").filter(|set| !set.is_empty());
    let ignores = ignores.or_else(|| set("ConfigureWithoutCarrier"));
    Some(Networkd {
        file: file.to_owned(),
        keeps: keeps.is_some_and(|set| set == "static" || is_yes(set)),
        // Or for how long: that is the administrator's choice.
        ignores_carrier_loss: ignores
            .is_some_and(|set| is_yes(set) || (!set.starts_with('0') && is_time_span(set))),
    })
}

/// As systemd's parse_boolean reads a yes, whatever its case.
fn is_yes(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

/// A number first, or `infinity` (systemd.time(7)).
fn is_time_span(value: &str) -> bool {
    value == "infinity" || value.starts_with(|first: char| first.is_ascii_digit())
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

    fn texts(file: &str) -> String {
        match file {
            "/static" => "[Network]\nKeepConfiguration = static\n".to_owned(),
            "/dhcp" => "KeepConfiguration=dhcp-on-stop".to_owned(),
            set if set.contains('=') => format!("[Network]\n{}\n", set.trim_start_matches('/')),
            _ => "[Match]\nName=eth1\n[Network]\nDHCP=yes\n".to_owned(),
        }
    }

    #[test]
    fn the_last_file_on_keeping_addresses_counts() {
        for (file, drop_ins, expected) in [
            ("/plain", "", Some(false)),
            ("/plain", "/a:/static", Some(true)),
            ("/static", "/dhcp", Some(false)),
            ("", "", None),
        ] {
            let link = format!("NETWORK_FILE_DROPINS=\"{drop_ins}\"\nNETWORK_FILE={file}\n");
            let keeps = networkd(&link, texts, |_| Vec::new()).map(|it| it.keeps);
            assert_eq!(keeps, expected, "{link}");
        }
        // networkd writes no line about drop-ins where it has read none.
        for (listed, expected) in [(vec![], false), (vec!["/static".to_owned()], true)] {
            let found = networkd("NETWORK_FILE=/plain", texts, |_| listed.clone());
            assert_eq!(found.map(|it| it.keeps), Some(expected));
        }
    }

    #[test]
    fn who_ignores_a_lost_carrier_lets_the_vip_stay() {
        for (set, expected) in [
            ("/static", false),
            ("/static:/IgnoreCarrierLoss=yes", true),
            ("/IgnoreCarrierLoss=True:/static", true),
            ("/IgnoreCarrierLoss=10s", true),
            ("/IgnoreCarrierLoss=infinity", true),
            ("/IgnoreCarrierLoss=0", false),
            ("/IgnoreCarrierLoss=yes:/IgnoreCarrierLoss=no", false),
            ("/ConfigureWithoutCarrier=yes", true),
            ("/ConfigureWithoutCarrier=yes:/IgnoreCarrierLoss=", true),
            ("/ConfigureWithoutCarrier=yes:/IgnoreCarrierLoss=no", false),
        ] {
            let link = format!("NETWORK_FILE=/plain\nNETWORK_FILE_DROPINS=\"{set}\"\n");
            let found = networkd(&link, texts, |_| Vec::new()).unwrap();
            assert_eq!(found.ignores_carrier_loss, expected, "{set}");
        }
    }
}
