//! A host on which all is well.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use pnet_base::MacAddr;

use crate::check::facts::files::{File, Runs};
use crate::check::facts::interface::{Interface, Networkd};
use crate::check::facts::network::{Kernel, Place, Trial};
use crate::check::facts::process::Process;
use crate::check::facts::sentinel::{Told, Watched, at};
use crate::check::facts::servers::Redis;
use crate::check::facts::units::Units;
use crate::check::facts::{Facts, Own};
use crate::evidence::Site;
use crate::failover::{Endpoint, Host};
use crate::gather::Tried;
use crate::gather::remembered::Memory;
use crate::kernel::Address;
use crate::link::Link;
use crate::redis::Value;
use crate::vip::{Binding, Subnet, Vip};

pub const UNITS: &str = "\
    Id=vipswitch-sync.timer\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n\
    Id=vipswitch-sync.service\nLoadState=loaded\nResult=success\n\n\
    Id=redis-sentinel.service\nLoadState=loaded\nNoExecPaths=/\nExecPaths=/usr/lib\n\
    RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET\n";

pub const STATUS: &str = "CapPrm:\t3000\nCapBnd:\t3000\nCapAmb:\t3000\nSeccomp:\t2\n";

pub fn row(text: &str) -> Value {
    let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
    let words = pairs.flat_map(|(key, value)| [key, value]);
    Value::Array(words.map(|word| Value::Text(word.into())).collect())
}

fn sites<const N: usize>(all: [&str; N]) -> Vec<Site> {
    let site = |at: &str| {
        let at: SocketAddr = at.parse().unwrap();
        let (host, port) = (Host::Address(at.ip()), at.port());
        Site {
            endpoint: Endpoint { host, port },
            addresses: vec![at.ip()],
            run_id: None,
            place: Ok(crate::place::Place::Elsewhere),
        }
    };
    all.map(site).into()
}

fn all_told() -> Told {
    let master = "name=m quorum=2 num-other-sentinels=2 down-after-milliseconds=5000 client-reconfig-script=/usr/bin/vipswitch";
    let replica = "name=10.0.0.2:6379 master-link-status=ok slave-priority=100 flags=slave";
    let mut redises = sites(["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"]);
    redises[0].place = Ok(crate::place::Place::Here(Some(2)));
    let watched = Watched {
        name: "m".into(),
        master: row(master),
        replicas: Some(vec![row(replica); 2]),
        quorum: Some(Ok(())),
        own: redises
            .iter()
            .flat_map(|site| site.addresses.clone())
            .collect(),
        redises,
        nowhere: Vec::new(),
        sentinels: sites(["10.0.0.2:26379", "10.0.0.3:26379"]),
    };
    Told {
        masters: vec![row(master)],
        pending: Some(Vec::new()),
        watched: vec![watched],
        ..Told::default()
    }
}

fn file(path: &str) -> File {
    File {
        path: path.into(),
        identity: Some((1, 2)),
        untrusted: None,
        obstacle: None,
        runs: Runs::Yes,
        has_capabilities: false,
    }
}

pub fn address(text: &str) -> Address {
    let Vip { address, prefix } = Vip::parse(text).unwrap();
    Address {
        ifindex: 2,
        local: address,
        subnet: Subnet { address, prefix },
        usable: true,
        secondary: false,
        lasts: true,
        is_ours: true,
    }
}

fn own(address: Address) -> Address {
    Address {
        is_ours: false,
        ..address
    }
}

fn the_kernel() -> Kernel {
    let link = Link {
        index: 2,
        name: "eth1".into(),
        mac: Some(MacAddr(2, 0, 0, 0, 0, 9)),
        carrier: true,
        promote_secondaries: 0,
        is_router: false,
    };
    let vip = Vip::parse("10.0.0.9/24").unwrap();
    let bound = Binding {
        ifindex: 2,
        prefix: 32,
        peer: vip.address,
        usable: true,
        lasts: true,
        is_ours: true,
    };
    let place = Place {
        master: "m".into(),
        vip,
        interface: Ok(Interface {
            link: link.clone(),
            socket: Trial::Works,
            sysctls: vec![("arp_ignore", 2)],
            networkd: Some(Networkd {
                file: "/x.network".into(),
                keeps: true,
                ignores_carrier_loss: true,
            }),
        }),
        bound: vec![bound],
        claimed_by: Some(Vec::new()),
    };
    Kernel {
        change: Trial::Works,
        reset: Trial::Works,
        has_marks: true,
        addresses: vec![own(address("10.0.0.1/24")), address("10.0.0.9/32")],
        links: vec![link],
        source_routes: vec![(IpAddr::from([10, 0, 0, 1]), "default".into())],
        places: vec![place],
    }
}

pub fn healthy() -> Facts {
    let config = "[masters.m]\nvip = \"10.0.0.9/24\"\n";
    let told = all_told();
    let reached = told.watched[0].sites().filter_map(at);
    let process = Process {
        uid: 106,
        gids: vec![7],
        status: STATUS.into(),
        is_in_our_user_namespace: Some(true),
        unit: Some("redis-sentinel.service".into()),
        ..Process::default()
    };
    let redis = Redis {
        replicas: vec!["10.0.0.2:6379".into(), "10.0.0.3:6379".into()],
        master: "m".into(),
        at: "10.0.0.1:6379".parse().unwrap(),
        role: Ok(()),
        min_replicas: Some(1),
    };
    // An earlier state of the configuration.
    let mut remembered = Memory::default();
    let before = "[masters.m]\nvip = '10.0.0.8'\n";
    let before = crate::config::parse(before, Path::new("/x")).unwrap();
    remembered.note_vips(&before, |_| true);
    Facts {
        config: crate::config::parse(config, Path::new("/x")).unwrap(),
        own: Own {
            is_root: true,
            program: "/usr/lib/vipswitch/vipswitch".into(),
            identity: Some((1, 2)),
        },
        reached: reached.map(|at| (at, Ok(()))).collect(),
        sentinel: Ok(told),
        process: Some(process),
        units: Some(Units(UNITS.into())),
        readable: vec![file("/etc/vipswitch.toml")],
        hooks: vec![file("/usr/bin/vipswitch")],
        site_commands: vec![file("/usr/bin/true")],
        kernel: Ok(the_kernel()),
        others: vec![Tried {
            at: "10.0.0.2:26379".parse().unwrap(),
            is_peer: false,
            said: Ok(()),
        }],
        memory: Ok(()),
        remembered,
        redises: vec![redis],
        log_listens: true,
    }
}
