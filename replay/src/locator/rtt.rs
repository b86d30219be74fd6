//! Round trips measured from TCP handshakes, at each point where they pass.
//!
//! Each namespace is a point of observation, and so is a capture. From a SYN leaving it to the SYN-ACK
//! coming back is a round trip to the server; from the SYN-ACK leaving to the ACK coming back is one
//! to the client. A capture does not say which way a frame goes; there, both splits hold: the capture
//! point divides the path, and each part is measured from it.

use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::packet::{Headers, Network};

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::engine::JourneyId;
use crate::first_sight::Direction;

/// Handshakes watched at once.
const HANDSHAKES: usize = 16_384;

/// Samples kept for the median; beyond, every other one goes and half as many are taken.
const SAMPLES: usize = 256;

/// One packet of a handshake, known again by its journey, or by its IPv4 identification when a
/// capture has it twice.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: u64,
    journey: Option<JourneyId>,
    ip_id: u16,
    /// Sent more than once: an answer cannot be matched (Karn's rule).
    again: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Handshake {
    client_seq: u32,
    server_seq: u32,
    syn: Option<Sent>,
    syn_ack: Option<Sent>,
    server_measured: bool,
}

/// Watches handshakes.
#[derive(Debug)]
pub(super) struct Handshakes {
    /// By namespace and tuple, client first.
    open: Bounded<(u32, FiveTuple), Handshake>,
}

/// A round trip from a point of observation to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) peer: IpAddr,
    pub(super) rtt_ns: u64,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { open: Bounded::new(HANDSHAKES) }
    }
}

impl Handshakes {
    /// One sighting of a packet in a namespace.
    pub(super) fn sighting(
        &mut self,
        (netns, direction): (u32, Direction),
        at: u64,
        journey: Option<JourneyId>,
        headers: &Headers,
    ) -> Option<Sample> {
        let tcp = headers.tcp()?;
        let flags = tcp.flags & (SYN | ACK | RST | FIN);
        if flags & (RST | FIN) != 0 || (flags == ACK && self.open.len() == 0) {
            return None;
        }
        let tuple = headers.tuple()?;
        let ip_id = match headers.network {
            Network::V4(ip) => ip.id,
            Network::V6(_) | Network::Arp(_) | Network::None => 0,
        };
        let sent = Sent { at, journey, ip_id, again: false };
        let leaves = direction != Direction::Ingress;
        let comes = direction != Direction::Egress;
        match flags {
            SYN => {
                let handshake = self.open.entry_or_forget((netns, tuple), Handshake::default);
                if handshake.client_seq != tcp.seq {
                    *handshake = Handshake { client_seq: tcp.seq, ..Handshake::default() };
                }
                if leaves {
                    leave(&mut handshake.syn, sent);
                }
                None
            }
            flags if flags == SYN | ACK => {
                let handshake = self.open.get_mut(&(netns, tuple.reversed()))?;
                if tcp.ack != handshake.client_seq.wrapping_add(1) {
                    return None;
                }
                handshake.server_seq = tcp.seq;
                let mut sample = None;
                if comes
                    && !handshake.server_measured
                    && let Some(syn) = handshake.syn.filter(|syn| !syn.again)
                {
                    handshake.server_measured = true;
                    sample = Some(Sample { peer: tuple.src, rtt_ns: at.saturating_sub(syn.at) });
                }
                if leaves {
                    leave(&mut handshake.syn_ack, sent);
                }
                sample
            }
            ACK if comes => {
                let key = (netns, tuple);
                let handshake = self.open.get(&key)?;
                let syn_ack = handshake.syn_ack?;
                if tcp.ack != handshake.server_seq.wrapping_add(1) {
                    return None;
                }
                self.open.remove(&key);
                (!syn_ack.again)
                    .then(|| Sample { peer: tuple.src, rtt_ns: at.saturating_sub(syn_ack.at) })
            }
            _ => None,
        }
    }
}

/// Notes a packet leaving; the same one passing another probe changes nothing.
fn leave(slot: &mut Option<Sent>, sent: Sent) {
    match slot {
        None => *slot = Some(sent),
        Some(known) => {
            let same = (known.journey.is_some() && known.journey == sent.journey)
                || (known.ip_id != 0 && known.ip_id == sent.ip_id);
            known.again |= !same;
        }
    }
}

/// Round trips to one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    min: Option<u64>,
    count: u64,
    /// Every `stride`-th sample.
    kept: Vec<u64>,
    stride: u64,
}

impl Samples {
    pub(super) fn add(&mut self, rtt_ns: u64) {
        self.min = Some(self.min.map_or(rtt_ns, |min| min.min(rtt_ns)));
        let stride = self.stride.max(1);
        if self.count.is_multiple_of(stride) {
            self.kept.push(rtt_ns);
            if self.kept.len() == SAMPLES {
                let mut index = 0;
                self.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride = stride * 2;
            }
        }
        self.count += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.min = match (self.min, other.min) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.count += other.count;
        self.kept.extend_from_slice(&other.kept);
    }

    /// (min, median, samples); the median of at most a few hundred evenly taken ones.
    pub(super) fn summary(&self) -> Option<(u64, u64, u64)> {
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        let median = *kept.get(kept.len().saturating_sub(1) / 2)?;
        Some((self.min?, median, self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const C: &str = "10.0.0.1:40000";
    const S: &str = "10.0.0.2:80";
    const CLIENT: u32 = 1;
    const SERVER: u32 = 2;

    /// (at, namespace, direction, journey, packet: `s`yn, syn-ack `b`ack or `a`ck).
    type Step = (u64, u32, Direction, u64, char);

    fn play(steps: &[Step]) -> Vec<(&'static str, u64)> {
        let mut handshakes = Handshakes::default();
        let mut samples = Vec::new();
        for &(at, netns, direction, journey, packet) in steps {
            let headers = match packet {
                's' => sample::tcp(C, S, SYN, 100, 0, 0),
                'b' => sample::tcp(S, C, SYN | ACK, 900, 101, 0),
                'a' => sample::tcp(C, S, ACK, 101, 901, 0),
                other => panic!("packet {other}"),
            };
            let journey = Some(JourneyId(journey));
            if let Some(s) = handshakes.sighting((netns, direction), at, journey, &headers) {
                let who = if s.peer == sample::ip("10.0.0.2") { "server" } else { "client" };
                samples.push((who, s.rtt_ns));
            }
        }
        samples
    }

    #[test]
    fn each_namespace_measures_to_the_other_side() {
        use Direction::{Egress, Ingress};
        let steps = [
            (0, CLIENT, Egress, 1, 's'),
            (5, CLIENT, Egress, 1, 's'), // the same packet at a later probe
            (40, SERVER, Ingress, 1, 's'),
            (50, SERVER, Egress, 2, 'b'),
            (90, CLIENT, Ingress, 2, 'b'),
            (95, CLIENT, Ingress, 2, 'b'),
            (97, CLIENT, Egress, 3, 'a'),
            (140, SERVER, Ingress, 3, 'a'),
        ];
        assert_eq!(play(&steps), [("server", 90), ("client", 90)]);
    }

    #[test]
    fn a_capture_point_divides_the_path() {
        use Direction::Unknown;
        let steps = [(0, 0, Unknown, 1, 's'), (70, 0, Unknown, 2, 'b'), (100, 0, Unknown, 3, 'a')];
        assert_eq!(play(&steps), [("server", 70), ("client", 30)]);
    }

    #[test]
    fn what_was_sent_twice_measures_nothing() {
        use Direction::Unknown;
        let twice = [
            (0, 0, Unknown, 1, 's'),
            (1000, 0, Unknown, 2, 's'),
            (1070, 0, Unknown, 3, 'b'),
            (1100, 0, Unknown, 4, 'a'),
        ];
        assert_eq!(play(&twice), [("client", 30)]);
        let twice = [
            (0, 0, Unknown, 1, 's'),
            (70, 0, Unknown, 2, 'b'),
            (1070, 0, Unknown, 3, 'b'),
            (1100, 0, Unknown, 4, 'a'),
        ];
        assert_eq!(play(&twice), [("server", 70)]);
    }

    #[test]
    fn the_median_survives_thinning() {
        let mut samples = Samples::default();
        for n in 0..100_001_u64 {
            samples.add((n * 7919) % 100_001);
        }
        let (min, median, count) = samples.summary().expect("samples");
        assert_eq!((min, count), (0, 100_001));
        assert!(median.abs_diff(50_000) < 8_000, "{median}");
        assert!(samples.kept.len() <= SAMPLES);
    }
}
