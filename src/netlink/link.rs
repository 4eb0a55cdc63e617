//! Interfaces.

use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use pnet_base::MacAddr;
use rtnetlink::LinkGetRequest;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};

use super::{Netlink, answer};
use crate::errno;
use crate::exit::Fault;
use crate::link::Link;

impl Netlink {
    /// Returns the interface of this number, or `None` if there is no such one (any more).
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn link(&self, ifindex: u32) -> Result<Option<Link>, Fault> {
        let request = self.handle.link().get().match_index(ifindex);
        one(request, || format!("look up interface number {ifindex}")).await
    }

    /// Returns the interface of this name, or `None` if there is no such one.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn link_named(&self, name: &str) -> Result<Option<Link>, Fault> {
        let request = self.handle.link().get().match_name(name);
        one(request, || format!("look up interface {name}")).await
    }
}

async fn one(request: LinkGetRequest, tried: impl Fn() -> String) -> Result<Option<Link>, Fault> {
    let first = async {
        match request.execute().try_next().await {
            Err(error) if errno::number(&error) == Some(Errno::ENODEV) => Ok(None),
            message => message,
        }
    };
    Ok(answer(tried, first).await?.map(|message| read(&message)))
}

fn read(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let has_neighbours =
        message.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Noarp);
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        loopback: flags.contains(LinkFlags::Loopback),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if has_neighbours => link.mac = mac(bytes),
            _ => {}
        }
    }
    link
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    let octets: [u8; 6] = bytes.try_into().ok()?;
    Some(octets.into())
}
