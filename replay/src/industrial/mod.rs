//! Industrial protocols: messages out of packets, and who talks to whom with which functions.
//!
//! Everything here reads; nothing is ever sent to a controller. Each protocol's parser takes the bytes of
//! one direction of a conversation, cut anywhere, and gives back whole messages.

mod bacnet;
mod baseline;
mod dnp3;
mod enip;
mod iec104;
mod modbus;
mod s7comm;
mod stream;
pub(crate) mod talk;

pub(crate) use baseline::ends;
pub use baseline::{Baseline, Learner, Pair};
pub(crate) use stream::Streams;
pub(crate) use talk::{Talk, Talks};

use psc_formats::FiveTuple;
use psc_formats::packet::Headers;
use serde::{Deserialize, Serialize};

/// A protocol that controllers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Modbus/TCP, port 502.
    Modbus,
    /// DNP3 over TCP or UDP, port 20000 (IEEE 1815).
    Dnp3,
    /// S7comm over ISO-on-TCP, port 102.
    S7comm,
    /// EtherNet/IP with CIP, port 44818.
    Enip,
    /// IEC 60870-5-104, port 2404.
    Iec104,
    /// BACnet/IP, UDP port 47808 (ASHRAE 135 annex J).
    Bacnet,
}

impl Protocol {
    /// Its name as written in baselines and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modbus => "modbus",
            Self::Dnp3 => "dnp3",
            Self::S7comm => "s7comm",
            Self::Enip => "enip",
            Self::Iec104 => "iec104",
            Self::Bacnet => "bacnet",
        }
    }

    /// Protocol of a server port.
    fn of(ip_protocol: u8, port: u16) -> Option<Self> {
        match (ip_protocol, port) {
            (6, 502) => Some(Self::Modbus),
            (6 | 17, 20_000) => Some(Self::Dnp3),
            (6, 102) => Some(Self::S7comm),
            (6 | 17, 44_818) => Some(Self::Enip),
            (6, 2404) => Some(Self::Iec104),
            (17, 47_808) => Some(Self::Bacnet),
            _ => None,
        }
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Response,
}

/// What a function does to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Effect {
    /// Sessions, identification, link upkeep.
    Upkeep,
    Read,
    /// Sets values of the process.
    Write,
    /// Changes what the controller runs or whether: stop, start, download, restart, force.
    Control,
    /// A function that the protocol does not have.
    Illegal,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// The protocol's own function, command, service or type number.
    pub(crate) function: u16,
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    /// Unit, outstation, common address; 0 where the protocol has none.
    pub(crate) unit: u32,
    /// First address and how many, of reads and writes that say.
    pub(crate) address: Option<(u32, u32)>,
    /// The server refused: the protocol's own code.
    pub(crate) refused: Option<u16>,
}

/// What a parser found at the start of the bytes it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A message of that many bytes; one frame may hold several or none of interest.
    Frame(usize, Vec<Message>),
    /// Not whole yet.
    More,
    /// No frame of this protocol starts here.
    Wrong,
}

/// The protocol of a conversation, and which side this packet comes from.
pub(crate) fn protocol(tuple: &FiveTuple) -> Option<(Protocol, Role)> {
    if let Some(protocol) = Protocol::of(tuple.protocol, tuple.dport) {
        // Between two BACnet devices both ports are the same; what the message is says which it is.
        return Some((protocol, Role::Request));
    }
    Protocol::of(tuple.protocol, tuple.sport).map(|protocol| (protocol, Role::Response))
}

/// The first message at the start of `bytes`.
pub(crate) fn parse(protocol: Protocol, role: Role, bytes: &[u8]) -> Step {
    match protocol {
        Protocol::Modbus => modbus::parse(role, bytes),
        Protocol::Dnp3 => dnp3::parse(bytes),
        Protocol::S7comm => s7comm::parse(bytes),
        Protocol::Enip => enip::parse(bytes),
        Protocol::Iec104 => iec104::parse(bytes),
        Protocol::Bacnet => bacnet::parse(bytes),
    }
}

/// Messages that start and end in one packet, for expressions: `payload` is what was stored behind the
/// transport header.
pub(crate) fn messages(
    headers: &Headers,
    payload: &[u8],
    protocol_wanted: Protocol,
) -> Vec<Message> {
    let mut found = Vec::new();
    let Some((protocol, role)) = headers.tuple().as_ref().and_then(protocol) else { return found };
    if protocol != protocol_wanted {
        return found;
    }
    let mut rest = payload;
    while let Step::Frame(len, messages) = parse(protocol, role, rest) {
        found.extend(messages);
        rest = rest.get(len..).unwrap_or(&[]);
        if rest.is_empty() || len == 0 || found.len() > 256 {
            break;
        }
    }
    found
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}
