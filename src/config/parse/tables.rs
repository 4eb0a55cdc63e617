//! The file's shape, as serde reads it. The code that reads the tables checks what the values mean.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::config::{OnIsolation, OnRedisDeath};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    #[serde(default)]
    pub(super) masters: BTreeMap<Spanned<String>, MasterTable>,
    pub(super) sentinel: Option<SentinelTable>,
    pub(super) tls: Option<TlsTable>,
    #[serde(default)]
    pub(super) hosts: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    pub(super) agent: Option<AgentTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MasterTable {
    pub(super) vip: Spanned<OneOrMany>,
    pub(super) interface: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) announce_to: Vec<Spanned<String>>,
    pub(super) redis_username: Option<String>,
    pub(super) redis_password_file: Option<Spanned<String>>,
    pub(super) tls: Option<Spanned<bool>>,
    pub(super) on_take_over: Option<CommandTable>,
    pub(super) on_release: Option<CommandTable>,
    #[serde(default)]
    pub(super) on_isolation: OnIsolation,
    #[serde(default)]
    pub(super) on_redis_death: OnRedisDeath,
    #[serde(default = "yes")]
    pub(super) tell_clients: bool,
}

/// The default of a setting that is on unless it is turned off.
const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentTable {
    pub(super) socket_group: Option<Spanned<String>>,
    pub(super) metrics: Option<Spanned<String>>,
    pub(super) announce_every: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) release_on_stop: bool,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table: { command = [\"/path/of/program\", \"argument\"] }"
)]
pub(super) struct CommandTable {
    pub(super) command: Spanned<Vec<String>>,
    pub(super) timeout_seconds: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) required: bool,
}

/// The number of a user, or a list of them.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "the number of a user, as `id -u NAME` prints it, or a list of such"
)]
pub(super) enum Users {
    One(u32),
    Many(Vec<u32>),
}

/// One address, or a list of them in which each keeps its place in the file.
pub(super) enum OneOrMany {
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
pub(super) struct SentinelTable {
    pub(super) address: Option<Spanned<String>>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<String>>,
    pub(super) tls: Option<Spanned<bool>>,
    pub(super) user: Option<Users>,
    #[serde(default)]
    pub(super) peers: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    pub(super) ca_file: Spanned<String>,
    pub(super) cert_file: Option<Spanned<String>>,
    pub(super) key_file: Option<Spanned<String>>,
}
