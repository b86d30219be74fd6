//! A storm of acknowledgements: both ends of a connection tell each other, as fast as the line lets them, that
//! they cannot use what the other one has (RFC 9293 section 3.10.7.4). Somebody put bytes into it that one end has
//! taken for the other's: a connection taken over (hunt, Juggernaut), or a program in the middle that counts wrong.
//!
//! **Sees** 100 or more acknowledgements of each side within ten seconds that repeat the one before with the same
//! numbers and window and carry nothing.
//!
//! **Silent on** duplicate acknowledgements of a loss (one side only), keep-alives and probes of a closed window
//! (a few a minute; Linux answers twice a second at most, `tcp_invalid_ratelimit`), and packets seen twice.

use psc_formats::FiveTuple;

use crate::analyzer::tcp::ACK;
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::evidence::{Draft, counted};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const EACH: u64 = 100;
const CONNECTIONS: usize = 4_096;

#[derive(Debug)]
struct Repeated([u64; 2]);

impl Tally for Repeated {
    fn new() -> Self {
        Self([0; 2])
    }
    fn is_attack(&self) -> bool {
        self.0.iter().all(|n| *n >= EACH)
    }
    fn merge(&mut self, later: Self) {
        for (n, more) in self.0.iter_mut().zip(later.0) {
            *n += more;
        }
    }
}

#[derive(Debug)]
pub(super) struct AckStorm {
    /// The last bare acknowledgement of each direction, and when.
    last: Bounded<FiveTuple, ([u32; 3], u64)>,
    connections: Watch<FiveTuple, Repeated>,
}

impl Default for AckStorm {
    fn default() -> Self {
        Self {
            last: Bounded::new(2 * CONNECTIONS),
            connections: Watch::new(CONNECTIONS, WINDOW_NS),
        }
    }
}

impl Detector for AckStorm {
    fn about(&self) -> About {
        About {
            id: "ack-storm",
            sees: "both ends of a connection repeating the same bare acknowledgement 100 times within ten \
                   seconds; silent on duplicate acknowledgements of a loss, keep-alives and window probes.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        if tcp.flags & 0x3f != ACK || packet.headers.payload_len > 0 {
            return;
        }
        /// The same packet seen at two places.
        const TWICE_NS: u64 = 200_000;
        let said = [tcp.seq, tcp.ack, u32::from(tcp.window)];
        let last = self.last.entry_or_forget(tuple, || ([!said[0], 0, 0], 0));
        let again = last.0 == said && packet.at.saturating_sub(last.1) > TWICE_NS;
        *last = (said, packet.at);
        if again {
            let (key, side) =
                if tuple.reversed() < tuple { (tuple.reversed(), 1) } else { (tuple, 0) };
            self.connections.of(key, packet.at).add(packet, |repeated| repeated.0[side] += 1);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.connections.finish();
        found
            .into_iter()
            .map(|(tuple, watched)| {
                let [a, b] = watched.attack.0;
                Draft {
                    id: "ack-storm",
                    severity: "high",
                    doubt: Some("medium: a program on the way that counts bytes wrong does the same"),
                    title: format!("Both ends of {tuple} repeat what the other does not accept."),
                    evidence: vec![
                        format!("{} of {}, {b} of {}.", counted(a, "repetition"), tuple.src, tuple.dst),
                        format!("{} in the worst ten seconds.", watched.peak),
                    ],
                    effect: "confirmed: the two ends no longer agree on what was sent.".to_owned(),
                    advice: "Look at the last bytes before it: who sent what one end took and the other does not \
                             know? Encrypt the connection.",
                    actors: vec!["unknown: somebody who could see the connection".to_owned()],
                    targets: vec![tuple.src.to_string(), tuple.dst.to_string()],
                    seen: &watched.evidence,
                    references: &["RFC 9293 section 3.10.7.4", "Joncheray 1995, A Simple Active Attack Against TCP"],
                }
                .finding(context)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::Scene;
    use crate::sample;

    #[test]
    fn both_sides_make_a_storm() {
        for (name, there, back, gap, found) in [
            ("storm", 101, 101, 10, 1),
            ("one short", 101, 100, 10, 0),
            ("a loss", 400, 0, 10, 0),
            ("keep-alives", 400, 400, 1_000, 0),
        ] {
            let mut scene = Scene::of(AckStorm::default());
            let (a, b) = ("10.0.0.1:1000", "10.0.0.2:23");
            for n in 0..400 {
                if n < there {
                    scene.headers(n * gap, &sample::tcp(a, b, ACK, 7, 9, 0));
                }
                if n < back {
                    scene.headers(n * gap + 1, &sample::tcp(b, a, ACK, 12, 8, 0));
                }
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
