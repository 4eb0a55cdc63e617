//! What the configuration says of the masters, at first and whenever it is read again: what is known of a master stays,
//! and whatever goes on goes on.

use std::mem;

use super::{Core, Master, Settings};

impl Core {
    /// Has these masters, and no other.
    pub fn configure(&mut self, masters: Vec<Settings>) {
        let mut before = mem::take(&mut self.masters);
        self.by_vip.clear();
        let polling = self.polling.is_some();
        for settings in masters {
            let name = settings.name.clone();
            for vip in &settings.vips {
                self.by_vip.entry(*vip).or_default().push(name.clone());
            }
            let master = match before.remove(&name) {
                Some(master) => master.configured(settings, polling),
                None => Master::new(settings, polling),
            };
            self.masters.insert(name, master);
        }
        for name in before.keys() {
            self.timetable.note(name, None, false);
            self.wanted.remove(name);
        }
        // Nobody was asked about those that are new, nor as the configuration now says.
        self.poll_again = true;
    }

    /// Returns whether something of a failover goes on that would be lost without these masters.
    pub fn is_busy_beside(&self, kept: impl Fn(&str) -> bool) -> bool {
        self.masters()
            .any(|master| !kept(&master.name) && master.is_failing_over())
    }
}
