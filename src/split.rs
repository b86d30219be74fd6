//! A source in batches of one event: the hardest interleaving of events and facts there is. Results
//! must not depend on batches; `--batch-events 1` is how the golden tests hold psc to that.

use psc_formats::{Batch, EventSource, Manifest, Progress, SourceError};

/// Gives what `source` has in batches of at most `limit` events.
pub(crate) struct Split {
    source: Box<dyn EventSource>,
    limit: usize,
    held: Batch,
    /// Events of `held` given so far.
    given: usize,
    /// What the source said with `held`; nothing was asked of it yet: `More`.
    then: Progress,
}

impl Split {
    /// `limit` of 0 counts as 1.
    pub(crate) fn new(source: Box<dyn EventSource>, limit: usize) -> Self {
        let then = Progress::More;
        Self { source, limit: limit.max(1), held: Batch::default(), given: 0, then }
    }
}

impl EventSource for Split {
    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        if self.given == self.held.events.len() {
            if self.then == Progress::End {
                return Ok(Progress::End);
            }
            self.held.clear();
            self.given = 0;
            self.then = self.source.fill(&mut self.held)?;
            batch.facts.append(&mut self.held.facts);
        }
        let end = self.held.events.len().min(self.given + self.limit);
        for event in &self.held.events[self.given..end] {
            let mut event = *event;
            if let Some(packet) = &mut event.packet {
                let bytes = self.held.packet(*packet);
                packet.offset = batch.bytes.len() as u32;
                packet.caplen = bytes.len() as u32;
                batch.bytes.extend_from_slice(bytes);
            }
            batch.events.push(event);
        }
        self.given = end;
        if end < self.held.events.len() {
            return Ok(Progress::More);
        }
        // The promise covers the whole of what was held, so it comes with the last of it.
        batch.complete_to = self.held.complete_to;
        Ok(self.then)
    }

    fn position(&self) -> Option<(u64, u64)> {
        self.source.position()
    }
}

#[cfg(test)]
mod tests {
    use psc_formats::event::{Context, DeviceId, LinkType, Stack};
    use psc_formats::{Event, EventKind, Gso, Ns, PacketRef, ProbeId, SkbAddr, SockId};

    use super::*;

    struct Vector {
        batches: Vec<Batch>,
        manifest: Manifest,
    }

    impl EventSource for Vector {
        fn manifest(&self) -> &Manifest {
            &self.manifest
        }

        fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
            *batch = self.batches.remove(0);
            Ok(if self.batches.is_empty() { Progress::End } else { Progress::More })
        }
    }

    fn event(at: u64, packet: Option<PacketRef>) -> Event {
        Event {
            at: Ns(at),
            cpu: 0,
            seq: at,
            probe: ProbeId(0),
            skb: SkbAddr(1),
            sock: SockId(0),
            device: DeviceId(0),
            iif: 0,
            len: 60,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Unknown,
            packet,
            content: 0,
            kind: EventKind::Receive {},
        }
    }

    #[test]
    fn one_event_at_a_time_says_the_same() {
        let packet =
            |offset| Some(PacketRef { offset, caplen: 2, len: 60, link: LinkType::ETHERNET });
        let first = Batch {
            events: vec![event(1, packet(0)), event(2, None), event(3, packet(2))],
            bytes: b"abcd".to_vec(),
            complete_to: Some(Ns(3)),
            ..Batch::default()
        };
        let last = Batch { events: vec![event(4, None)], ..Batch::default() };
        let whole = Vector { batches: vec![first, last], manifest: Manifest::default() };
        let mut split = Split::new(Box::new(whole), 1);
        let mut seen = Vec::new();
        loop {
            let mut batch = Batch::default();
            let progress = split.fill(&mut batch).expect("a vector cannot fail");
            assert!(batch.events.len() <= 1);
            for event in &batch.events {
                let bytes = event.packet.map(|packet| batch.packet(packet).to_vec());
                seen.push((event.at.0, bytes, batch.complete_to));
            }
            if progress == Progress::End {
                break;
            }
        }
        let expected = [
            (1, Some(b"ab".to_vec()), None),
            (2, None, None),
            (3, Some(b"cd".to_vec()), Some(Ns(3))),
            (4, None, None),
        ];
        assert_eq!(seen, expected);
    }
}
