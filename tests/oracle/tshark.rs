//! What tshark says of each TCP packet.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::output;

/// Fields, in the order of [`FLAGS`] and before them number, stream.
pub(crate) const FLAGS: &[&str] = &[
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "duplicate_ack",
    "zero_window",
    "zero_window_probe",
    "zero_window_probe_ack",
    "window_full",
    "window_update",
    "keep_alive",
    "keep_alive_ack",
    "lost_segment",
    "ack_lost_segment",
    "reused_ports",
];

/// One packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) stream: u64,
    /// Bit for each of [`FLAGS`].
    pub(crate) flags: u32,
    /// It is TCP more than once: a tunnel, or quoted in an error.
    pub(crate) nested: bool,
}

impl Packet {
    pub(crate) fn has(&self, flag: &str) -> bool {
        FLAGS.iter().position(|name| *name == flag).is_some_and(|bit| self.flags >> bit & 1 == 1)
    }
}

/// Packets by number.
pub(crate) fn read(capture: &Path) -> Result<BTreeMap<u64, Packet>, String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-Y", "tcp", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]);
    // Only TCP: what is above it costs time and can be wrong about where messages end.
    command.args(["-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.try_heuristic_first:FALSE"]);
    command.args([
        "-e",
        "frame.number",
        "-e",
        "tcp.stream",
        "-e",
        "tcp.srcport",
        "-e",
        "icmp.type",
    ]);
    command.args(["-e", "icmpv6.type"]);
    for flag in FLAGS {
        command.args(["-e", &format!("tcp.analysis.{flag}")]);
    }
    let text = output(command.arg("-r").arg(capture))?;
    let mut packets = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let (Some(number), Some(stream)) = (cells.first(), cells.get(1)) else { continue };
        let Ok(number) = number.parse() else { continue };
        let nested = cells[2].contains(',') || !cells[3].is_empty() || !cells[4].is_empty();
        let stream = stream.split(',').next_back().and_then(|s| s.parse().ok()).unwrap_or(u64::MAX);
        let set = cells[5..].iter().enumerate().filter(|(_, cell)| !cell.is_empty());
        let flags = set.fold(0, |flags, (bit, _)| flags | 1 << bit);
        packets.insert(number, Packet { stream, flags, nested });
    }
    Ok(packets)
}
