//! The sequence space of one direction: what was captured, and the holes in it.

/// Holes remembered per direction; with more, the oldest is given up as lost for good.
const HOLES: usize = 64;

/// Whether `a` is before `b` in sequence space (RFC 9293 section 3.4).
pub(crate) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// What can tell the order in which a sender sent two segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Value of the timestamp option (RFC 7323).
    pub(crate) timestamp: Option<u32>,
    /// IPv4 identification, where it counts up in this direction.
    pub(crate) ip_id: Option<u16>,
}

/// Bytes not seen though later ones were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// When the segment behind it came.
    pub(crate) at: u64,
    /// Of the segment behind it.
    pub(crate) behind: Stamp,
    /// An ACK went over it: the receiver got what was not captured.
    pub(crate) acked: bool,
}

/// Where a segment falls, in sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Numbers skipped before it.
    pub(crate) gap: u32,
    /// Of the segment, numbers that fill holes.
    pub(crate) filled: u32,
    /// Of the segment, numbers seen before.
    pub(crate) again: u32,
    /// Of the segment, numbers beyond the highest seen.
    pub(crate) beyond: u32,
    /// The first hole that it fills.
    pub(crate) hole: Option<Hole>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// One past the highest number seen.
    pub(crate) next: Option<u32>,
    /// In order of their coming up.
    holes: Vec<Hole>,
    /// Numbers in holes that were given up.
    given_up: u64,
}

impl Seen {
    /// Takes `len` > 0 numbers from `seq` in.
    pub(crate) fn take(&mut self, at: u64, seq: u32, len: u32, stamp: Stamp) -> Placed {
        let end = seq.wrapping_add(len);
        let Some(next) = self.next else {
            self.next = Some(end);
            return Placed { beyond: len, ..Placed::default() };
        };
        if !before(seq, next) {
            let gap = seq.wrapping_sub(next);
            if gap > 0 {
                self.open(Hole { from: next, to: seq, at, behind: stamp, acked: false });
            }
            self.next = Some(end);
            return Placed { gap, beyond: len, ..Placed::default() };
        }
        let beyond = if before(next, end) { end.wrapping_sub(next) } else { 0 };
        if beyond > 0 {
            self.next = Some(end);
        }
        let inside = len - beyond;
        let (filled, hole) = if self.holes.is_empty() { (0, None) } else { self.fill(seq, inside) };
        Placed { gap: 0, filled, again: inside - filled, beyond, hole }
    }

    /// The numbers from `next` to `to` went by without being seen: what follows starts there.
    pub(crate) fn skip_to(&mut self, to: u32) {
        if self.next.is_some_and(|next| before(next, to)) {
            self.next = Some(to);
        }
    }

    /// Numbers in holes that `ack` is the first to go over.
    pub(crate) fn acked_over(&mut self, ack: u32) -> u32 {
        let mut over = 0;
        for hole in self.holes.iter_mut().filter(|hole| !hole.acked && !before(ack, hole.to)) {
            hole.acked = true;
            over += hole.to.wrapping_sub(hole.from);
        }
        over
    }

    fn open(&mut self, hole: Hole) {
        if self.holes.len() == HOLES {
            let oldest = self.holes.remove(0);
            self.given_up += u64::from(oldest.to.wrapping_sub(oldest.from));
        }
        self.holes.push(hole);
    }

    fn fill(&mut self, seq: u32, len: u32) -> (u32, Option<Hole>) {
        let end = seq.wrapping_add(len);
        let (mut filled, mut first) = (0, None);
        let mut index = 0;
        while index < self.holes.len() {
            let hole = self.holes[index];
            let from = if before(hole.from, seq) { seq } else { hole.from };
            let to = if before(end, hole.to) { end } else { hole.to };
            if !before(from, to) {
                index += 1;
                continue;
            }
            first = first.or(Some(hole));
            filled += to.wrapping_sub(from);
            self.holes.remove(index);
            let rests = [Hole { to: from, ..hole }, Hole { from: to, ..hole }];
            for rest in rests.into_iter().filter(|rest| before(rest.from, rest.to)) {
                self.holes.insert(index, rest);
                index += 1;
            }
            // Two pieces of one may be one too many.
            while self.holes.len() > HOLES {
                let oldest = self.holes.remove(0);
                self.given_up += u64::from(oldest.to.wrapping_sub(oldest.from));
                index = index.saturating_sub(1);
            }
        }
        (filled, first)
    }

    /// Numbers that were never seen though later ones were.
    pub(crate) fn missing(&self) -> u64 {
        let open = self.holes.iter().map(|hole| u64::from(hole.to.wrapping_sub(hole.from)));
        self.given_up + open.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(seen: &mut Seen, seq: u32, len: u32) -> (u32, u32, u32, u32) {
        let placed = seen.take(0, seq, len, Stamp::default());
        (placed.gap, placed.filled, placed.again, placed.beyond)
    }

    #[test]
    fn every_number_is_new_filled_or_again() {
        #[rustfmt::skip]
        let cases = [
            // seq  len   gap filled again beyond  missing after
            (100,   10,  (0,   0,    0,   10),      0),
            (130,   10,  (20,  0,    0,   10),     20),
            (115,    5,  (0,   5,    0,    0),     15), // splits the hole
            (105,   20,  (0,   10,   10,   0),      5), // again, hole, again, hole
            (120,   30,  (0,   5,    15,  10),      0), // fills the rest and goes on
            (100,   50,  (0,   0,    50,   0),      0),
        ];
        for start in [0_u32, u32::MAX - 110] {
            let mut seen = Seen::default();
            for (seq, len, want, missing) in cases {
                assert_eq!(take(&mut seen, start.wrapping_add(seq), len), want, "{seq}+{len}");
                assert_eq!(seen.missing(), missing, "{seq}+{len}");
            }
        }
    }

    #[test]
    fn more_holes_than_are_kept_are_given_up_and_still_counted() {
        let mut seen = Seen::default();
        for n in 0..1000 {
            take(&mut seen, n * 20, 10);
        }
        assert!(seen.holes.len() <= HOLES);
        assert_eq!(seen.missing(), 999 * 10);
        // One segment over everything fills what is still known as a hole.
        let (_, filled, again, _) = take(&mut seen, 0, 999 * 20 + 10);
        assert_eq!(filled, HOLES as u32 * 10);
        assert_eq!(filled + again, 999 * 20 + 10);
    }
}
