//! Asks the network about the VIPs, and judges what is known of each then.

use std::net::IpAddr;

use pnet_base::MacAddr;

use super::agent::Agent;
use super::row::Status;
use super::truth::Truth;
use crate::agent::snapshot::Snapshot;
use crate::exit::Fault;
use crate::frames::{Question, claimants};
use crate::gather::vips::{PROBE, Seen, question};
use crate::judgement::{Known, problems};
use crate::link::Link;

/// A row, and what its problem is judged by.
pub(super) struct Looked {
    row: Status,
    /// Where the VIP's holder can be asked for.
    link: Option<Link>,
    belongs_on: Result<u32, Fault>,
    /// The number and the name of each interface that has it.
    bound: Vec<(u32, String)>,
    /// Whether the VIP belongs here, if that is known.
    master_is_here: Option<bool>,
    /// Why `sync` could decide nothing.
    undecided: Option<Fault>,
    /// The addresses of the master's host, where that is another one.
    master_at: Vec<IpAddr>,
}

/// Who answers for an address on an interface.
type Claims = Vec<(u32, IpAddr, Result<Vec<MacAddr>, Fault>)>;

/// Asks the network about all VIPs at once, and for the hosts of their masters; judges what is known of each
/// then.
pub(super) async fn probe(
    mut looked: Vec<Looked>,
    own: &[MacAddr],
    agent: Option<&Snapshot>,
) -> Vec<Status> {
    let mut questions: Vec<Question> = Vec::new();
    for one in &looked {
        let Some(link) = &one.link else { continue };
        let addresses = [&one.row.vip].into_iter().chain(&one.master_at);
        for question in addresses.filter_map(|address| question(*address, link)) {
            let key = |of: &Question| (of.vip, of.link.index);
            if !questions.iter().any(|asked| key(asked) == key(&question)) {
                questions.push(question);
            }
        }
    }
    let answers = claimants(&questions, own, PROBE).await;
    let asked = questions.iter().zip(answers);
    let claims: Claims = asked
        .map(|(question, answer)| (question.link.index, question.vip, answer))
        .collect();
    for one in &mut looked {
        one.judge(&claims, agent);
    }
    looked.into_iter().map(|one| one.row).collect()
}

impl Looked {
    /// Returns what is known of a VIP before the network is asked.
    pub(super) fn new(row: Status, seen: &Seen<'_>, truth: Option<&Truth>) -> Looked {
        let master_is_here = truth.and_then(Truth::is_here).or(row.redis_master_is_here);
        let is_elsewhere = master_is_here == Some(false) && row.redis_master_is_here == Some(false);
        let master_at = truth.filter(|_| is_elsewhere);
        let place = seen.places().into_iter().next();
        let bound = seen.bound_on().into_iter();
        let belongs_on = seen.belongs_on.as_ref();
        Looked {
            row,
            link: place.map(|(link, _)| link.clone()),
            belongs_on: belongs_on.map(|link| link.index).map_err(Clone::clone),
            bound: bound
                .map(|(index, name)| (index, name.to_owned()))
                .collect(),
            master_is_here,
            undecided: truth.and_then(Truth::undecided).cloned(),
            master_at: master_at
                .map(|truth| truth.addresses.clone())
                .unwrap_or_default(),
        }
    }

    /// Has this host's agent say where the VIP belongs, while it knows that before the Sentinels do.
    pub(super) fn believe(&mut self, agent: &Agent) {
        if let Some(is_here) = agent.goes_before(&self.row.master) {
            (self.master_is_here, self.undecided) = (Some(is_here), None);
        }
    }

    /// Returns who answers for an address where the VIP's holder would be, if that was asked.
    fn answers<'c>(
        &self,
        claims: &'c Claims,
        of: IpAddr,
    ) -> Option<&'c Result<Vec<MacAddr>, Fault>> {
        let on = self.link.as_ref()?.index;
        let mut claims = claims.iter();
        let (_, _, answer) = claims.find(|(link, address, _)| (*link, *address) == (on, of))?;
        Some(answer)
    }

    /// Adds who claims the VIP, and what is wrong about it.
    fn judge(&mut self, claims: &Claims, agent: Option<&Snapshot>) {
        let claim = self.answers(claims, self.row.vip).cloned();
        let at_master = self
            .master_at
            .iter()
            .filter_map(|of| self.answers(claims, *of));
        let masters: Vec<MacAddr> = at_master.flatten().flatten().copied().collect();
        let row = &mut self.row;
        if let Some(link) = self.link.as_ref().filter(|link| !link.carrier) {
            row.probe_error = Some(format!("{} has no carrier", link.name));
        }
        let claimed_by = match claim {
            Some(Ok(macs)) => Some(macs),
            Some(Err(fault)) => {
                row.probe_error = Some(fault.to_string());
                None
            }
            None => None,
        };
        let names = self.bound.iter();
        let known = Known {
            belongs_on: self.belongs_on.as_ref().copied(),
            bound: names.map(|(index, name)| (*index, name.as_str())).collect(),
            master_is_here: self.master_is_here,
            redis_is_here: None,
            claimed_by: claimed_by.as_deref(),
            undecided: self.undecided.as_ref(),
            kept: agent.and_then(|agent| agent.keeps(&row.master, row.vip)),
        };
        row.add_problems(&problems(&known));
        row.probed = claimed_by.is_some();
        let claimed_by = claimed_by.unwrap_or_default();
        row.held_by_masters_host = match claimed_by.as_slice() {
            [holder] if !row.bound && !masters.is_empty() => Some(masters.contains(holder)),
            _ => None,
        };
        row.claimed_by = claimed_by.iter().map(MacAddr::to_string).collect();
    }
}
