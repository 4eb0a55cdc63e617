//! A VIP was taken over: the clients that its last holder had published are told.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tokio::task::spawn_local;

use super::World;
use crate::deeds::tickle::{Done, Orphans, tell_orphans};
use crate::exit::Fault;
use crate::log::{self, Level};
use crate::report::{pair, quote};
use crate::text::escape;

impl World {
    /// Begins to tell the clients of a VIP that this host has just taken over, each in the hope that its old
    /// connection is one of a dead host. Where the old holder has released the VIP they are reset already, and the
    /// packet finds nobody.
    pub(in crate::agent) fn tell_clients(self: &Rc<Self>, master: &str, vip: IpAddr) {
        for (port, clients) in self.clients.borrow_mut().take(vip) {
            let (pace, master) = (Rc::clone(&self.pace), master.to_owned());
            let local = SocketAddr::new(vip, port);
            let orphans = Orphans { local, clients };
            spawn_local(async move {
                let done = tell_orphans(&orphans, &pace).await;
                let level = if done.is_ok() {
                    Level::Notice
                } else {
                    Level::Warning
                };
                log::line(level, &line(&master, local, &done)).await;
            });
        }
    }
}

fn line(master: &str, local: SocketAddr, done: &Result<Done, Fault>) -> String {
    let vip = local.ip();
    let sentence = match done {
        Ok(done) => {
            let clients = match done.clients {
                1 => "1 client".to_owned(),
                number => format!("{number} clients"),
            };
            format!("told {clients} of the last holder of {vip}, in case it is dead")
        }
        Err(fault) => format!("cannot tell the clients of the last holder of {vip}: {fault}"),
    };
    let mut line = format!("msg={}", quote(&sentence));
    pair(&mut line, "master", &escape(master));
    pair(&mut line, "vip", &vip.to_string());
    if let Ok(done) = done {
        pair(&mut line, "clients", &done.clients.to_string());
        pair(&mut line, "packets", &done.packets.to_string());
        pair(&mut line, "reconnected", &done.reconnected.to_string());
    }
    pair(&mut line, "by", "agent");
    line
}
