//! Which flows of a recording were healthy: what a rule must not hurt.

use psc_formats::FiveTuple;
use psc_formats::packet::Headers;

/// Both directions of a flow; index 0 is the direction of the canonical tuple.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    packets: [u64; 2],
    /// Payload bytes.
    bytes: [u64; 2],
    syn: [bool; 2],
    /// Acknowledged something after the handshake.
    acked: [bool; 2],
    reset: [bool; 2],
    /// Destination unreachable and kin about it.
    refused: bool,
}

impl Health {
    /// A packet of the flow whose canonical tuple is `canonical`.
    pub(super) fn packet(&mut self, tuple: &FiveTuple, canonical: &FiveTuple, headers: &Headers) {
        let side = usize::from(tuple != canonical);
        self.packets[side] += 1;
        if let Some(tcp) = headers.tcp() {
            self.bytes[side] += u64::from(headers.payload_len);
            self.syn[side] |= tcp.flags & 0x02 != 0;
            self.reset[side] |= tcp.flags & 0x04 != 0;
            self.acked[side] |= tcp.flags & 0x12 == 0x10;
        } else {
            self.bytes[side] += u64::from(headers.payload_len);
        }
    }

    /// An ICMP error quoted a packet of the flow.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }

    /// Packets both ways.
    pub(super) fn total(&self) -> u64 {
        self.packets[0] + self.packets[1]
    }

    /// Why it is healthy; `None` when it is not, or when that cannot be told.
    pub(super) fn why(&self, protocol: u8) -> Option<&'static str> {
        let both_ways = self.packets[0] > 0 && self.packets[1] > 0;
        if !both_ways {
            return None;
        }
        if protocol == 6 {
            let data = self.bytes[0] > 0 || self.bytes[1] > 0;
            return (data && self.acked[0] && self.acked[1])
                .then_some("established, data acknowledged");
        }
        (!self.refused).then_some("answered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_means_answered_and_for_tcp_established_with_data() {
        let two = |packets| Health { packets, ..Health::default() };
        let tcp = Health { bytes: [10, 0], acked: [true, true], ..two([5, 5]) };
        #[rustfmt::skip]
        let cases = [
            ("one-way UDP",           17, two([9, 0]),                                        false),
            ("answered UDP",          17, two([9, 1]),                                        true),
            ("UDP to a closed port",  17, Health { refused: true, ..two([9, 1]) },            false),
            ("TCP with data",          6, tcp,                                                true),
            ("TCP handshake only",     6, Health { bytes: [0, 0], ..tcp },                    false),
            ("SYN and RST",            6, two([1, 1]),                                        false),
            ("only one side acks",     6, Health { acked: [true, false], ..tcp },             false),
        ];
        for (name, protocol, health, expected) in cases {
            assert_eq!(health.why(protocol).is_some(), expected, "{name}");
        }
    }
}
