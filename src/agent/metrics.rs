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

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
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

/// The longest head of a request, in bytes. Its body is not read.
const LONGEST: usize = 8 * 1024;

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

/// Answers one request. A peer that breaks the protocol is cut off by the library.
async fn serve_one(stream: TcpStream, source: Rc<Source>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = source.respond(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

impl Source {
    fn respond(&self, request: &Request<Incoming>) -> Response<String> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let made = match request.uri().path() {
            "/metrics" if is_read => {
                let text = self.recorder.borrow_mut().text(&(self.snapshot)());
                Response::builder().header(CONTENT_TYPE, CONTENT).body(text)
            }
            "/metrics" => Response::builder()
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(ALLOW, "GET, HEAD")
                .body(String::new()),
            _ => Response::builder()
                .status(StatusCode::NOT_FOUND)
                .body("The metrics are at /metrics.\n".to_owned()),
        };
        made.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
