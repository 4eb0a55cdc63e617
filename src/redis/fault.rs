//! What a server that gave no answer means for a run, and what to do about it.

use std::fmt;

use super::no_answer::NoAnswer;
use crate::exit::Fault;
use crate::text::escape;

/// What a user needs at every Sentinel, as docs/configuration.md has it, too.
macro_rules! sentinel_rights {
    () => {
        "+sentinel|get-master-addr-by-name +sentinel|master +sentinel|sentinels +sentinel|slaves; with an agent also +sentinel|masters +sentinel|myid +sentinel|is-master-down-by-addr +sentinel|failover +info +subscribe +ping allchannels."
    };
}

/// What a user needs at every Sentinel, in words.
pub const SENTINEL_RIGHTS: &str = sentinel_rights!();

/// Returns the fault of a Sentinel that gave no answer. For [`NoAnswer::NoSuchMaster`],
/// [`not_monitored`] has the master's name, too.
pub fn sentinel_fault(no: &NoAnswer, at: impl fmt::Display) -> Fault {
    let text = match no {
        NoAnswer::NoSuchMaster => format!("Sentinel at {at} does not monitor this master"),
        NoAnswer::AuthRefused(_) => format!("Sentinel at {at} refused the password: {no}"),
        _ => format!("Sentinel at {at} did not answer: {no}"),
    };
    no.fault(text, sentinel_remedy(no))
}

fn sentinel_remedy(no: &NoAnswer) -> &'static str {
    match no {
        NoAnswer::NoSuchMaster => SAME_NAME,
        NoAnswer::NotASentinel => {
            "What listens there is no Sentinel: correct `address` under [sentinel] in the configuration."
        }
        NoAnswer::AuthRefused(_) => {
            "Correct username and password, or password_file, under [sentinel] in the configuration; without a password there, leave them out."
        }
        NoAnswer::AuthMissing(_) => {
            "Set username and password_file under [sentinel] in the configuration."
        }
        NoAnswer::NotAllowed(_) => {
            concat!(
                "The user under [sentinel] in the configuration needs at this Sentinel ",
                sentinel_rights!()
            )
        }
        NoAnswer::UnknownCommand(_) => {
            "vipswitch needs the commands of Sentinel in Redis 3.2 or later."
        }
        NoAnswer::WantsTls => {
            "Set `tls = true` under [sentinel], and the files under [tls], in the configuration; or correct `address`."
        }
        NoAnswer::NoTls => {
            "Take `tls = true` under [sentinel] out of the configuration; or correct `address`, which may be that of another port."
        }
        NoAnswer::Certificate(_) => {
            "Correct the files under [tls] in the configuration, or Sentinel's certificate."
        }
        NoAnswer::NotRedis(_) | NoAnswer::TooLong | NoAnswer::Unexpected(_) => {
            "What listens there does not answer as a Sentinel does: correct `address` under [sentinel] in the configuration."
        }
        NoAnswer::Tls(_) => {
            "Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens with TLS?"
        }
        NoAnswer::Stranger(_) => {
            "Is Sentinel running? If it runs as that user now, name its number: `user` under [sentinel] in the configuration."
        }
        NoAnswer::Refused(text) => refusal(text),
        // A server that wants TLS and was asked in plain text was recognized by then.
        NoAnswer::Unreachable(_)
        | NoAnswer::NoRoute(_)
        | NoAnswer::Silent(_)
        | NoAnswer::NotAwaited
        | NoAnswer::Broken(_) => {
            "Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens?"
        }
    }
}

const SAME_NAME: &str = "The master-name in vipswitch.toml and in sentinel.conf must be the same.";

/// Returns what to do about an error reply for which there is no variant of `NoAnswer` of its own. The server
/// is running: it has replied.
fn refusal(text: &str) -> &'static str {
    let begins = |with: &str| text.starts_with(with);
    if begins("LOADING") {
        "It is loading its data, and answers when it has done so."
    } else if begins("BUSY") {
        "A script holds it up: SCRIPT KILL or FUNCTION KILL ends that."
    } else if begins("MASTERDOWN") {
        "It answers when its link to its master is back, or with `replica-serve-stale-data yes`."
    } else if begins("DENIED") {
        "It is in protected mode: give it a password, or set `protected-mode no` where its port is safe."
    } else if text.contains("max number of clients") {
        "It has as many connections as its `maxclients` allows: close some, or raise that."
    } else {
        "It is running, and refuses the question."
    }
}

/// Returns the fault of a Sentinel that does not monitor a master of this name.
pub fn not_monitored(at: impl fmt::Display, master: &str) -> Fault {
    let master = escape(master);
    let text = format!("Sentinel at {at} does not monitor a master named \"{master}\"");
    NoAnswer::NoSuchMaster.fault(text, SAME_NAME)
}

/// Returns the fault of a master's Redis that did not tell its role.
pub fn redis_fault(no: &NoAnswer, at: impl fmt::Display, master: &str) -> Fault {
    let text = match no {
        NoAnswer::AuthRefused(_) => format!("the Redis at {at} refused the password: {no}"),
        _ => format!("the Redis at {at} does not tell its role: {no}"),
    };
    no.fault(text, redis_remedy(no, &escape(master)))
}

fn redis_remedy(no: &NoAnswer, master: &str) -> String {
    match no {
        NoAnswer::AuthRefused(_) => format!(
            "Correct redis_username and redis_password_file of master \"{master}\" in the configuration, or what is in that file."
        ),
        NoAnswer::AuthMissing(_) => format!(
            "Set redis_password_file, and redis_username if it needs one, for master \"{master}\" in the configuration."
        ),
        NoAnswer::NotAllowed(_) => {
            format!("The redis_username of master \"{master}\" needs +role there, or +info.")
        }
        NoAnswer::UnknownCommand(_) => {
            "It must know the command ROLE or INFO: see rename-command in redis.conf.".into()
        }
        NoAnswer::WantsTls => format!(
            "Set `tls = true` for master \"{master}\", and the files under [tls], in the configuration."
        ),
        NoAnswer::NoTls => {
            format!("Take `tls = true` of master \"{master}\" out of the configuration.")
        }
        NoAnswer::Certificate(_) => {
            "Correct the files under [tls] in the configuration, or the certificate of this Redis."
                .into()
        }
        NoAnswer::NotRedis(_) | NoAnswer::TooLong | NoAnswer::Unexpected(_) => {
            "What listens there does not answer as a Redis does: is its port another program's?"
                .into()
        }
        NoAnswer::Tls(_) => "Is it running, and is that its port with TLS?".into(),
        NoAnswer::Refused(text) => refusal(text).into(),
        NoAnswer::Silent(_) => "Is it frozen, or held up by a slow command?".into(),
        NoAnswer::Unreachable(_)
        | NoAnswer::NoRoute(_)
        | NoAnswer::NotAwaited
        | NoAnswer::Broken(_)
        | NoAnswer::Stranger(_)
        | NoAnswer::NotASentinel
        | NoAnswer::NoSuchMaster => "Is it running?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

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

    #[test]
    fn a_server_that_replies_is_not_asked_whether_it_runs() {
        for (reply, remedy) in [
            ("LOADING Redis is loading the dataset in memory", "loading"),
            (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                "SCRIPT KILL",
            ),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                "replica-serve-stale-data yes",
            ),
            (
                "DENIED Redis is running in protected mode because protected mode is enabled",
                "protected-mode no",
            ),
            ("ERR max number of clients reached", "maxclients"),
            ("ERR whatever", "refuses the question"),
            ("ERR unknown command 'ROLE'", "rename-command"),
            ("NOPERM this user has no permissions", "+role"),
        ] {
            let fault = redis_fault(&NoAnswer::of_error(reply), "10.0.0.1:6379", "m").to_string();
            assert!(
                fault.contains(remedy) && !fault.contains("running?"),
                "{fault}"
            );
        }
        for no in [
            NoAnswer::TooLong,
            NoAnswer::NotRedis("\"HTTP\"".into()),
            NoAnswer::Unexpected("\"PONG\"".into()),
            NoAnswer::WantsTls,
            NoAnswer::NoTls,
            NoAnswer::Certificate("the server's certificate has expired".into()),
        ] {
            let faults = [
                redis_fault(&no, "10.0.0.1:6379", "m"),
                sentinel_fault(&no, "10.0.0.1:26379"),
            ];
            for fault in faults {
                assert!(!fault.to_string().contains("unning"), "{fault}");
            }
        }
    }
}
