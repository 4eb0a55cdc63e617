//! The kernel's addresses, links and routes, through netlink alone. Knows neither the
//! configuration nor Sentinel. What an errno means is said once, in [`kernel_error`](mod@crate::kernel_error).

mod address;
mod dump;
mod events;
mod link;
mod peers;
mod route;
mod servers;
mod snapshot;
mod socket_filter;
mod sockets;
mod source_routes;

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::exit::Fault;
use crate::kernel_error;
pub use address::{Added, Address, has_marks};
pub use events::{Event, events};
pub use peers::peers;
pub use route::Route;
pub use servers::{OtherEnd, is_own_address, listeners, other_end, who_answers};
pub use snapshot::Snapshot;
pub use sockets::{Connection, connections, reset_connections, reset_these, stranded, try_reset};
pub use source_routes::SourceRoute;

/// How long one request may wait for its answer. The kernel answers in microseconds; a reply
/// that was lost (ENOBUFS on our socket) never comes.
const ANSWER: Duration = Duration::from_secs(2);

/// A connection to the kernel's NETLINK_ROUTE.
pub struct Netlink {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Netlink {
    /// Opens a connection. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// A blocked address family is permanent.
    pub fn open() -> Result<Netlink, Fault> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| kernel_error::open("a netlink socket", &error))?;
        Ok(Netlink {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Waits for one answer, for at most [`ANSWER`].
    ///
    /// # Errors
    ///
    /// The kernel's error with what was `tried` before it. No answer in time, or a connection
    /// that broke, is passing.
    async fn answer<T>(
        &self,
        tried: impl Fn() -> String,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Fault> {
        let lost = |why: String| Fault::passing(format!("cannot {}: {why}", tried()));
        match tokio::time::timeout(ANSWER, request).await {
            Ok(Err(error)) => Err(kernel_error::netlink(&tried(), &error)),
            Err(_) => Err(lost(format!(
                "the kernel did not answer within {} s",
                ANSWER.as_secs()
            ))),
            // To a request, a broken connection looks like the end of its answer: a list would
            // be taken for shorter than it is, and silence for consent.
            Ok(Ok(_)) if self.connection.is_finished() => {
                Err(lost("the connection to the kernel broke".into()))
            }
            Ok(Ok(value)) => Ok(value),
        }
    }
}
