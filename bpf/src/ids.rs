//! Dense ids for what must not leave the host (addresses) or repeats in every event.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Numbers keys from 1 as they are first seen.
///
/// Bounded: when full, every key is forgotten and numbering goes on, so an id is never used twice.
pub(crate) struct Dense<K> {
    ids: FxHashMap<K, u32>,
    last: u32,
    limit: usize,
    /// Times everything was forgotten since last asked.
    pub(crate) forgotten: u32,
}

/// Keys kept at most: about 100 MiB.
pub(crate) const LIMIT: usize = 4 << 20;

impl<K: Hash + Eq> Dense<K> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { ids: FxHashMap::default(), last: 0, limit, forgotten: 0 }
    }

    /// The key's id, and whether it is new.
    pub(crate) fn get(&mut self, key: K) -> (u32, bool) {
        if let Some(&id) = self.ids.get(&key) {
            return (id, false);
        }
        if self.ids.len() >= self.limit {
            self.ids.clear();
            self.forgotten += 1;
        }
        // After four thousand million keys, ids start over; replay treats an id as an address,
        // which may be reused.
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.ids.insert(key, self.last);
        (self.last, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_stable_and_never_reused() {
        let mut ids = Dense::new(2);
        assert_eq!(ids.get(0xffff_8880_u64), (1, true));
        assert_eq!(ids.get(0xffff_8881), (2, true));
        assert_eq!(ids.get(0xffff_8880), (1, false));
        assert_eq!(ids.get(0xffff_8882), (3, true), "full: forgets, keeps numbering");
        assert_eq!(ids.get(0xffff_8880), (4, true));
        assert_eq!(ids.forgotten, 1);
    }
}
