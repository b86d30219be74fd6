//! Who asked whom by datagram, and whether anything came back.

use std::net::IpAddr;

use psc_formats::packet::{Headers, Transport};
use psc_formats::{Event, FiveTuple};

use super::{KEYS, Times, is_group};
use crate::bounded::Bounded;
use crate::engine::JourneyId;

/// Ports of protocols in which every question has an answer from the port that was asked: Kerberos, NTP,
/// SNMP, CLDAP, QUIC, IKE, RADIUS, STUN, SIP, CoAP, memcached (the IANA registry of service names). Of
/// others silence says nothing: syslog and metrics are never answered.
const ANSWERING: &[(u16, &str)] = &[
    (88, "Kerberos"),
    (123, "NTP"),
    (161, "SNMP"),
    (389, "CLDAP"),
    (443, "QUIC"),
    (500, "IKE"),
    (1812, "RADIUS"),
    (1813, "RADIUS accounting"),
    (3478, "STUN"),
    (5060, "SIP"),
    (5683, "CoAP"),
    (11211, "memcached"),
];

/// The protocol of an answering port.
pub(in crate::diagnosis) fn answering(port: u16) -> Option<&'static str> {
    ANSWERING.iter().find(|(known, _)| *known == port).map(|(_, name)| *name)
}

/// Datagrams of one client host to one service, and back.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Asked {
    pub(in crate::diagnosis) times: Times,
    pub(in crate::diagnosis) answers: u64,
}

/// All exchanges.
#[derive(Debug)]
pub(in crate::diagnosis) struct Datagrams {
    /// The service that a client's socket asked last: (client, its port, the service's port).
    last: Bounded<(IpAddr, u16, u16), IpAddr>,
    /// Services whose answers are due: (client, service, port).
    asked: Bounded<(IpAddr, IpAddr, u16), Asked>,
}

impl Default for Datagrams {
    fn default() -> Self {
        Self { last: Bounded::new(KEYS), asked: Bounded::new(KEYS) }
    }
}

impl Datagrams {
    /// A packet on its way, told once.
    pub(super) fn packet(&mut self, event: &Event, headers: &Headers, journey: Option<JourneyId>) {
        let (Transport::Udp(_), Some(tuple)) = (headers.transport, headers.tuple()) else { return };
        if is_group(tuple.dst) {
            return;
        }
        // Whatever comes back is no question, also from another address than was asked.
        if self.last.get(&(tuple.dst, tuple.dport, tuple.sport)).is_none() {
            *self.last.entry_or_forget((tuple.src, tuple.sport, tuple.dport), || tuple.dst) =
                tuple.dst;
        }
        if answering(tuple.dport).is_some() && answering(tuple.sport).is_none() {
            self.asked
                .entry_or_forget((tuple.src, tuple.dst, tuple.dport), Asked::default)
                .times
                .add(event.at.0, 1, journey.map(|id| id.0));
        } else if let Some(asked) = self.asked.get_mut(&(tuple.dst, tuple.src, tuple.sport)) {
            asked.answers += 1;
        }
    }

    /// Whom the socket had asked that a datagram with these ports was sent to, when it was another host.
    pub(in crate::diagnosis) fn meant_for(&self, answer: FiveTuple) -> Option<IpAddr> {
        let asked = *self.last.get(&(answer.dst, answer.dport, answer.sport))?;
        (asked != answer.src).then_some(asked)
    }

    pub(in crate::diagnosis) fn asked(&self) -> Vec<(&(IpAddr, IpAddr, u16), &Asked)> {
        super::sorted(&self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn answers_from_elsewhere_and_silence_are_told() {
        let mut seen = Datagrams::default();
        let event = Event::from(sample::event(0, psc_formats::EventKind::DeviceQueue {}));
        for (src, dst) in [
            ("10.0.0.1:5000", "10.0.0.2:123"),
            ("10.0.0.3:123", "10.0.0.1:5000"),
            ("10.0.0.1:5001", "10.0.0.4:161"),
            ("10.0.0.4:161", "10.0.0.1:5001"),
        ] {
            seen.packet(&event, &sample::udp(src, dst, 10), None);
        }
        for (src, dst, asked) in [
            ("10.0.0.3:123", "10.0.0.1:5000", Some("10.0.0.2")),
            ("10.0.0.2:123", "10.0.0.1:5000", None),
            ("10.0.0.4:161", "10.0.0.1:5001", None),
            ("10.0.0.4:161", "10.0.0.1:5009", None),
        ] {
            let answer = sample::udp(src, dst, 10).tuple().expect("tuple");
            assert_eq!(seen.meant_for(answer), asked.map(sample::ip), "{src} > {dst}");
        }
        let answers: Vec<u64> = seen.asked().iter().map(|(_, asked)| asked.answers).collect();
        assert_eq!(answers, [0, 1]);
    }
}
