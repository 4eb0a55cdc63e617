//! What listens at an address that did not answer: a question in plain text to a server that wants TLS ends
//! in a reset, as a restart does, and TLS to one without it in silence, as a frozen one does. One more
//! connection tells them apart. No password is sent on it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::reply::TLS_ALERT;
use super::server::Server;
use super::socket::connect;

/// The type of a TLS record with a step of the handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A ClientHello (RFC 5246 section 7.4.1.2) of TLS 1.2 with four cipher suites and no extension. Every server
/// with TLS answers it, if only with an alert that refuses its version.
const CLIENT_HELLO: [u8; 56] = {
    let mut hello = [0x11; 56];
    let head = [TLS_HANDSHAKE, 3, 1, 0, 51, 1, 0, 0, 47, 3, 3];
    // No session; ECDHE with ECDSA or RSA, and AES-GCM; no compression.
    let tail = [
        0, 0, 8, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 1, 0,
    ];
    let mut at = 0;
    while at < head.len() {
        hello[at] = head[at];
        at += 1;
    }
    at = 0;
    while at < tail.len() {
        hello[hello.len() - tail.len() + at] = tail[at];
        at += 1;
    }
    hello
};

/// Returns whether the server speaks TLS.
pub(super) async fn speaks_tls(server: &Server) -> bool {
    matches!(
        first_byte(server, &CLIENT_HELLO).await,
        Some(TLS_ALERT | TLS_HANDSHAKE)
    )
}

/// Returns whether the server answers a question in plain text.
pub(super) async fn speaks_plain_text(server: &Server) -> bool {
    let first = first_byte(server, b"*1\r\n$4\r\nPING\r\n").await;
    matches!(first, Some(b'+' | b'-'))
}

async fn first_byte(server: &Server, question: &[u8]) -> Option<u8> {
    let mut stream = connect(server).await.ok()?;
    stream.write_all(question).await.ok()?;
    stream.read_u8().await.ok()
}
