//! Which server is asked, and how: what the configuration says, with names resolved and the files
//! of passwords and certificates read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::time::Instant;

use super::owner::Owner;
use super::tls::Tls;
use crate::config::{Address, Config, Master, Password};
use crate::exit::Fault;
use crate::hosts::{Kept, Unresolved};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
        }
    }
}

/// How a server is reached.
#[derive(Clone)]
pub struct Server {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Further addresses of the same name: `localhost` has two, and often a server listens on one of them only.
    pub further: Vec<SocketAddr>,
    /// The ACL user, where it needs one.
    pub username: Option<String>,
    /// The password, where it needs one.
    pub password: Option<String>,
    /// Which certificates are believed and shown, where it wants TLS.
    pub tls: Option<Tls>,
    /// Whose it has to be, where it is a Sentinel of this host.
    pub owner: Option<Owner>,
    /// Whether it is the one as whose user Sentinel is known.
    pub is_own: bool,
    /// Whose that is by the configuration.
    pub users: Vec<u32>,
}

impl Server {
    /// Returns a server that wants no password and no TLS.
    pub fn at(endpoint: Endpoint) -> Server {
        Server {
            endpoint,
            further: Vec::new(),
            username: None,
            password: None,
            tls: None,
            owner: None,
            is_own: false,
            users: Vec::new(),
        }
    }
}

impl Server {
    /// Returns the same server, which has to be `owner`'s where its address is one of this host's: so may be that of a
    /// Sentinel that another one lists, or that `peers` names.
    pub fn guarded_by(self, owner: &Owner, config: &Config) -> Server {
        Server {
            owner: Some(owner.clone()),
            users: config.sentinel.users.clone(),
            ..self
        }
    }

    /// Returns whether the same is shown to another one, and believed of it.
    pub fn is_asked_like(&self, other: &Server) -> bool {
        (&self.username, &self.password, &self.tls, &self.users)
            == (&other.username, &other.password, &other.tls, &other.users)
    }

    /// Returns the same server, to be asked without a user, a password and a certificate of this host's.
    pub fn without_credentials(self) -> Server {
        Server {
            username: None,
            password: None,
            tls: self.tls.as_ref().map(Tls::without_certificate),
            ..self
        }
    }
}

/// Never shows the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint)
            .field("further", &self.further)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

/// What is shown to Sentinels: to this host's and to those of `peers`, or none of it to the others, whose
/// addresses anybody can have forged who may publish on a monitored Redis.
#[derive(Clone)]
pub struct Access {
    username: Option<String>,
    password: Option<String>,
    tls: Option<Tls>,
}

impl Access {
    /// Reads the files of the configuration.
    ///
    /// # Errors
    ///
    /// Files that cannot be used are permanent.
    pub fn load(config: &Config) -> Result<Access, Fault> {
        let sentinel = &config.sentinel;
        Ok(Access {
            username: sentinel.username.clone(),
            password: sentinel.password.as_ref().map(Password::read).transpose()?,
            tls: tls(config, sentinel.tls)?,
        })
    }

    /// Returns the same without user, password and certificate.
    pub fn without_credentials(&self) -> Access {
        Access {
            username: None,
            password: None,
            tls: self.tls.as_ref().map(Tls::without_certificate),
        }
    }

    /// Returns a Sentinel that is asked so.
    pub fn to(&self, at: SocketAddr) -> Server {
        Server {
            username: self.username.clone(),
            password: self.password.clone(),
            tls: self.tls.clone(),
            ..Server::at(Endpoint::Tcp(at))
        }
    }
}

/// Returns this host's Sentinel, which has to be `owner`'s, if that is anybody. Its name, if the configuration has one, is
/// resolved until then, or leads where it did last.
///
/// # Errors
///
/// A name without an address, now, is passing; files that cannot be used are permanent.
pub async fn sentinel_server(
    config: &Config,
    (names, owner): (&Kept, Option<&Owner>),
    until: Instant,
) -> Result<Server, Fault> {
    let sentinel = &config.sentinel;
    let (endpoint, further) = match &sentinel.address {
        Address::Unix(path) => (Endpoint::Unix(path.clone()), Vec::new()),
        Address::Tcp(host, port) => {
            let late = || Fault::passing(format!("the name {host} was not resolved in time"));
            let left = until.saturating_duration_since(Instant::now());
            let addresses = names.look_up(host, left).await;
            let addresses = addresses.map_err(Unresolved::fault)?;
            let mut addresses = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, *port));
            let first = addresses.next().ok_or_else(late)?;
            (Endpoint::Tcp(first), addresses.collect())
        }
    };
    let Access {
        username,
        password,
        tls,
    } = Access::load(config)?;
    Ok(Server {
        // A Unix socket has none; the Sentinels of the other hosts may.
        tls: tls.filter(|_| matches!(endpoint, Endpoint::Tcp(_))),
        endpoint,
        further,
        username,
        password,
        owner: owner.cloned(),
        is_own: true,
        users: sentinel.users.clone(),
    })
}

/// Returns the Redis of a master at this address.
///
/// # Errors
///
/// Files that cannot be used are permanent.
pub fn redis_server(config: &Config, master: &Master, at: SocketAddr) -> Result<Server, Fault> {
    Ok(Server {
        username: master.redis_username.clone(),
        password: master
            .redis_password
            .as_ref()
            .map(Password::read)
            .transpose()?,
        tls: tls(config, master.tls)?,
        ..Server::at(Endpoint::Tcp(at))
    })
}

fn tls(config: &Config, wanted: bool) -> Result<Option<Tls>, Fault> {
    let files = config.tls.as_ref().filter(|_| wanted);
    files.map(Tls::load).transpose()
}
