//! Rules for findings: proposed from what was found, parsed, and held against the same recording before
//! anybody may apply them.
//!
//! A source that may be forged is limited and never dropped: else whoever forges it chooses whom we cut
//! off.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use psc_formats::FiveTuple;

use crate::engine::{ClosedJourney, Observer, Sighting, World};
use crate::expr::{Expr, Subject};
use crate::first_sight::FirstSight;
use crate::view::Provenance;
use crate::view::detect::{DetectView, Finding};
use crate::view::suggest::{SuggestView, Suggestion};

use super::conversation::Conversations;

/// Suggestions at most, and matched flows judged for each.
const SUGGESTIONS: usize = 32;
const FLOWS: usize = 4_096;

#[derive(Debug)]
struct Proposal {
    suggestion: Suggestion,
    condition: Expr,
    flows: BTreeMap<FiveTuple, u64>,
}

/// Observes a second pass and counts what each proposed rule would have matched.
#[derive(Debug)]
pub struct Suggester {
    proposals: Vec<Proposal>,
    without: Vec<(String, String)>,
    once: FirstSight,
    flows: Conversations,
    packets: u64,
}

impl Suggester {
    /// Rules for the findings of a first pass.
    pub fn new(view: &DetectView) -> Self {
        let mut proposals: Vec<Proposal> = Vec::new();
        let mut without = Vec::new();
        for finding in &view.findings {
            match propose(finding) {
                _ if proposals.len() >= SUGGESTIONS => {
                    without
                        .push((finding.title.clone(), "there are too many suggestions".to_owned()));
                }
                Err(why) => without.push((finding.title.clone(), why.to_owned())),
                Ok(proposal) if proposals.iter().any(|p| p.condition == proposal.condition) => {}
                Ok(proposal) => proposals.push(proposal),
            }
        }
        Self {
            proposals,
            without,
            once: FirstSight::default(),
            flows: Conversations::default(),
            packets: 0,
        }
    }

    /// The suggestions with what they would have touched.
    pub fn finish(self, provenance: Provenance) -> SuggestView {
        let Self { proposals, without, flows, packets, .. } = self;
        let suggestions = proposals
            .into_iter()
            .map(|proposal| {
                let mut suggestion = proposal.suggestion;
                suggestion.of = packets;
                for (tuple, n) in &proposal.flows {
                    let healthy = flows.get(tuple).is_some_and(|found| {
                        let (a, b) = found.sides(tuple);
                        a.bytes > 0 && b.bytes > 0
                    });
                    if healthy {
                        suggestion.healthy_flows += 1;
                        suggestion.healthy_packets += n;
                    }
                }
                suggestion.verdict = verdict(&suggestion);
                suggestion
            })
            .collect();
        SuggestView { provenance, suggestions, without }
    }
}

fn verdict(suggestion: &Suggestion) -> String {
    if suggestion.matched == 0 {
        "It matched nothing here: it answers what was not a packet of its own.".to_owned()
    } else if suggestion.healthy_flows == 0 && suggestion.unjudged == 0 {
        "It touched no healthy flow of this recording.".to_owned()
    } else {
        format!(
            "It touched {} healthy flows with {} packets: read them before you apply it.",
            suggestion.healthy_flows, suggestion.healthy_packets
        )
    }
}

impl Observer for Suggester {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        let Some((headers, _)) = self.once.packet(sighting) else { return };
        self.packets += 1;
        let subject = Subject::sighting(world, sighting);
        for proposal in &mut self.proposals {
            if !proposal.condition.matches(&subject) {
                continue;
            }
            proposal.suggestion.matched += 1;
            let Some(tuple) = headers.tuple() else { continue };
            let room = proposal.flows.len() < FLOWS;
            match proposal.flows.get_mut(&tuple.canonical()) {
                Some(n) => *n += 1,
                None if room => {
                    proposal.flows.insert(tuple.canonical(), 1);
                }
                None => proposal.suggestion.unjudged += 1,
            }
        }
        self.flows.packet(headers, sighting.event.at.0, 0);
    }

    fn closed(&mut self, _world: World<'_>, journey: &ClosedJourney) {
        self.once.never_counted(journey);
    }
}

/// An address at the start of a finding's words.
fn address(words: &[String]) -> Option<IpAddr> {
    let word = words.first()?.split([' ', ',']).next()?;
    word.parse().ok().or_else(|| word.parse::<SocketAddr>().ok().map(|end| end.ip()))
}

fn end(words: &[String]) -> Option<SocketAddr> {
    words.first()?.split(' ').next()?.parse().ok()
}

fn field(address: IpAddr, name: &str) -> String {
    let family = if address.is_ipv4() { "ip" } else { "ipv6" };
    format!("{family}.{name} == {address}")
}

const FORGED: &str =
    "the source may be forged, and dropping it would let the forger choose whom we cut off";

/// (condition, action, why).
fn condition(finding: &Finding) -> Result<(String, &'static str, &'static str), &'static str> {
    let nobody = "it names no single address that a rule could match";
    let actor = address(&finding.actors).ok_or(nobody);
    let target = address(&finding.targets).ok_or(nobody);
    let to = |target: IpAddr| field(target, "dst");
    Ok(match finding.id.as_str() {
        "syn-flood" => {
            let server = end(&finding.targets).ok_or(nobody)?;
            let (to, port) = (to(server.ip()), server.port());
            let syn = "tcp.flags.syn == 1 and tcp.flags.ack == 0";
            (format!("{to} and tcp.dstport == {port} and {syn}"), "limit", FORGED)
        }
        "port-scan" => (
            format!("{} and tcp.flags.syn == 1 and tcp.flags.ack == 0", field(actor?, "src")),
            "limit",
            FORGED,
        ),
        "ack-flood" => (
            format!("{} and tcp.flags & 0x17 == 0x10 and tcp.len == 0", to(target?)),
            "limit",
            FORGED,
        ),
        "rst-flood" => (format!("{} and tcp.flags.reset == 1", to(target?)), "limit", FORGED),
        "fin-flood" => (format!("{} and tcp.flags.fin == 1", to(target?)), "limit", FORGED),
        "tcp-flag-flood" => (
            format!(
                "{} and tcp.flags & 0x17 in {{0 1 3 6 7}} and not tcp.flags & 0x3f == 0x11",
                to(target?)
            ),
            "drop",
            "no TCP sends these flags",
        ),
        "syn-ack-reflection" => (
            format!("{} and tcp.flags.syn == 1 and tcp.flags.ack == 1", to(target?)),
            "limit",
            "answers to connections of this host look the same",
        ),
        "udp-flood" => (format!("{} and udp", to(target?)), "limit", FORGED),
        "icmp-flood" => {
            let target = target?;
            let echo = if target.is_ipv4() { "icmp.type == 8" } else { "icmpv6.type == 128" };
            (format!("{} and {echo}", to(target)), "limit", FORGED)
        }
        "amplification-victim" => {
            (format!("{} and udp and udp.length >= 200", to(target?)), "limit", FORGED)
        }
        "forged-redirect" => (
            "icmp.type == 5 or icmpv6.type == 137".to_owned(),
            "drop",
            "hosts behind one gateway need no redirects",
        ),
        "forged-packet-too-big" => (
            "icmp.type == 3 and icmp.code == 4".to_owned(),
            "limit",
            "genuine ones are needed for path MTU discovery",
        ),
        "land" => {
            let host = target?;
            (
                format!("{} and {}", field(host, "src"), to(host)),
                "drop",
                "no host sends to itself on a link",
            )
        }
        "fragment-overlap" | "tiny-fragments" | "fragment-flood" | "oversized-datagram" => (
            format!("{} and (ip.flags.mf == 1 or ip.frag_offset > 0)", to(target?)),
            "limit",
            "fragments carry no proof of their source",
        ),
        "arp-spoofing" => {
            let station = finding.actors.first().and_then(|words| words.split(' ').next());
            let station = station.filter(|word| word.len() == 17).ok_or(nobody)?;
            (
                format!("arp.src.hw_mac == {station}"),
                "drop",
                "only this station's ARP is dropped, whatever it claims",
            )
        }
        "ics-control-command" | "ics-new-master" | "ics-write" => (
            format!("{} and {}", field(actor?, "src"), to(target?)),
            "alert",
            "whether a command was meant is for its operator to say",
        ),
        _ => return Err("a rule on single packets would not answer it"),
    })
}

fn propose(finding: &Finding) -> Result<Proposal, &'static str> {
    let (expression, action, why) = condition(finding)?;
    let condition: Expr =
        Expr::parse(&expression).map_err(|_| "the rule proposed for it does not parse")?;
    let mut rule = format!(
        "[[rule]]\nid = \"{}\"\nmatch = \"{}\"\naction = \"{action}\"\n",
        finding.id,
        expression.replace('\\', "\\\\").replace('"', "\\\"")
    );
    if action == "limit" {
        rule.push_str("rate = \"100/s\"\n");
    }
    let suggestion = Suggestion {
        finding: finding.title.clone(),
        action: action.to_owned(),
        expression,
        rule,
        why: why.to_owned(),
        ..Suggestion::default()
    };
    Ok(Proposal { suggestion, condition, flows: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, Feed};

    fn finding(id: &str, actor: &str, target: &str) -> Finding {
        Finding {
            id: id.to_owned(),
            actors: vec![actor.to_owned()],
            targets: vec![target.to_owned()],
            ..Finding::default()
        }
    }

    #[test]
    fn every_proposal_parses_and_no_forged_source_is_dropped() {
        for (id, actor, target, action) in [
            ("syn-flood", "10.0.0.9 (at least 5)", "10.0.0.2:80", "limit"),
            ("syn-flood", "", "[2001:db8::2]:80", "limit"),
            ("port-scan", "10.0.0.9 (unproven)", "10.0.0.2", "limit"),
            ("ack-flood", "", "10.0.0.2", "limit"),
            ("tcp-flag-flood", "", "2001:db8::2", "drop"),
            ("udp-flood", "", "10.0.0.2", "limit"),
            ("icmp-flood", "", "2001:db8::2", "limit"),
            ("amplification-victim", "", "10.0.0.2", "limit"),
            ("forged-redirect", "", "10.0.0.2", "drop"),
            ("land", "", "10.0.0.2", "drop"),
            ("fragment-flood", "", "10.0.0.2", "limit"),
            ("arp-spoofing", "02:00:00:00:00:09 (can be forged)", "10.0.0.2", "drop"),
            ("ics-write", "10.0.0.9 (proven)", "10.0.0.2", "alert"),
        ] {
            let proposal = propose(&finding(id, actor, target)).expect(id);
            assert_eq!(proposal.suggestion.action, action, "{id}");
            assert!(proposal.suggestion.rule.contains(&format!("action = \"{action}\"")));
        }
        assert!(propose(&finding("smurf", "", "")).is_err());
        assert!(propose(&finding("port-scan", "nobody", "10.0.0.2")).is_err());
    }

    #[test]
    fn healthy_flows_that_a_rule_touches_are_counted() {
        let scan = finding("port-scan", "10.0.0.9 (x)", "10.0.0.2");
        let view = DetectView { findings: vec![scan], ..DetectView::default() };
        let mut suggester = Suggester::new(&view);
        let mut feed = Feed::default();
        let (client, server) = ("10.0.0.9:4000", "10.0.0.2:80");
        for (n, headers) in [
            sample::tcp(client, server, 2, 1, 0, 0),
            sample::tcp(server, client, 0x12, 1, 2, 0),
            sample::tcp(client, server, 0x18, 2, 2, 10),
            sample::tcp(server, client, 0x18, 2, 12, 10),
            sample::tcp("10.0.0.9:4001", "10.0.0.2:81", 2, 1, 0, 0),
        ]
        .iter()
        .enumerate()
        {
            feed.frame(&mut suggester, n as u64, headers);
        }
        let view = suggester.finish(Provenance::default());
        let found = &view.suggestions[0];
        assert_eq!((found.matched, found.of), (2, 5));
        assert_eq!((found.healthy_flows, found.healthy_packets), (1, 1));
        assert!(found.verdict.contains("1 healthy flows"));
    }
}
