//! Directed flows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A directed 5-tuple. Ports are 0 for protocols that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FiveTuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Source (or local) address.
    pub src: IpAddr,
    /// Source (or local) port.
    pub sport: u16,
    /// Destination (or remote) address.
    pub dst: IpAddr,
    /// Destination (or remote) port.
    pub dport: u16,
}

/// Two integers for IPv4, five for IPv6: the derived one feeds a hasher in a dozen pieces.
impl std::hash::Hash for FiveTuple {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [src_lo, src_hi, dst_lo, dst_hi, rest] = self.to_words();
        if self.src.is_ipv6() || self.dst.is_ipv6() {
            state.write_u64(src_hi);
            state.write_u64(dst_hi);
            state.write_u64(src_lo);
            state.write_u64(dst_lo);
        } else {
            state.write_u64(src_lo << 32 | dst_lo);
        }
        state.write_u64(rest);
    }
}

impl FiveTuple {
    /// The same connection seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, sport: self.dport, dst: self.src, dport: self.sport, ..self }
    }

    /// One key for both directions: the smaller (address, port) first.
    #[must_use]
    pub fn canonical(self) -> Self {
        if (self.src, self.sport) <= (self.dst, self.dport) { self } else { self.reversed() }
    }

    /// Five integers: source address (low, high half), destination address (low, high half),
    /// then `sport | dport << 16 | protocol << 32 | v6 << 40 | mixed << 41`: `v6` is the source's
    /// family, `mixed` says that the destination's differs (no packet has that, but nothing in the
    /// type forbids it). IPv4 uses the low half only.
    pub fn to_words(&self) -> [u64; 5] {
        fn halves(addr: IpAddr) -> (u64, u64) {
            match addr {
                IpAddr::V4(v4) => (u64::from(u32::from(v4)), 0),
                IpAddr::V6(v6) => (u128::from(v6) as u64, (u128::from(v6) >> 64) as u64),
            }
        }
        let (src_lo, src_hi) = halves(self.src);
        let (dst_lo, dst_hi) = halves(self.dst);
        let rest = u64::from(self.sport)
            | u64::from(self.dport) << 16
            | u64::from(self.protocol) << 32
            | u64::from(self.src.is_ipv6()) << 40
            | u64::from(self.src.is_ipv6() != self.dst.is_ipv6()) << 41;
        [src_lo, src_hi, dst_lo, dst_hi, rest]
    }

    /// The reverse of [`Self::to_words`]; `None` when the integers are no 5-tuple.
    pub fn from_words(words: [u64; 5]) -> Option<Self> {
        let [src_lo, src_hi, dst_lo, dst_hi, rest] = words;
        let addr = |lo: u64, hi: u64, v6: bool| -> Option<IpAddr> {
            if v6 {
                return Some(Ipv6Addr::from(u128::from(hi) << 64 | u128::from(lo)).into());
            }
            (hi == 0 && lo >> 32 == 0).then(|| Ipv4Addr::from(lo as u32).into())
        };
        let (src_v6, mixed) = match rest >> 40 {
            0 => (false, false),
            1 => (true, false),
            2 => (false, true),
            3 => (true, true),
            _ => return None,
        };
        Some(Self {
            protocol: (rest >> 32) as u8,
            src: addr(src_lo, src_hi, src_v6)?,
            sport: rest as u16,
            dst: addr(dst_lo, dst_hi, src_v6 != mixed)?,
            dport: (rest >> 16) as u16,
        })
    }
}

/// `tcp 10.0.0.1:40000 > 10.0.0.2:80`; protocols without ports show none.
impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |addr: IpAddr, port: u16| {
            if port == 0 { addr.to_string() } else { SocketAddr::new(addr, port).to_string() }
        };
        write!(
            f,
            "{} {} > {}",
            ProtocolName(self.protocol),
            end(self.src, self.sport),
            end(self.dst, self.dport)
        )
    }
}

/// An IP protocol number shown by its IANA name where psc knows it.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolName(pub u8);

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            1 => "icmp",
            2 => "igmp",
            4 => "ipip",
            6 => "tcp",
            17 => "udp",
            41 => "ipv6",
            47 => "gre",
            50 => "esp",
            51 => "ah",
            58 => "icmpv6",
            89 => "ospf",
            103 => "pim",
            112 => "vrrp",
            132 => "sctp",
            other => return write!(f, "ip-proto-{other}"),
        })
    }
}
