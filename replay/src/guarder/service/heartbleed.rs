//! Heartbleed (CVE-2014-0160): a TLS heartbeat that claims more payload than it carries.
//!
//! **Sees** heartbeat requests (RFC 6520) whose payload and padding do not fit into their record, where the
//! record is not encrypted: it is shorter than any that is, or the sender has not changed to its keys yet;
//! and encrypted ones that are answered by a heartbeat at least 1 KiB longer, since an answer returns what
//! was sent.
//!
//! **Silent on** heartbeats that fit and answers that return them. The effect is confirmed where the server
//! answers with a heartbeat record that is longer than the request.

use std::net::SocketAddr;

use psc_formats::{FiveTuple, Manifest};

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const CONNECTIONS: usize = 4_096;
/// Type, length and the shortest MAC (MD5): an encrypted heartbeat has at least so many bytes, even one
/// without the padding that RFC 6520 asks for.
const ENCRYPTED: usize = 3 + 16;
/// A heartbeat has at least so much padding.
const PADDING: usize = 16;
/// An encrypted answer so much longer than the request is no padding.
const LONGER: usize = 1_024;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

#[derive(Debug, Default)]
struct Bled {
    seen: Seen,
    /// A request that cannot be looked into; whether it bled shows in the answer.
    encrypted: bool,
    claimed: u16,
    carried: usize,
    longest_answer: u16,
}

#[derive(Debug)]
pub(super) struct Heartbleed {
    /// By the tuple of who asked.
    asked: Bounded<FiveTuple, Bled>,
    /// Whether who sends with this tuple has changed to its keys; there while its handshake is in view.
    keyed: Bounded<FiveTuple, bool>,
}

impl Default for Heartbleed {
    fn default() -> Self {
        Self { asked: Bounded::new(CONNECTIONS), keyed: Bounded::new(CONNECTIONS) }
    }
}

/// A heartbeat record: its length and what of it is there.
type Heartbeat<'a> = (u16, &'a [u8]);

/// The first heartbeat record of a segment, and which kinds of record come before it.
fn records(payload: &[u8], mut before: impl FnMut(u8)) -> Option<Heartbeat<'_>> {
    let mut at = 0;
    for _ in 0..16 {
        let [kind, 3, 0..=4, a, b, ..] = *payload.get(at..)? else { return None };
        if !(20..=24).contains(&kind) {
            return None;
        }
        let len = u16::from_be_bytes([a, b]);
        let body = &payload[at + 5..];
        if kind == HEARTBEAT {
            return Some((len, &body[..body.len().min(usize::from(len))]));
        }
        before(kind);
        at += 5 + usize::from(len);
    }
    None
}

impl Detector for Heartbleed {
    fn about(&self) -> About {
        About {
            id: "heartbleed",
            sees: "TLS heartbeat requests that claim more payload than they carry; silent on heartbeats \
                   that fit and on answers that return what was sent.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(_), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else { return };
        let keyed = &mut self.keyed;
        let found = records(packet.payload(), |kind| match kind {
            HANDSHAKE if keyed.get(&tuple).is_none() => {
                keyed.entry_or_forget(tuple, || false);
            }
            CHANGE_CIPHER_SPEC | APPLICATION_DATA => *keyed.entry_or_forget(tuple, || true) = true,
            _ => {}
        });
        let Some((len, body)) = found else { return };
        if let Some(bled) = self.asked.get_mut(&tuple.reversed()) {
            bled.longest_answer = bled.longest_answer.max(len);
            return;
        }
        let plain = match self.keyed.get(&tuple) {
            Some(keyed) => !keyed,
            None => usize::from(len) < ENCRYPTED,
        };
        let claimed = match *body {
            _ if !plain => 0,
            [1, a, b, ..] => u16::from_be_bytes([a, b]),
            _ => return,
        };
        if plain && usize::from(claimed) + 3 + PADDING <= usize::from(len) {
            return;
        }
        let bled = self.asked.entry_or_forget(tuple, Bled::default);
        bled.encrypted |= !plain;
        bled.seen.add(packet);
        bled.claimed = bled.claimed.max(claimed);
        bled.carried = usize::from(len).saturating_sub(3);
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let asked = std::mem::replace(&mut self.asked, Bounded::new(1)).into_oldest_first();
        asked
            .into_iter()
            .filter(|(_, bled)| {
                !bled.encrypted || usize::from(bled.longest_answer) >= bled.carried + LONGER
            })
            .map(|(tuple, bled)| {
                let answered = usize::from(bled.longest_answer) > bled.carried + 3 + 16;
                Draft {
                    id: "heartbleed",
                    severity: "high",
                    doubt: None,
                    title: format!(
                        "{} asked {} for memory by TLS heartbeat.",
                        tuple.src,
                        SocketAddr::new(tuple.dst, tuple.dport)
                    ),
                    evidence: vec![if bled.encrypted {
                        format!(
                            "{} of {} encrypted bytes; an answer returns what was sent, and this one was longer.",
                            counted(bled.seen.packets, "heartbeat"),
                            bled.carried
                        )
                    } else {
                        format!(
                            "{} claimed up to {} bytes and carried {}.",
                            counted(bled.seen.packets, "heartbeat"),
                            bled.claimed,
                            bled.carried
                        )
                    }],
                    effect: if answered {
                        format!(
                            "confirmed: the server answered with a record of {} bytes, which is its memory.",
                            bled.longest_answer
                        )
                    } else {
                        "not confirmed: no longer heartbeat came back.".to_owned()
                    },
                    advice: "Update OpenSSL (1.0.1g or later), then replace keys and passwords that the server held.",
                    actors: vec![format!("{} (proven by the connection)", tuple.src)],
                    targets: vec![SocketAddr::new(tuple.dst, tuple.dport).to_string()],
                    seen: &bled.seen,
                    references: &["CVE-2014-0160", "RFC 6520 section 4", "MITRE ATT&CK T1190"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    #[test]
    fn a_heartbeat_fits_or_bleeds() {
        let mut fits = vec![22, 3, 2, 0, 1, 7, 24, 3, 2, 0, 23, 1, 0, 4];
        fits.extend([0; 20]);
        let large = [&[22, 3, 3, 0, 1, 7, 24, 3, 3, 0, 40, 1, 0xff, 0xff][..], &[7; 37]].concat();
        let encrypted =
            [&[23, 3, 3, 0, 1, 7, 24, 3, 3, 0, 40, 1, 0xff, 0xff][..], &[7; 37]].concat();
        let behind = [&[21, 3, 2, 0, 2, 1, 0][..], &[24, 3, 2, 0, 3, 1, 0x40, 0]].concat();
        for (name, bytes, found) in [
            ("claims 16 KiB", vec![24, 3, 2, 0, 3, 1, 0x40, 0], 1),
            ("behind another record", behind, 1),
            ("fits", fits, 0),
            ("large, before encryption", large, 1),
            ("encrypted, answered at length", encrypted, 1),
            ("application data", vec![23, 3, 2, 0, 3, 1, 0x40, 0], 0),
        ] {
            let mut scene = Scene::of(Heartbleed::default());
            let segment = tcp((4000, 443), 0x18, 1, 1, &[], &bytes);
            scene.frame(1, &ip((A, B), "192.0.2.1", "10.0.0.2", 6, &segment));
            let answer = [&[24, 3, 2, 0x40, 0][..], &[7; 100]].concat();
            let segment = tcp((443, 4000), 0x18, 1, 1, &[], &answer);
            scene.frame(2, &ip((B, A), "10.0.0.2", "192.0.2.1", 6, &segment));
            let findings = scene.findings();
            assert_eq!(findings.len(), found, "{name}");
            assert!(findings.iter().all(|finding| finding.effect.starts_with("confirmed")));
        }
    }
}
