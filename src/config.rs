//! The configuration: text to [`Config`], with every mistake named by file, line and column.
//! The same file serves every server, so nothing in it says which host this is. Only [`load`],
//! at the foot, reads a file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::exit::Fault;
use crate::report::escape;
use crate::vip::Vip;

/// Where the configuration is unless `--config` or `VIPSWITCH_CONFIG` names another file.
pub const DEFAULT_PATH: &str = "/etc/vipswitch.toml";

/// The largest file that is read, in bytes. Sixty masters fill about 5 KiB.
pub const MAX_SIZE: u64 = 1 << 20;

/// Everything that the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Each master by its master-name.
    pub masters: BTreeMap<String, Master>,
    /// This host's Sentinel.
    pub sentinel: Sentinel,
}

/// One master and the addresses that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its VIPs, at least one.
    pub vips: Vec<Vip>,
    /// The interface that they belong on, if the configuration names it.
    pub interface: Option<String>,
}

/// Where this host's Sentinel listens and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinel {
    /// Its address, 127.0.0.1:26379 unless configured.
    pub address: SocketAddr,
    /// The ACL user, where it needs one.
    pub username: Option<String>,
    /// The file whose first line is the password, where it needs one.
    pub password_file: Option<PathBuf>,
}

/// How long Sentinel may take in all to answer one question, connecting included.
pub const SENTINEL_TIMEOUT: Duration = Duration::from_millis(300);

impl Config {
    /// Returns the master of this name.
    ///
    /// # Errors
    ///
    /// An unknown name is permanent; the nearest known one is suggested.
    pub fn master(&self, name: &str) -> Result<&Master, Fault> {
        self.masters.get(name).ok_or_else(|| {
            let known = self.masters.keys().map(String::as_str);
            Fault::permanent(format!(
                "no master \"{}\" in the configuration",
                escape(name)
            ))
            .remedy(match nearest(name, known.clone()) {
                Some(near) => format!("Did you mean \"{}\"?", escape(near)),
                None => format!(
                    "It knows: {}.",
                    known.map(escape).collect::<Vec<_>>().join(", ")
                ),
            })
        })
    }

    /// Returns every VIP of every master.
    pub fn vips(&self) -> impl Iterator<Item = &Vip> {
        self.masters.values().flat_map(|master| &master.vips)
    }
}

/// The file's shape, as serde reads it; what the values mean is checked after.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    masters: BTreeMap<Spanned<String>, MasterTable>,
    sentinel: Option<SentinelTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterTable {
    vip: Spanned<OneOrMany>,
    interface: Option<Spanned<String>>,
}

/// One address, or a list of them in which each keeps its place in the file.
enum OneOrMany {
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
struct SentinelTable {
    address: Option<Spanned<String>>,
    username: Option<String>,
    password_file: Option<Spanned<String>>,
}

/// Reads a configuration from its text. `path` is for messages alone.
///
/// # Errors
///
/// Every one is permanent and gives file, line, column and the key or value that is wrong.
pub fn parse(text: &str, path: &Path) -> Result<Config, Fault> {
    let source = Source { text, path };
    let file: Tables = toml::from_str(text).map_err(|error| source.syntax(&error))?;
    let mut masters: BTreeMap<String, Master> = BTreeMap::new();
    for (name, master) in file.masters {
        let master = source.master(master, &masters)?;
        if name.get_ref().is_empty() {
            return Err(source.at(name.span(), "a master's name is empty"));
        }
        masters.insert(name.into_inner(), master);
    }
    if masters.is_empty() {
        return Err(
            Fault::permanent(format!("{} names no master", path.display()))
                .remedy("Add a table [masters.NAME] with `vip = \"ADDRESS/PREFIX\"`."),
        );
    }
    Ok(Config {
        masters,
        sentinel: source.sentinel(file.sentinel)?,
    })
}

/// The text that is being read, for messages that name a place in it.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn master(
        &self,
        master: MasterTable,
        others: &BTreeMap<String, Master>,
    ) -> Result<Master, Fault> {
        let span = master.vip.span();
        let texts = match master.vip.into_inner() {
            OneOrMany::One(text) => vec![(span, text)],
            OneOrMany::Many(list) if list.is_empty() => {
                return Err(self.at(span, "`vip` is an empty list"));
            }
            OneOrMany::Many(list) => list
                .into_iter()
                .map(|text| (text.span(), text.into_inner()))
                .collect(),
        };
        let mut vips: Vec<Vip> = Vec::with_capacity(texts.len());
        for (span, text) in texts {
            let vip = Vip::parse(&text).map_err(|why| {
                self.at(span.clone(), format!("`vip` \"{}\" {why}", escape(&text)))
            })?;
            if vips.iter().any(|other| other.address == vip.address) {
                return Err(self.at(span, format!("{} is listed twice", vip.address)));
            }
            if let Some(other) = holder(vip, others) {
                return Err(self.at(
                    span,
                    format!(
                        "{} is already the VIP of master \"{}\"",
                        vip.address,
                        escape(other)
                    ),
                ));
            }
            vips.push(vip);
        }
        let interface = master
            .interface
            .map(|name| self.interface(name))
            .transpose()?;
        Ok(Master { vips, interface })
    }

    /// The rules of `dev_valid_name` in the kernel's net/core/dev.c: at most 15 bytes
    /// (IFNAMSIZ with its final zero), not `.` or `..`, no slash, colon or white space.
    fn interface(&self, name: Spanned<String>) -> Result<String, Fault> {
        let text = name.get_ref();
        let valid = (1..16).contains(&text.len())
            && text != "."
            && text != ".."
            && !text
                .chars()
                .any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        if !valid {
            return Err(self.at(
                name.span(),
                format!(
                    "`interface` \"{}\" is no name that an interface can have",
                    escape(text)
                ),
            ));
        }
        Ok(name.into_inner())
    }

    fn sentinel(&self, sentinel: Option<SentinelTable>) -> Result<Sentinel, Fault> {
        let (address, username, password_file) = match sentinel {
            Some(table) => (table.address, table.username, table.password_file),
            None => (None, None, None),
        };
        let address = match address {
            None => SocketAddr::from(([127, 0, 0, 1], 26379)),
            Some(text) => text.get_ref().parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
                self.at(text.span(), format!("`address` \"{}\" is not ADDRESS:PORT, such as \"127.0.0.1:26379\" or \"[::1]:26379\"", escape(text.get_ref())))
            })?,
        };
        let password_file = password_file.map(|file| match Path::new(file.get_ref()) {
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => Err(self.at(
                file.span(),
                format!(
                    "`password_file` \"{}\" is no absolute path",
                    escape(file.get_ref())
                ),
            )),
        });
        Ok(Sentinel {
            address,
            username,
            password_file: password_file.transpose()?,
        })
    }

    fn at(&self, span: Range<usize>, what: impl Into<String>) -> Fault {
        let (line, column) = line_and_column(self.text, span.start);
        Fault::permanent(format!(
            "{}:{line}:{column}: {}",
            self.path.display(),
            what.into()
        ))
    }

    /// Words an error of the TOML parser or of serde, and adds the nearest known key to one
    /// that is unknown.
    fn syntax(&self, error: &toml::de::Error) -> Fault {
        let message = escape(
            error
                .message()
                .lines()
                .next()
                .unwrap_or("is not valid TOML"),
        );
        let fault = self.at(error.span().unwrap_or(0..0), &message);
        let mut quoted = error.message().split('`').skip(1).step_by(2);
        match quoted.next() {
            Some(key) if error.message().starts_with("unknown field") => match nearest(key, quoted)
            {
                Some(near) => fault.remedy(format!("Did you mean `{near}`?")),
                None => fault,
            },
            _ => fault,
        }
    }
}

/// Returns the master that already has this VIP.
fn holder(vip: Vip, masters: &BTreeMap<String, Master>) -> Option<&str> {
    let has = |master: &Master| master.vips.iter().any(|other| other.address == vip.address);
    masters
        .iter()
        .find(|(_, master)| has(master))
        .map(|(name, _)| name.as_str())
}

/// Returns line and column, both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}

/// Returns the known word that `word` is most likely a misspelling of.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro(word, candidate), candidate))
        // The threshold that clap uses for its own suggestions.
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Reads and parses the configuration file.
///
/// # Errors
///
/// Every one is permanent: a file that cannot be read or understood, is no regular file, is
/// empty or larger than [`MAX_SIZE`], or could have been written, or put in its place, by
/// someone other than root and this process's own user.
pub fn load(path: &Path) -> Result<Config, Fault> {
    parse(&read_trusted(path, "the configuration")?, path)
}

/// Reads a text file that only root or this process's own user can have written. `what` names
/// it in messages.
///
/// # Errors
///
/// As [`load`].
pub fn read_trusted(path: &Path, what: &str) -> Result<String, Fault> {
    let refuse =
        |why: String| Fault::permanent(format!("cannot use {what} {}: {why}", path.display()));
    // Non-blocking, so that a FIFO in its place does not hold the run up.
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| {
            refuse(error.to_string())
                .remedy("Create it, or name another file with --config or VIPSWITCH_CONFIG.")
        })?;
    let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    only_ours("it", &metadata, path).map_err(refuse_with(&refuse))?;
    let place = path
        .canonicalize()
        .map_err(|error| refuse(error.to_string()))?;
    for folder in [parent(path), parent(&place)] {
        let metadata = folder
            .metadata()
            .map_err(|error| refuse(error.to_string()))?;
        only_ours(
            &format!("its folder {}", folder.display()),
            &metadata,
            folder,
        )
        .map_err(refuse_with(&refuse))?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(refuse("it is larger than 1 MiB".into()));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(refuse("it is empty".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        refuse(format!(
            "it is not valid UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        ))
    })
}

fn refuse_with(refuse: &impl Fn(String) -> Fault) -> impl Fn((String, String)) -> Fault + '_ {
    move |(why, remedy)| refuse(why).remedy(remedy)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// Checks that nobody but root and this process's own user can write there.
fn only_ours(
    name: &str,
    metadata: &std::fs::Metadata,
    path: &Path,
) -> Result<(), (String, String)> {
    let own = nix::unistd::geteuid().as_raw();
    if ![0, own].contains(&metadata.uid()) {
        return Err((
            format!(
                "{name} belongs to user id {}, who could write to it",
                metadata.uid()
            ),
            format!("Make it root's: chown root {}", path.display()),
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err((
            format!(
                "{name} can be written by others (mode {:04o})",
                metadata.mode() & 0o7777
            ),
            format!("Take that away: chmod go-w {}", path.display()),
        ));
    }
    Ok(())
}
