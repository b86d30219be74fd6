//! The blocks of a pcapng file (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>).

use super::interfaces::printable;
use super::{Common, Found, MAX_BLOCK, Step, Trouble, Window, cooked_direction, link_type};
use crate::Ns;
use crate::event::{DeviceId, LinkType};
use crate::fact::DeviceFact;
use crate::packet::Mac;
use crate::source::Batch;

/// Block type of a section header, the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const STATISTICS: u32 = 5;
pub(super) const ENHANCED_PACKET: u32 = 6;

/// Type, length, length again.
const FRAME: usize = 12;

/// What is searched at a time for the next sound block behind damage.
const RESYNC_REACH: usize = (256 << 10) + 1024;

/// Interfaces kept of one section.
const MAX_INTERFACES: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Walker {
    big_endian: bool,
    /// Of the current section.
    interfaces: Vec<Interface>,
    /// Dropped packets by interface statistics: a sum over interfaces and sections.
    statistics_dropped: Option<u64>,
    /// Dropped packets by the packets' own counts.
    packets_dropped: Option<u64>,
}

struct Interface {
    /// `None`: described, but out of device ids.
    device: Option<DeviceId>,
    link: LinkType,
    /// 0: no limit.
    snaplen: u32,
    tick: Tick,
    /// Seconds to add to every time.
    offset: i64,
    /// Of this interface's latest statistics.
    dropped: u64,
}

/// How a time stamp becomes nanoseconds (`if_tsresol`).
#[derive(Clone, Copy)]
enum Tick {
    Multiply(u64),
    Divide(u64),
    /// Units of 2^-n seconds.
    Binary(u32),
}

impl Tick {
    fn from_tsresol(value: u8) -> Self {
        let exponent = u32::from(value & 0x7f);
        match value & 0x80 {
            0 if exponent <= 9 => Self::Multiply(10_u64.pow(9 - exponent)),
            // Finer than 10^-28 s, 64 bits do not last a nanosecond.
            0 => Self::Divide(10_u64.checked_pow(exponent - 9).unwrap_or(u64::MAX)),
            _ => Self::Binary(exponent),
        }
    }

    /// `None` when it does not fit.
    fn nanoseconds(self, stamp: u64) -> Option<u64> {
        match self {
            Self::Multiply(by) => stamp.checked_mul(by),
            Self::Divide(by) => Some(stamp / by),
            Self::Binary(bits) => u64::try_from((u128::from(stamp) * 1_000_000_000) >> bits).ok(),
        }
    }
}

/// Reads integers in the section's byte order. Callers have checked the bounds.
#[derive(Clone, Copy)]
struct Order {
    big_endian: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let word = [bytes[at], bytes[at + 1]];
        if self.big_endian { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) }
    }

    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }

    /// A 64-bit integer in the section's byte order, as options have it.
    fn u64(self, value: &[u8]) -> Option<u64> {
        let word = *value.first_chunk::<8>()?;
        Some(if self.big_endian { u64::from_be_bytes(word) } else { u64::from_le_bytes(word) })
    }

    /// A time: high half first whatever the byte order.
    fn stamp(self, bytes: &[u8], at: usize) -> u64 {
        u64::from(self.u32(bytes, at)) << 32 | u64::from(self.u32(bytes, at + 4))
    }

    /// (code, value) of each option, as far as they are sound.
    fn options(self, bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let header = rest.get(..4)?;
            let (code, len) = (self.u16(header, 0), self.u16(header, 2) as usize);
            let value = rest.get(4..4 + len)?;
            rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
            (code != 0).then_some((code, value))
        })
    }
}

/// A block's byte order, type and length; `None` when this is no block. `block` has at least
/// [`FRAME`] bytes; `current` is the section's order.
fn frame(block: &[u8], current: Order) -> Option<(Order, u32, usize)> {
    let mut order = current;
    if block[..4] == SECTION_HEADER.to_le_bytes() {
        order.big_endian = match block[8..12] {
            [0x1a, 0x2b, 0x3c, 0x4d] => true,
            [0x4d, 0x3c, 0x2b, 0x1a] => false,
            _ => return None,
        };
    }
    let (kind, length) = (order.u32(block, 0), order.u32(block, 4) as usize);
    (FRAME..=MAX_BLOCK).contains(&length).then_some((order, kind, length))
}

impl Walker {
    fn order(&self) -> Order {
        Order { big_endian: self.big_endian }
    }

    pub(super) fn step(
        &mut self,
        window: &mut Window,
        common: &mut Common,
        batch: &mut Batch,
    ) -> Step {
        let offset = window.offset();
        let ahead = window.peek(FRAME);
        if ahead.len() < FRAME {
            if !ahead.is_empty() {
                common.trouble(Trouble::EndsInside, offset);
            }
            return Step::End;
        }
        let Some((order, kind, length)) = frame(ahead, self.order()) else {
            return self.resync(window, common);
        };
        let mut length = length;
        let ahead = window.peek(length);
        let whole = ahead.len() >= length;
        if !whole || order.u32(ahead, length - 4) as usize != length {
            // The file was cut, or one of the two lengths is a lie.
            let cut = !whole && length_fits_packet(order, kind, ahead, length);
            let reach = if whole { length + RESYNC_REACH } else { length };
            let ahead = window.peek(reach);
            if cut {
                return self.cut(kind, ahead, offset, common, batch);
            }
            let first = || (whole && self.chain(&ahead[length..], 3)).then_some(length);
            match self.length_by_trailer(order, ahead).or_else(first) {
                Some(believed) => length = believed,
                None if whole || self.find_sound(&ahead[1..], ahead.len()).is_some() => {
                    return self.resync(window, common);
                }
                None => return self.cut(kind, ahead, offset, common, batch),
            }
            common.trouble(Trouble::LengthsDiffer, offset);
        }
        let body = &window.ready()[8..length - 4];
        match kind {
            SECTION_HEADER => self.section(order, body, offset, common),
            INTERFACE => self.interface(body, offset, common),
            STATISTICS => self.statistics(body, offset, common),
            ENHANCED_PACKET | OBSOLETE_PACKET | SIMPLE_PACKET => {
                self.packet(kind, body, offset, common, batch);
            }
            // Name resolution, secrets, journal entries, custom blocks: not packets.
            _ => {}
        }
        window.advance(length);
        Step::Taken
    }

    /// The last block, as far as the file has it.
    fn cut(
        &mut self,
        kind: u32,
        ahead: &[u8],
        offset: u64,
        common: &mut Common,
        batch: &mut Batch,
    ) -> Step {
        common.trouble(Trouble::EndsInside, offset);
        if matches!(kind, ENHANCED_PACKET | OBSOLETE_PACKET | SIMPLE_PACKET) {
            self.packet(kind, &ahead[8..], offset, common, batch);
        }
        Step::End
    }

    fn section(&mut self, order: Order, body: &[u8], offset: u64, common: &mut Common) {
        if body.len() < 16 {
            common.trouble(Trouble::ShortBlock, offset);
        }
        self.big_endian = order.big_endian;
        self.interfaces.clear();
        let (mut system, mut program) = (String::new(), String::new());
        for (code, value) in order.options(body.get(16..).unwrap_or(&[])) {
            match code {
                1 => common.troubles.remark(format!("the capture says: {}", printable(value))),
                3 => system = printable(value),
                4 => program = printable(value),
                _ => {}
            }
        }
        match (program.is_empty(), system.is_empty()) {
            (true, true) => {}
            (false, true) => common.troubles.remark(format!("captured by {program}")),
            (true, false) => common.troubles.remark(format!("captured on {system}")),
            (false, false) => common.troubles.remark(format!("captured by {program} on {system}")),
        }
    }

    fn interface(&mut self, body: &[u8], offset: u64, common: &mut Common) {
        let order = self.order();
        if body.len() < 8 {
            common.trouble(Trouble::ShortBlock, offset);
            return;
        }
        if self.interfaces.len() == MAX_INTERFACES {
            common.trouble(Trouble::TooManyInterfaces, offset);
            return;
        }
        let link = link_type(order.u16(body, 0));
        let mut interface = Interface {
            device: None,
            link,
            snaplen: order.u32(body, 4),
            tick: Tick::from_tsresol(6),
            offset: 0,
            dropped: 0,
        };
        let mut fact = DeviceFact::default();
        let mut description = String::new();
        for (code, value) in order.options(&body[8..]) {
            match (code, value) {
                (2, name) => fact.name = printable(name),
                (3, text) => description = printable(text),
                (4, &[a, b, c, d, m0, m1, m2, m3]) => {
                    let prefix = u32::from_be_bytes([m0, m1, m2, m3]).leading_ones();
                    fact.addresses.push(format!("{a}.{b}.{c}.{d}/{prefix}"));
                }
                (5, value) => {
                    if let (Some(octets), [.., prefix], 17) =
                        (value.first_chunk::<16>(), value, value.len())
                    {
                        let address = std::net::Ipv6Addr::from(*octets);
                        fact.addresses.push(format!("{address}/{prefix}"));
                    }
                }
                (6, value) => {
                    fact.mac = value.try_into().map(|mac| Mac(mac).to_string()).unwrap_or_default();
                }
                (9, &[value]) => interface.tick = Tick::from_tsresol(value),
                (14, value) => interface.offset = order.u64(value).unwrap_or(0) as i64,
                _ => {}
            }
        }
        // A hostile block has room for thousands.
        fact.addresses.truncate(64);
        if fact.name.is_empty() {
            fact.name = description;
        }
        if fact.name.is_empty() {
            fact.name = format!("interface {}", self.interfaces.len());
        }
        interface.device = common.interfaces.describe(fact, link);
        if interface.device.is_none() {
            common.trouble(Trouble::TooManyInterfaces, offset);
        }
        self.interfaces.push(interface);
    }

    fn statistics(&mut self, body: &[u8], offset: u64, common: &mut Common) {
        let order = self.order();
        if body.len() < 12 {
            common.trouble(Trouble::ShortBlock, offset);
            return;
        }
        let Some(interface) = self.interfaces.get_mut(order.u32(body, 0) as usize) else {
            common.trouble(Trouble::UnknownInterface, offset);
            return;
        };
        // isb_ifdrop: no room before the capture; isb_osdrop: dropped by the operating system.
        let dropped = order
            .options(&body[12..])
            .filter(|(code, _)| matches!(code, 5 | 7))
            .filter_map(|(_, value)| order.u64(value))
            .reduce(u64::saturating_add);
        if let Some(dropped) = dropped {
            let total = self.statistics_dropped.unwrap_or(0);
            // Statistics are cumulative: the latest of an interface replaces what it said before.
            let others = total.saturating_sub(interface.dropped);
            interface.dropped = dropped;
            self.statistics_dropped = Some(others.saturating_add(dropped));
            common.dropped = self.statistics_dropped.max(self.packets_dropped);
        }
    }

    /// A packet block, whole or as far as the file goes.
    fn packet(
        &mut self,
        kind: u32,
        body: &[u8],
        offset: u64,
        common: &mut Common,
        batch: &mut Batch,
    ) {
        let order = self.order();
        let fixed = if kind == SIMPLE_PACKET { 4 } else { 20 };
        if body.len() < fixed {
            common.trouble(Trouble::ShortBlock, offset);
            return;
        }
        let number = match kind {
            SIMPLE_PACKET => 0,
            OBSOLETE_PACKET => usize::from(order.u16(body, 0)),
            _ => order.u32(body, 0) as usize,
        };
        let Some(interface) = self.interfaces.get(number) else {
            common.trouble(Trouble::UnknownInterface, offset);
            return;
        };
        let Some(device) = interface.device else {
            common.trouble(Trouble::TooManyInterfaces, offset);
            return;
        };
        let (caplen, len, at) = if kind == SIMPLE_PACKET {
            common.trouble(Trouble::NoTime, offset);
            let len = order.u32(body, 0);
            let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
            (len.min(limit) as usize, len, common.last)
        } else {
            let at = interface.time(order.stamp(body, 4)).unwrap_or_else(|nearest| {
                common.trouble(Trouble::TimeRange, offset);
                nearest
            });
            (order.u32(body, 12) as usize, order.u32(body, 16), at)
        };
        let stored = &body[fixed..];
        let bytes = stored.get(..caplen).unwrap_or(stored);
        if bytes.len() < caplen {
            common.trouble(Trouble::ClaimsMore, offset);
        }
        let link = interface.link;
        let mut direction = cooked_direction(link, bytes);
        let options = stored.get(caplen.next_multiple_of(4)..).unwrap_or(&[]);
        if kind != SIMPLE_PACKET && !options.is_empty() {
            for (code, value) in order.options(options) {
                match code {
                    1 => common.trouble(Trouble::Comments, offset),
                    2 if value.len() == 4 => match order.u32(value, 0) & 3 {
                        0 => {}
                        stated => direction = stated as u8,
                    },
                    4 if kind == ENHANCED_PACKET => {
                        self.count_dropped(order.u64(value).unwrap_or(0), common);
                    }
                    _ => {}
                }
            }
        }
        // 0xffff is "unknown".
        if kind == OBSOLETE_PACKET && order.u16(body, 2) != u16::MAX {
            self.count_dropped(u64::from(order.u16(body, 2)), common);
        }
        // 3 is no direction.
        let direction = if direction > 2 { 0 } else { direction };
        let device = common.interfaces.of_packet(device, link, bytes);
        common.packet(&Found { at, link, device, direction, len, bytes }, batch);
    }

    /// A packet's own count of packets dropped before it.
    fn count_dropped(&mut self, count: u64, common: &mut Common) {
        let sum = self.packets_dropped.unwrap_or(0).saturating_add(count);
        self.packets_dropped = Some(sum);
        common.dropped = self.statistics_dropped.max(self.packets_dropped);
    }

    fn looks_like_block(&self, bytes: &[u8]) -> bool {
        frame(bytes, self.order()).is_some_and(|(_, kind, _)| {
            matches!(kind, INTERFACE..=ENHANCED_PACKET | SECTION_HEADER)
        })
    }

    /// Whether what looks like `blocks` blocks, or the end of the file, follows at the start of
    /// `bytes`.
    fn chain(&self, bytes: &[u8], blocks: u32) -> bool {
        if blocks == 0 || bytes.is_empty() {
            return true;
        }
        bytes.len() >= FRAME
            && self.looks_like_block(bytes)
            && frame(bytes, self.order()).is_some_and(|(_, _, length)| {
                bytes.get(length..).is_none_or(|rest| self.chain(rest, blocks - 1))
            })
    }

    /// The length of the block at the start of `ahead` by its second length field, found because
    /// other blocks follow there.
    fn length_by_trailer(&self, order: Order, ahead: &[u8]) -> Option<usize> {
        (FRAME..=ahead.len().min(RESYNC_REACH)).step_by(4).find(|length| {
            order.u32(ahead, length - 4) as usize == *length && self.chain(&ahead[*length..], 2)
        })
    }

    /// Offset in `bytes` of the first block that is sound to its second length.
    fn find_sound(&self, bytes: &[u8], tried: usize) -> Option<usize> {
        (0..tried.min(bytes.len())).find(|at| {
            let Some(block) = bytes.get(*at..).filter(|block| block.len() >= FRAME) else {
                return false;
            };
            self.looks_like_block(block)
                && frame(block, self.order()).is_some_and(|(order, _, length)| {
                    length % 4 == 0
                        && length <= block.len()
                        && order.u32(block, length - 4) as usize == length
                })
        })
    }

    /// Steps over damage to the next sound block.
    #[cold]
    fn resync(&self, window: &mut Window, common: &mut Common) -> Step {
        let start = window.offset();
        loop {
            window.advance(1);
            let ahead = window.peek(RESYNC_REACH);
            let last_chance = ahead.len() < RESYNC_REACH;
            let tried = if last_chance { ahead.len() } else { ahead.len() - RESYNC_REACH + 1 };
            if let Some(found) = self.find_sound(ahead, tried) {
                window.advance(found);
                common.trouble(Trouble::Skipped, start);
                return Step::Taken;
            }
            if last_chance {
                common.trouble(Trouble::NothingBehind, start);
                return Step::End;
            }
            window.advance(tried - 1);
        }
    }
}

/// Whether the length of a block that the file does not have to its end fits the packet in it: then
/// the file was cut, and what looks like blocks in there is payload (a captured capture).
fn length_fits_packet(order: Order, kind: u32, block: &[u8], length: usize) -> bool {
    /// Flags, hash, comments.
    const OPTIONS: usize = 1024;
    let Some(fixed) = block.get(..28).filter(|_| kind == ENHANCED_PACKET) else { return false };
    let data = (order.u32(fixed, 20) as usize).next_multiple_of(4);
    (32 + data..=32 + data + OPTIONS).contains(&length)
}

impl Interface {
    /// Nanoseconds since the Unix epoch, or the nearest that can be told.
    fn time(&self, stamp: u64) -> Result<Ns, Ns> {
        let nanoseconds = self.tick.nanoseconds(stamp);
        if self.offset == 0 {
            return nanoseconds.map(Ns).ok_or(Ns(u64::MAX));
        }
        let Some(nanoseconds) = nanoseconds else { return Err(Ns(u64::MAX)) };
        let moved = i128::from(nanoseconds) + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(moved).map(Ns).map_err(|_| Ns(if moved < 0 { 0 } else { u64::MAX }))
    }
}
