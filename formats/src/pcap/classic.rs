//! The records of a pcap file (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html>).

use super::{Common, Found, MAX_BLOCK, Step, Trouble, Window, cooked_direction, link_type};
use crate::Ns;
use crate::event::{DeviceId, LinkType};
use crate::fact::DeviceFact;
use crate::source::Batch;

/// What the magic number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    big_endian: bool,
    /// Nanoseconds in one unit of a time's second field.
    unit: u32,
    /// Bytes of a record header: 16, or 24 in the variant of some 1990s Linux distributions
    /// ("Kuznetzov", magic `a1b2cd34`).
    record: usize,
}

impl Format {
    pub(super) fn from_magic(magic: [u8; 4]) -> Option<Self> {
        let of = |magic: u32, big_endian: bool| {
            let (unit, record) = match magic {
                0xa1b2_c3d4 => (1000, 16),
                0xa1b2_3c4d => (1, 16),
                0xa1b2_cd34 => (1000, 24),
                _ => return None,
            };
            Some(Self { big_endian, unit, record })
        };
        of(u32::from_le_bytes(magic), false).or_else(|| of(u32::from_be_bytes(magic), true))
    }

    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}

const FILE_HEADER: usize = 24;

const NANOSECONDS: u64 = 1_000_000_000;

/// How far apart neighbouring packets are believed to be, seconds.
const DAY: u64 = 24 * 60 * 60;

/// How far apart they may be when all else is right.
const YEAR: u64 = 366 * DAY;

/// Largest packet looked for behind damage: libpcap's maximum.
const RESYNC_PACKET: usize = 256 << 10;

pub(super) struct Walker {
    format: Format,
    link: LinkType,
    device: DeviceId,
    /// Largest `caplen` believed.
    largest: usize,
    /// Versions 2.0 to 2.2 had the two lengths the other way round, 2.3 some times.
    minor: u16,
}

/// A record header.
struct Record {
    seconds: u32,
    fraction: u32,
    caplen: usize,
    len: u32,
}

impl Walker {
    pub(super) fn new(format: Format, window: &mut Window, common: &mut Common) -> Self {
        let mut header = [0; FILE_HEADER];
        let there = window.peek(FILE_HEADER);
        let stored = there.len().min(FILE_HEADER);
        header[..stored].copy_from_slice(&there[..stored]);
        if stored < FILE_HEADER {
            common.trouble(Trouble::EndsInside, 0);
        }
        window.advance(stored);
        let version = format.u32(&header, 4);
        let minor = if format.big_endian { version as u16 } else { (version >> 16) as u16 };
        let snaplen = format.u32(&header, 16) as usize;
        // The upper half has flags about a frame check sequence.
        let link = link_type(format.u32(&header, 20) as u16);
        let name = "interface 0".to_owned();
        let fact = DeviceFact { name, ..DeviceFact::default() };
        let device = common.interfaces.describe(fact, link).unwrap_or_default();
        // libpcap reads packets above the file's own snap length, up to its maximum of 256 KiB.
        let largest = snaplen.clamp(RESYNC_PACKET, MAX_BLOCK);
        Self { format, link, device, largest, minor }
    }

    pub(super) fn step(
        &mut self,
        window: &mut Window,
        common: &mut Common,
        batch: &mut Batch,
    ) -> Step {
        let offset = window.offset();
        let header_len = self.format.record;
        let ahead = window.peek(header_len);
        if ahead.len() < header_len {
            if !ahead.is_empty() {
                common.trouble(Trouble::EndsInside, offset);
            }
            return Step::End;
        }
        let record = self.header(ahead);
        if record.caplen > self.largest {
            return self.resync(window, common);
        }
        let last = common.last.0 / NANOSECONDS;
        if !self.sound(&record, last) {
            let ahead = window.peek(header_len + record.caplen + RESYNC_PACKET);
            if !self.followed(ahead, &record, last) {
                return self.resync(window, common);
            }
        }
        let ahead = window.peek(header_len + record.caplen);
        let bytes = &ahead[header_len..ahead.len().min(header_len + record.caplen)];
        if bytes.len() < record.caplen {
            common.trouble(Trouble::EndsInside, offset);
            if bytes.is_empty() {
                return Step::End;
            }
        }
        let (link, device) = (self.link, self.device);
        let nanoseconds = u64::from(record.fraction) * u64::from(self.format.unit);
        let found = Found {
            at: Ns(u64::from(record.seconds) * NANOSECONDS + nanoseconds),
            link,
            device: common.interfaces.of_packet(device, link, bytes),
            direction: cooked_direction(link, bytes),
            len: record.len,
            bytes,
        };
        common.packet(&found, batch);
        window.advance(header_len + record.caplen);
        Step::Taken
    }

    fn header(&self, bytes: &[u8]) -> Record {
        let (mut caplen, mut len) = (self.format.u32(bytes, 8), self.format.u32(bytes, 12));
        if self.minor < 3 || (self.minor == 3 && caplen > len) {
            std::mem::swap(&mut caplen, &mut len);
        }
        Record {
            seconds: self.format.u32(bytes, 0),
            fraction: self.format.u32(bytes, 4),
            caplen: caplen as usize,
            len,
        }
    }

    /// Steps over damage to the next place that looks like two records in a row. A record has no
    /// mark of its own, so this asks for everything that a sound one has.
    #[cold]
    fn resync(&self, window: &mut Window, common: &mut Common) -> Step {
        let start = window.offset();
        let last = common.last.0 / NANOSECONDS;
        let header_len = self.format.record;
        // So much must be in view behind a place to judge it.
        let reach = 2 * header_len + RESYNC_PACKET;
        loop {
            window.advance(1);
            let ahead = window.peek(reach);
            let last_chance = ahead.len() < reach;
            let tried = if last_chance { ahead.len() } else { ahead.len() - reach + 1 };
            let found = (0..tried).find(|at| self.plausible(ahead, *at, last, 2));
            if let Some(found) = found {
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

    /// Whether an odd `record` (days after the one before, its clock set, its writer ignorant of the
    /// wire length) is one all the same: by what follows it, the surer the less else speaks for it.
    fn followed(&self, ahead: &[u8], record: &Record, last: u64) -> bool {
        let seconds = u64::from(record.seconds);
        let at = self.format.record + record.caplen;
        let sound = self.sound(record, 0);
        let Some(bytes) = ahead.get(at..at + self.format.record) else {
            // The end of the file, in order or cut.
            let ends_here = ahead.len() >= at;
            let gap = if last == 0 { 0 } else { seconds.abs_diff(last) };
            return (ends_here && (sound || gap <= DAY)) || (sound && gap <= YEAR);
        };
        let next = self.header(bytes);
        let after = u64::from(next.seconds);
        let gap = after.abs_diff(last).min(after.abs_diff(seconds));
        (next.caplen <= self.largest && gap <= DAY)
            || (self.sound(&next, 0) && gap <= YEAR)
            || (sound && self.plausible(ahead, at, 0, 3))
    }

    /// Whether `records` records, sound in themselves, follow each other from `at` on.
    fn plausible(&self, ahead: &[u8], at: usize, last: u64, records: u32) -> bool {
        let Some(bytes) = ahead.get(at..at + self.format.record) else {
            // The end of the file right behind a record is as good as another record.
            return at == ahead.len();
        };
        let record = self.header(bytes);
        let next = at + self.format.record + record.caplen;
        self.sound(&record, last)
            && (records == 1 || self.plausible(ahead, next, last, records - 1))
    }

    /// Whether a record header looks like one, a day at most from second `last` (0: any time).
    fn sound(&self, record: &Record, last: u64) -> bool {
        record.caplen > 0
            && record.caplen <= self.largest
            && record.caplen <= record.len as usize
            && u64::from(record.fraction) < NANOSECONDS / u64::from(self.format.unit)
            && (last == 0 || u64::from(record.seconds).abs_diff(last) <= DAY)
    }
}
