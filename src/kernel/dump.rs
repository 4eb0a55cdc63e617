//! Lists from the kernel, whole if that can be. By hand, because rtnetlink's own lists do not pass on that one
//! was interrupted.

use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::time::sleep;

use super::Netlink;
use crate::exit::Fault;

/// The pauses before a list that has changed while it was read is read again, in milliseconds. Many runs at
/// once, or one run about a thousand VIPs, change the addresses all the time for a second or so.
const PAUSES: [u64; 12] = [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 256];

impl Netlink {
    /// Asks for a list and returns what `read` makes of its entries. A list that changed while it was read is
    /// read again, some times. Of one that changes all the time it is every entry that was seen in any of the
    /// tries: an interrupted list lacks an entry here and there, and never the same one so often.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub(super) async fn list<T: PartialEq>(
        &self,
        what: &str,
        request: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, Fault> {
        let tried = || format!("list the {what} of this host");
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut seen: Vec<T> = Vec::new();
        for pause in PAUSES {
            let list = dump(self.handle.clone(), request.clone(), &read);
            let (list, is_whole) = self.answer(tried, list).await?;
            if is_whole {
                return Ok(list);
            }
            for one in list {
                if !seen.contains(&one) {
                    seen.push(one);
                }
            }
            sleep(Duration::from_millis(pause)).await;
        }
        Ok(seen)
    }
}

/// Reads a list to its end. Returns it, and whether it is whole: not if the kernel says that it was interrupted.
async fn dump<T>(
    mut handle: rtnetlink::Handle,
    request: NetlinkMessage<RouteNetlinkMessage>,
    read: impl Fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<(Vec<T>, bool), rtnetlink::Error> {
    let mut answer = handle.request(request)?;
    let mut found = Vec::new();
    let mut interrupted = false;
    while let Some(message) = answer.next().await {
        interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => found.extend(read(message)),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
            NetlinkPayload::Overrun(_) => interrupted = true,
            _ => {}
        }
    }
    Ok((found, !interrupted))
}
