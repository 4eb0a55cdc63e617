//! The agent's metrics for Prometheus, over HTTP. Nothing is kept between scrapes but the histogram: a scrape shows
//! a snapshot.

mod text;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Error, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use self::text::{CONTENT, Recorder};
use super::snapshot::Snapshot;
use crate::exit::Fault;

/// So many are served at the same time; others wait in the kernel's queue.
const AT_ONCE: usize = 8;

/// How long a request may take to come in.
const REQUEST: Duration = Duration::from_secs(1);

/// How long a connection may last in all.
const CONNECTION: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes. Its body is not looked at.
const LONGEST: usize = 8 * 1024;

/// So many headers a request may have.
const HEADERS: usize = 64;

/// The pause after a connection that could not be accepted: too many open files, for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `GET /metrics` for as long as it is polled. Runs within a `LocalSet`.
///
/// # Errors
///
/// An address on which it cannot listen: passing, as it may be somebody else's until that one ends, or not be
/// there yet.
pub async fn serve(
    at: SocketAddr,
    snapshot: impl Fn() -> Snapshot + 'static,
) -> Result<Infallible, Fault> {
    let listener = TcpListener::bind(at)
        .await
        .map_err(|error| cannot(at, &error))?;
    Ok(accept(listener, snapshot).await)
}

fn cannot(at: SocketAddr, error: &io::Error) -> Fault {
    Fault::passing(format!("cannot serve metrics at {at}: {error}"))
        .remedy("Choose another address: metrics under [agent].")
}

async fn accept(listener: TcpListener, snapshot: impl Fn() -> Snapshot + 'static) -> Infallible {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let source = Rc::new(Source {
        snapshot: Box::new(snapshot),
        recorder: RefCell::default(),
    });
    loop {
        // It is never closed, so that this does not fail.
        let turn = Arc::clone(&turns).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let source = Rc::clone(&source);
        spawn_local(async move {
            let _ = timeout(CONNECTION, serve_one(stream, source)).await;
            drop(turn);
        });
    }
}

/// Where the figures come from.
struct Source {
    snapshot: Box<dyn Fn() -> Snapshot>,
    recorder: RefCell<Recorder>,
}

/// Answers one request, and closes: a scrape every few seconds needs no connection that stays.
async fn serve_one(mut stream: TcpStream, source: Rc<Source>) {
    let Ok(Ok(asked)) = timeout(REQUEST, read(&mut stream)).await else {
        return;
    };
    let answer = source.answer(asked);
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        // What is left unread would make the kernel reset the connection, and the answer with it.
        let rest = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        let _ = timeout(REQUEST, rest).await;
    }
}

/// What somebody wants.
#[derive(Clone, Copy)]
enum Asked {
    Metrics,
    /// The same without the text.
    Head,
    OtherMethod,
    OtherPath,
    TooLong,
    Nonsense,
}

/// Reads the head of a request.
async fn read(stream: &mut TcpStream) -> io::Result<Asked> {
    let mut head = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let room = piece.len().min(LONGEST - head.len());
        match stream.read(&mut piece[..room]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&piece[..read]),
        }
        let mut headers = [EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(Status::Complete(_)) => return Ok(asked(&request)),
            Ok(Status::Partial) if head.len() < LONGEST => {}
            Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Ok(Asked::TooLong),
            Err(_) => return Ok(Asked::Nonsense),
        }
    }
}

fn asked(request: &httparse::Request<'_, '_>) -> Asked {
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    match (path, request.method.unwrap_or_default()) {
        ("/metrics", "GET") => Asked::Metrics,
        ("/metrics", "HEAD") => Asked::Head,
        ("/metrics", _) => Asked::OtherMethod,
        _ => Asked::OtherPath,
    }
}

impl Source {
    /// Returns the answer, head and body.
    fn answer(&self, asked: Asked) -> String {
        let plain = "text/plain; charset=utf-8";
        let (status, content, body) = match asked {
            Asked::Metrics | Asked::Head => {
                let text = self.recorder.borrow_mut().text(&(self.snapshot)());
                ("200 OK", CONTENT, text)
            }
            Asked::OtherMethod => (
                "405 Method Not Allowed\r\nAllow: GET, HEAD",
                plain,
                String::new(),
            ),
            Asked::OtherPath => (
                "404 Not Found",
                plain,
                "The metrics are at /metrics.\n".into(),
            ),
            Asked::TooLong => ("431 Request Header Fields Too Large", plain, String::new()),
            Asked::Nonsense => ("400 Bad Request", plain, String::new()),
        };
        let length = body.len();
        let shown = if matches!(asked, Asked::Head) {
            ""
        } else {
            &body
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{shown}"
        )
    }
}

#[cfg(test)]
mod tests;
