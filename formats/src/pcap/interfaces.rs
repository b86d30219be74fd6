//! The interfaces of a capture as devices.

use rustc_hash::FxHashMap;

use crate::event::{DeviceId, LinkType};
use crate::fact::{DeviceFact, Fact};

/// Devices described so far, over all sections of a capture.
#[derive(Default)]
pub(super) struct Interfaces {
    /// By name and link type, so that an interface described again (rotated and joined files) is
    /// the same device.
    known: FxHashMap<(String, u16), DeviceId>,
    /// Devices behind a "cooked v2" interface, by that interface and the packet's `if_index`.
    behind: FxHashMap<(DeviceId, u32), DeviceId>,
    fresh: Vec<DeviceFact>,
    count: u16,
}

impl Interfaces {
    /// The device of a described interface; `None` when ids have run out. `fact.id` is set here.
    pub(super) fn describe(&mut self, mut fact: DeviceFact, link: LinkType) -> Option<DeviceId> {
        let key = (fact.name.clone(), link.0);
        if let Some(id) = self.known.get(&key) {
            return Some(*id);
        }
        self.count = self.count.checked_add(1)?;
        let id = DeviceId(self.count);
        fact.id = id.0;
        fact.link_type = Some(link.0);
        self.known.insert(key, id);
        self.fresh.push(fact);
        Some(id)
    }

    /// The device that a packet of `capture`, the "any" device, names by interface index in its
    /// cooked header; `capture` itself when it names none or ids have run out.
    #[inline]
    pub(super) fn of_packet(
        &mut self,
        capture: DeviceId,
        link: LinkType,
        bytes: &[u8],
    ) -> DeviceId {
        if link != LinkType::LINUX_SLL2 {
            return capture;
        }
        match bytes.get(4..8) {
            Some(&[a, b, c, d]) if [a, b, c, d] != [0; 4] => {
                self.behind(capture, u32::from_be_bytes([a, b, c, d]))
            }
            _ => capture,
        }
    }

    fn behind(&mut self, capture: DeviceId, ifindex: u32) -> DeviceId {
        if let Some(id) = self.behind.get(&(capture, ifindex)) {
            return *id;
        }
        // Left for described interfaces: a hostile file names a new index in each packet.
        const MOST: usize = 4096;
        if self.behind.len() >= MOST {
            return capture;
        }
        let Some(count) = self.count.checked_add(1) else { return capture };
        self.count = count;
        self.fresh.push(DeviceFact {
            id: count,
            ifindex,
            name: format!("ifindex {ifindex}"),
            link_type: Some(LinkType::LINUX_SLL2.0),
            ..DeviceFact::default()
        });
        self.behind.insert((capture, ifindex), DeviceId(count));
        DeviceId(count)
    }

    pub(super) fn drain_facts(&mut self, facts: &mut Vec<Fact>) {
        facts.extend(self.fresh.drain(..).map(Fact::Device));
    }
}

/// Text from a capture, safe to print: printable, on one line, not long.
pub(super) fn printable(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST)]);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let safe = |c: char| if c.is_control() || is_format(c) { '\u{fffd}' } else { c };
    text.chars().take(MOST).map(safe).collect()
}

/// Characters that change how their neighbours are shown: bidirectional controls, zero-width
/// characters and the byte order mark.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
