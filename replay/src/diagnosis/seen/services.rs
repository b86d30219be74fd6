//! Questions and answers of DNS and DHCP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use psc_formats::Event;
use psc_formats::packet::{Headers, Transport};

use super::{KEYS, Times};
use crate::bounded::Bounded;
use crate::engine::JourneyId;

const DNS: u16 = 53;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

/// A DNS answer that takes longer is slow: people notice, and a page asks for many names.
pub(in crate::diagnosis) const SLOW_NS: u64 = 500_000_000;

/// Open questions remembered of one pair.
const OPEN: usize = 256;

/// Questions of one client to one server.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnosis) struct Exchange {
    pub(in crate::diagnosis) asked: Times,
    pub(in crate::diagnosis) answered: u64,
    /// SERVFAIL answers.
    pub(in crate::diagnosis) failed: Times,
    /// REFUSED answers, or a DHCP NAK.
    pub(in crate::diagnosis) refused: Times,
    /// Answers that came later than [`SLOW_NS`].
    pub(in crate::diagnosis) slow: Times,
    /// The slowest answer.
    pub(in crate::diagnosis) slowest_ns: u64,
    /// Answers that were cut to fit a datagram.
    pub(in crate::diagnosis) truncated: Times,
    /// Identifiers without an answer, and when they were first asked.
    open: BTreeMap<u32, u64>,
}

impl Exchange {
    fn ask(&mut self, id: u32, at: u64) {
        if self.open.len() < OPEN {
            self.open.entry(id).or_insert(at);
        }
    }

    /// Distinct questions without an answer.
    pub(in crate::diagnosis) fn unanswered(&self) -> u64 {
        self.open.len() as u64
    }
}

/// Exchanges by service.
#[derive(Debug)]
pub(in crate::diagnosis) struct Services {
    dns: Bounded<(IpAddr, IpAddr), Exchange>,
    /// Echo requests by (who asks, who is asked).
    echo: Bounded<(IpAddr, IpAddr), Exchange>,
    /// By client hardware address.
    dhcp: Bounded<[u8; 6], Exchange>,
}

impl Default for Services {
    fn default() -> Self {
        Self { dns: Bounded::new(KEYS), echo: Bounded::new(KEYS), dhcp: Bounded::new(KEYS) }
    }
}

impl Services {
    pub(super) fn packet(
        &mut self,
        event: &Event,
        headers: &Headers,
        bytes: &[u8],
        journey: Option<JourneyId>,
    ) {
        let Transport::Udp(udp) = headers.transport else { return };
        let Some((src, dst)) = headers.addresses() else { return };
        let Some(payload) = bytes.get(usize::from(headers.payload_offset)..) else { return };
        let (at, journey) = (event.at.0, journey.map(|id| id.0));
        match (udp.sport, udp.dport) {
            (_, DNS) => self.dns((src, dst), payload, false, at, journey),
            (DNS, _) => self.dns((dst, src), payload, true, at, journey),
            (DHCP_CLIENT, DHCP_SERVER) => self.dhcp(payload, false, at, journey),
            (DHCP_SERVER, DHCP_CLIENT) => self.dhcp(payload, true, at, journey),
            _ => {}
        }
    }

    /// An ICMP or ICMPv6 echo.
    pub(super) fn echo(&mut self, event: &Event, headers: &Headers, journey: Option<JourneyId>) {
        let Transport::Icmp(icmp) = headers.transport else { return };
        let Some((src, dst)) = headers.addresses() else { return };
        match (src.is_ipv6(), icmp.icmp_type) {
            (false, 8) | (true, 128) => {
                let exchange = self.echo.entry_or_forget((src, dst), Exchange::default);
                exchange.asked.add(event.at.0, 1, journey.map(|id| id.0));
                exchange.ask(icmp.rest, event.at.0);
            }
            (false, 0) | (true, 129) => {
                if let Some(exchange) = self.echo.get_mut(&(dst, src)) {
                    exchange.open.remove(&icmp.rest);
                    exchange.answered += 1;
                }
            }
            _ => {}
        }
    }

    pub(in crate::diagnosis) fn echoes(&self) -> Vec<(&(IpAddr, IpAddr), &Exchange)> {
        super::sorted(&self.echo)
    }

    /// RFC 1035 section 4.1.1: identifier, then flags with QR first and RCODE last.
    fn dns(
        &mut self,
        ends: (IpAddr, IpAddr),
        payload: &[u8],
        from_server: bool,
        at: u64,
        journey: Option<u64>,
    ) {
        const SERVFAIL: u8 = 2;
        const REFUSED: u8 = 5;
        let &[hi, lo, first, second, ..] = payload else { return };
        let id = u32::from(hi) << 8 | u32::from(lo);
        if (first & 0x80 != 0) != from_server {
            return;
        }
        let exchange = self.dns.entry_or_forget(ends, Exchange::default);
        if !from_server {
            exchange.asked.add(at, 1, journey);
            exchange.ask(id, at);
            return;
        }
        if let Some(asked) = exchange.open.remove(&id) {
            let took = at.saturating_sub(asked);
            exchange.slowest_ns = exchange.slowest_ns.max(took);
            if took > SLOW_NS {
                exchange.slow.add(at, 1, journey);
            }
        }
        if first & 0x02 != 0 {
            exchange.truncated.add(at, 1, journey);
        }
        exchange.answered += 1;
        match second & 0x0f {
            SERVFAIL => exchange.failed.add(at, 1, journey),
            REFUSED => exchange.refused.add(at, 1, journey),
            _ => {}
        }
    }

    /// RFC 2131 figure 1; the message type is option 53, here sought among the first options.
    fn dhcp(&mut self, payload: &[u8], from_server: bool, at: u64, journey: Option<u64>) {
        const NAK: u8 = 6;
        let (Some(id), Some(mac)) = (payload.get(4..8), payload.get(28..34)) else { return };
        let id = id.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
        let Ok(mac) = <[u8; 6]>::try_from(mac) else { return };
        let exchange = self.dhcp.entry_or_forget(mac, Exchange::default);
        if !from_server {
            exchange.asked.add(at, 1, journey);
            exchange.ask(id, at);
            return;
        }
        exchange.open.remove(&id);
        exchange.answered += 1;
        let mut options = payload.get(240..).unwrap_or_default();
        while let [code, len, rest @ ..] = options {
            if *code == 53 {
                if rest.first() == Some(&NAK) {
                    exchange.refused.add(at, 1, journey);
                }
                return;
            }
            options = rest.get(usize::from(*len)..).unwrap_or_default();
        }
    }

    pub(in crate::diagnosis) fn dns_exchanges(&self) -> Vec<(&(IpAddr, IpAddr), &Exchange)> {
        super::sorted(&self.dns)
    }

    pub(in crate::diagnosis) fn dhcp_exchanges(&self) -> Vec<(&[u8; 6], &Exchange)> {
        super::sorted(&self.dhcp)
    }
}
