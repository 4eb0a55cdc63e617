//! What of the host itself gets in the hook's way: sysctls, network managers, a cloud, no log.

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Findings;
use super::process::runs;
use crate::config::Config;
use crate::log;
use crate::text::escape;
use crate::vip::{Vip, bits};

/// Where the manufacturer's name or the product's shows a cloud that ignores gratuitous ARP.
const CLOUDS: [(&str, &str); 12] = [
    ("amazon ec2", "Amazon EC2"),
    ("google compute engine", "Google Cloud"),
    ("microsoft corporation virtual machine", "Azure or Hyper-V"),
    ("openstack", "OpenStack"),
    ("digitalocean", "DigitalOcean"),
    ("hetzner", "Hetzner Cloud"),
    ("alibaba cloud", "Alibaba Cloud"),
    ("oraclecloud", "Oracle Cloud"),
    ("scaleway", "Scaleway"),
    ("vultr", "Vultr"),
    ("akamai", "Akamai (Linode)"),
    ("upcloud", "UpCloud"),
];

/// Judges whether this is a cloud that ignores gratuitous ARP and nothing else moves the VIP.
pub fn judge_cloud(config: &Config, findings: &mut Findings) {
    let files = [
        "sys_vendor",
        "product_name",
        "chassis_asset_tag",
        "bios_vendor",
    ];
    let read = |file| fs::read_to_string(Path::new("/sys/class/dmi/id").join(file));
    let texts: Vec<String> = files.iter().filter_map(|file| read(file).ok()).collect();
    let moved = config
        .masters
        .values()
        .all(|master| master.on_take_over.is_some());
    match (cloud(&texts), moved) {
        _ if texts.is_empty() => findings.unknown(&["cloud"], "", "the machine does not tell who made it (DMI)"),
        (None, _) => findings.ok("cloud", "", "none that is known to ignore gratuitous ARP"),
        (Some(cloud), true) => findings.ok("cloud", "", format!("{cloud}, and on_take_over is configured")),
        (Some(cloud), false) => findings.warn(
            "cloud",
            "",
            format!("this is {cloud}, whose network most likely ignores gratuitous ARP: the VIP would move and nobody would reach it"),
            "Move the address by the provider's own command: `on_take_over` in the configuration.",
        ),
    }
}

fn cloud(texts: &[String]) -> Option<&'static str> {
    let lines: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
    let all = lines.join(" ").to_ascii_lowercase();
    let named = CLOUDS.iter().find(|(sign, _)| all.contains(sign));
    named.map(|(_, name)| *name)
}

/// Judges whether a run's line will be found.
pub fn judge_log(findings: &mut Findings) {
    if log::is_reachable() {
        findings.ok("log", "", "syslog listens");
    } else {
        findings.warn(
            "log",
            "",
            "syslog cannot be reached (/dev/log): what the hook does goes to Sentinel's stderr, which is mostly lost",
            "Start journald or a syslog daemon; everyone has to be able to write to its socket.",
        );
    }
}

/// Judges the sysctls of a VIP's interface.
pub fn judge_sysctls(vip: &Vip, interface: &str, default_elsewhere: bool, findings: &mut Findings) {
    let read = |name: &str| {
        let file = |whose: &str| {
            let family = if vip.address.is_ipv4() { 4 } else { 6 };
            let path = format!("/proc/sys/net/ipv{family}/conf/{whose}/{name}");
            let text = fs::read_to_string(path).ok()?;
            text.trim().parse::<u32>().ok()
        };
        // The greater one counts (IN_DEV_MAXCONF in include/linux/inetdevice.h); IPv6 has no
        // `all` that counts for an interface.
        let all = if vip.address.is_ipv4() {
            file("all")
        } else {
            None
        };
        all.max(file(interface)).unwrap_or_default()
    };
    let hurts = hurting(vip, read, default_elsewhere);
    if hurts.is_empty() {
        findings.ok("sysctl", interface, "none that hurts");
    }
    for (name, value, why) in hurts {
        let set = if vip.address.is_ipv4() {
            "all and of "
        } else {
            ""
        };
        findings.warn(
            "sysctl",
            interface,
            format!("{name} is {value}: {why}"),
            format!("Set {name} of {set}{interface} to 0, in /etc/sysctl.d."),
        );
    }
}

/// Returns the sysctls that hurt, with their value and what they do.
fn hurting(
    vip: &Vip,
    read: impl Fn(&str) -> u32,
    default_elsewhere: bool,
) -> Vec<(&'static str, u32, &'static str)> {
    let whole = vip.prefix == bits(vip.address);
    // When a sysctl hurts, by its name (Documentation/networking/ip-sysctl.rst).
    type Rule<'a> = (&'static str, &'a dyn Fn(u32) -> bool, &'static str);
    let v4: &[Rule] = &[
        (
            "arp_ignore",
            &|value| value == 8 || value == 2 && whole,
            "this host does not answer when it is asked for the VIP",
        ),
        (
            "rp_filter",
            &|value| value == 1 && default_elsewhere,
            "clients behind a router are not heard on this interface, as the default route is on another",
        ),
        (
            "drop_gratuitous_arp",
            &|value| value == 1,
            "this host does not learn that the VIP has moved to another",
        ),
    ];
    let v6: &[Rule] = &[
        (
            "disable_ipv6",
            &|value| value == 1,
            "the VIP cannot be bound",
        ),
        (
            "drop_unsolicited_na",
            &|value| value == 1,
            "this host does not learn that the VIP has moved to another",
        ),
    ];
    let rules = if vip.address.is_ipv4() { v4 } else { v6 };
    let judged = rules
        .iter()
        .map(|(name, hurts, why)| (*name, read(name), *hurts, *why));
    let hurting = judged.filter(|(_, value, hurts, _)| hurts(*value));
    hurting
        .map(|(name, value, _, why)| (name, value, why))
        .collect()
}

/// Returns the interface of the default route in the text of /proc/net/route.
pub fn default_interface(routes: &str) -> Option<&str> {
    let mut interfaces = routes.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let interface = fields.next()?;
        (fields.next()? == "00000000").then_some(interface)
    });
    interfaces.next()
}

/// Judges whether something that manages a VIP's interface will remove the VIP.
pub fn judge_managers(interface: &str, ifindex: u32, findings: &mut Findings) {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let networkd = read(format!("/run/systemd/netif/links/{ifindex}"));
    if let Some(file) = value(&networkd, "NETWORK_FILE").filter(|_| runs("systemd-networkd")) {
        let files = with_drop_ins(Path::new(file), value(&networkd, "NETWORK_FILE_DROPINS"));
        let texts: Vec<String> = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect();
        if !texts.is_empty() && !keeps(&texts) {
            let file = escape(file);
            let remedy = format!(
                "Put [Network] KeepConfiguration=static into a drop-in: /etc/systemd/network/{}.d/vipswitch.conf",
                name_of(&file)
            );
            let text = format!(
                "systemd-networkd manages it by {file} and removes the VIP when it restarts"
            );
            return findings.warn("network-manager", interface, text, remedy);
        }
    }
    let manager = read(format!("/run/NetworkManager/devices/{ifindex}"));
    if value(&manager, "managed") == Some("true") && runs("NetworkManager") {
        return findings.warn(
            "network-manager",
            interface,
            "NetworkManager manages it and removes the VIP when the connection is activated again",
            format!("Let `vipswitch sync` bring it back (vipswitch-sync.timer), or: nmcli device set {interface} managed no"),
        );
    }
    findings.ok(
        "network-manager",
        interface,
        "nothing manages it that would remove the VIP",
    );
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        line.trim()
            .strip_prefix(key)?
            .trim_start()
            .strip_prefix('=')
    };
    text.lines()
        .filter_map(value)
        .map(str::trim)
        .next_back()
        .filter(|value| !value.is_empty())
}

/// Returns a .network file and its drop-ins, in the order in which they are read.
fn with_drop_ins(file: &Path, told: Option<&str>) -> Vec<PathBuf> {
    let mut files = vec![file.to_owned()];
    if let Some(told) = told {
        // As sd_network_link_get_network_file_dropins reads it.
        let paths = told.trim_matches('"').split(':');
        files.extend(paths.filter(|path| !path.is_empty()).map(PathBuf::from));
        return files;
    }
    let mut drop_ins = Vec::new();
    for root in ["/usr/lib", "/run", "/etc"] {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let folder = format!("{root}/systemd/network/{name}.d");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        drop_ins.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "conf")),
        );
    }
    // By name, whichever folder they are in.
    drop_ins.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    files.extend(drop_ins);
    files
}

/// Returns whether addresses that systemd-networkd does not know stay (systemd.network(5)); what is
/// read last counts.
fn keeps(texts: &[String]) -> bool {
    let set = texts
        .iter()
        .rev()
        .find_map(|text| value(text, "KeepConfiguration"));
    matches!(set, Some("yes" | "true" | "on" | "1" | "static"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_known_by_its_maker_or_product() {
        for (texts, expected) in [
            (vec!["Amazon EC2\n", "t3.small\n"], Some("Amazon EC2")),
            (
                vec!["Microsoft Corporation\n", "Virtual Machine\n"],
                Some("Azure or Hyper-V"),
            ),
            (vec!["Microsoft Corporation\n", "Surface\n"], None),
            (
                vec!["QEMU\n", "Standard PC\n", "OpenStack Foundation"],
                Some("OpenStack"),
            ),
            (vec!["Dell Inc.\n", "PowerEdge\n"], None),
        ] {
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            assert_eq!(cloud(&texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn only_sysctls_that_hurt_this_vip_are_named() {
        let names = |vip: &str, name: &str, value, default_elsewhere| {
            let vip = Vip::parse(vip).unwrap();
            let read = |asked: &str| if asked == name { value } else { 0 };
            let hurting = hurting(&vip, read, default_elsewhere);
            hurting
                .into_iter()
                .map(|(name, ..)| name)
                .collect::<Vec<_>>()
        };
        let v4 = "10.0.0.1/24";
        assert!(names(v4, "arp_ignore", 1, true).is_empty());
        assert!(names(v4, "arp_ignore", 2, true).is_empty());
        assert_eq!(names("10.0.0.1/32", "arp_ignore", 2, true), ["arp_ignore"]);
        assert_eq!(names(v4, "arp_ignore", 8, false), ["arp_ignore"]);
        assert_eq!(names(v4, "rp_filter", 1, true), ["rp_filter"]);
        assert!(names(v4, "rp_filter", 1, false).is_empty());
        assert!(names(v4, "rp_filter", 2, true).is_empty());
        assert_eq!(
            names(v4, "drop_gratuitous_arp", 1, false),
            ["drop_gratuitous_arp"]
        );
        assert!(names(v4, "disable_ipv6", 1, false).is_empty());
        assert_eq!(
            names("fd00::1/64", "disable_ipv6", 1, false),
            ["disable_ipv6"]
        );
    }

    #[test]
    fn the_default_route_is_found() {
        let text =
            "Iface\tDestination\tGateway\neth1\t0038A8C0\t00000000\neth0\t00000000\t0100000A\n";
        assert_eq!(default_interface(text), Some("eth0"));
        assert_eq!(default_interface("Iface\tDestination\n"), None);
    }

    #[test]
    fn several_drop_ins_are_told_apart() {
        let files = with_drop_ins(Path::new("/a"), Some("\"/b.conf:/c d.conf\""));
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        assert_eq!(files, ["/a", "/b.conf", "/c d.conf"]);
    }

    #[test]
    fn the_last_word_on_keeping_addresses_counts() {
        let keeps = |texts: &[&str]| {
            super::keeps(
                &texts
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let plain = "[Match]\nName=eth1\n[Network]\nDHCP=yes\n";
        assert!(!keeps(&[plain]));
        assert!(keeps(&[plain, "[Network]\nKeepConfiguration = static\n"]));
        assert!(!keeps(&[
            "[Network]\nKeepConfiguration=yes",
            "[Network]\nKeepConfiguration=no"
        ]));
        assert!(!keeps(&["[Network]\nKeepConfiguration=dhcp-on-stop"]));
        assert_eq!(
            value("NETWORK_FILE_DROPINS=\nNETWORK_FILE=/x", "NETWORK_FILE"),
            Some("/x")
        );
    }
}
