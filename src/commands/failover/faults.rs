//! Why no failover was asked for, or what is not right with a failover that was, and what to do about it.

use super::PROMOTION;
use super::told::Told;
use crate::election::Refusal;
use crate::exit::Fault;

/// Returns the fault of an election that came to nothing.
pub(super) fn refusal(no: &Refusal) -> Fault {
    match no {
        Refusal::Refused(_) | Refusal::Silent(_) => Fault::passing(no.to_string()).remedy(
            "Look at that Sentinel's log. Another failover may be asked for once this one is over, after twice failover-timeout at most.",
        ),
        Refusal::Busy(_, flag) if flag == "tilt" => refused(no).remedy(
            "Its clock has jumped, or its machine was stopped: it begins nothing for 30 s. Try again then.",
        ),
        Refusal::Stopped | Refusal::TooSlow(_) => refused(no).remedy(
            "Try again in 10 s, when those votes are over; where it is so again, look at the load of the Sentinels' machines.",
        ),
        Refusal::Busy(..) | Refusal::TooLate(_) | Refusal::Voted(_) | Refusal::Lost(..) => refused(no).remedy(
            "Another failover goes on, or is about to. Wait until it is over: vipswitch status",
        ),
        Refusal::Withheld(..) => Fault::permanent(format!("no failover was asked for: {no}"))
            .remedy("docs/configuration.md lists all rights that it needs, at every Sentinel."),
        Refusal::Unwanted(why) => why.clone(),
        Refusal::TooFew(..) | Refusal::OtherMaster => {
            refused(no).remedy("Look at the Sentinels: vipswitch status")
        }
        Refusal::NoSentinel(_) => {
            refused(no).remedy(
                "A Redis that was just started may be a master until Sentinel makes it a replica, about 10 s later. Else look at the replicas: vipswitch check, redis-cli INFO replication",
            )
        }
    }
}

/// Returns the fault of a failover that somebody else was faster with.
pub(super) fn overtaken() -> Fault {
    Fault::passing("no failover was asked for: another one has begun meanwhile")
        .remedy("Wait until it is over: vipswitch status")
}

/// Returns the fault of a failover that its leader has given up.
pub(super) fn given_up(told: &Told) -> Fault {
    let at = told.sentinel.as_deref().unwrap_or_default();
    Fault::passing(format!("the Sentinel at {at} has given the failover up")).remedy(
        "Its log says why. The master stays what it was, unless the replica was promoted already: vipswitch status",
    )
}

/// Returns the fault of a failover in which no replica was promoted in time.
pub(super) fn not_promoted(told: &Told) -> Fault {
    let at = told.sentinel.as_deref().unwrap_or_default();
    let text = format!(
        "the Sentinel at {at} was asked, and no replica has become master within {} s",
        PROMOTION.as_secs()
    );
    Fault::passing(text).remedy(
        "It goes on until failover-timeout is over: look at its log, and at vipswitch status.",
    )
}

fn refused(no: &Refusal) -> Fault {
    Fault::passing(format!("no failover was asked for: {no}"))
}
