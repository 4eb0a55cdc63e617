//! An election with three Sentinels of this process, while time passes between the votes and the request.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::look::Vote;
use super::*;
use crate::exit::Fault;
use crate::failover::{self, Host};
use crate::place::Place;

/// No machine is so busy that these Sentinels are late, nor that all takes longer than [`WITHIN`] where a step is waited.
const STEP: Duration = Duration::from_secs(2);

/// What the three have in common, and the vote of each.
pub(crate) struct Sentinels {
    flags: &'static str,
    pub(crate) down_after: u64,
    votes: [Vote; 3],
    /// How often a failover was asked for.
    pub(crate) asked: usize,
    /// How often a vote was asked for.
    pub(crate) voted: usize,
    /// How often one has told all since.
    told: usize,
    /// Which question ends the connection before its answer.
    ends: Option<Ends>,
    /// What the user may not do.
    denied: &'static str,
    /// Where that is so.
    denies: std::ops::Range<usize>,
    /// The newest failover, as the third one tells it.
    newest: &'static str,
    /// How late each answer comes.
    late: Duration,
    /// From whom.
    is_late: std::ops::Range<usize>,
    /// How long this process is stopped once two have told all after the first votes were asked for.
    stop: Duration,
    /// How long each step may take.
    step: Duration,
    /// The epoch of the second one, which gives no vote in an older one.
    epoch: u64,
}

/// A question that is carried out, and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Vote,
    Request,
}

pub(crate) type Shared = Arc<Mutex<Sentinels>>;

impl Sentinels {
    fn late_at(&self, place: usize) -> Duration {
        match self.is_late.contains(&place) {
            true => self.late,
            false => Duration::ZERO,
        }
    }

    /// Notes that one has told all. Where two may be asked they are all; and nothing else of this process goes on while its
    /// only thread sleeps.
    fn has_told(&mut self) {
        self.told += usize::from(self.voted > 0);
        if self.told == 2 {
            std::thread::sleep(self.stop);
        }
    }
}

const IDS: [&str; 3] = ["aa", "bb", "cc"];

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn list(parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| bulk(part)).collect();
    format!("*{}\r\n{parts}", parts.matches("\r\n").count() / 2)
}

/// Answers one question, if the connection does not end.
fn answer(words: &[String], place: usize, all: &Shared) -> Option<String> {
    let said = answer_to(words, place, all);
    let all = all.lock().unwrap();
    let is_denied = all.denies.contains(&place) && words.iter().any(|word| word == all.denied);
    let ends = match words[1].as_str() {
        "FAILOVER" => all.ends == Some(Ends::Request),
        "IS-MASTER-DOWN-BY-ADDR" => words[4] != "0" && all.ends == Some(Ends::Vote),
        _ => false,
    };
    // Nothing of the whole conversation is answered: a question about the last vote goes before.
    if all.ends == Some(Ends::Vote) && words.len() == 6 && !ends && !words[5].starts_with("00") {
        return Some(String::new());
    }
    let denied = || "-NOPERM this user has no permissions\r\n".to_owned();
    (!ends).then(|| if is_denied { denied() } else { said })
}

fn answer_to(words: &[String], place: usize, all: &Shared) -> String {
    let mut all = all.lock().unwrap();
    let down_after = all.down_after.to_string();
    let master = list(&[
        "ip",
        "10.0.0.2",
        "port",
        "6379",
        "flags",
        all.flags,
        "config-epoch",
        if place == 2 { all.newest } else { "4" },
        "down-after-milliseconds",
        &down_after,
        "last-ok-ping-reply",
        "100",
    ]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["SENTINEL", "get-master-addr-by-name", _] => list(&["10.0.0.2", "6379"]),
        ["SENTINEL", "MASTER", _] => master,
        ["SENTINEL", "MASTERS"] => format!("*1\r\n{master}"),
        ["SENTINEL", "SLAVES", _] => {
            let replica = list(&[
                "ip",
                "10.0.0.1",
                "port",
                "6379",
                "runid",
                "r1",
                "flags",
                "slave",
                "master-link-status",
                "ok",
                "slave-priority",
                "100",
                "last-ok-ping-reply",
                "100",
                "info-refresh",
                "100",
            ]);
            format!("*1\r\n{replica}")
        }
        ["SENTINEL", "SENTINELS", _] => "*0\r\n".to_owned(),
        ["SENTINEL", "MYID"] => bulk(IDS[place]),
        ["INFO", _] => bulk("sentinel_tilt:0\r\n"),
        ["SENTINEL", "IS-MASTER-DOWN-BY-ADDR", _, _, epoch, run_id] => {
            let epoch: u64 = epoch.parse().unwrap();
            all.voted += usize::from(epoch > 0);
            let oldest = if place == 1 { all.epoch } else { 0 };
            let vote = &mut all.votes[place];
            if epoch > vote.epoch && epoch >= oldest {
                *vote = Vote::new(run_id, epoch);
            }
            format!("*3\r\n:0\r\n{}:{}\r\n", bulk(&vote.leader), vote.epoch)
        }
        ["SENTINEL", "FAILOVER", _] => {
            all.asked += 1;
            "+OK\r\n".to_owned()
        }
        _ => format!("-ERR {words:?}\r\n"),
    }
}

/// Answers the questions on a connection, each of which is a list of words.
async fn serve(mut stream: TcpStream, place: usize, all: Shared) {
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        heard += str::from_utf8(&buffer[..read]).unwrap();
        while let Some((words, rest)) = question(&heard) {
            let Some(said) = answer(&words, place, &all) else {
                return;
            };
            heard = rest;
            let late = all.lock().unwrap().late_at(place);
            sleep(late).await;
            let _ = stream.write_all(said.as_bytes()).await;
            // The last question after a vote.
            if words[1] == "MASTER" {
                all.lock().unwrap().has_told();
            }
        }
    }
}

/// Returns the words of the first question, if it is there, and what follows.
fn question(heard: &str) -> Option<(Vec<String>, String)> {
    let mut lines = heard
        .split_inclusive("\r\n")
        .filter(|line| line.ends_with("\r\n"));
    let first = lines.next()?;
    let number: usize = first.trim().strip_prefix('*')?.parse().ok()?;
    let lines: Vec<&str> = lines.take(2 * number).collect();
    if lines.len() < 2 * number {
        return None;
    }
    let used = first.len() + lines.iter().map(|line| line.len()).sum::<usize>();
    let words = lines
        .iter()
        .skip(1)
        .step_by(2)
        .map(|word| word.trim_end().to_owned());
    Some((words.collect(), heard[used..].to_owned()))
}

/// Three Sentinels that are well.
pub(crate) fn well() -> Sentinels {
    Sentinels {
        flags: "master",
        down_after: 60_000,
        votes: [(); 3].map(|()| Vote::new("bb", 4)),
        asked: 0,
        voted: 0,
        told: 0,
        ends: None,
        denied: "",
        denies: 0..3,
        newest: "4",
        late: Duration::ZERO,
        is_late: 2..3,
        stop: Duration::ZERO,
        step: STEP,
        epoch: 0,
    }
}

/// Holds an election in which this happens after the votes, which takes longer than they are new. Returns what came of
/// it, and how often a failover was asked for.
async fn held(
    down_after: u64,
    ahead: Option<Duration>,
    happens: impl Fn(&mut Sentinels),
) -> (Result<Plan, Refusal>, usize) {
    let sentinels = Sentinels {
        down_after,
        ..well()
    };
    let later = async |all: &Shared| {
        sleep(STEP + Duration::from_millis(100)).await;
        happens(&mut all.lock().unwrap());
        Ok(())
    };
    let (came, all) = elect(sentinels, ahead, later).await;
    (came.map(|(plan, _)| plan), all.asked)
}

/// Starts the three, and returns how each is asked.
pub(crate) async fn ways_to(all: &Shared) -> Vec<Server> {
    let mut ways = Vec::new();
    for place in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        ways.push(Server::at(Endpoint::Tcp(listener.local_addr().unwrap())));
        let all = Arc::clone(all);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, place, Arc::clone(&all)));
            }
        });
    }
    ways
}

/// Holds an election among these, and does this after the votes. Returns what came of it, and of them.
async fn elect(
    sentinels: Sentinels,
    ahead: Option<Duration>,
    then: impl AsyncFn(&Shared) -> GoOn,
) -> (Result<(Plan, Vec<Vote>), Refusal>, Sentinels) {
    let step = sentinels.step;
    let all = Arc::new(Mutex::new(sentinels));
    let ways = ways_to(&all).await;
    let host = "10.0.0.2".parse().unwrap();
    let master = Site {
        endpoint: failover::Endpoint {
            host: Host::Address(host),
            port: 6379,
        },
        addresses: vec![host],
        run_id: None,
        place: Ok(Place::Elsewhere),
    };
    let request = Request {
        name: "m",
        master: &master,
        ways: &ways,
        terms: Terms {
            needed: 2,
            leaving: Vec::new(),
            is_here: false,
            near: None,
            ahead,
            over: Vec::new(),
            stood: Vec::new(),
            taken: 0,
        },
        step,
    };
    let lines = Lines::keeping();
    let came = hold(&request, &lines, async |progress| match progress {
        Progress::Elected(_) => then(&all).await,
        Progress::Begun => Ok(()),
    });
    let came = came.await.map_err(|failed| failed.why);
    let mut all = all.lock().unwrap();
    (came, std::mem::replace(&mut *all, well()))
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_whose_answer_is_lost_is_not_sent_again() {
    let sentinels = Sentinels {
        ends: Some(Ends::Request),
        ..well()
    };
    let (came, all) = elect(sentinels, None, async |_| Ok(())).await;
    assert!(matches!(came, Err(Refusal::Silent(_))), "{came:?}");
    assert_eq!(all.asked, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_voter_whose_answer_is_lost_is_not_asked_again_in_that_epoch() {
    let sentinels = Sentinels {
        ends: Some(Ends::Vote),
        ..well()
    };
    let (came, all) = elect(sentinels, None, async |_| Ok(())).await;
    assert!(matches!(came, Err(Refusal::Lost(..))), "{came:?}");
    // Each of the three in each epoch that is tried.
    assert_eq!((all.asked, all.voted), (0, 3 * ABOVE.len()));
}

/// Nobody could be voted for above that.
#[tokio::test(flavor = "current_thread")]
async fn a_number_of_a_failover_that_no_site_can_reach_counts_for_nothing() {
    for newest in ["9223372036854775807", "18446744073709551615"] {
        let sentinels = Sentinels { newest, ..well() };
        let (came, all) = elect(sentinels, None, async |_| Ok(())).await;
        assert!(came.is_ok(), "{came:?}");
        assert_eq!(all.asked, 1);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn one_who_does_not_want_it_any_more_asks_for_nothing() {
    let why = || Fault::passing("it lacks too much");
    let no = async |_: &Shared| Err(why());
    let (came, all) = elect(well(), None, no).await;
    assert_eq!(came, Err(Refusal::Unwanted(why())));
    assert_eq!(all.asked, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_right_that_is_missing_is_named() {
    for (denied, right) in [
        ("IS-MASTER-DOWN-BY-ADDR", "+sentinel|is-master-down-by-addr"),
        ("SLAVES", "+sentinel|slaves"),
        ("INFO", "+info"),
        ("FAILOVER", "NOPERM"),
    ] {
        let sentinels = Sentinels { denied, ..well() };
        let (came, _) = elect(sentinels, None, async |_| Ok(())).await;
        let no = came.unwrap_err().to_string();
        assert!(no.contains(right), "{no}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_sentinel_that_may_not_be_asked_does_not_end_the_wait_for_one_that_may() {
    let sentinels = Sentinels {
        denied: "IS-MASTER-DOWN-BY-ADDR",
        denies: 1..2,
        late: 5 * OTHERS,
        ..well()
    };
    let (came, all) = elect(sentinels, None, async |_| Ok(())).await;
    assert!(came.is_ok(), "{came:?}");
    assert_eq!(all.asked, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn every_vote_that_may_have_been_given_is_told_to_whoever_holds_the_next_election() {
    // Others vote in the first epoch that is tried, and the one to be asked only in a later one.
    let sentinels = Sentinels {
        epoch: 20,
        denied: "INFO",
        denies: 0..1,
        ..well()
    };
    let (came, _) = elect(sentinels, None, async |_| Ok(())).await;
    let (plan, votes) = came.unwrap();
    assert_eq!(plan.run_id, "bb");
    let epochs: Vec<u64> = votes.iter().map(|vote| vote.epoch).collect();
    assert_eq!(epochs, [5, 21, 22]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_that_comes_late_is_sent_while_the_votes_stand() {
    let (came, asked) = held(60_000, None, |_| {}).await;
    assert!(came.is_ok(), "{came:?}");
    assert_eq!(asked, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_that_comes_late_is_not_sent_once_sentinel_has_begun_itself() {
    let newer = |all: &mut Sentinels| all.votes[..2].fill(Vote::new("zz", 90));
    let (came, asked) = held(60_000, None, newer).await;
    assert!(matches!(came, Err(Refusal::Lost(..))), "{came:?}");
    assert_eq!(asked, 0);
    let begun = |all: &mut Sentinels| all.flags = "master,failover_in_progress";
    let (came, asked) = held(60_000, None, begun).await;
    assert!(matches!(came, Err(Refusal::Busy(..))), "{came:?}");
    assert_eq!(asked, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_is_asked_for_any_more_when_sentinel_is_about_to_decide() {
    // When it was looked at there was time enough, and after the votes there is not.
    let (down_after, ahead) = (60_000, Duration::from_millis(59_800));
    let (came, asked) = held(down_after, Some(ahead), |_| {}).await;
    assert!(matches!(came, Err(Refusal::TooLate(_))), "{came:?}");
    assert_eq!(asked, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn where_this_process_was_stopped_after_the_first_votes_there_are_no_others() {
    // The two that may be asked are needed both.
    let sentinels = Sentinels {
        denied: "IS-MASTER-DOWN-BY-ADDR",
        denies: 2..3,
        step: PATIENT,
        stop: WRITTEN * PATIENT + Duration::from_millis(100),
        ..well()
    };
    let (came, all) = elect(sentinels, None, async |_| Ok(())).await;
    assert_eq!(came, Err(Refusal::Stopped));
    assert_eq!((all.voted, all.asked), (2, 0));
}

#[tokio::test(flavor = "current_thread")]
async fn votes_of_which_no_look_is_fresh_are_not_acted_on() {
    let sentinels = Sentinels {
        step: PATIENT,
        ..well()
    };
    // A look at the votes has three answers.
    let slow = async |all: &Shared| {
        sleep(PATIENT + Duration::from_millis(100)).await;
        let mut all = all.lock().unwrap();
        (all.late, all.is_late) = (Duration::from_millis(400), 0..3);
        Ok(())
    };
    let (came, all) = elect(sentinels, None, slow).await;
    assert_eq!(came, Err(Refusal::Stopped));
    assert_eq!(all.asked, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn votes_that_stand_are_not_acted_on_when_others_count_them_as_over() {
    let slow = async |_: &Shared| {
        sleep(WITHIN + Duration::from_millis(100)).await;
        Ok(())
    };
    let (came, all) = elect(well(), None, slow).await;
    assert_eq!(came, Err(Refusal::TooSlow(WITHIN)));
    assert_eq!(all.asked, 0);
}
