//! Sets and maps of few things. `collect` sorts them first, by code of 3.6 kB for each type in the release file, whose
//! size is a budget; here they are inserted one by one.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the set of these.
pub fn set<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(all);
    set
}

/// Returns the map of these; of equal keys the last counts.
pub fn map<K: Ord, V>(all: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(all);
    map
}
