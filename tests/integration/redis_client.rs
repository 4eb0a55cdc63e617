//! The client for Sentinel and Redis against real ones: TLS, passwords, ACL users, Unix sockets.
//! Each test runs itself anew on a host of its own, where the ports are free and nobody else is.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;
use vipswitch::config::{self, ClientCertificate, Config};
use vipswitch::evidence::Role;
use vipswitch::hosts::Kept;
use vipswitch::redis::{
    Endpoint, Lines, NoAnswer, Server, Tls, master_address, redis_server, role, sentinel_server,
    views,
};

use crate::common::{Lab, PATIENCE, finish, wait_for};

/// Tells a test that it is on its host already, and where its files go.
const INSIDE: &str = "VIPSWITCH_TEST_INSIDE";

/// Runs a test of this name on a host of its own; of another module it is the whole path.
#[track_caller]
pub fn inside(name: &str, test: impl FnOnce(&Path)) {
    if let Some(dir) = std::env::var_os(INSIDE) {
        return test(Path::new(&dir));
    }
    let lab = Lab::new();
    lab.add_host("server1");
    let mut command = lab
        .host("server1")
        .command(std::env::current_exe().unwrap());
    let name = match name.contains("::") {
        true => name.to_owned(),
        false => format!("redis_client::{name}"),
    };
    command.args(["--exact", &name, "--nocapture"]);
    command.env(INSIDE, lab.dir());
    let finished = finish(command);
    assert!(finished.stdout.contains("1 passed"), "{finished}");
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// A Redis or a Sentinel that ends with its test.
pub struct Process(pub Child);

impl Process {
    /// Starts it with this configuration, and waits until it answers `server` in any way but by
    /// silence.
    #[track_caller]
    pub fn start(dir: &Path, program: &str, conf: &str, server: &Server) -> Process {
        let path = dir.join(format!("{program}.conf"));
        fs::write(&path, format!("{conf}\ndir {}\n", dir.display())).unwrap();
        let output = fs::File::create(dir.join("output")).unwrap();
        let mut command = Command::new(program);
        command.arg(path).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let process = Process(command.spawn().unwrap());
        let answers = || match block_on(role(server, PATIENCE)) {
            Err(NoAnswer::Unreachable(_)) => None,
            Err(NoAnswer::Refused(text)) if text.starts_with("LOADING") => None,
            _ => Some(()),
        };
        let Some(()) = wait_for(PATIENCE, answers) else {
            let output = fs::read_to_string(dir.join("output")).unwrap();
            panic!("{program} does not answer:\n{conf}\n{output}");
        };
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Redis or a Sentinel at this port, without password and TLS.
pub fn at(port: u16) -> Server {
    Server::at(Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], port))))
}

/// The same with a user and a password.
pub fn with_password(port: u16, username: Option<&str>, password: &str) -> Server {
    Server {
        username: username.map(str::to_owned),
        password: Some(password.to_owned()),
        ..at(port)
    }
}

#[track_caller]
fn role_of(server: &Server) -> Result<Role, NoAnswer> {
    block_on(role(server, PATIENCE))
}

#[test]
fn a_password_is_missing_refused_or_right() {
    inside("a_password_is_missing_refused_or_right", |dir| {
        let conf = "port 7001\nbind 127.0.0.1\nsave \"\"\nrequirepass secret\n\
                    user teller on >word +role\nuser stranger on >word +ping";
        let _redis = Process::start(dir, "redis-server", conf, &at(7001));
        let missing = role_of(&at(7001));
        assert!(
            matches!(missing, Err(NoAnswer::AuthMissing(_))),
            "{missing:?}"
        );
        for (user, password) in [
            (None, "wrong"),
            (Some("teller"), "wrong"),
            (Some("x"), "word"),
        ] {
            let refused = role_of(&with_password(7001, user, password));
            assert!(
                matches!(refused, Err(NoAnswer::AuthRefused(_))),
                "{refused:?}"
            );
        }
        for (user, password) in [(None, "secret"), (Some("teller"), "word")] {
            let told = role_of(&with_password(7001, user, password));
            assert_eq!(told, Ok(Role::Master));
        }
        let forbidden = role_of(&with_password(7001, Some("stranger"), "word"));
        assert!(
            matches!(forbidden, Err(NoAnswer::NotAllowed(_))),
            "{forbidden:?}"
        );
    });
}

#[test]
fn a_password_that_a_redis_does_not_have_is_refused() {
    inside("a_password_that_a_redis_does_not_have_is_refused", |dir| {
        let conf = "port 7001\nbind 127.0.0.1\nsave \"\"";
        let _redis = Process::start(dir, "redis-server", conf, &at(7001));
        for user in [None, Some("teller")] {
            let refused = role_of(&with_password(7001, user, "secret"));
            assert!(
                matches!(refused, Err(NoAnswer::AuthRefused(_))),
                "{refused:?}"
            );
        }
        let no_sentinel = block_on(master_address(&at(7001), &Lines::default(), "m", PATIENCE));
        assert_eq!(no_sentinel, Err(NoAnswer::NotASentinel));
    });
}

#[test]
fn a_renamed_role_is_told_by_info_through_a_unix_socket() {
    inside(
        "a_renamed_role_is_told_by_info_through_a_unix_socket",
        |dir| {
            let path = dir.join("redis.sock");
            let server = Server::at(Endpoint::Unix(path.clone()));
            let socket = format!("port 0\nsave \"\"\nunixsocket {}\n", path.display());
            let replica = format!("{socket}rename-command ROLE \"\"\nreplicaof 127.0.0.1 7009");
            let redis = Process::start(dir, "redis-server", &replica, &server);
            assert_eq!(role_of(&server), Ok(Role::Replica));
            drop(redis);
            let mute = format!("{socket}rename-command ROLE \"\"\nrename-command INFO \"\"");
            let _redis = Process::start(dir, "redis-server", &mute, &server);
            let unknown = role_of(&server);
            assert!(
                matches!(unknown, Err(NoAnswer::UnknownCommand(_))),
                "{unknown:?}"
            );
        },
    );
}

#[test]
fn a_sentinel_tells_all_that_it_knows_of_its_masters_at_once() {
    inside(
        "a_sentinel_tells_all_that_it_knows_of_its_masters_at_once",
        |dir| {
            let path = dir.join("sentinel.sock");
            let conf = format!(
                "port 26379\nbind 127.0.0.1\nunixsocket {}\nsentinel monitor m 127.0.0.1 7001 2\n\
             sentinel down-after-milliseconds m 7000\nsentinel failover-timeout m 90000",
                path.display()
            );
            let socket = Server::at(Endpoint::Unix(path.clone()));
            let _sentinel = Process::start(dir, "redis-sentinel", &conf, &socket);
            assert_eq!(role_of(&at(26379)), Ok(Role::Other("sentinel".into())));
            // By its name, as the configuration has it.
            let by_name =
                "[masters.m]\nvip = '10.0.0.1'\n[sentinel]\naddress = 'localhost:26379'\n";
            let by_name = config::parse(by_name, Path::new("x")).unwrap();
            for server in [socket, sentinel(&by_name)] {
                let address =
                    block_on(master_address(&server, &Lines::default(), "m", PATIENCE)).unwrap();
                assert_eq!(address.to_string(), "127.0.0.1:7001");
                let told =
                    block_on(views(&server, &Lines::default(), &["m", "n"], PATIENCE)).unwrap();
                let view = told[0].as_ref().unwrap();
                assert_eq!((&view.master, view.quorum), (&address, 2));
                assert_eq!(view.down_after, Some(Duration::from_secs(7)));
                assert_eq!(view.failover_timeout, Some(Duration::from_secs(90)));
                assert!(view.flags.contains(&"master".to_owned()), "{view:?}");
                assert!(view.sentinels.is_empty() && view.replicas.is_empty());
                assert_eq!((view.config_epoch, view.sentinels.len()), (0, 0));
                assert_eq!((&view.run_id, &view.withheld), (&None, &None));
                assert_eq!(told[1], Err(NoAnswer::NoSuchMaster));
            }
        },
    );
}

fn sentinel(config: &Config) -> Server {
    block_on(async {
        sentinel_server(config, (&Kept::default(), None), Instant::now() + PATIENCE)
            .await
            .unwrap()
    })
}

/// Certificates as Redis' own utils/gen-test-certs.sh makes them: that of `redis` has no
/// extensions, that of `server` no name. `own` has signed itself, as has `other`, another CA.
const CERTIFICATES: &str = r#"
set -e
own() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$1" -keyout $1.key -out $1.crt; }
signed() {
    openssl req -new -newkey rsa:2048 -nodes -subj "/O=Redis Test/CN=$1" -keyout $1.key -out $1.csr
    shift
    openssl x509 -req -sha256 -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 "$@"
}
own ca; own own; own other
signed redis -in redis.csr -out redis.crt
printf 'keyUsage = digitalSignature, keyEncipherment\n' >extensions
signed server -in server.csr -out server.crt -extfile extensions
chmod 600 *.key
"#;

/// Makes the certificates of all kinds that Redis accepts.
pub fn make_certificates(dir: &Path) {
    let mut openssl = Command::new("sh");
    openssl.args(["-c", CERTIFICATES]).current_dir(dir);
    let made = openssl.output().unwrap();
    let text = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "these tests need openssl: {text}");
}

/// A server with TLS, the certificates of this CA and of this client.
pub fn with_tls(dir: &Path, port: u16, ca: &str, client: Option<&str>) -> Server {
    let path = |name: &str, kind: &str| -> PathBuf { dir.join(format!("{name}.{kind}")) };
    let files = config::Tls {
        ca_file: path(ca, "crt"),
        client: client.map(|name| ClientCertificate {
            cert_file: path(name, "crt"),
            key_file: path(name, "key"),
        }),
    };
    Server {
        tls: Some(Tls::load(&files).unwrap()),
        ..at(port)
    }
}

/// The configuration of a Redis at port 7001, with TLS at 7002.
pub fn tls_conf(dir: &Path, ca: &str, own: &str) -> String {
    let dir = dir.display();
    format!(
        "port 7001\ntls-port 7002\nbind 127.0.0.1\ntls-ca-cert-file {dir}/{ca}.crt\n\
         tls-cert-file {dir}/{own}.crt\ntls-key-file {dir}/{own}.key\n"
    )
}

#[track_caller]
fn assert_no_tls(answer: &Result<Role, NoAnswer>, why: &str) {
    match answer {
        Err(NoAnswer::Certificate(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tls_is_agreed_with_the_certificates_that_redis_accepts() {
    inside(
        "tls_is_agreed_with_the_certificates_that_redis_accepts",
        |dir| {
            make_certificates(dir);
            for (ca, own, protocols) in [
                ("ca", "redis", "TLSv1.2 TLSv1.3"),
                ("ca", "redis", "TLSv1.2"),
                ("ca", "server", "TLSv1.2 TLSv1.3"),
                ("ca", "server", "TLSv1.2"),
                ("own", "own", "TLSv1.3"),
                ("own", "own", "TLSv1.2"),
            ] {
                let conf = tls_conf(dir, ca, own);
                let conf = format!("{conf}save \"\"\ntls-protocols \"{protocols}\"");
                let _redis = Process::start(dir, "redis-server", &conf, &at(7001));
                let server = with_tls(dir, 7002, ca, Some(own));
                assert_eq!(role_of(&server), Ok(Role::Master), "{own} {protocols}");
            }
        },
    );
}

#[test]
fn tls_that_is_not_agreed_says_why() {
    inside("tls_that_is_not_agreed_says_why", |dir| {
        make_certificates(dir);
        let conf = format!("{}save \"\"", tls_conf(dir, "ca", "redis"));
        let _redis = Process::start(dir, "redis-server", &conf, &at(7001));
        let certificate = "the server wants a certificate of its CA";
        assert_no_tls(&role_of(&with_tls(dir, 7002, "ca", None)), certificate);
        // As a Sentinel is asked that is not a peer.
        let shown = with_tls(dir, 7002, "ca", Some("redis"));
        assert_eq!(role_of(&shown), Ok(Role::Master));
        let not_shown = Server {
            tls: shown.tls.as_ref().map(Tls::without_certificate),
            ..shown
        };
        assert_no_tls(&role_of(&not_shown), certificate);
        let foreign = role_of(&with_tls(dir, 7002, "ca", Some("other")));
        assert_no_tls(&foreign, "CA");
        let ca = "the CA of ca_file has not signed the server's certificate";
        assert_no_tls(&role_of(&with_tls(dir, 7002, "other", Some("redis"))), ca);
        let of_a_ca = Process::start(
            dir,
            "redis-server",
            &tls_conf(dir, "other", "other").replace("700", "701"),
            &at(7011),
        );
        let ca = role_of(&with_tls(dir, 7012, "ca", Some("redis")));
        assert_no_tls(&ca, "CA");
        drop(of_a_ca);
        // It waits for the end of a line that never comes, or resets the connection.
        let plain = with_tls(dir, 7001, "ca", Some("redis"));
        assert_eq!(
            block_on(role(&plain, Duration::from_secs(2))),
            Err(NoAnswer::NoTls)
        );
        assert_eq!(role_of(&at(7002)), Err(NoAnswer::WantsTls));
        assert_eq!(
            role_of(&with_password(7002, None, "x")),
            Err(NoAnswer::WantsTls)
        );
    });
}

#[test]
fn a_configuration_with_tls_reaches_sentinel_and_redis() {
    inside(
        "a_configuration_with_tls_reaches_sentinel_and_redis",
        |dir| {
            make_certificates(dir);
            let conf = format!("{}save \"\"", tls_conf(dir, "ca", "redis"));
            let _redis = Process::start(dir, "redis-server", &conf, &at(7001));
            let conf = tls_conf(dir, "ca", "redis").replace("700", "2637").replace(
                "port 26371\n",
                "port 26371\nsentinel monitor m 127.0.0.1 7002 1\ntls-replication yes\n",
            );
            let _sentinel = Process::start(dir, "redis-sentinel", &conf, &at(26371));
            let folder = dir.display();
            let text = format!(
                "[masters.m]\nvip = '10.0.0.1'\ntls = true\n[sentinel]\naddress = '127.0.0.1:26372'\ntls = true\n\
             [tls]\nca_file = '{folder}/ca.crt'\ncert_file = '{folder}/redis.crt'\nkey_file = '{folder}/redis.key'\n"
            );
            let config = config::parse(&text, Path::new("x")).unwrap();
            let address = block_on(master_address(
                &sentinel(&config),
                &Lines::default(),
                "m",
                PATIENCE,
            ))
            .unwrap();
            assert_eq!(address.to_string(), "127.0.0.1:7002");
            let address = address.to_string().parse().unwrap();
            let redis = redis_server(&config, config.master("m").unwrap(), address).unwrap();
            assert_eq!(role_of(&redis), Ok(Role::Master));

            let key = dir.join("redis.key");
            fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
            let fault = redis_server(&config, config.master("m").unwrap(), address).unwrap_err();
            let expected = format!(
                "cannot use the key file {}: everyone can read it",
                key.display()
            );
            assert!(fault.to_string().starts_with(&expected), "{fault}");
            fs::rename(dir.join("other.key"), &key).unwrap();
            // A key that is not the certificate's; that of a certificate of version 1 goes unseen here.
            fs::copy(dir.join("server.crt"), dir.join("redis.crt")).unwrap();
            let fault = redis_server(&config, config.master("m").unwrap(), address).unwrap_err();
            assert!(fault.to_string().contains("has another"), "{fault}");
        },
    );
}
