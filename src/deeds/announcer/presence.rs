//! That an announcer is at work: its [`Name`]. A newer one asks it to leave, `status` asks what it
//! has done so far.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream as Connection;
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::Summary;
use crate::abstract_lock::{self, Name, UNANSWERED, Wanted};
use crate::report::to_json;

const KIND: &str = "announcer";

/// What the one byte says that is sent to an announcer.
const LEAVE: u8 = b'L';
const TELL: u8 = b'T';

/// How long an announcer may take to leave, and to tell.
const PATIENCE: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(1);

/// How long one who connects may take to say what it wants.
const MOMENT: Duration = Duration::from_millis(200);

/// The longest answer, in bytes.
const LONGEST: u64 = 16 * 1024;

/// What somebody wants of an announcer.
pub enum Wish {
    /// A newer one wants its place, or the VIP is about to be released.
    Leave,
    /// It is to tell what it has done so far.
    Tell(Connection),
}

/// What came of asking an announcer.
pub enum Said {
    /// What it has done so far.
    Done(Summary),
    /// Nothing: this process is stopped, or hangs.
    Nothing(i32),
}

/// One for each interface that has the VIP, and a spare one for when the first is held by an announcer that is
/// stopped.
fn which(vip: IpAddr, ifindex: u32) -> [String; 2] {
    [format!("{vip}/{ifindex}"), format!("{vip}/{ifindex}/2")]
}

/// Takes the place of a VIP's announcer. The present announcer is asked to leave, as the newest knows best.
/// Returns `None` where it is not to be had: two announcers are better than none.
pub async fn take(vip: IpAddr, ifindex: u32) -> Option<UnixListener> {
    let [first, spare] = which(vip, ifindex);
    let place = take_name(&first).await;
    if place.is_none() {
        return take_name(&spare).await;
    }
    dismiss_from(&spare);
    place
}

/// Returns whether an announcer is at work, without a word to it.
pub fn is_held(vip: IpAddr, ifindex: u32) -> bool {
    let [first, _] = which(vip, ifindex);
    abstract_lock::ask(KIND, &first).is_some()
}

async fn take_name(which: &str) -> Option<UnixListener> {
    let until = Instant::now() + PATIENCE;
    loop {
        let held = match Name::want(KIND, which, UNANSWERED).await {
            Wanted::Mine(name) => return name.into_listener().ok(),
            Wanted::Denied => return None,
            Wanted::Held(held) => held,
        };
        (&held).write_all(&[LEAVE]).ok()?;
        let left = until.saturating_duration_since(Instant::now());
        if !abstract_lock::ended(held, left).await {
            return None;
        }
    }
}

/// Waits for somebody who may be believed and wants something.
pub async fn wish(place: &UnixListener) -> Wish {
    loop {
        let Ok((stream, _)) = place.accept().await else {
            sleep(MOMENT).await;
            continue;
        };
        if !abstract_lock::is_trusted(&stream) {
            continue;
        }
        let byte = timeout(MOMENT, first_byte(&stream)).await;
        match (byte, stream.into_std()) {
            (Ok(Some(LEAVE)), _) => return Wish::Leave,
            (Ok(Some(TELL)), Ok(stream)) => return Wish::Tell(stream),
            _ => {}
        }
    }
}

/// Returns what is said first, `None` if nothing is before the end.
async fn first_byte(stream: &UnixStream) -> Option<u8> {
    let mut byte = [0];
    loop {
        stream.readable().await.ok()?;
        match stream.try_read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => return Some(byte[0]),
            // Being ready is only a guess until it was tried (tokio says so).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Answers a question. The answer fits the socket's buffer, so this does not block; if the asker is gone
/// it is lost.
pub fn tell(mut to: &Connection, summary: &Summary) {
    let _ = to.write_all(to_json(summary).as_bytes());
}

/// Returns what the announcer at work says, if there is one; of two the one that answers.
pub async fn ask(vip: IpAddr, ifindex: u32) -> Option<Said> {
    let [first, spare] = which(vip, ifindex);
    match join(ask_at(&first), ask_at(&spare)).await {
        (said @ Some(Said::Done(_)), _) | (said, None) => said,
        (_, said) => said,
    }
}

async fn ask_at(which: &str) -> Option<Said> {
    let mut stream = abstract_lock::ask(KIND, which)?;
    let process = abstract_lock::process(&stream);
    stream.write_all(&[TELL]).ok()?;
    let stream = UnixStream::from_std(stream).ok()?;
    let mut text = String::new();
    let mut answer = stream.take(LONGEST);
    match timeout(ANSWER, answer.read_to_string(&mut text)).await {
        Ok(read) => {
            read.ok()?;
            serde_json::from_str(&text).ok().map(Said::Done)
        }
        Err(_) => process.map(Said::Nothing),
    }
}

/// Asks the announcer at work to leave, if there is one, and does not wait for it.
pub fn dismiss(vip: IpAddr, ifindex: u32) {
    which(vip, ifindex)
        .iter()
        .for_each(|name| dismiss_from(name));
}

fn dismiss_from(which: &str) {
    if let Some(mut stream) = abstract_lock::ask(KIND, which) {
        let _ = stream.write_all(&[LEAVE]);
    }
}
