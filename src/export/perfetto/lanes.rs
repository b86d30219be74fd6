//! Tracks of flows. Slices of one track must nest, and journeys of one flow overlap as they please, so each
//! flow has as many tracks (lanes) as it has journeys at once.

use std::collections::{BTreeMap, HashMap};

use psc_formats::FiveTuple;

/// Lanes of one flow at most; journeys beyond overlap on the last, which Perfetto draws badly but keeps.
const MAX_LANES: usize = 512;

/// Where a journey is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// Number of the lane, from 0, over all flows.
    pub(super) number: u64,
    /// The flow; `None` for packets without one, and beyond the limit of flows.
    pub(super) flow: Option<FiveTuple>,
    /// Number of its flow, in the order of first use.
    pub(super) rank: usize,
    /// Used for the first time.
    pub(super) is_new: bool,
}

/// One lane's times taken: end by start.
type Taken = BTreeMap<u64, u64>;

#[derive(Debug, Default)]
struct Flow {
    rank: usize,
    lanes: Vec<(u64, Taken)>,
}

/// Lanes of all flows.
#[derive(Debug)]
pub(super) struct Lanes {
    flows: HashMap<Option<FiveTuple>, Flow>,
    limit: usize,
    used: u64,
}

impl Lanes {
    pub(super) fn new(limit: usize) -> Self {
        Self { flows: HashMap::new(), limit, used: 0 }
    }

    /// Flows with a lane.
    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The first lane of `flow` that is free from `from` to `to`, both included; taken then.
    pub(super) fn place(&mut self, flow: Option<FiveTuple>, from: u64, to: u64) -> Lane {
        let full = self.flows.len() >= self.limit && !self.flows.contains_key(&flow);
        let flow = flow.filter(|_| !full);
        let rank = self.flows.len();
        let of_flow = self.flows.entry(flow).or_insert_with(|| Flow { rank, ..Flow::default() });
        let is_free = |taken: &Taken| {
            // Ends are strict: two events of one time on a track have no order.
            taken.range(..=to).next_back().is_none_or(|(_, end)| *end < from)
        };
        let found = of_flow.lanes.iter().position(|(_, taken)| is_free(taken));
        let at = match found {
            Some(at) => at,
            None if of_flow.lanes.len() < MAX_LANES => {
                of_flow.lanes.push((self.used, Taken::new()));
                self.used += 1;
                of_flow.lanes.len() - 1
            }
            None => MAX_LANES - 1,
        };
        let (number, taken) = &mut of_flow.lanes[at];
        let is_new = taken.is_empty();
        taken.entry(from).and_modify(|end| *end = to.max(*end)).or_insert(to);
        Lane { number: *number, flow, rank: of_flow.rank, is_new }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journeys_of_one_lane_do_not_touch() {
        let mut lanes = Lanes::new(8);
        // Journeys come in the order of their ends.
        let placed: Vec<u64> = [(10, 20), (5, 25), (20, 30), (31, 40), (0, 4), (26, 27)]
            .map(|(from, to)| lanes.place(None, from, to).number)
            .to_vec();
        assert_eq!(placed, [0, 1, 2, 0, 0, 0]);
        assert!(lanes.place(None, 20, 21).is_new, "all three are taken");
    }

    #[test]
    fn flows_beyond_the_limit_share_a_track() {
        let mut lanes = Lanes::new(2);
        let flow = |port| FiveTuple {
            protocol: 17,
            src: "10.0.0.1".parse().unwrap(),
            sport: port,
            dst: "10.0.0.2".parse().unwrap(),
            dport: 53,
        };
        let named = [1, 2, 3, 1].map(|port| lanes.place(Some(flow(port)), 0, 1).flow);
        assert_eq!(named, [Some(flow(1)), Some(flow(2)), None, Some(flow(1))]);
    }
}
