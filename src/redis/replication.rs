//! What a Redis says of its replication: INFO's section of that name. Pure.

use std::time::Duration;

use super::reply::{Value, text};

/// How many replicas are read.
const MOST: usize = 100;

/// The state of replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replication {
    /// How far its stream has come, in bytes.
    pub offset: Option<u64>,
    /// On a promoted replica: how far the stream of its old master had come that it had, in bytes.
    pub promoted_at: Option<u64>,
    /// Its replicas.
    pub replicas: Vec<Follower>,
}

/// A replica as its master sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Its announced address or name.
    pub host: String,
    /// Its announced port.
    pub port: u16,
    /// Whether it has the stream; not while it gets its first copy.
    pub is_online: bool,
    /// What it last acknowledged, in bytes.
    pub offset: u64,
    /// How long ago that was, in whole seconds.
    pub lag: Option<Duration>,
}

/// Reads the answer to INFO; what is not there is not known.
pub fn read(answer: &Value) -> Replication {
    let info = text(answer).unwrap_or_default();
    let value = |key: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    };
    let number = |key: &str| value(key)?.trim().parse::<u64>().ok();
    let replicas = (0..MOST).map_while(|place| follower(value(&format!("slave{place}"))?));
    Replication {
        offset: number("master_repl_offset"),
        // "Up to" an offset, and not that one (replication.c, shiftReplicationId).
        promoted_at: value("second_repl_offset")
            .and_then(|text| text.trim().parse::<i64>().ok())
            .and_then(|offset| u64::try_from(offset - 1).ok()),
        replicas: replicas.collect(),
    }
}

/// Reads `ip=10.0.0.2,port=6379,state=online,offset=123,lag=0`.
fn follower(line: &str) -> Option<Follower> {
    let value = |key: &str| {
        let mut parts = line.trim().split(',');
        parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
    };
    let seconds = value("lag").and_then(|text| text.parse().ok());
    Some(Follower {
        host: value("ip")?.to_owned(),
        port: value("port")?.parse().ok()?,
        is_online: value("state") == Some("online"),
        offset: value("offset")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        lag: seconds.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replicas_and_their_lag_are_read() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                    slave0:ip=10.0.0.2,port=6379,state=online,offset=90,lag=1\r\n\
                    slave1:ip=fd00::3,port=6380,state=wait_bgsave,offset=0,lag=0\r\n\
                    master_repl_offset:100\r\nsecond_repl_offset:-1\r\n";
        let read = read(&Value::Text(info.into()));
        assert_eq!((read.offset, read.promoted_at), (Some(100), None));
        let [online, new] = read.replicas.as_slice() else {
            panic!("{read:?}")
        };
        assert_eq!(
            (online.offset, online.lag),
            (90, Some(Duration::from_secs(1)))
        );
        assert!(online.is_online && !new.is_online && new.host == "fd00::3");
    }

    #[test]
    fn a_promoted_replica_tells_how_much_it_had() {
        let info = "role:master\r\nmaster_repl_offset:70\r\nsecond_repl_offset:51\r\n";
        assert_eq!(read(&Value::Text(info.into())).promoted_at, Some(50));
        assert_eq!(read(&Value::Nil), Replication::default());
    }
}
