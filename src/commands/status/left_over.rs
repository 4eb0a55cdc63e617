//! Rows for addresses that an earlier configuration has left on this host.

use std::net::IpAddr;

use serde::Serialize;

use crate::config::Config;
use crate::exit::Fault;
use crate::gather::remembered::Memory;
use crate::kernel::Netlink;
use crate::once::left_over::left_over;
use crate::report::to_json;
use crate::text::Ink;

/// An address that has no master any more, under the field names of the other rows.
#[derive(Serialize)]
struct Row {
    master: Option<&'static str>,
    vip: IpAddr,
    prefix: u8,
    bound: bool,
    problem: &'static str,
}

const PROBLEM: &str = "vipswitch has bound it here and no master of the configuration has it. `vipswitch sync` releases it.";

/// Returns a line, or a JSON object, for each.
///
/// # Errors
///
/// A netlink fault.
pub(super) async fn rows(config: &Config, json: bool, colours: bool) -> Result<String, Fault> {
    let netlink = Netlink::open()?;
    let mut addresses = netlink.addresses([0; 4].into()).await?;
    addresses.extend(netlink.addresses([0; 16].into()).await?);
    let mut text = String::new();
    for vip in left_over(&addresses, config, &Memory::read()) {
        if json {
            text += &to_json(&Row {
                master: None,
                vip: vip.address,
                prefix: vip.prefix,
                bound: true,
                problem: PROBLEM,
            });
        } else {
            let problem = Ink::Red.paint(&format!("PROBLEM: {PROBLEM}"), colours);
            text += &format!("(no master): {} is here; {problem}", vip.address);
        }
        text.push('\n');
    }
    Ok(text)
}
