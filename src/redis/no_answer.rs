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
    /// No connection, and a host that is there: refused, no such socket file.
    Unreachable(String),
    /// No connection, and no word of the host: no route, no answer to TCP.
    NoRoute(String),
    /// A connection that ended at once: what listens there is not this host's Sentinel, but another user's server.
    Stranger(String),
    /// Nothing, or not all, within this time.
    Silent(Duration),
    /// Nothing yet, and it was not waited for any longer: a majority had answered.
    NotAwaited,
    /// The connection ended or failed before the answer was complete.
    Broken(String),
    /// The answer is larger than any that is expected.
    TooLong,
    /// What listens there speaks another protocol.
    NotRedis(String),
    /// It was asked in plain text, and wants TLS.
    WantsTls,
    /// It was asked in TLS, and speaks plain text.
    NoTls,
    /// No agreement on TLS: a certificate that one side does not accept.
    Certificate(String),
    /// No agreement on TLS for another reason.
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

    /// Returns whether the host is there and nobody listens at the port: that server does not run.
    pub fn is_refused(&self) -> bool {
        matches!(self, NoAnswer::Unreachable(what) if what == "connection refused")
    }

    /// Returns whether the server has just started, and reads what it has kept.
    pub fn is_loading(&self) -> bool {
        matches!(self, NoAnswer::Refused(text) if text.starts_with("LOADING "))
    }

    /// Returns whether another try can succeed without anybody changing anything. After a wrong protocol it can: during
    /// a restart another server may have had the port. After a wrong certificate it cannot: a renewal takes longer than
    /// this run's retries.
    pub fn kind(&self) -> Kind {
        match self {
            NoAnswer::AuthRefused(_)
            | NoAnswer::AuthMissing(_)
            | NoAnswer::NotAllowed(_)
            | NoAnswer::NoSuchMaster
            | NoAnswer::WantsTls
            | NoAnswer::NoTls
            | NoAnswer::Certificate(_)
            | NoAnswer::UnknownCommand(_) => Kind::Permanent,
            NoAnswer::Unreachable(_)
            | NoAnswer::NoRoute(_)
            | NoAnswer::Stranger(_)
            | NoAnswer::Silent(_)
            | NoAnswer::NotAwaited
            | NoAnswer::Broken(_)
            | NoAnswer::TooLong
            | NoAnswer::NotRedis(_)
            | NoAnswer::Tls(_)
            | NoAnswer::NotASentinel
            | NoAnswer::Refused(_)
            | NoAnswer::Unexpected(_) => Kind::Passing,
        }
    }

    /// Returns whether it may be that the host is cut off, or this one: nothing at all was heard of it. A refused
    /// connection is a word of a host that is there.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self, NoAnswer::NoRoute(_) | NoAnswer::Silent(_))
    }

    /// Returns the fault that it is to this run.
    pub(super) fn fault(&self, text: String, remedy: impl Into<String>) -> Fault {
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
            Malformed::Tls => NoAnswer::WantsTls,
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
            NoAnswer::NotAwaited => f.write_str("no answer yet where a majority has answered"),
            NoAnswer::TooLong => write!(
                f,
                "an answer above {} MiB or {VALUES_LIMIT} values",
                ANSWER_LIMIT >> 20
            ),
            // Texts of ours, in which what came from outside is escaped.
            NoAnswer::Unreachable(text)
            | NoAnswer::NoRoute(text)
            | NoAnswer::Stranger(text)
            | NoAnswer::Broken(text) => f.write_str(text),
            NoAnswer::NotRedis(text) => write!(f, "not the Redis protocol: {text}"),
            NoAnswer::WantsTls => f.write_str("it wants TLS, and was asked in plain text"),
            NoAnswer::NoTls => f.write_str("it does not speak TLS, and was asked in TLS"),
            NoAnswer::Certificate(text) | NoAnswer::Tls(text) => {
                write!(f, "no agreement on TLS: {text}")
            }
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
}
