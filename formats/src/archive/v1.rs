//! Payloads of schema 1. **Frozen**: rkyv has no schema evolution, so a released archive must find
//! these types exactly as they were. A change is a new module `v2` and a new [`super::frame::SCHEMA`].
//!
//! Every field is a vector of one primitive type, so that FORMAT.md can say where each byte is.
//! `repr(C)` keeps the vectors in this order.

use rkyv::{Archive, Serialize};

/// Payload of a manifest frame.
#[derive(Archive, Serialize, Debug, Default)]
#[rkyv(attr(repr(C)))]
pub struct ManifestV1 {
    /// [`crate::Manifest`] as a JSON document.
    pub json: Vec<u8>,
    /// Recordings that this one was made from: 16 bytes of id and 32 of its last frame's hash each.
    pub parents: Vec<u8>,
}

/// Payload of a facts frame, and of an end frame with its one fact. One row a fact.
#[derive(Archive, Serialize, Debug, Default)]
#[rkyv(attr(repr(C)))]
pub struct FactsV1 {
    /// When the fact was read, nanoseconds; 0 when it has no time.
    pub at: Vec<u64>,
    /// Which of `names` the fact is.
    pub kind: Vec<u8>,
    /// Names of kinds, each followed by a line feed.
    pub names: Vec<u8>,
    /// Where in `text` the fact's JSON document ends; it starts where the one before ends.
    pub end: Vec<u32>,
    /// JSON documents, one after the other.
    pub text: Vec<u8>,
}

/// Payload of a packets frame.
#[derive(Archive, Serialize, Debug, Default)]
#[rkyv(attr(repr(C)))]
pub struct PacketsV1 {
    /// Packets of the events in the next frame, in the order of those events, without gaps.
    pub bytes: Vec<u8>,
}

/// Payload of an events frame.
#[derive(Archive, Serialize, Debug, Default)]
#[rkyv(attr(repr(C)))]
pub struct EventsV1 {
    /// CPU numbers, in order of appearance. One row a CPU.
    pub cpus: Vec<u16>,
    /// What the time of the CPU's first event is relative to, nanoseconds.
    pub cpu_at: Vec<u64>,
    /// `seq` that the CPU's first event would have without a gap.
    pub cpu_seq: Vec<u64>,
    /// Shapes: combinations of what repeats, in order of appearance. One row a shape.
    pub shape_probe: Vec<u16>,
    /// [`crate::EventKind`] number.
    pub shape_tag: Vec<u8>,
    /// [`crate::event::DeviceId`].
    pub shape_device: Vec<u16>,
    /// `skb_iif`.
    pub shape_iif: Vec<u32>,
    /// [`crate::StackId`].
    pub shape_stack: Vec<u32>,
    /// [`crate::event::StackEvidence`].
    pub shape_evidence: Vec<u8>,
    /// 0 unknown, 1 task, 2 softirq, 3 hardirq.
    pub shape_context: Vec<u8>,
    /// Thread id of a task, else 0.
    pub shape_task: Vec<u32>,
    /// Link type of the packet, 0 when the event has none.
    pub shape_link: Vec<u16>,
    /// How the rest of the event is found: [`super::predict::Modes`].
    pub shape_modes: Vec<u16>,
    /// Added to the predicted `len`, as an `i8`.
    pub shape_len: Vec<u8>,
    /// Kinds in this frame, ascending. One row a kind.
    pub tags: Vec<u8>,
    /// Integers in each event of the kind.
    pub tag_args: Vec<u8>,
    /// 1 when the first five of them are an index into `tuples`.
    pub tag_tuple: Vec<u8>,
    /// 5-tuples, five words each, in order of appearance.
    pub tuples: Vec<u64>,
    /// Columns: one row each, in the order of [`Column`] and then those of each kind.
    pub column_coding: Vec<u8>,
    /// Bytes of each number in `data`.
    pub column_width: Vec<u8>,
    /// Rows of the column.
    pub column_rows: Vec<u32>,
    /// Added to each number.
    pub column_base: Vec<u64>,
    /// Entries of the column's dictionary.
    pub column_dictionary: Vec<u32>,
    /// Dictionaries, one after the other.
    pub dictionary: Vec<u64>,
    /// Numbers of all columns, one column after the other.
    pub data: Vec<u8>,
}

/// Columns that every events frame has, in this order. Columns of the kinds follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Column {
    /// Row of `cpus`; one for each event.
    Cpu = 0,
    /// Row of the shapes; one for each event.
    Shape = 1,
    /// Nanoseconds since the event before on this CPU, low byte; one for each event.
    AtLow = 2,
    /// The same, second byte; 255 says that the whole difference is in `AtFar` instead.
    AtHigh = 3,
    /// Differences of 65,280 ns and more, and negative ones; zigzag.
    AtFar = 4,
    /// `seq` less what it would be without a gap; zigzag.
    Seq = 5,
    /// skb that no prediction has.
    Skb = 6,
    /// Content fingerprint that no prediction has.
    Content = 7,
    /// Socket that no prediction has.
    Sock = 8,
    /// `len` that no prediction has.
    Len = 9,
    /// GSO size, segments and kind that no prediction has.
    GsoSize = 10,
    /// See `GsoSize`.
    GsoSegs = 11,
    /// See `GsoSize`.
    GsoKind = 12,
    /// Bytes the packet had, less the event's `len`; zigzag; one for each event with a packet.
    PacketLen = 13,
    /// Bytes stored of a packet that was cut; one for each event with a cut packet.
    Caplen = 14,
}

impl Column {
    /// How many there are.
    pub const COUNT: usize = 15;
}
