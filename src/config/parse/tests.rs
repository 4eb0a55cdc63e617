use super::*;
use crate::config::{Address, Password};
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
    let config = read("[masters.m]\nvip = '10.0.0.1'\n[sentinel]\npassword = 's3cret'\n").unwrap();
    assert!(config.has_password() && !format!("{config:?}").contains("s3cret"));
}

#[test]
fn peers_are_addresses_or_names_with_a_port() {
    let peers = |list: &str| {
        let text = format!("{GOOD}[sentinel]\npeers = [{list}]\n");
        read(&text).map(|config| config.sentinel.peers)
    };
    let named =
        peers("'192.168.56.102:6800', 'redis3:6801', '[fd00::103]:6802', '[::ffff:10.0.0.4]:1'");
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
    let text = format!("{GOOD}[sentinel]\naddress = '/s'\ntls = true\n[tls]\nca_file = '/ca'\n");
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
            "v.toml:2:7: invalid type: integer `1`, expected an address such as \"192.168.56.250/24\"",
        ),
        (
            "[masters.m]\nvip = '10.0.0.1'\nvip = '10.0.0.2'",
            "v.toml:3:1: duplicate key",
        ),
        ("[masters.m]\nvip = '10.0.0.1", "v.toml:2:"),
        (
            "[masters.m]\nvip = \"10.0.0.1\n",
            "v.toml:2:16: invalid basic string, expected `\"`. A value that begins",
        ),
        (
            "[masters.m]\nvip = '10.0.0.1'\non_isolation = 'stay'",
            "v.toml:3:16: `on_isolation`: unknown variant `stay`, expected `release` or `keep`",
        ),
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
        read("[masters.master8000]\nvip = '10.0.0.1'\n[masters.other]\nvip = '10.0.0.2'").unwrap();
    assert!(config.master("master8000").is_ok());
    let message = |name| config.master(name).unwrap_err().to_string();
    assert_eq!(
        message("master800"),
        "no master \"master800\" in the configuration v.toml. Did you mean \"master8000\"?"
    );
    assert_eq!(
        message("qqqqq"),
        "no master \"qqqqq\" in the configuration v.toml. It knows: master8000, other."
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
