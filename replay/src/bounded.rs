//! A table that hostile input cannot grow without bound.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// A map of at most `cap` entries. When it is full, the quarter used longest ago makes room.
///
/// Keys come from packets, so the hash has a seed of its own in each process and table: who crafts addresses
/// does not know which of them meet. What is evicted depends only on the order of uses, never on the hash.
///
/// Entries stay where they are in one array, and the hash table holds their places: looking up touches a
/// few bytes, growing moves no entry by its hash, and choosing what goes reads only the marks.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Option<(K, V)>>,
    /// Beside the slots.
    marks: Vec<Mark>,
    /// Slots without an entry.
    free: Vec<u32>,
    cap: usize,
    uses: u64,
    evicted: u64,
}

/// What is asked of many entries at once.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Number of the last use; 0 of a free slot.
    used: u64,
    hash: u64,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            // Places are 32 bits wide.
            cap: cap.clamp(1, u32::MAX as usize),
            uses: 0,
            evicted: 0,
        }
    }

    /// The value of `key`, made when new. Entries that had to make room are appended to `spill`.
    pub(crate) fn entry(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
        spill: &mut Vec<(K, V)>,
    ) -> &mut V {
        let hash = self.hasher.hash_one(&key);
        let place = if let Some(place) = self.place(hash, &key) {
            place
        } else {
            if self.is_full() {
                self.evict(spill);
            }
            self.vacant(hash)
        };
        self.uses += 1;
        self.marks[place].used = self.uses;
        &mut self.slots[place].get_or_insert_with(|| (key, make())).1
    }

    /// A slot for a new key with this hash.
    fn vacant(&mut self, hash: u64) -> usize {
        let mark = Mark { used: 0, hash };
        let place = if let Some(place) = self.free.pop() {
            self.marks[place as usize] = mark;
            place as usize
        } else {
            self.slots.push(None);
            self.marks.push(mark);
            self.slots.len() - 1
        };
        let marks = &self.marks;
        self.places.insert_unique(hash, place as u32, |other| marks[*other as usize].hash);
        place
    }

    fn place(&self, hash: u64, key: &K) -> Option<usize> {
        let same = |place: &u32| {
            let place = *place as usize;
            self.marks[place].hash == hash
                && self.slots[place].as_ref().is_some_and(|(known, _)| known == key)
        };
        self.places.find(hash, same).map(|place| *place as usize)
    }

    fn place_of(&self, key: &K) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        self.place(self.hasher.hash_one(key), key)
    }

    /// Empties a slot that is in use.
    fn take(&mut self, place: usize) -> Option<(K, V)> {
        let mark = &mut self.marks[place];
        mark.used = 0;
        if let Ok(known) = self.places.find_entry(mark.hash, |other| *other as usize == place) {
            known.remove();
        }
        self.free.push(place as u32);
        self.slots[place].take()
    }

    /// Whether a new key would be one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.places.len() >= self.cap
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
        let place = self.place_of(key)?;
        self.marks[place].used = self.uses;
        self.slots[place].as_mut().map(|(_, value)| value)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.slots[self.place_of(key)?].as_ref().map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place_of(key)?;
        self.take(place).map(|(_, value)| value)
    }

    /// Entries that had to make room so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Everything in no particular order: for sums and extremes only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Values in no particular order: for sums only.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().flatten().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Everything, least recently used first.
    pub(crate) fn into_oldest_first(mut self) -> Vec<(K, V)> {
        let mut all: Vec<(u64, usize)> = self.in_use().collect();
        all.sort_unstable();
        all.into_iter().filter_map(|(_, place)| self.slots[place].take()).collect()
    }

    /// Slots in use: number of the last use, and place.
    fn in_use(&self) -> impl Iterator<Item = (u64, usize)> {
        self.marks.iter().enumerate().map(|(place, mark)| (mark.used, place)).filter(|m| m.0 > 0)
    }

    /// A quarter at a time, so that a full table costs a look at all of it rarely and not at each insertion.
    fn evict(&mut self, spill: &mut Vec<(K, V)>) {
        let mut old: Vec<(u64, usize)> = self.in_use().collect();
        let quarter = (old.len() / 4).max(1).min(old.len());
        if quarter < old.len() {
            old.select_nth_unstable(quarter);
        }
        old.truncate(quarter);
        old.sort_unstable();
        self.evicted += old.len() as u64;
        spill.extend(old.into_iter().filter_map(|(_, place)| self.take(place)));
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
    fn slots_of_what_went_are_used_again() {
        let mut table = Bounded::new(4);
        for key in 0..4 {
            table.entry_or_forget(key, || key);
        }
        assert_eq!((table.remove(&2), table.remove(&2), table.len()), (Some(2), None, 3));
        *table.entry_or_forget(9, || 0) += 90;
        assert_eq!((table.len(), table.evicted(), table.slots.len()), (4, 0, 4));
        table.entry_or_forget(10, || 10);
        assert_eq!((table.get(&0), table.get(&9), table.get(&2)), (None, Some(&90), None));
        let all: Vec<i32> = table.iter().map(|(key, _)| *key).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(table.into_oldest_first(), [(1, 1), (3, 3), (9, 90), (10, 10)]);
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
