//! Interfaces.

use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use pnet_base::MacAddr;
use rtnetlink::LinkGetRequest;
use rtnetlink::packet_core::{DefaultNla, Emitable as _, NLA_F_NESTED};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkLayerType, LinkMessage,
};

use super::Netlink;
use crate::exit::Fault;
use crate::kernel_error;
use crate::link::Link;

/// IFLA_AF_SPEC in the kernel's include/uapi/linux/if_link.h.
const AF_SPEC: u16 = 26;
/// AF_INET, which names the kind of an IFLA_AF_SPEC.
const INET: u16 = 2;
/// IFLA_INET_CONF in include/uapi/linux/if_link.h.
const INET_CONF: u16 = 1;
/// IPV4_DEVCONF_PROMOTE_SECONDARIES in include/uapi/linux/ip.h.
const PROMOTE_SECONDARIES: u16 = 20;

impl Netlink {
    /// Returns the interface of this number, or `None` if it does not exist (any more).
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn link(&self, ifindex: u32) -> Result<Option<Link>, Fault> {
        let request = self.handle.link().get().match_index(ifindex);
        let tried = || format!("look up interface number {ifindex}");
        self.one(request, tried).await
    }

    /// Returns the interface of this name, or `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn link_named(&self, name: &str) -> Result<Option<Link>, Fault> {
        let request = self.handle.link().get().match_name(name);
        self.one(request, || format!("look up interface {name}"))
            .await
    }

    /// Returns all interfaces.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn links(&self) -> Result<Vec<Link>, Fault> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.list("interfaces", request, |message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(read(&message)),
            _ => None,
        })
        .await
    }

    /// Sets the sysctl `promote_secondaries` of an interface. Unless it is 0 the kernel keeps the
    /// secondary IPv4 addresses when it removes their primary.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn set_promote_secondaries(&self, link: &Link, value: i32) -> Result<(), Fault> {
        let value = DefaultNla::new(PROMOTE_SECONDARIES, value.to_ne_bytes().to_vec());
        let conf = DefaultNla::new(INET_CONF | NLA_F_NESTED, bytes(&value));
        let inet = DefaultNla::new(INET | NLA_F_NESTED, bytes(&conf));
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message
            .attributes
            .push(LinkAttribute::Other(DefaultNla::new(
                AF_SPEC | NLA_F_NESTED,
                bytes(&inet),
            )));
        let tried = || format!("set promote_secondaries of {}", link.name);
        self.answer(tried, self.handle.link().set(message).execute())
            .await
    }

    async fn one(
        &self,
        request: LinkGetRequest,
        tried: impl Fn() -> String,
    ) -> Result<Option<Link>, Fault> {
        let first = async {
            match request.execute().try_next().await {
                Err(error) if kernel_error::number(&error) == Some(Errno::ENODEV) => Ok(None),
                message => message,
            }
        };
        let message = self.answer(tried, first).await?;
        Ok(message.map(|message| read(&message)))
    }
}

fn bytes(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

fn read(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let has_neighbours =
        message.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Noarp);
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        carrier: flags.contains(LinkFlags::LowerUp),
        promote_secondaries: 0,
        is_router: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if has_neighbours => link.mac = mac(bytes),
            LinkAttribute::AfSpecUnspec(specs) => {
                specs.iter().for_each(|of| settings(&mut link, of))
            }
            _ => {}
        }
    }
    link
}

fn settings(link: &mut Link, of_family: &AfSpecUnspec) {
    match of_family {
        AfSpecUnspec::Inet(inet) => {
            for spec in inet {
                if let AfSpecInet::DevConf(conf) = spec {
                    link.promote_secondaries = conf.promote_secondaries;
                }
            }
        }
        AfSpecUnspec::Inet6(inet6) => {
            for spec in inet6 {
                if let AfSpecInet6::DevConf(conf) = spec {
                    link.is_router = conf.forwarding != 0;
                }
            }
        }
        _ => {}
    }
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    let octets: [u8; 6] = bytes.try_into().ok()?;
    Some(octets.into())
}
