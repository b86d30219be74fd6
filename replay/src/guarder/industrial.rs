//! Industrial control traffic: who commands a controller, what is out of the ordinary, and what is no
//! proper protocol at all.
//!
//! **Sees** Modbus/TCP, DNP3, S7comm, EtherNet/IP with CIP, IEC 60870-5-104 and BACnet/IP on their ports,
//! TCP put in order first. With a baseline (`psc guard baseline`): a client, function or address that is
//! not in it. Without: commands that stop, start, restart, download or silence, always; writes, as
//! information. In both: functions that the protocol does not have, frames that are none in a stream that
//! had spoken the protocol, and scans: ten or more requests of which half were refused or not answered,
//! over ten units, ten address ranges, fifty addresses or eight functions (a poller knows what it may ask).
//!
//! **Silent on** polling, an operator's station that polls and writes once in twenty requests or less, on what
//! the baseline allows, and on a gateway with many units that answer.
//!
//! Passive: nothing is ever sent to a controller. What a controller did is not in view, only what it
//! answered. References: the protocols' own, and MITRE ATT&CK for ICS.

use std::collections::BTreeMap;

use psc_formats::Manifest;

use super::detect::{About, Context, Detector, Packet};
use super::evidence::{Draft, Seen, counted};
use crate::industrial::talk::{Ends, Function};
use crate::industrial::{Baseline, Effect, Pair, Protocol, Streams, Talk, Talks, ends};
use crate::view::detect::Finding;

const REQUESTS: u64 = 10;
const UNITS: usize = 10;
const RANGES: usize = 10;
const FUNCTIONS: usize = 8;
/// One by one, so that they lie in one range.
const ADDRESSES: u64 = 50;
/// What an operator's station does beside its polling: one write in so many requests.
const POLLER: u64 = 20;
const POLLS: u64 = 100;
const REFUSED: u64 = 3;
const WRONG: u64 = 2;
/// More findings than this of one kind and one client are told as one.
const ALIKE: usize = 4;
/// Exceptions of a Modbus gateway: no path to the unit, no answer of it.
const UNREACHABLE: u16 = 10;
const SILENT: u16 = 11;

#[derive(Debug, Default)]
pub(super) struct Industrial {
    streams: Streams,
    talks: Talks,
    baseline: Option<Baseline>,
}

impl Industrial {
    pub(super) fn against(baseline: Option<Baseline>) -> Self {
        Self { baseline, ..Self::default() }
    }
}

impl Detector for Industrial {
    fn about(&self) -> About {
        About {
            id: "industrial-control",
            sees: "control commands, writes, unknown functions, malformed frames and scans in \
                   Modbus, DNP3, S7comm, EtherNet/IP, IEC 104 and BACnet, and what a baseline does \
                   not have; silent on polling, on what the baseline allows and on gateways that \
                   answer.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        super::detect::needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some((protocol, side, read)) = self.streams.packet(packet.headers, packet.payload())
        else {
            return;
        };
        let Some((src, dst)) = packet.headers.addresses() else { return };
        for message in &read.messages {
            let (client, server) = ends(side, message.role, src, dst);
            if let Some(talk) = self.talks.of(Ends { protocol, client, server }) {
                let mut heard = *message;
                if protocol == Protocol::Modbus
                    && matches!(heard.refused, Some(UNREACHABLE | SILENT))
                {
                    talk.absent += 1;
                    heard.refused = None;
                }
                talk.heard(&heard, packet.at, packet.journey);
            }
        }
        if read.wrong > 0 {
            let (client, server) = ends(side, side, src, dst);
            if let Some(talk) = self.talks.of(Ends { protocol, client, server }) {
                talk.wrong.add(packet);
                talk.wrong_bytes += read.wrong;
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (ends, talk) in &self.talks.pairs {
            let conclude = Conclude { ends, talk, context };
            match &self.baseline {
                Some(baseline) => match baseline.pair(ends) {
                    None if talk.requests > 0 => findings.push(conclude.new_pair(baseline)),
                    None => {}
                    Some(pair) => findings.extend(conclude.beyond(pair)),
                },
                None => findings.extend(conclude.commands()),
            }
            findings.extend(conclude.illegal());
            findings.extend(conclude.scan());
            findings.extend(conclude.malformed());
        }
        together(findings)
    }
}

/// One client that does the same at many controllers is told once.
fn together(findings: Vec<Finding>) -> Vec<Finding> {
    type Key = (String, Vec<String>, String);
    let key = |f: &Finding| -> Key { (f.id.clone(), f.actors.clone(), f.severity.clone()) };
    let mut times: BTreeMap<Key, usize> = BTreeMap::new();
    for finding in &findings {
        *times.entry(key(finding)).or_default() += 1;
    }
    let mut kept_at: BTreeMap<Key, usize> = BTreeMap::new();
    let mut out: Vec<(Finding, Vec<String>)> = Vec::new();
    for finding in findings {
        let key = key(&finding);
        let many = times.get(&key).is_some_and(|n| *n > ALIKE);
        if many && let Some((kept, others)) = kept_at.get(&key).and_then(|at| out.get_mut(*at)) {
            others.extend(finding.targets);
            kept.first = kept.first.min(finding.first);
            kept.last = kept.last.max(finding.last);
            kept.packets += finding.packets;
        } else {
            kept_at.insert(key, out.len());
            out.push((finding, Vec::new()));
        }
    }
    out.into_iter()
        .map(|(mut finding, others)| {
            if !others.is_empty() {
                let n = others.len();
                finding.evidence.push(format!(
                    "It did likewise at {n} more: {}.",
                    super::evidence::listed(others.iter().cloned(), 10)
                ));
                finding.targets.extend(others.into_iter().take(20));
            }
            finding
        })
        .collect()
}

struct Conclude<'a> {
    ends: &'a Ends,
    talk: &'a Talk,
    context: &'a Context<'a>,
}

fn line(protocol: Protocol, code: u16, function: &Function) -> String {
    let ranges: Vec<String> = function
        .ranges
        .iter()
        .take(5)
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}..{last}") }
            },
        )
        .collect();
    let at = if ranges.is_empty() { String::new() } else { format!(" at {}", ranges.join(", ")) };
    let refused = if function.refused > 0 {
        format!(", {} refused", function.refused)
    } else {
        String::new()
    };
    format!(
        "{} {code:#04x} ({}): {}{at}{refused}.",
        protocol.name(),
        function.name,
        counted(function.told.packets, "request")
    )
}

impl Conclude<'_> {
    fn of(&self, wanted: impl Fn(u16, &Function) -> bool) -> (Seen, Vec<String>, u64) {
        let mut seen = Seen::default();
        let mut lines = Vec::new();
        let mut refused = 0;
        for (code, function) in &self.talk.functions {
            if wanted(*code, function) {
                seen.merge(&function.told);
                refused += function.refused;
                if lines.len() < 12 {
                    lines.push(line(self.ends.protocol, *code, function));
                }
            }
        }
        (seen, lines, refused)
    }

    fn draft<'a>(
        &self,
        id: &'a str,
        severity: &'a str,
        title: String,
        evidence: Vec<String>,
        seen: &'a Seen,
        refused: u64,
    ) -> Draft<'a> {
        let effect = if seen.packets > 0 && refused >= seen.packets {
            "not confirmed: the controller refused all of them.".to_owned()
        } else if self.talk.responses > 0 {
            format!(
                "not confirmed: the controller answered, and refused {refused}; what it did is not in \
                 view."
            )
        } else {
            "not observable: no answer of the controller is in view.".to_owned()
        };
        Draft {
            id,
            severity,
            doubt: None,
            title,
            evidence,
            effect,
            advice: "Ask who is responsible for this client whether it was meant; learn or state what \
                     is ordinary (psc guard baseline) so that only the rest is told.",
            actors: vec![format!("{} ({})", self.ends.client, proof(self.ends.protocol))],
            targets: vec![self.ends.server.to_string()],
            seen,
            references: references(self.ends.protocol),
        }
    }

    fn commands(&self) -> Vec<Finding> {
        let (client, server) = (self.ends.client, self.ends.server);
        let mut findings = Vec::new();
        let (seen, lines, refused) = self.of(|_, function| function.effect == Effect::Control);
        if seen.packets > 0 {
            let title = format!(
                "{client} sent {server} {} that change what it runs or whether.",
                counted(seen.packets, "command")
            );
            let draft = self.draft("ics-control-command", "high", title, lines, &seen, refused);
            findings.push(draft.finding(self.context));
        }
        let (seen, mut lines, refused) = self.of(|_, function| function.effect == Effect::Write);
        // Who asks all day and writes now and then is an operator's station.
        let polls = self.talk.requests >= POLLS && seen.packets * POLLER <= self.talk.requests;
        let operates = polls && findings.is_empty();
        if seen.packets > 0 && !operates {
            lines.push("There is no baseline: an operator station does this every day.".to_owned());
            let title =
                format!("{client} wrote to {server}, {}.", counted(seen.packets, "request"));
            let draft = self.draft("ics-write", "info", title, lines, &seen, refused);
            findings.push(draft.finding(self.context));
        }
        findings
    }

    /// A client that the baseline does not have at this server.
    fn new_pair(&self, baseline: &Baseline) -> Finding {
        let (seen, lines, refused) = self.of(|_, _| true);
        let known = baseline.pair.iter().any(|pair| pair.server == self.ends.server);
        let commands = self
            .talk
            .functions
            .values()
            .any(|f| matches!(f.effect, Effect::Write | Effect::Control));
        let title = if known {
            format!("{} is a new client of {}.", self.ends.client, self.ends.server)
        } else {
            format!(
                "{} speaks {} to {}, which the baseline has at no server.",
                self.ends.client,
                self.ends.protocol.name(),
                self.ends.server
            )
        };
        let severity = if commands { "high" } else { "medium" };
        self.draft("ics-new-master", severity, title, lines, &seen, refused).finding(self.context)
    }

    /// What a known client asks that it never asked.
    fn beyond(&self, pair: &Pair) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (client, server) = (self.ends.client, self.ends.server);
        let new = |code: u16| pair.ranges(code).is_none();
        let (seen, lines, refused) = self.of(|code, _| new(code));
        if seen.packets > 0 {
            let worst = self.talk.functions.iter().filter(|(code, _)| new(**code));
            let worst = worst.map(|(_, function)| function.effect).max();
            let (id, severity) = match worst {
                Some(Effect::Control) => ("ics-control-command", "high"),
                Some(Effect::Write) => ("ics-write", "high"),
                _ => ("ics-new-function", "medium"),
            };
            let title = format!("{client} uses functions at {server} that it never used.");
            findings
                .push(self.draft(id, severity, title, lines, &seen, refused).finding(self.context));
        }
        let outside = |code: u16, function: &Function| {
            pair.ranges(code).is_some_and(|allowed| {
                !allowed.is_empty()
                    && function.ranges.iter().any(|(first, last)| {
                        !allowed.iter().any(|(from, to)| from <= first && last <= to)
                    })
            })
        };
        let (seen, mut lines, refused) = self.of(outside);
        let strange: Vec<String> = self
            .talk
            .units
            .iter()
            .filter(|unit| !pair.units.is_empty() && !pair.units.contains(unit))
            .map(ToString::to_string)
            .collect();
        if !strange.is_empty() {
            lines.push(format!("Units that it never asked: {}.", strange.join(", ")));
        }
        if !lines.is_empty() {
            let seen = if seen.packets > 0 { seen } else { self.talk.seen.clone() };
            let title = format!("{client} asks {server} for addresses that it never asked for.");
            let draft = self.draft("ics-new-address", "medium", title, lines, &seen, refused);
            findings.push(draft.finding(self.context));
        }
        findings
    }

    fn illegal(&self) -> Option<Finding> {
        let (mut seen, mut lines, refused) =
            self.of(|_, function| function.effect == Effect::Illegal);
        if seen.packets == 0 && self.talk.refusals.packets >= REFUSED {
            let (_, refused_lines, _) = self.of(|_, function| function.refused > 0);
            seen = self.talk.refusals.clone();
            lines = refused_lines;
            lines.push(format!("{} in all.", counted(self.talk.refusals.packets, "refusal")));
            let title = format!(
                "{} refused {} of {}.",
                self.ends.server,
                counted(self.talk.refusals.packets, "request"),
                self.ends.client
            );
            let n = seen.packets;
            let draft = self.draft("ics-refused", "low", title, lines, &seen, n);
            return Some(draft.finding(self.context));
        }
        if seen.packets == 0 {
            return None;
        }
        let title = format!(
            "{} asked {} for functions that {} does not have.",
            self.ends.client,
            self.ends.server,
            self.ends.protocol.name()
        );
        Some(
            self.draft("ics-illegal-function", "medium", title, lines, &seen, refused)
                .finding(self.context),
        )
    }

    fn scan(&self) -> Option<Finding> {
        let talk = self.talk;
        let unanswered = talk.requests.saturating_sub(talk.responses);
        let vain = talk.refusals.packets + talk.absent + unanswered;
        let ranges: usize = talk.functions.values().map(|function| function.ranges.len()).sum();
        let broad =
            talk.units.len() >= UNITS || ranges >= RANGES || talk.functions.len() >= FUNCTIONS;
        // Without a single answer the controller may be out of view.
        let all = talk.functions.values().flat_map(|function| &function.ranges);
        let addresses: u64 = all.map(|(first, last)| u64::from(last - first) + 1).sum();
        let one_by_one = talk.requests >= ADDRESSES && addresses >= ADDRESSES;
        if talk.requests < REQUESTS
            || talk.responses == 0
            || vain * 2 < talk.requests
            || !broad && !one_by_one
        {
            return None;
        }
        let title = format!(
            "{} tries out {}: {} requests, half of them or more in vain.",
            self.ends.client, self.ends.server, talk.requests
        );
        let evidence = vec![
            format!(
                "{} units, {} functions, {ranges} address ranges.",
                talk.units.len(),
                talk.functions.len()
            ),
            format!(
                "{} refused, {} of units that are silent behind a gateway, {unanswered} not answered.",
                talk.refusals.packets, talk.absent
            ),
        ];
        let draft =
            self.draft("ics-scan", "medium", title, evidence, &talk.seen, talk.refusals.packets);
        Some(draft.finding(self.context))
    }

    fn malformed(&self) -> Option<Finding> {
        let talk = self.talk;
        if talk.wrong.packets < WRONG {
            return None;
        }
        let title = format!(
            "Between {} and {} went frames that are no {}.",
            self.ends.client,
            self.ends.server,
            self.ends.protocol.name()
        );
        let evidence = vec![format!(
            "{} with {} bytes at which no frame starts, in streams that had spoken it.",
            counted(talk.wrong.packets, "packet"),
            talk.wrong_bytes
        )];
        let draft = self.draft("ics-malformed", "medium", title, evidence, &talk.wrong, 0);
        Some(draft.finding(self.context))
    }
}

fn proof(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Bacnet {
        "unproven: a datagram's source can be forged"
    } else {
        "proven as far as TCP goes"
    }
}

fn references(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Modbus => {
            &["MODBUS Application Protocol V1.1b3", "ATT&CK for ICS T0855", "ATT&CK for ICS T0836"]
        }
        Protocol::Dnp3 => &["IEEE 1815", "ATT&CK for ICS T0855", "ATT&CK for ICS T0816"],
        Protocol::S7comm => &["RFC 1006", "ATT&CK for ICS T0843", "ATT&CK for ICS T0858"],
        Protocol::Enip => &["CIP Networks Library", "ATT&CK for ICS T0858", "ATT&CK for ICS T0816"],
        Protocol::Iec104 => &["IEC 60870-5-104", "ATT&CK for ICS T0855", "ATT&CK for ICS T0802"],
        Protocol::Bacnet => &["ASHRAE 135 annex J", "ATT&CK for ICS T0855", "ATT&CK for ICS T0816"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};
    use std::net::IpAddr;

    fn hosts() -> (IpAddr, IpAddr) {
        (crate::sample::ip("10.0.0.1"), crate::sample::ip("10.0.0.2"))
    }

    /// One side's Modbus stream: frames are put behind each other.
    struct Line {
        scene: Scene,
        seq: [u32; 2],
        ms: u64,
    }

    impl Line {
        fn new(baseline: Option<Baseline>) -> Self {
            let scene = Scene::of(Industrial::against(baseline));
            Self { scene, seq: [1, 1], ms: 0 }
        }

        fn send(&mut self, from_client: bool, unit: u8, pdu: &[u8]) {
            let frame = [&[0, 1, 0, 0, 0, pdu.len() as u8 + 1, unit][..], pdu].concat();
            self.raw(from_client, &frame);
        }

        fn raw(&mut self, from_client: bool, bytes: &[u8]) {
            self.ms += 1;
            let (client, server) = hosts();
            let (client, server) = (client.to_string(), server.to_string());
            let seq = &mut self.seq[usize::from(from_client)];
            let packet = if from_client {
                let segment = tcp((40_000, 502), 0x18, *seq, 1, &[], bytes);
                ip((A, B), &client, &server, 6, &segment)
            } else {
                let segment = tcp((502, 40_000), 0x18, *seq, 1, &[], bytes);
                ip((B, A), &server, &client, 6, &segment)
            };
            *seq += bytes.len() as u32;
            self.scene.frame(self.ms, &packet);
        }

        fn poll(&mut self) {
            self.send(true, 1, &[3, 0, 0, 0, 10]);
            self.send(false, 1, &[3, 2, 0, 0]);
        }

        fn ids(self) -> Vec<String> {
            self.scene.ids()
        }
    }

    fn ordinary() -> Baseline {
        let (client, server) = hosts();
        let functions = [("3".to_owned(), vec![(0, 99)]), ("6".to_owned(), vec![])];
        let pair = Pair {
            protocol: Protocol::Modbus,
            client,
            server,
            units: vec![1],
            functions: functions.into(),
        };
        Baseline { pair: vec![pair] }
    }

    #[test]
    fn without_a_baseline_commands_and_writes_are_told_and_polling_is_not() {
        let mut polling = Line::new(None);
        (0..50).for_each(|_| polling.poll());
        assert!(polling.ids().is_empty());
        let mut writes = Line::new(None);
        writes.send(true, 1, &[6, 0, 1, 0, 9]);
        assert_eq!(writes.ids(), ["ics-write"]);
        let mut silences = Line::new(None);
        silences.send(true, 1, &[8, 0, 4, 0, 0]);
        assert_eq!(silences.ids(), ["ics-control-command"]);
    }

    #[test]
    fn with_a_baseline_only_what_is_beyond_it_is_told() {
        let mut ordinary_day = Line::new(Some(ordinary()));
        ordinary_day.poll();
        ordinary_day.send(true, 1, &[6, 0, 1, 0, 9]);
        assert!(ordinary_day.ids().is_empty());
        for (pdu, unit, id) in [
            (&[16, 0, 1, 0, 1, 2, 0, 0][..], 1, "ics-write"),
            (&[4, 0, 1, 0, 1], 1, "ics-new-function"),
            (&[3, 1, 0, 0, 10], 1, "ics-new-address"),
            (&[3, 0, 0, 0, 10], 9, "ics-new-address"),
        ] {
            let mut line = Line::new(Some(ordinary()));
            line.send(true, unit, pdu);
            assert_eq!(line.ids(), [id], "{pdu:?}");
        }
        let mut stranger = Line::new(Some(Baseline::default()));
        stranger.poll();
        assert_eq!(stranger.ids(), ["ics-new-master"]);
    }

    #[test]
    fn one_client_at_many_controllers_is_one_finding() {
        for (servers, findings) in [(4_u8, 4), (5, 1), (30, 1)] {
            let mut scene = Scene::of(Industrial::against(None));
            for n in 1..=servers {
                let silence = [0, 1, 0, 0, 0, 6, 1, 8, 0, 4, 0, 0];
                let segment = tcp((40_000, 502), 0x18, 1, 1, &[], &silence);
                let frame = ip((A, B), "10.0.0.1", &format!("10.0.1.{n}"), 6, &segment);
                scene.frame(u64::from(n), &frame);
            }
            let found = scene.findings();
            assert_eq!(found.len(), findings, "{servers}");
            assert_eq!(found.iter().map(|f| f.packets).sum::<u64>(), u64::from(servers));
        }
    }

    #[test]
    fn scans_and_nonsense_are_told_and_a_gateway_is_not() {
        let mut scan = Line::new(None);
        let mut gateway = Line::new(None);
        for unit in 1..=20 {
            scan.send(true, unit, &[3, 0, 0, 0, 1]);
            scan.send(false, unit, &[0x83, 11]);
            gateway.send(true, unit, &[3, 0, 0, 0, 1]);
            gateway.send(false, unit, &[3, 2, 0, 0]);
        }
        assert!(scan.ids().contains(&"ics-scan".to_owned()));
        assert!(gateway.ids().is_empty());
        let mut nonsense = Line::new(None);
        nonsense.poll();
        for _ in 0..2 {
            nonsense.raw(true, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        }
        assert_eq!(nonsense.ids(), ["ics-malformed"]);
        let mut illegal = Line::new(None);
        illegal.send(true, 1, &[77, 0]);
        assert_eq!(illegal.ids(), ["ics-illegal-function"]);
    }
}
