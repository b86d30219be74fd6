//! Which addresses have proven that they are where they say: by completing a TCP handshake.

use std::net::IpAddr;

use psc_formats::FiveTuple;
use psc_formats::packet::{Headers, Tcp};

use crate::bounded::Bounded;

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const ACK: u16 = 0x10;

/// Handshakes under way at most.
const OPEN: usize = 65_536;

/// Watches handshakes. Only somebody who received a SYN-ACK can acknowledge its sequence number, which
/// is random (RFC 6528): an address that did is no forgery.
#[derive(Debug)]
pub struct Handshakes {
    /// By the tuple of the SYN: sequence number of the SYN-ACK, when there was one.
    open: Bounded<FiveTuple, Option<u32>>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { open: Bounded::new(OPEN) }
    }
}

impl Handshakes {
    /// The address that this packet proves, if it does: the one that opened the connection. Packets of both
    /// directions are to be shown.
    pub fn packet(&mut self, headers: &Headers) -> Option<(IpAddr, FiveTuple)> {
        let (tuple, tcp): (FiveTuple, &Tcp) = (headers.tuple()?, headers.tcp()?);
        match tcp.flags & (FIN | SYN | RST | ACK) {
            SYN => {
                self.open.entry_or_forget(tuple, || None);
                None
            }
            both if both == SYN | ACK => {
                let sequence = self.open.get_mut(&tuple.reversed())?;
                *sequence = Some(tcp.seq);
                None
            }
            flags if flags & RST != 0 => {
                self.open.remove(&tuple);
                None
            }
            flags if flags & ACK != 0 => {
                let sequence = (*self.open.get(&tuple)?)?;
                if tcp.ack != sequence.wrapping_add(1) {
                    return None;
                }
                self.open.remove(&tuple);
                Some((tuple.src, tuple))
            }
            _ => None,
        }
    }
}
