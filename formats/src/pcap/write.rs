//! Writing pcapng, nanoseconds, little-endian, one section.

use std::io::{self, Write};

use super::ng::{ENHANCED_PACKET, INTERFACE, SECTION_HEADER, STATISTICS};
use crate::event::LinkType;

/// Most bytes stored of one packet: Wireshark refuses files with larger ones.
pub const MAX_CAPLEN: usize = 256 << 10;

/// What the section header says about where the packets come from. Empty texts are left out.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// `shb_hardware`: architecture of the capturing host.
    pub hardware: String,
    /// `shb_os`: operating system and release of the capturing host.
    pub os: String,
    /// `shb_userappl`: program that writes this.
    pub application: String,
    /// `opt_comment` on the whole file.
    pub comment: String,
}

/// An interface to be described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `if_name`.
    pub name: String,
    /// `if_description`: namespace and kind.
    pub description: String,
    /// Link-layer address, when it has one.
    pub mac: Option<[u8; 6]>,
    /// Most bytes kept of a packet; `None` is all.
    pub snaplen: Option<u32>,
}

/// Number of a described interface in this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceId(u32);

/// `epb_flags` direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Not known.
    #[default]
    Unknown,
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

impl Direction {
    /// From [`crate::EventKind::Captured`]'s number.
    pub fn from_captured(direction: u8) -> Self {
        match direction {
            1 => Self::Inbound,
            2 => Self::Outbound,
            _ => Self::Unknown,
        }
    }
}

/// One packet to write.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where it was seen.
    pub interface: InterfaceId,
    /// Nanoseconds since the Unix epoch.
    pub epoch_ns: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its bytes; cut to [`MAX_CAPLEN`].
    pub bytes: &'a [u8],
    /// Bytes it had on the wire.
    pub len: u32,
    /// Packet comment; empty for none. Cut to what an option holds.
    pub comment: &'a str,
}

/// Writes one pcapng section to `W`, block by block; give it a buffered writer.
pub struct Writer<W: Write> {
    out: W,
    interfaces: u32,
    /// The block being made.
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Starts the file.
    pub fn new(out: W, section: &Section) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: 0, block: Vec::new() };
        writer.begin(SECTION_HEADER);
        writer.put(&0x1a2b_3c4d_u32.to_le_bytes());
        // Version 1.0, section length not stated.
        writer.put(&[1, 0, 0, 0]);
        writer.put(&u64::MAX.to_le_bytes());
        writer.text(1, &section.comment);
        writer.text(2, &section.hardware);
        writer.text(3, &section.os);
        writer.text(4, &section.application);
        writer.finish_block()?;
        Ok(writer)
    }

    /// Describes an interface, any time before its first packet.
    pub fn interface(&mut self, interface: &Interface, link: LinkType) -> io::Result<InterfaceId> {
        self.begin(INTERFACE);
        self.put(&link.0.to_le_bytes());
        self.put(&[0, 0]);
        // 0 is no limit.
        self.put(&interface.snaplen.unwrap_or(0).to_le_bytes());
        self.text(2, &interface.name);
        self.text(3, &interface.description);
        if let Some(mac) = interface.mac {
            self.option(6, &mac);
        }
        // if_tsresol: 10^-9 seconds.
        self.option(9, &[9]);
        self.finish_block()?;
        let id = InterfaceId(self.interfaces);
        self.interfaces += 1;
        Ok(id)
    }

    /// Writes one packet.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let bytes = &packet.bytes[..packet.bytes.len().min(MAX_CAPLEN)];
        let len = packet.len.max(packet.bytes.len() as u32);
        self.begin(ENHANCED_PACKET);
        self.put(&packet.interface.0.to_le_bytes());
        self.put(&((packet.epoch_ns >> 32) as u32).to_le_bytes());
        self.put(&(packet.epoch_ns as u32).to_le_bytes());
        self.put(&(bytes.len() as u32).to_le_bytes());
        self.put(&len.to_le_bytes());
        self.put(bytes);
        self.pad();
        let direction: u32 = match packet.direction {
            Direction::Unknown => 0,
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        if direction != 0 {
            self.option(2, &direction.to_le_bytes());
        }
        self.text(1, packet.comment);
        self.finish_block()
    }

    /// Says at the end what the recorder lost: `dropped` packets or events until `epoch_ns`, with a
    /// comment that says what was counted. `isb_osdrop` is the nearest that pcapng has.
    pub fn statistics(
        &mut self,
        interface: InterfaceId,
        epoch_ns: u64,
        dropped: u64,
        comment: &str,
    ) -> io::Result<()> {
        self.begin(STATISTICS);
        self.put(&interface.0.to_le_bytes());
        self.put(&((epoch_ns >> 32) as u32).to_le_bytes());
        self.put(&(epoch_ns as u32).to_le_bytes());
        self.option(7, &dropped.to_le_bytes());
        self.text(1, comment);
        self.finish_block()
    }

    /// Flushes and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.put(&kind.to_le_bytes());
        // The length, when it is known.
        self.put(&[0; 4]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.put(&code.to_le_bytes());
        self.put(&(value.len() as u16).to_le_bytes());
        self.put(value);
        self.pad();
    }

    /// A text option, left out when empty, cut to what 16 bits of length hold.
    fn text(&mut self, code: u16, text: &str) {
        let most = text.floor_char_boundary(usize::from(u16::MAX));
        if most > 0 {
            self.option(code, &text.as_bytes()[..most]);
        }
    }

    fn finish_block(&mut self) -> io::Result<()> {
        // opt_endofopt is optional, but old readers look for it.
        self.put(&[0; 4]);
        let length = self.block.len() as u32 + 4;
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.put(&length.to_le_bytes());
        self.out.write_all(&self.block)
    }
}
