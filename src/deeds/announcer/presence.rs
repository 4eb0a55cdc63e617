//! That an announcer is at work: its [`Name`]. A newer one asks it to leave, `status` asks what it
//! has done so far.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream as Connection;
use std::time::{Duration, Instant};

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

/// One for each interface that has the VIP.
fn which(vip: IpAddr, ifindex: u32) -> String {
    format!("{vip}/{ifindex}")
}

/// Takes the place of a VIP's announcer. The present announcer is asked to leave, as the newest knows best.
/// Returns `None` where it is not to be had: two announcers are better than none.
pub async fn take(vip: IpAddr, ifindex: u32) -> Option<UnixListener> {
    let until = Instant::now() + PATIENCE;
    loop {
        let held = match Name::want(KIND, &which(vip, ifindex), UNANSWERED).await {
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

/// Returns what the announcer at work has done so far, if there is one.
pub async fn ask(vip: IpAddr, ifindex: u32) -> Option<Summary> {
    let mut stream = abstract_lock::ask(KIND, &which(vip, ifindex))?;
    stream.write_all(&[TELL]).ok()?;
    let stream = UnixStream::from_std(stream).ok()?;
    let mut text = String::new();
    let mut answer = stream.take(LONGEST);
    timeout(ANSWER, answer.read_to_string(&mut text))
        .await
        .ok()?
        .ok()?;
    serde_json::from_str(&text).ok()
}

/// Asks the announcer at work to leave, if there is one, and does not wait for it.
pub fn dismiss(vip: IpAddr, ifindex: u32) {
    if let Some(mut stream) = abstract_lock::ask(KIND, &which(vip, ifindex)) {
        let _ = stream.write_all(&[LEAVE]);
    }
}
