//! What bytes to and from a server go through, and its errors in words.

use std::io;

use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWrite};

/// TCP, a Unix socket, or TLS on one of them.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Returns an error in words, without its number.
pub(super) fn words(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        // Redis closes without the alert that TLS has for that.
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the connection ended".to_owned(),
        None => error.to_string(),
    };
    text.to_lowercase()
}
