//! One direction of a TCP connection put in order, as far as its bytes were stored: bounded, and never
//! stuck. What is missing is stepped over and counted.

use std::collections::BTreeMap;

use psc_formats::FiveTuple;
use psc_formats::packet::{Headers, Transport};

use super::{Effect, Message, Protocol, Role, Step, bacnet, parse, protocol};
use crate::analyzer::tcp::{RST, SYN};
use crate::bounded::Bounded;

/// Directions of connections at once. With [`WAITING`] and [`PARTIAL`] this bounds the memory.
const STREAMS: usize = 2_048;

/// Bytes of segments that wait for one before them.
const WAITING: usize = 32_768;

/// Bytes of a frame that is not whole yet; the longest frame of these protocols is 64 KiB (EtherNet/IP).
const PARTIAL: usize = 65_536 + 24;

/// A segment this far ahead of the next byte is another connection.
const FAR: u32 = 1 << 20;

/// What a packet completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) messages: Vec<Message>,
    /// Bytes at which no frame started.
    pub(crate) wrong: u64,
}

#[derive(Debug, Default)]
struct Stream {
    next: Option<u32>,
    partial: Vec<u8>,
    waiting: BTreeMap<u32, Vec<u8>>,
    held: usize,
    /// The end of the last segment was not stored.
    cut: bool,
    /// A frame was read here: wrong bytes are worth telling.
    spoken: bool,
}

/// All directions of industrial connections.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: Bounded<FiveTuple, Stream>,
    /// Bytes that were not stored or never came.
    pub(crate) missing: u64,
}

impl Default for Streams {
    fn default() -> Self {
        Self { streams: Bounded::new(STREAMS), missing: 0 }
    }
}

impl Streams {
    /// Takes a packet of an industrial protocol in; `None` for others.
    pub(crate) fn packet(
        &mut self,
        headers: &Headers,
        payload: &[u8],
    ) -> Option<(Protocol, Role, Read)> {
        let tuple = headers.tuple()?;
        let (protocol, role) = protocol(&tuple)?;
        let mut read = Read::default();
        match headers.transport {
            Transport::Udp(_) => {
                // A datagram cut by the snap length is not wrong.
                let whole = payload.len() as u32 >= headers.payload_len;
                let mut rest = payload;
                // Any client may be given one of these ports: only who has spoken the protocol can get it
                // wrong.
                let spoken = self.streams.get(&tuple).is_some_and(|stream| stream.spoken);
                let known = spoken || self.streams.get(&tuple.reversed()).is_some_and(|s| s.spoken);
                while !rest.is_empty() {
                    match parse(protocol, role, rest) {
                        Step::Frame(len, messages) if len > 0 => {
                            read.messages.extend(messages);
                            rest = rest.get(len..).unwrap_or(&[]);
                        }
                        Step::Frame(..) | Step::More | Step::Wrong => {
                            let before = read.messages.len();
                            if whole && protocol == Protocol::Bacnet {
                                read.messages.extend(bacnet::despite_length(rest));
                            }
                            // Devices exist that count four bytes too many, and are understood.
                            let understood = read.messages.len() > before;
                            let wrong = whole && known && !understood;
                            read.wrong = if wrong { rest.len() as u64 } else { 0 };
                            break;
                        }
                    }
                }
                if !spoken && !read.messages.is_empty() {
                    self.streams.entry_or_forget(tuple, Stream::default).spoken = true;
                }
            }
            Transport::Tcp(tcp) => {
                if tcp.flags & (SYN | RST) != 0 {
                    self.streams.remove(&tuple);
                    if tcp.flags & RST == 0 {
                        let stream = self.streams.entry_or_forget(tuple, Stream::default);
                        stream.next = Some(tcp.seq.wrapping_add(1));
                    }
                    return Some((protocol, role, read));
                }
                if headers.payload_len == 0 {
                    return Some((protocol, role, read));
                }
                let stream = self.streams.entry_or_forget(tuple, Stream::default);
                self.missing += stream.segment(tcp.seq, payload, headers.payload_len);
                stream.read(protocol, role, &mut read);
            }
            Transport::Icmp(_) | Transport::Ports(..) | Transport::None => return None,
        }
        Some((protocol, role, read))
    }
}

/// Where the next frame may start behind bytes that are none.
fn start(protocol: Protocol, bytes: &[u8]) -> Option<usize> {
    let mark: &[u8] = match protocol {
        Protocol::Iec104 => &[0x68],
        Protocol::Dnp3 => &[0x05, 0x64],
        Protocol::Modbus | Protocol::S7comm | Protocol::Enip | Protocol::Bacnet => return None,
    };
    bytes.windows(mark.len()).skip(1).position(|part| part == mark).map(|at| at + 1)
}

impl Stream {
    /// Takes a segment in; returns bytes given up on. `len` is its length on the wire, of which `stored`
    /// is there.
    fn segment(&mut self, seq: u32, stored: &[u8], len: u32) -> u64 {
        let next = *self.next.get_or_insert(seq);
        let ahead = seq.wrapping_sub(next);
        if ahead == 0 {
            return self.append(stored, len) + self.drain();
        }
        let behind = next.wrapping_sub(seq);
        if behind < FAR {
            // Sent again, perhaps with more at its end.
            let known = behind as usize;
            if (len as usize) > known && stored.len() > known {
                return self.append(&stored[known..], len - behind) + self.drain();
            }
            return 0;
        }
        if ahead >= FAR {
            // Not of this stream: begin anew here.
            *self = Self { next: Some(seq), spoken: self.spoken, ..Self::default() };
            return self.append(stored, len);
        }
        if stored.len() == len as usize && self.held + stored.len() <= WAITING {
            self.held += stored.len();
            if let Some(before) = self.waiting.insert(seq, stored.to_vec()) {
                self.held -= before.len();
            }
            return 0;
        }
        // No room to wait any longer: what is missing never came.
        self.skip(seq) + self.append(stored, len) + self.drain()
    }

    fn append(&mut self, stored: &[u8], len: u32) -> u64 {
        self.next = self.next.map(|next| next.wrapping_add(len));
        self.partial.extend_from_slice(stored);
        let missing = u64::from(len).saturating_sub(stored.len() as u64);
        if missing > 0 || self.partial.len() > PARTIAL {
            // The rest of this segment was not stored: frames begin again with a later one.
            let lost =
                missing + if self.partial.len() > PARTIAL { self.partial.len() as u64 } else { 0 };
            if self.partial.len() > PARTIAL {
                self.partial.clear();
            }
            self.cut = missing > 0;
            return lost;
        }
        0
    }

    /// Gives up on what lies before `seq`.
    fn skip(&mut self, seq: u32) -> u64 {
        let gap = self.next.map_or(0, |next| seq.wrapping_sub(next));
        self.partial.clear();
        self.waiting.clear();
        self.held = 0;
        self.next = Some(seq);
        u64::from(gap)
    }

    /// Appends what waited for the bytes that are there now.
    fn drain(&mut self) -> u64 {
        let mut missing = 0;
        while let Some(next) = self.next {
            let Some((&seq, _)) =
                self.waiting.iter().find(|(seq, _)| next.wrapping_sub(**seq) < FAR)
            else {
                break;
            };
            let bytes = self.waiting.remove(&seq).unwrap_or_default();
            self.held -= bytes.len();
            let known = next.wrapping_sub(seq) as usize;
            if let Some(new) = bytes.get(known..) {
                missing += self.append(new, new.len() as u32);
            }
        }
        missing
    }

    fn read(&mut self, protocol: Protocol, role: Role, out: &mut Read) {
        let (mut at, mut guessed) = (0, false);
        loop {
            let rest = &self.partial[at..];
            if rest.is_empty() {
                break;
            }
            match parse(protocol, role, rest) {
                // What was found behind nonsense and makes none is nonsense as well.
                Step::Frame(len, messages)
                    if len > 0
                        && !(guessed && messages.iter().any(|m| m.effect == Effect::Illegal)) =>
                {
                    self.spoken = true;
                    guessed = false;
                    out.messages.extend(messages);
                    at += len;
                }
                Step::More if !self.cut => break,
                Step::Frame(..) | Step::More | Step::Wrong => {
                    // Frames start at segments: try again with the next one, or where start bytes say so.
                    let next = if self.cut { None } else { start(protocol, rest) };
                    let skipped = next.unwrap_or(rest.len());
                    if self.spoken && !self.cut {
                        out.wrong += skipped as u64;
                    }
                    guessed = true;
                    at += skipped;
                }
            }
        }
        self.partial.drain(..at);
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// A read of three registers at `first`.
    fn ask(first: u8) -> Vec<u8> {
        vec![0, first, 0, 0, 0, 6, 1, 3, 0, first, 0, 3]
    }

    fn addresses(segments: &[(u32, Vec<u8>, usize)]) -> (Vec<u32>, u64, u64) {
        let mut streams = Streams::default();
        let (mut found, mut wrong) = (Vec::new(), 0);
        for (seq, bytes, stored) in segments {
            let len = bytes.len() as u32;
            let headers = sample::tcp("10.0.0.1:40000", "10.0.0.2:502", 0x18, *seq, 1, len);
            let (.., read) = streams.packet(&headers, &bytes[..*stored]).expect("Modbus");
            found.extend(read.messages.iter().filter_map(|m| m.address).map(|(first, _)| first));
            wrong += read.wrong;
        }
        (found, wrong, streams.missing)
    }

    #[test]
    fn whatever_the_cut_and_order_the_messages_are_the_same() {
        let all: Vec<u8> = (1..=6).flat_map(ask).collect();
        let expected: Vec<u32> = (1..=6).collect();
        for size in 1..=all.len() {
            let mut segments: Vec<(u32, Vec<u8>, usize)> = all
                .chunks(size)
                .enumerate()
                .map(|(n, part)| (1000 + (n * size) as u32, part.to_vec(), part.len()))
                .collect();
            assert_eq!(addresses(&segments), (expected.clone(), 0, 0), "in order, {size}");
            let again: Vec<_> = segments.iter().flat_map(|s| [s.clone(), s.clone()]).collect();
            assert_eq!(addresses(&again), (expected.clone(), 0, 0), "each twice, {size}");
            // The first must come first: it says where the stream begins.
            segments[1..].reverse();
            assert_eq!(addresses(&segments), (expected.clone(), 0, 0), "reversed, {size}");
        }
    }

    #[test]
    fn what_was_not_stored_is_stepped_over_and_counted() {
        let both = [ask(1), ask(2)].concat();
        let segments =
            vec![(1000, both, 20), (1024, ask(3), 12), (1036, vec![7; 12], 12), (1048, ask(4), 12)];
        assert_eq!(addresses(&segments), (vec![1, 3, 4], 12, 4));
    }

    #[test]
    fn frames_with_start_bytes_are_found_behind_nonsense() {
        let mut streams = Streams::default();
        let frame = [0x68, 4, 7, 0, 0, 0];
        let bytes = [&frame[..], &[0x0b; 7], &frame[..]].concat();
        let headers =
            sample::tcp("10.0.0.1:40000", "10.0.0.2:2404", 0x18, 1, 1, bytes.len() as u32);
        let (.., read) = streams.packet(&headers, &bytes).expect("IEC 104");
        assert_eq!((read.messages.len(), read.wrong), (2, 7));
    }

    #[test]
    fn holes_do_not_hold_the_stream_up_for_ever() {
        let mut segments = vec![(1000, ask(1), 12)];
        for n in 0..5_000_u32 {
            segments.push((2000 + n * 12, ask(9), 12));
        }
        let (found, _, missing) = addresses(&segments);
        assert!(found.len() > 2_000, "{}", found.len());
        assert!(missing > 0);
    }
}
