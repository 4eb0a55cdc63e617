//! Why a server gave no answer: situations on which code decides. Error replies are told apart here
//! and nowhere else, because only their texts tell them apart.

use std::fmt;
use std::time::Duration;

use super::reply::{ANSWER_LIMIT, Malformed, VALUES_LIMIT};
use crate::exit::{Fault, Kind};
use crate::text::escape;

/// Why a server gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection: refused, no route, no such socket file.
    Unreachable(String),
    /// Nothing, or not all, within this time.
    Silent(Duration),
    /// The connection ended or failed before the answer was complete.
    Broken(String),
    /// The answer is larger than any that is expected.
    TooLong,
    /// What listens there speaks another protocol.
    NotRedis(String),
    /// No agreement on TLS: a certificate, or a server without TLS.
    Tls(String),
    /// The server does not accept the user and the password, or has none.
    AuthRefused(String),
    /// The server wants a password.
    AuthMissing(String),
    /// The user may not ask this.
    NotAllowed(String),
    /// A Redis, which does not know the command SENTINEL.
    NotASentinel,
    /// Sentinel does not monitor a master of this name.
    NoSuchMaster,
    /// A command, not SENTINEL, that the server does not know.
    UnknownCommand(String),
    /// Any other error reply.
    Refused(String),
    /// An answer of another shape than the question has.
    Unexpected(String),
}

impl NoAnswer {
    /// Returns what an error reply means. The texts are those of Redis 2.8 to 8 and of Valkey.
    pub fn of_error(text: &str) -> NoAnswer {
        let shown: String = text.trim_end_matches('.').chars().take(SHOWN).collect();
        let lower = shown.to_ascii_lowercase();
        let (code, rest) = lower.split_once(' ').unwrap_or((&lower, ""));
        match code {
            "noauth" => NoAnswer::AuthMissing(shown),
            "wrongpass" => NoAnswer::AuthRefused(shown),
            "noperm" => NoAnswer::NotAllowed(shown),
            "err" => of_plain_error(rest)(shown),
            _ => NoAnswer::Refused(shown),
        }
    }

    /// Returns whether another try can succeed while nobody changes anything. An agreement on TLS
    /// can, as certificates are renewed; so can a wrong protocol, as ports are reused at a restart.
    pub fn kind(&self) -> Kind {
        match self {
            NoAnswer::AuthRefused(_)
            | NoAnswer::AuthMissing(_)
            | NoAnswer::NotAllowed(_)
            | NoAnswer::NoSuchMaster
            | NoAnswer::UnknownCommand(_) => Kind::Permanent,
            NoAnswer::Unreachable(_)
            | NoAnswer::Silent(_)
            | NoAnswer::Broken(_)
            | NoAnswer::TooLong
            | NoAnswer::NotRedis(_)
            | NoAnswer::Tls(_)
            | NoAnswer::NotASentinel
            | NoAnswer::Refused(_)
            | NoAnswer::Unexpected(_) => Kind::Passing,
        }
    }

    fn fault(&self, text: String, remedy: impl Into<String>) -> Fault {
        let fault = match self.kind() {
            Kind::Passing => Fault::passing(text),
            Kind::Permanent => Fault::permanent(text),
        };
        fault.remedy(remedy)
    }
}

/// How much of an error reply is kept, in characters.
const SHOWN: usize = 256;

/// Returns what an error with the code ERR means, by the text after that code.
fn of_plain_error(rest: &str) -> fn(String) -> NoAnswer {
    const REFUSED_PASSWORDS: [&str; 4] = [
        "invalid password",
        // Until Redis 5, and since Redis 6: no password is configured there.
        "client sent auth, but no password is set",
        "auth <password> called without any password configured",
        // A user name, before Redis 6.
        "wrong number of arguments for 'auth' command",
    ];
    // In quotes or in backquotes, by the version; then the arguments, the password among them.
    let unknown = rest.strip_prefix("unknown command ");
    let unknown = unknown.map(|name| name.split(['\'', '`']).nth(1).unwrap_or(name));
    match unknown {
        Some("sentinel") => return |_| NoAnswer::NotASentinel,
        // Sentinel before Redis 5.
        Some("auth") => return |_| NoAnswer::AuthRefused("it does not know AUTH".into()),
        Some(_) => return |text| NoAnswer::UnknownCommand(without_arguments(text)),
        None => {}
    }
    if rest.starts_with("unknown subcommand") || rest.starts_with("unknown sentinel subcommand") {
        NoAnswer::UnknownCommand
    } else if rest.starts_with("no such master") {
        |_| NoAnswer::NoSuchMaster
    } else if rest == "operation not permitted" {
        // NOAUTH, before Redis 2.8.
        NoAnswer::AuthMissing
    } else if REFUSED_PASSWORDS.iter().any(|text| rest.starts_with(text)) {
        NoAnswer::AuthRefused
    } else {
        NoAnswer::Refused
    }
}

impl From<Malformed> for NoAnswer {
    fn from(malformed: Malformed) -> NoAnswer {
        match malformed {
            Malformed::TooLong => NoAnswer::TooLong,
            Malformed::NotRedis(what) => NoAnswer::NotRedis(what),
        }
    }
}

/// What happened, for the end of a sentence about the server.
impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::Silent(time) => {
                let rounded = *time + Duration::from_micros(500);
                write!(f, "nothing within {} ms", rounded.as_millis())
            }
            NoAnswer::TooLong => write!(
                f,
                "an answer above {} MiB or {VALUES_LIMIT} values",
                ANSWER_LIMIT >> 20
            ),
            // Texts of ours, in which what came from outside is escaped.
            NoAnswer::Unreachable(text) | NoAnswer::Broken(text) => f.write_str(text),
            NoAnswer::NotRedis(text) => write!(f, "not the Redis protocol: {text}"),
            NoAnswer::Tls(text) => write!(f, "no agreement on TLS: {text}"),
            NoAnswer::Unexpected(text) => write!(f, "an unexpected answer: {text}"),
            NoAnswer::NotASentinel => f.write_str("it does not know the command SENTINEL"),
            NoAnswer::NoSuchMaster => f.write_str("it does not monitor this master"),
            NoAnswer::AuthRefused(text)
            | NoAnswer::AuthMissing(text)
            | NoAnswer::NotAllowed(text)
            | NoAnswer::UnknownCommand(text)
            | NoAnswer::Refused(text) => f.write_str(&escape(text)),
        }
    }
}

/// Returns an error about an unknown command without the arguments that it repeats.
fn without_arguments(text: String) -> String {
    match text.find(", with args") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Returns the fault of a Sentinel that gave no answer. For [`NoAnswer::NoSuchMaster`],
/// [`not_monitored`] has the master's name, too.
pub fn sentinel_fault(no: &NoAnswer, at: impl fmt::Display) -> Fault {
    let unanswered = format!("Sentinel at {at} did not answer: {no}");
    let (text, remedy) = match no {
        NoAnswer::NoSuchMaster => (
            format!("Sentinel at {at} does not monitor this master"),
            SAME_NAME,
        ),
        NoAnswer::NotASentinel => (
            unanswered,
            "What listens there is no Sentinel: correct `address` under [sentinel] in the configuration.",
        ),
        NoAnswer::AuthRefused(_) => (
            format!("Sentinel at {at} refused the password: {no}"),
            "Correct username and password, or password_file, under [sentinel] in the configuration; without a password there, leave them out.",
        ),
        NoAnswer::AuthMissing(_) => (
            unanswered,
            "Set username and password_file under [sentinel] in the configuration.",
        ),
        NoAnswer::NotAllowed(_) => (
            unanswered,
            "The user under [sentinel] in the configuration needs +sentinel|get-master-addr-by-name +sentinel|master +sentinel|sentinels at this Sentinel.",
        ),
        NoAnswer::UnknownCommand(_) => (
            unanswered,
            "vipswitch needs the commands of Sentinel in Redis 3.2 or later.",
        ),
        NoAnswer::Tls(_) => (
            unanswered,
            "Correct `tls` under [sentinel], or the files under [tls], in the configuration.",
        ),
        NoAnswer::NotRedis(_) | NoAnswer::TooLong | NoAnswer::Unexpected(_) => (
            unanswered,
            "Correct `address` under [sentinel] in the configuration, or `tls` if Sentinel wants TLS there.",
        ),
        NoAnswer::Broken(_) => (
            unanswered,
            "Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens? If it wants TLS: `tls = true` under [sentinel].",
        ),
        NoAnswer::Unreachable(_) | NoAnswer::Silent(_) | NoAnswer::Refused(_) => (
            unanswered,
            "Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens?",
        ),
    };
    no.fault(text, remedy)
}

const SAME_NAME: &str = "The master-name in vipswitch.toml and in sentinel.conf must be the same.";

/// Returns the fault of a Sentinel that does not monitor a master of this name.
pub fn not_monitored(at: impl fmt::Display, master: &str) -> Fault {
    let master = escape(master);
    let text = format!("Sentinel at {at} does not monitor a master named \"{master}\"");
    NoAnswer::NoSuchMaster.fault(text, SAME_NAME)
}

/// Returns the fault of a master's Redis that did not tell its role.
pub fn redis_fault(no: &NoAnswer, at: impl fmt::Display, master: &str) -> Fault {
    let master = escape(master);
    let untold = format!("the Redis at {at} does not tell its role: {no}");
    let (text, remedy) = match no {
        NoAnswer::AuthRefused(_) => (
            format!("the Redis at {at} refused the password: {no}"),
            format!(
                "Correct redis_username and redis_password_file of master \"{master}\" in the configuration, or what is in that file."
            ),
        ),
        NoAnswer::AuthMissing(_) => (
            untold,
            format!(
                "Set redis_password_file, and redis_username if it needs one, for master \"{master}\" in the configuration."
            ),
        ),
        NoAnswer::NotAllowed(_) => (
            untold,
            format!("The redis_username of master \"{master}\" needs +role there."),
        ),
        NoAnswer::UnknownCommand(_) => (
            untold,
            "It must know the command ROLE or INFO: see rename-command in redis.conf.".into(),
        ),
        NoAnswer::Tls(_) | NoAnswer::NotRedis(_) => (
            untold,
            format!(
                "Correct `tls` of master \"{master}\", or the files under [tls], in the configuration."
            ),
        ),
        NoAnswer::Broken(_) => (
            untold,
            format!(
                "Is it running? If it wants TLS: `tls = true` of master \"{master}\" in the configuration."
            ),
        ),
        _ => (untold, "Is it running?".into()),
    };
    no.fault(text, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variant that an error reply makes, and whether its text is kept.
    fn variant(reply: &str) -> &'static str {
        match NoAnswer::of_error(reply) {
            NoAnswer::NotASentinel => "not a Sentinel",
            NoAnswer::NoSuchMaster => "no such master",
            NoAnswer::AuthRefused(_) => "refused password",
            NoAnswer::AuthMissing(_) => "missing password",
            NoAnswer::NotAllowed(_) => "not allowed",
            NoAnswer::UnknownCommand(_) => "unknown command",
            NoAnswer::Refused(_) => "refused",
            other => panic!("{reply}: {other:?}"),
        }
    }

    #[test]
    fn error_replies_of_every_version_are_told_apart() {
        for (reply, expected) in [
            // Redis 2.8 to 4; 5 and 6; 7 and later, and Valkey.
            ("ERR unknown command 'SENTINEL'", "not a Sentinel"),
            (
                "ERR unknown command `SENTINEL`, with args beginning with: `get-master-addr-by-name`, `m`, ",
                "not a Sentinel",
            ),
            (
                "ERR unknown command 'SENTINEL', with args beginning with: 'master' 'm' ",
                "not a Sentinel",
            ),
            ("ERR unknown command 'ROLE'", "unknown command"),
            (
                "ERR unknown command `ROLE`, with args beginning with: ",
                "unknown command",
            ),
            (
                "ERR unknown command 'ROLE', with args beginning with: 'sentinel' ",
                "unknown command",
            ),
            ("ERR Unknown sentinel subcommand 'x'", "unknown command"),
            (
                "ERR unknown subcommand 'x'. Try SENTINEL HELP.",
                "unknown command",
            ),
            ("ERR unknown command 'AUTH'", "refused password"),
            ("ERR No such master with that name", "no such master"),
            (
                "IDONTKNOW I have not enough information to reply. Please ask another Sentinel.",
                "refused",
            ),
            ("NOAUTH Authentication required.", "missing password"),
            (
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
                "missing password",
            ),
            ("ERR operation not permitted", "missing password"),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "refused password",
            ),
            (
                "WRONGPASS invalid username-password pair",
                "refused password",
            ),
            ("ERR invalid password", "refused password"),
            (
                "ERR Client sent AUTH, but no password is set",
                "refused password",
            ),
            (
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                "refused password",
            ),
            (
                "ERR wrong number of arguments for 'auth' command",
                "refused password",
            ),
            (
                "ERR wrong number of arguments for 'sentinel' command",
                "refused",
            ),
            (
                "NOPERM this user has no permissions to run the 'sentinel' command or its subcommand",
                "not allowed",
            ),
            (
                "NOPERM User vipswitch has no permissions to run the 'sentinel|master' command",
                "not allowed",
            ),
            ("LOADING Redis is loading the dataset in memory", "refused"),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                "refused",
            ),
            (
                "DENIED Redis is running in protected mode because protected mode is enabled",
                "refused",
            ),
            ("ERR max number of clients reached", "refused"),
            ("ERR", "refused"),
            ("", "refused"),
        ] {
            assert_eq!(variant(reply), expected, "{reply}");
        }
    }

    #[test]
    fn a_text_from_outside_is_escaped_and_cut() {
        let no = NoAnswer::of_error(&format!("ERR \u{1b}[31m\"{}", "x".repeat(1000)));
        let shown = no.to_string();
        assert!(shown.starts_with("ERR \\u{1b}[31m\\\"xx"), "{shown}");
        assert!(shown.len() < 300, "{shown}");
    }

    #[test]
    fn a_time_is_shown_in_rounded_milliseconds() {
        let shown = |time| NoAnswer::Silent(time).to_string();
        assert_eq!(shown(Duration::from_millis(300)), "nothing within 300 ms");
        assert_eq!(
            shown(Duration::from_micros(299_996)),
            "nothing within 300 ms"
        );
    }

    #[test]
    fn a_fault_says_what_to_do() {
        let said = |no: &NoAnswer| sentinel_fault(no, "127.0.0.1:26379").to_string();
        let wrong =
            NoAnswer::of_error("WRONGPASS invalid username-password pair or user is disabled.");
        assert_eq!(
            said(&wrong),
            "Sentinel at 127.0.0.1:26379 refused the password: WRONGPASS invalid username-password pair or user is disabled. \
             Correct username and password, or password_file, under [sentinel] in the configuration; without a password there, leave them out."
        );
        let refused = NoAnswer::Unreachable("connection refused".into());
        assert_eq!(
            said(&refused),
            "Sentinel at 127.0.0.1:26379 did not answer: connection refused. \
             Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens?"
        );
        assert_eq!(
            not_monitored("127.0.0.1:26379", "a\"b").to_string(),
            "Sentinel at 127.0.0.1:26379 does not monitor a master named \"a\\\"b\". \
             The master-name in vipswitch.toml and in sentinel.conf must be the same."
        );
        let missing = NoAnswer::of_error("NOAUTH Authentication required.");
        let fault = redis_fault(&missing, "10.0.0.1:6379", "m");
        assert_eq!(fault.kind, Kind::Permanent);
        assert_eq!(
            fault.to_string(),
            "the Redis at 10.0.0.1:6379 does not tell its role: NOAUTH Authentication required. \
             Set redis_password_file, and redis_username if it needs one, for master \"m\" in the configuration."
        );
    }
}
