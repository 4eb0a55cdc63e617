//! The kernel's addresses, links and routes, through netlink alone. Knows neither the
//! configuration nor Sentinel. What an errno means is said once, in [`errno`](mod@crate::errno).

mod address;
mod link;
mod route;

use std::time::Duration;

use crate::errno;
use crate::exit::Fault;
pub use address::{Added, Address, Deleted};
pub use route::Route;

/// How long one request may wait for its answer. The kernel answers in microseconds; a reply
/// that was lost (ENOBUFS on our socket) never comes.
const ANSWER: Duration = Duration::from_secs(2);

/// A connection to the kernel's NETLINK_ROUTE.
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens a connection. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// A blocked address family is permanent.
    pub fn open() -> Result<Netlink, Fault> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| errno::open("a netlink socket", &error))?;
        tokio::spawn(connection);
        Ok(Netlink { handle })
    }
}

/// Waits for one answer, for at most [`ANSWER`].
///
/// # Errors
///
/// The kernel's error with what was `tried` before it; no answer in time is passing.
async fn answer<T>(
    tried: impl Fn() -> String,
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(errno::netlink(&tried(), &error)),
        Err(_) => Err(Fault::passing(format!(
            "cannot {}: the kernel did not answer within {} s",
            tried(),
            ANSWER.as_secs()
        ))),
    }
}
