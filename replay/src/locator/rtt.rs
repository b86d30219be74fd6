//! Round trips measured from TCP, at each point where it passes.
//!
//! Each namespace is a point of observation, and so is a capture. From a SYN leaving it to the SYN-ACK
//! coming back is a round trip to the server; from the SYN-ACK leaving to the ACK coming back is one
//! to the client; from data leaving to its acknowledgement coming back is one to the receiver, with
//! whatever time that took to acknowledge. A capture does not say which way a frame goes; there, both
//! splits hold: the capture point divides the path, and each part is measured from it.
//!
//! A kernel recording sees a packet at several probes on its way out. The round trip counts from the
//! last of them (the driver) to the first sight of the answer; what came before is time in this host.

use psc_formats::packet::{Headers, Network, Tcp};

use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::engine::JourneyId;
use crate::first_sight::Direction;

/// A packet that left, known again by its journey, or by its IPv4 identification when a capture has it
/// twice.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// First sight.
    at: u64,
    /// Last sight on its way out.
    left: u64,
    /// Number of its journey, 0 in a capture.
    journey: u64,
    ip_id: u16,
    /// Sent more than once: an answer cannot be matched (Karn's rule).
    again: bool,
}

impl Sent {
    fn same(&self, other: &Self) -> bool {
        (self.journey != 0 && self.journey == other.journey)
            || (self.ip_id != 0 && self.ip_id == other.ip_id)
    }

    fn sample(&self, kind: Kind, at: u64) -> Sample {
        let host_ns = (self.journey != 0).then(|| self.left - self.at);
        Sample { kind, rtt_ns: at.saturating_sub(self.left), host_ns }
    }
}

/// What a round trip was measured from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SYN to SYN-ACK, or SYN-ACK to ACK.
    Handshake,
    /// Data to its acknowledgement.
    Data,
}

/// A round trip to the peer that sent the packet at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    pub(super) rtt_ns: u64,
    /// Time in this host before, not part of `rtt_ns`; `None` in a capture.
    pub(super) host_ns: Option<u64>,
}

/// One direction's data.
#[derive(Clone, Copy, Debug, Default)]
struct Outgoing {
    /// One past the highest byte that left.
    next: Option<u32>,
    /// The segment being timed, and where it ends.
    timed: Option<(Sent, u32)>,
}

/// One TCP connection as far as round trips need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    /// Which way the SYN went.
    client: usize,
    client_seq: Option<u32>,
    server_seq: Option<u32>,
    syn: Option<Sent>,
    syn_ack: Option<Sent>,
    server_measured: bool,
    client_measured: bool,
    data: [Outgoing; 2],
}

fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Timing {
    /// One sighting of a segment that goes `way` (0 or 1).
    pub(super) fn sighting(
        &mut self,
        way: usize,
        direction: Direction,
        at: u64,
        journey: Option<JourneyId>,
        headers: &Headers,
    ) -> Option<Sample> {
        let tcp = headers.tcp()?;
        let ip_id = match headers.network {
            Network::V4(ip) => ip.id,
            Network::V6(_) | Network::Arp(_) | Network::None => 0,
        };
        let journey = journey.map_or(0, |id| id.0);
        let sent = Sent { at, left: at, journey, ip_id, again: false };
        let leaves = direction != Direction::Ingress;
        let comes = direction != Direction::Egress;
        match tcp.flags & (SYN | ACK | RST | FIN) {
            SYN => {
                if self.client_seq != Some(tcp.seq) {
                    *self = Self { client: way, client_seq: Some(tcp.seq), ..Self::default() };
                }
                if leaves {
                    leave(&mut self.syn, sent);
                }
                None
            }
            flags if flags == SYN | ACK => self.syn_ack(tcp, at, comes, leaves, sent),
            flags if flags & (RST | SYN) != 0 => None,
            flags => {
                let sample =
                    if comes && flags & ACK != 0 { self.acknowledged(way, tcp, at) } else { None };
                if leaves && headers.payload_len > 0 {
                    self.data[way].leave(tcp.seq, headers.payload_len, sent);
                }
                sample
            }
        }
    }

    fn syn_ack(
        &mut self,
        tcp: &Tcp,
        at: u64,
        comes: bool,
        leaves: bool,
        sent: Sent,
    ) -> Option<Sample> {
        if self.client_seq != Some(tcp.ack.wrapping_sub(1)) {
            return None;
        }
        self.server_seq = Some(tcp.seq);
        let mut sample = None;
        if comes
            && !self.server_measured
            && let Some(syn) = self.syn.filter(|syn| !syn.again)
        {
            self.server_measured = true;
            sample = Some(syn.sample(Kind::Handshake, at));
        }
        if leaves {
            leave(&mut self.syn_ack, sent);
        }
        sample
    }

    fn acknowledged(&mut self, way: usize, tcp: &Tcp, at: u64) -> Option<Sample> {
        if way == self.client
            && !self.client_measured
            && let Some(syn_ack) = self.syn_ack
            && self.server_seq == Some(tcp.ack.wrapping_sub(1))
        {
            self.client_measured = true;
            if !syn_ack.again {
                return Some(syn_ack.sample(Kind::Handshake, at));
            }
        }
        let other = &mut self.data[1 - way];
        let (sent, end) = other.timed?;
        if before(tcp.ack, end) {
            return None;
        }
        other.timed = None;
        (!sent.again).then(|| sent.sample(Kind::Data, at))
    }
}

impl Outgoing {
    fn leave(&mut self, seq: u32, len: u32, sent: Sent) {
        let end = seq.wrapping_add(len);
        if let Some((timed, _)) = &mut self.timed
            && timed.same(&sent)
        {
            timed.left = sent.at;
            return;
        }
        match self.next {
            // Bytes that had left before: whichever copy is acknowledged, nobody can tell.
            Some(next) if before(seq, next) => {
                if let Some((timed, timed_end)) = &mut self.timed
                    && before(seq, *timed_end)
                {
                    timed.again = true;
                }
                if before(next, end) {
                    self.next = Some(end);
                }
            }
            _ => {
                self.next = Some(end);
                self.timed.get_or_insert((sent, end));
            }
        }
    }
}

/// Notes a packet leaving; the same one passing another probe is later on its way out.
fn leave(slot: &mut Option<Sent>, sent: Sent) {
    match slot {
        None => *slot = Some(sent),
        Some(known) if known.same(&sent) => known.left = sent.at,
        Some(known) => known.again = true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample;

    const C: &str = "10.0.0.1:40000";
    const S: &str = "10.0.0.2:80";
    const CLIENT: u32 = 1;
    const SERVER: u32 = 2;

    /// (at, namespace, direction, journey, packet: `s`yn, syn-ack `b`ack, `a`ck, `d`ata of 100 bytes
    /// from the client, its acknowledgement `k`).
    type Step = (u64, u32, Direction, u64, char);

    /// (peer, kind, round trip, time in the host).
    fn play(steps: &[Step], captured: bool) -> Vec<(&'static str, Kind, u64, Option<u64>)> {
        let mut points: BTreeMap<u32, Timing> = BTreeMap::new();
        let mut samples = Vec::new();
        for &(at, netns, direction, journey, packet) in steps {
            let (way, mut headers) = match packet {
                's' => (0, sample::tcp(C, S, SYN, 1000, 0, 0)),
                'b' => (1, sample::tcp(S, C, SYN | ACK, 5000, 1001, 0)),
                'a' => (0, sample::tcp(C, S, ACK, 1001, 5001, 0)),
                'd' => (0, sample::tcp(C, S, ACK, 1001, 5001, 100)),
                'k' => (1, sample::tcp(S, C, ACK, 5001, 1101, 0)),
                other => panic!("{other}"),
            };
            if captured && let Network::V4(ip) = &mut headers.network {
                ip.id = journey as u16;
            }
            let journey = (!captured).then_some(JourneyId(journey));
            let timing = points.entry(netns).or_default();
            if let Some(sample) = timing.sighting(way, direction, at, journey, &headers) {
                let peer = if way == 0 { "client" } else { "server" };
                samples.push((peer, sample.kind, sample.rtt_ns, sample.host_ns));
            }
        }
        samples
    }

    #[test]
    fn each_host_measures_its_own_round_trip() {
        use Direction::{Egress, Ingress};
        let steps = [
            (0, CLIENT, Egress, 1, 's'),
            // The same SYN at another probe of the same host is no second one, but later.
            (2, CLIENT, Egress, 1, 's'),
            (50, SERVER, Ingress, 1, 's'),
            (60, SERVER, Egress, 2, 'b'),
            (110, CLIENT, Ingress, 2, 'b'),
            (115, CLIENT, Egress, 3, 'a'),
            (165, SERVER, Ingress, 3, 'a'),
        ];
        let expected =
            [("server", Kind::Handshake, 108, Some(2)), ("client", Kind::Handshake, 105, Some(0))];
        assert_eq!(play(&steps, false), expected);
    }

    #[test]
    fn a_capture_point_divides_the_path() {
        use Direction::Unknown;
        let steps = [(0, 0, Unknown, 1, 's'), (70, 0, Unknown, 2, 'b'), (100, 0, Unknown, 3, 'a')];
        let expected =
            [("server", Kind::Handshake, 70, None), ("client", Kind::Handshake, 30, None)];
        assert_eq!(play(&steps, true), expected);
    }

    #[test]
    fn data_is_timed_to_its_acknowledgement() {
        use Direction::Unknown;
        let shake = [(0, 0, Unknown, 1, 's'), (70, 0, Unknown, 2, 'b'), (100, 0, Unknown, 3, 'a')];
        #[rustfmt::skip]
        let cases: [(&str, &[Step], &[u64]); 4] = [
            ("once",            &[(200, 0, Unknown, 4, 'd'), (290, 0, Unknown, 5, 'k')], &[90]),
            ("captured twice",  &[(200, 0, Unknown, 4, 'd'), (201, 0, Unknown, 4, 'd'), (290, 0, Unknown, 5, 'k')], &[89]),
            ("retransmitted",   &[(200, 0, Unknown, 4, 'd'), (250, 0, Unknown, 6, 'd'), (290, 0, Unknown, 5, 'k')], &[]),
            ("acknowledged twice", &[(200, 0, Unknown, 4, 'd'), (290, 0, Unknown, 5, 'k'), (295, 0, Unknown, 6, 'k')], &[90]),
        ];
        for (name, steps, expected) in cases {
            let all: Vec<Step> = shake.iter().chain(steps).copied().collect();
            let samples = play(&all, true);
            let data: Vec<u64> =
                samples.iter().filter(|s| s.1 == Kind::Data).map(|s| s.2).collect();
            assert_eq!(data, expected, "{name}");
        }
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
        assert_eq!(play(&twice, true), [("client", Kind::Handshake, 30, None)]);
        let twice = [
            (0, 0, Unknown, 1, 's'),
            (70, 0, Unknown, 2, 'b'),
            (1070, 0, Unknown, 3, 'b'),
            (1100, 0, Unknown, 4, 'a'),
        ];
        assert_eq!(play(&twice, true), [("server", Kind::Handshake, 70, None)]);
    }
}
