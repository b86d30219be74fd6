//! Small-MSS and SACK abuse (CVE-2019-11477, -11478, -11479): a peer that makes a sender cut its data into
//! crumbs, and then acknowledges them in pieces.
//!
//! **Sees** SYNs and SYN-ACKs with an MSS below 88 (`TCP_MIN_MSS` of Linux; RFC 9293 section 3.7.1 expects
//! 536 where nothing is said), or up to 500 (what the advisory filters) when data followed; and
//! acknowledgements with selective blocks of fewer than 256 bytes although the sender's segments carry
//! more than 500: 100 such blocks in a connection.
//!
//! **Silent on** small devices with a small MSS that fetch little, loss (its blocks are whole segments),
//! and interactive sessions, whose segments are small themselves.

use std::net::IpAddr;

use psc_formats::FiveTuple;

use crate::analyzer::tcp::SYN;
use crate::bounded::Bounded;
use crate::guarder::conversation::ahead;
use crate::guarder::detect::{About, Context, Detector, Packet};
use crate::guarder::effect;
use crate::guarder::evidence::{Draft, Seen, counted};
use crate::view::detect::Finding;

const ABSURD_MSS: u16 = 88;
const SMALL_MSS: u16 = 500;
/// Bytes sent to a peer with a small MSS from which it costs.
const COSTLY: u64 = 65_536;
const CRUMB: u32 = 256;
const CRUMBS: u64 = 100;
/// IP packets larger than this carry more than 500 bytes.
const LARGE: u32 = 560;
const FLOWS: usize = 16_384;

#[derive(Debug, Default)]
struct Flow {
    /// MSS that this side announced.
    mss: Option<u16>,
    sent_to: u64,
    crumbs: u64,
    seen: Seen,
}

#[derive(Debug)]
pub(super) struct MssSack {
    /// By the tuple of the side that announces and acknowledges.
    flows: Bounded<FiveTuple, Flow>,
}

impl Default for MssSack {
    fn default() -> Self {
        Self { flows: Bounded::new(FLOWS) }
    }
}

impl Detector for MssSack {
    fn about(&self) -> About {
        About {
            id: "tcp-resource-abuse",
            sees: "an MSS that no link needs, and selective acknowledgements in crumbs; silent on \
                   small devices that fetch little, loss and interactive sessions.",
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(tcp), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else {
            return;
        };
        if tcp.flags & SYN != 0 {
            if let Some(mss) = tcp.options.mss.filter(|mss| *mss <= SMALL_MSS) {
                let flow = self.flows.entry_or_forget(tuple, Flow::default);
                flow.mss = Some(mss);
                flow.seen.add(packet);
            }
            return;
        }
        if let Some(flow) = self.flows.get_mut(&tuple.reversed()) {
            flow.sent_to += u64::from(packet.headers.payload_len);
        }
        if tcp.options.sack[0].is_none() {
            return;
        }
        let Some(found) = packet.flows.get(&tuple) else { return };
        let (_, peer) = found.sides(&tuple);
        let mut crumbs = 0;
        for (left, right) in tcp.options.sack.iter().flatten() {
            let len = right.wrapping_sub(*left);
            // D-SACK (RFC 2883) repeats what is below the acknowledgement, in any size.
            let duplicate = ahead(*right, tcp.ack) <= 0;
            crumbs += u64::from(!duplicate && len > 0 && len < CRUMB && peer.largest > LARGE);
        }
        if crumbs > 0 {
            let flow = self.flows.entry_or_forget(tuple, Flow::default);
            flow.crumbs += crumbs;
            flow.seen.add(packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let flows = std::mem::replace(&mut self.flows, Bounded::new(1));
        let mut findings = Vec::new();
        for (tuple, flow) in flows.into_oldest_first() {
            let absurd = flow.mss.is_some_and(|mss| mss < ABSURD_MSS);
            let costly = flow.mss.is_some() && flow.sent_to >= COSTLY;
            let crumbs = flow.crumbs >= CRUMBS;
            if !(absurd || costly || crumbs) {
                continue;
            }
            findings.push(finding(&tuple, &flow, crumbs, context));
        }
        findings
    }
}

fn finding(tuple: &FiveTuple, flow: &Flow, crumbs: bool, context: &Context<'_>) -> Finding {
    let mut evidence = Vec::new();
    if let Some(mss) = flow.mss {
        evidence.push(format!(
            "It announced an MSS of {mss} bytes and was sent {} bytes.",
            flow.sent_to
        ));
    }
    if flow.crumbs > 0 {
        evidence.push(format!(
            "{} of fewer than {CRUMB} bytes, though segments to it were larger.",
            counted(flow.crumbs, "selective block")
        ));
    }
    let peer: IpAddr = tuple.dst;
    Draft {
        id: "tcp-resource-abuse",
        severity: if crumbs && flow.mss.is_some() { "high" } else { "medium" },
        doubt: (!crumbs).then_some("medium: a device with a tiny buffer announces the same"),
        title: format!("{} makes {peer} handle its data in crumbs ({tuple}).", tuple.src),
        evidence,
        effect: effect::counters(
            peer,
            &[
                ("TcpExtTCPWqueueTooBig", "segments refused because the write queue was cut too fine"),
                ("TcpExtTCPSackShiftFallback", "selective blocks that needed a split"),
            ],
            context,
        ),
        advice: "Run a kernel with net.ipv4.tcp_min_snd_mss (4.4.182, 4.19.52, 5.1.11 or later) and set it \
                 to 500 where no small device is served; drop SYNs with an MSS below.",
        actors: vec![format!("{} (a connection was made: the address is its own)", tuple.src)],
        targets: vec![peer.to_string()],
        seen: &flow.seen,
        references: &["CVE-2019-11477", "CVE-2019-11478", "CVE-2019-11479", "RFC 2018", "CWE-400"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    const C: &str = "10.0.0.1";
    const S: &str = "10.0.0.2";

    fn syn(mss: u16) -> Vec<u8> {
        let options = [2, 4, mss.to_be_bytes()[0], mss.to_be_bytes()[1]];
        ip((A, B), C, S, 6, &tcp((40_000, 80), 2, 100, 0, &options, &[]))
    }

    fn sack(blocks: &[(u32, u32)], ack: u32) -> Vec<u8> {
        let mut options = vec![1, 1, 5, (2 + 8 * blocks.len()) as u8];
        for (left, right) in blocks {
            options.extend(left.to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        ip((A, B), C, S, 6, &tcp((40_000, 80), 0x10, 101, ack, &options, &[]))
    }

    /// The server sends `n` segments of 1400 bytes after `first`, each answered by `answer`.
    fn run(mss: u16, n: u32, answer: impl Fn(u32) -> Vec<u8>) -> Vec<String> {
        let mut scene = Scene::of(MssSack::default());
        scene.frame(0, &syn(mss));
        for i in 0..n {
            let data = tcp((80, 40_000), 0x10, 1 + i * 1400, 101, &[], &[0; 1400]);
            scene.frame(u64::from(i), &ip((B, A), S, C, 6, &data));
            scene.frame(u64::from(i), &answer(i));
        }
        scene.ids()
    }

    #[test]
    fn crumbs_and_tiny_segments_are_found_and_loss_is_not() {
        let plain = |i: u32| sack(&[], 1 + i * 1400);
        let whole = |i: u32| sack(&[(1401, 1401 + i * 1400)], 1);
        let crumb = |i: u32| sack(&[(1401 + i * 1400 - 1400, 1411 + i * 1400 - 1400)], 1);
        assert_eq!(run(48, 0, plain), ["tcp-resource-abuse"]);
        assert!(run(300, 10, plain).is_empty(), "a small device that fetches little");
        assert_eq!(run(300, 60, plain), ["tcp-resource-abuse"]);
        assert!(run(1460, 200, whole).is_empty(), "loss");
        assert_eq!(run(1460, 110, crumb), ["tcp-resource-abuse"]);
        assert!(run(1460, 90, crumb).is_empty());
    }
}
