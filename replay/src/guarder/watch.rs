//! Windows of packet time per key: what is counted, judged when the window ends, and kept only when
//! it was an attack.

use std::hash::Hash;

use crate::bounded::Bounded;

use super::detect::Packet;
use super::evidence::Seen;

/// What is counted in one window.
pub(super) trait Tally: std::fmt::Debug {
    fn new() -> Self;
    /// Whether this window, complete, was one of an attack.
    fn is_attack(&self) -> bool;
    fn merge(&mut self, later: Self);
}

/// One key: the window under way, and all windows that were attacks.
#[derive(Debug)]
pub(super) struct Watched<T> {
    start: u64,
    window: T,
    seen: Seen,
    /// Sum of the attack windows.
    pub(super) attack: T,
    pub(super) evidence: Seen,
    /// Packets of the worst window.
    pub(super) peak: u64,
}

impl<T: Tally> Watched<T> {
    fn new(at: u64) -> Self {
        Self {
            start: at,
            window: T::new(),
            seen: Seen::default(),
            attack: T::new(),
            evidence: Seen::default(),
            peak: 0,
        }
    }

    fn settle(&mut self, next: u64) {
        let window = std::mem::replace(&mut self.window, T::new());
        let seen = std::mem::take(&mut self.seen);
        if window.is_attack() {
            self.peak = self.peak.max(seen.packets);
            self.attack.merge(window);
            self.evidence.merge(&seen);
        }
        self.start = next;
    }

    /// Counts a packet as evidence of the window under way.
    pub(super) fn add(&mut self, packet: &Packet<'_>, count: impl FnOnce(&mut T)) {
        self.seen.add(packet);
        count(&mut self.window);
    }

    /// Counts something that is no evidence of its own.
    pub(super) fn note(&mut self, count: impl FnOnce(&mut T)) {
        count(&mut self.window);
    }
}

/// A bounded set of keys under watch.
#[derive(Debug)]
pub(super) struct Watch<K, T> {
    keys: Bounded<K, Watched<T>>,
    window_ns: u64,
    cap: usize,
    /// Attacks whose key had to make room.
    kept: Vec<(K, Watched<T>)>,
}

impl<K: Hash + Eq + Ord + Clone, T: Tally> Watch<K, T> {
    pub(super) fn new(cap: usize, window_ns: u64) -> Self {
        Self { keys: Bounded::new(cap), window_ns, cap, kept: Vec::new() }
    }

    /// The key, in the window that `at` belongs to.
    pub(super) fn of(&mut self, key: K, at: u64) -> &mut Watched<T> {
        if self.keys.len() >= self.cap && self.keys.get(&key).is_none() {
            let mut spill = Vec::new();
            self.keys.entry(key.clone(), || Watched::new(at), &mut spill);
            self.keep(spill);
        }
        let watched = self.keys.entry_or_forget(key, || Watched::new(at));
        if at.saturating_sub(watched.start) >= self.window_ns {
            watched.settle(at);
        }
        watched
    }

    /// The key, if it is watched.
    pub(super) fn known(&mut self, key: &K) -> Option<&mut Watched<T>> {
        self.keys.get_mut(key)
    }

    fn keep(&mut self, gone: Vec<(K, Watched<T>)>) {
        for (key, mut watched) in gone {
            watched.settle(0);
            if watched.evidence.packets > 0 && self.kept.len() < self.cap {
                self.kept.push((key, watched));
            }
        }
    }

    /// All attacks, by time and key.
    pub(super) fn finish(&mut self) -> Vec<(K, Watched<T>)> {
        let keys = std::mem::replace(&mut self.keys, Bounded::new(1));
        self.keep(keys.into_oldest_first());
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by(|a, b| (a.1.evidence.first(), &a.0).cmp(&(b.1.evidence.first(), &b.0)));
        kept
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::conversation::Conversations;
    use crate::sample;

    #[derive(Debug)]
    struct Many(u64);

    impl Tally for Many {
        fn new() -> Self {
            Self(0)
        }
        fn is_attack(&self) -> bool {
            self.0 >= 10
        }
        fn merge(&mut self, later: Self) {
            self.0 += later.0;
        }
    }

    #[test]
    fn only_windows_that_were_attacks_are_kept() {
        let flows = Conversations::default();
        let headers = sample::udp("10.0.0.1:1", "10.0.0.2:2", 1);
        let mut watch = Watch::<u32, Many>::new(4, 1000);
        // Nine in the first window, eleven in the second, one in the third.
        for (start, n) in [(0, 9), (1000, 11), (2000, 1)] {
            for i in 0..n {
                let packet = Packet::of(start + i, &headers, &flows);
                watch.of(7, packet.at).add(&packet, |many| many.0 += 1);
            }
        }
        for key in 100..200 {
            watch.of(key, 2500);
            assert!(watch.len() <= 4);
        }
        let found = watch.finish();
        assert_eq!(found.len(), 1, "an attack survives its key making room");
        let (key, watched) = &found[0];
        assert_eq!((*key, watched.attack.0, watched.peak), (7, 11, 11));
        assert_eq!((watched.evidence.first(), watched.evidence.packets), (1000, 11));
    }
}
