//! Whether anybody has the VIPs, as a client sees it: that no host has taken them over is known nowhere else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::known::{self, tell};
use crate::config::Config;
use crate::evidence::Role;
use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::redis::{NoAnswer, redis_server};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);

/// How long after all agree a VIP may be nowhere: the hook tries for so long (`once::PATIENCE`).
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(50);

/// The VIPs at which somebody answers.
#[derive(Debug)]
pub(super) struct Vips(Vec<SocketAddr>);

impl Vips {
    /// Looks at those of a master, by the port of its Redis. Where nobody answered before, or a firewall is in between,
    /// nobody is expected to.
    pub(super) async fn look((config, name): (&Config, &str), port: u16) -> Vips {
        let of = config.masters.get(name).into_iter();
        let vips = of.flat_map(|of| &of.vips).map(|vip| vip.address);
        let each = vips.map(async |vip: IpAddr| {
            let at = SocketAddr::new(vip, port);
            answers((config, name), at).await.is_ok().then_some(at)
        });
        Vips(join_all(each).await.into_iter().flatten().collect())
    }

    /// Waits until the new master answers at each of them: by its run id, where that is told without a password; else until
    /// anybody does.
    ///
    /// # Errors
    ///
    /// At which it does not, and what that means.
    pub(super) async fn are_back(&self, of: (&Config, &str), new: &Endpoint) -> Result<(), Fault> {
        let until = Instant::now() + PATIENCE;
        let wanted = async {
            let way = known::way_to(of.0, of.1, new).await?;
            tell(&way, Instant::now() + ANSWER).await.ok()?.run_id
        };
        let wanted = wanted.await;
        let each = self.0.iter().map(async |at| {
            let at = SocketAddr::new(at.ip(), new.port);
            loop {
                let no = match answers(of, at).await {
                    Ok(Some(id)) if wanted.as_ref().is_some_and(|wanted| *wanted != id) => {
                        "another Redis answers".to_owned()
                    }
                    Ok(_) => return None,
                    Err(no) => no,
                };
                if Instant::now() >= until {
                    return Some(format!("{at}: {no}"));
                }
                sleep(PAUSE).await;
            }
        });
        let missing: Vec<String> = join_all(each).await.into_iter().flatten().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!(
            "{new} is the master, and no client reaches it by its VIP ({})",
            missing.join("; ")
        );
        Err(Fault::passing(text).remedy(
            "Look there: vipswitch status, and vipswitch check. Until that is mended, `vipswitch bind --force` there has the VIP.",
        ))
    }
}

/// Asks for role and run id there, without a password: who wants one is there.
async fn answers(
    (config, name): (&Config, &str),
    at: SocketAddr,
) -> Result<Option<String>, String> {
    let master = config.master(name).map_err(|no| no.to_string())?;
    let server = redis_server(config, master, at).map_err(|no| no.to_string())?;
    match tell(&server.without_credentials(), Instant::now() + ANSWER).await {
        Ok(state) if state.role != Role::Master => Err("a replica answers".into()),
        Err(
            no @ (NoAnswer::Unreachable(_)
            | NoAnswer::NoRoute(_)
            | NoAnswer::Silent(_)
            | NoAnswer::Broken(_)),
        ) => Err(no.to_string()),
        Ok(state) => Ok(state.run_id),
        Err(_) => Ok(None),
    }
}
