//! A table that hostile input cannot grow without bound.

use std::collections::HashMap;
use std::hash::Hash;

/// A map of at most `cap` entries. When it is full, the quarter used longest ago makes room.
///
/// Keys come from packets, so the hash is the standard library's keyed one: crafted addresses
/// cannot make it slow. What is evicted depends only on the order of uses, never on the hash.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    slots: HashMap<K, Slot<V>>,
    cap: usize,
    uses: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Slot<V> {
    used: u64,
    value: V,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    pub(crate) fn new(cap: usize) -> Self {
        Self { slots: HashMap::new(), cap: cap.max(1), uses: 0, evicted: 0 }
    }

    /// The value of `key`, made when new. Entries that had to make room are appended to `spill`.
    pub(crate) fn entry(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
        spill: &mut Vec<(K, V)>,
    ) -> &mut V {
        if self.slots.len() >= self.cap && !self.slots.contains_key(&key) {
            self.evict(spill);
        }
        self.uses += 1;
        let used = self.uses;
        let slot = self.slots.entry(key).or_insert_with(|| Slot { used, value: make() });
        slot.used = used;
        &mut slot.value
    }

    /// Whether a new key would be one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= self.cap
    }

    /// Makes room for new keys; what goes is handed back, least recently used first.
    pub(crate) fn make_room(&mut self) -> Vec<(K, V)> {
        let mut spill = Vec::new();
        self.evict(&mut spill);
        spill
    }

    /// As [`Self::entry`], for values that may be forgotten.
    pub(crate) fn entry_or_forget(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.entry(key, make, &mut Vec::new())
    }

    /// The value of `key`; counts as a use.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.uses += 1;
        let used = self.uses;
        let slot = self.slots.get_mut(key)?;
        slot.used = used;
        Some(&mut slot.value)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(key).map(|slot| &slot.value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.slots.remove(key).map(|slot| slot.value)
    }

    /// Entries that had to make room so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Everything in no particular order: for sums and extremes only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|(key, slot)| (key, &slot.value))
    }

    /// Values in no particular order: for sums only.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.values().map(|slot| &slot.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Everything, least recently used first.
    pub(crate) fn into_oldest_first(self) -> Vec<(K, V)> {
        let mut all: Vec<(K, Slot<V>)> = self.slots.into_iter().collect();
        all.sort_unstable_by_key(|(_, slot)| slot.used);
        all.into_iter().map(|(key, slot)| (key, slot.value)).collect()
    }

    /// A quarter at a time, so that a full table costs a sort rarely and not at each insertion.
    fn evict(&mut self, spill: &mut Vec<(K, V)>) {
        let mut used: Vec<u64> = self.slots.values().map(|slot| slot.used).collect();
        let quarter = (used.len() / 4).max(1);
        let (_, cut, _) = used.select_nth_unstable(quarter - 1);
        let cut = *cut;
        let old: Vec<K> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.used <= cut)
            .map(|(key, _)| key.clone())
            .collect();
        let mut gone: Vec<(u64, K, V)> = old
            .into_iter()
            .filter_map(|key| self.slots.remove(&key).map(|slot| (slot.used, key, slot.value)))
            .collect();
        gone.sort_unstable_by_key(|(used, ..)| *used);
        self.evicted += gone.len() as u64;
        spill.extend(gone.into_iter().map(|(_, key, value)| (key, value)));
    }
}

/// The most frequent keys of a stream in fixed memory (Metwally's space-saving).
///
/// Exact while there are fewer distinct keys than `cap`; beyond, counts are lower bounds, so that
/// noise is never reported as frequent.
#[derive(Clone, Debug)]
pub(crate) struct Top<K> {
    /// (key, count with error, error).
    counts: Vec<(K, u64, u64)>,
    cap: usize,
}

impl<K: Ord + Clone> Top<K> {
    pub(crate) fn new(cap: usize) -> Self {
        Self { counts: Vec::new(), cap: cap.max(1) }
    }

    pub(crate) fn add(&mut self, key: K, count: u64) {
        if let Some((_, known, _)) = self.counts.iter_mut().find(|(k, ..)| *k == key) {
            *known += count;
        } else if self.counts.len() < self.cap {
            self.counts.push((key, count, 0));
        } else if let Some(least) = self.counts.iter_mut().min_by_key(|(_, n, _)| *n) {
            // Whoever it was may have been this key before: that much is unknown.
            *least = (key, least.1 + count, least.1);
        }
    }

    /// Most first, ties by key; each count is what the key had at least.
    pub(crate) fn most(&self, limit: usize) -> Vec<(K, u64)> {
        let mut sorted: Vec<(K, u64)> =
            self.counts.iter().map(|(key, n, error)| (key.clone(), n - error)).collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sorted.truncate(limit);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_what_was_used_longest_ago() {
        let mut table = Bounded::new(8);
        let mut spill = Vec::new();
        for key in 0..8 {
            table.entry(key, || key * 10, &mut spill);
        }
        assert!(spill.is_empty());
        // 0 is used again, so 1 and 2 are now the oldest quarter.
        table.get_mut(&0);
        table.entry(100, || 0, &mut spill);
        assert_eq!(spill, [(1, 10), (2, 20)]);
        assert_eq!((table.len(), table.evicted()), (7, 2));
        assert!(table.get(&0).is_some());
    }

    #[test]
    fn memory_stays_bounded_whatever_comes() {
        let mut table = Bounded::new(100);
        for key in 0..100_000_u32 {
            table.entry_or_forget(key, || ());
            assert!(table.len() <= 100);
        }
        assert_eq!(table.evicted() + table.len() as u64, 100_000);
    }

    #[test]
    fn top_keeps_heavy_keys_among_noise() {
        let mut top = Top::new(16);
        for round in 0..1000_u32 {
            top.add(7, 1);
            top.add(1000 + round, 1);
            if round % 2 == 0 {
                top.add(9, 1);
            }
        }
        let most = top.most(2);
        assert_eq!(most.iter().map(|(k, _)| *k).collect::<Vec<_>>(), [7, 9]);
        assert!(most[0].1 <= 1000 && most[0].1 > 900, "a lower bound: {most:?}");
        let mut noise = Top::new(4);
        (0..1000).for_each(|key| noise.add(key, 1));
        assert!(noise.most(4).iter().all(|(_, n)| *n == 1));
    }
}
