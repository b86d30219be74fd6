//! Rules for findings: proposed from what was found, compiled, and replayed by the evaluator that enforcement
//! is held to, over the same recording, before anybody may apply them. Nothing is applied here.
//!
//! A source that may be forged is limited and never dropped: else whoever forges it chooses whom we cut
//! off. The limit is of what comes to the target then: forged sources would each have a bucket of their own.

use std::net::{IpAddr, SocketAddr};

use crate::engine::{ClosedJourney, Observer, Pass, Sighting, World};
use crate::view::detect::{DetectView, Finding};
use crate::view::rules::RuleReplayView;
use crate::view::suggest::{SuggestView, Suggestion};

use super::rules::{Compiled, FLOWS, ReplayOptions, RuleFile, RuleReplay, RuleSet};

/// Suggestions at most.
const SUGGESTIONS: usize = 32;
/// Rates tried of a limit, mildest first: the first that keeps out half of what it is about is suggested.
const RATES: [&str; 3] = ["100/s", "10/s", "1/s"];

#[derive(Debug)]
struct Proposal {
    suggestion: Suggestion,
    /// The rule, once for each rate that it may have, as text and compiled.
    tries: Vec<(String, RuleSet)>,
}

/// Observes a second pass and has each proposed rule, alone, decide about every packet.
#[derive(Debug)]
pub struct Suggester {
    proposals: Vec<(Suggestion, Vec<(String, RuleReplay)>)>,
    without: Vec<(String, String)>,
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
                Err(why) => without.push((finding.title.clone(), why)),
                Ok(proposal)
                    if proposals
                        .iter()
                        .any(|p| p.suggestion.expression == proposal.suggestion.expression) => {}
                Ok(proposal) => proposals.push(proposal),
            }
        }
        let all: usize = proposals.iter().map(|proposal| proposal.tries.len()).sum();
        let most = FLOWS / all.max(1);
        let replayed =
            |(rule, set)| (rule, RuleReplay::of_flows(set, ReplayOptions::default(), most));
        let proposals = proposals.into_iter().map(|Proposal { suggestion, tries }| {
            (suggestion, tries.into_iter().map(replayed).collect())
        });
        Self { proposals: proposals.collect(), without }
    }

    /// The suggestions with what they would have done. A rule that would have done nothing is none.
    pub fn finish(self, pass: &Pass) -> SuggestView {
        let Self { proposals, mut without } = self;
        let mut suggestions = Vec::new();
        for (suggestion, tries) in proposals {
            let judged = tries.into_iter().map(|(rule, replayed)| {
                judge(Suggestion { rule, ..suggestion.clone() }, &replayed.finish("", pass))
            });
            match choose(judged.collect()) {
                Some(chosen) => suggestions.push(chosen),
                None => without.push((
                    suggestion.finding,
                    "replayed here, a rule for it would have discarded nothing".to_owned(),
                )),
            }
        }
        SuggestView { provenance: pass.provenance.clone(), suggestions, without }
    }
}

/// The mildest that keeps out half of what it is about, else the harshest; `None` when that does nothing.
fn choose(mut tries: Vec<Suggestion>) -> Option<Suggestion> {
    let enough = |one: &Suggestion| one.matched > 0 && one.discarded * 2 >= one.matched;
    let chosen = match tries.iter().position(enough) {
        Some(index) => tries.swap_remove(index),
        None => tries.pop()?,
    };
    let acts = chosen.discarded > 0 || chosen.action == "alert" && chosen.matched > 0;
    acts.then_some(chosen)
}

fn judge(mut suggestion: Suggestion, view: &RuleReplayView) -> Suggestion {
    suggestion.of = view.asked;
    suggestion.unjudged = view.flows_forgotten;
    let [about, rule] = view.rules.as_slice() else { return suggestion };
    suggestion.matched = about.matched;
    suggestion.discarded = rule.discarded + rule.blocked;
    suggestion.healthy_flows = rule.healthy_flows;
    suggestion.healthy_packets = rule.healthy_packets;
    let hurt = rule.examples.iter().map(|one| (one.flow.clone(), one.packets, one.of));
    suggestion.hurt = hurt.collect();
    suggestion.verdict = verdict(&suggestion);
    suggestion
}

fn verdict(suggestion: &Suggestion) -> String {
    let unjudged = match suggestion.unjudged {
        0 => String::new(),
        n => format!(" {n} flows could not be judged: there were too many."),
    };
    if suggestion.action == "alert" {
        "It discards nothing.".to_owned()
    } else if suggestion.healthy_flows == 0 {
        format!("No healthy flow of this recording would have lost a packet.{unjudged}")
    } else {
        format!(
            "{} healthy flows would have lost {} packets: read them before you apply it.{unjudged}",
            suggestion.healthy_flows, suggestion.healthy_packets
        )
    }
}

impl Observer for Suggester {
    fn sighting(&mut self, world: World<'_>, sighting: &Sighting<'_>) {
        for (_, replayed) in self.proposals.iter_mut().flat_map(|(_, tries)| tries) {
            replayed.sighting(world, sighting);
        }
    }

    fn closed(&mut self, world: World<'_>, journey: &ClosedJourney) {
        for (_, replayed) in self.proposals.iter_mut().flat_map(|(_, tries)| tries) {
            replayed.closed(world, journey);
        }
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

fn propose(finding: &Finding) -> Result<Proposal, String> {
    let (expression, action, why) = condition(finding)?;
    let quoted = expression.replace('\\', "\\\\").replace('"', "\\\"");
    let rule =
        format!("[[rule]]\nid = \"{}\"\nmatch = \"{quoted}\"\naction = \"{action}\"\n", finding.id);
    let mut rules = vec![rule.clone()];
    if action == "limit" {
        let per = if expression.contains(".src == ") { "source" } else { "destination" };
        // Who has completed a handshake is not who forges sources: known clients keep coming in.
        let unproven = if finding.id == "syn-flood" { "unproven = true\n" } else { "" };
        let at = |rate| format!("{rule}rate = \"{rate}\"\nper = \"{per}\"\n{unproven}");
        rules = RATES.iter().map(at).collect();
    }
    let tries = rules
        .into_iter()
        .map(|rule| compiled(&quoted, &rule).map(|set| (rule, set)))
        .collect::<Result<Vec<_>, String>>()?;
    let replay_only = match tries.first().and_then(|(_, set)| set.compiled.first()) {
        Some(Compiled::ReplayOnly(why)) => why.clone(),
        _ => String::new(),
    };
    let suggestion = Suggestion {
        finding: finding.title.clone(),
        action: action.to_owned(),
        expression,
        why: why.to_owned(),
        replay_only,
        ..Suggestion::default()
    };
    Ok(Proposal { suggestion, tries })
}

/// The rule behind one that counts all that it is about: a limit lets what is within the rate go on.
fn compiled(quoted: &str, rule: &str) -> Result<RuleSet, String> {
    let counted =
        format!("[[rule]]\nid = \"about\"\nmatch = \"{quoted}\"\naction = \"count\"\n{rule}");
    let no_lists = &mut |_: &str| Err("a suggested rule names no list".to_owned());
    let file = RuleFile::parse(&counted, no_lists)
        .map_err(|error| format!("the rule proposed for it is no rule: {error}"))?;
    RuleSet::new(file)
        .map_err(|error| format!("the rule proposed for it does not compile: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Pass;
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
            let (rule, _) = &proposal.tries[0];
            assert!(rule.contains(&format!("action = \"{action}\"")), "{id}: {rule}");
        }
        assert!(propose(&finding("smurf", "", "")).is_err());
        assert!(propose(&finding("port-scan", "nobody", "10.0.0.2")).is_err());
    }

    /// What is suggested for a finding in packets that come so far apart.
    fn replayed(
        finding: Finding,
        packets: &[psc_formats::packet::Headers],
        apart: u64,
    ) -> SuggestView {
        let view = DetectView { findings: vec![finding], ..DetectView::default() };
        let mut suggester = Suggester::new(&view);
        let mut feed = Feed::default();
        for (n, headers) in packets.iter().enumerate() {
            feed.frame(&mut suggester, n as u64 * apart, headers);
        }
        suggester.finish(&Pass::default())
    }

    fn suggest(finding: Finding, packets: &[psc_formats::packet::Headers]) -> Suggestion {
        replayed(finding, packets, 1_000_000).suggestions.remove(0)
    }

    #[test]
    fn a_limit_holds_against_forged_sources_and_says_whom_it_hurts() {
        let server = "10.0.0.2:80";
        let mut packets: Vec<_> = (0..1000_u32)
            .map(|n| {
                let from = format!("10.9.{}.{}:4000", n / 250, n % 250);
                sample::tcp(&from, server, 2, n, 0, 0)
            })
            .collect();
        let found = suggest(finding("syn-flood", "", server), &packets);
        assert!(found.rule.contains("per = \"destination\""), "{}", found.rule);
        assert_eq!((found.matched, found.of, found.healthy_flows), (1000, 1000, 0));
        // A second of them at a hundred a second, and a burst of as many.
        assert!((750..=850).contains(&found.discarded), "{}", found.discarded);
        assert!(found.verdict.contains("No healthy flow"), "{}", found.verdict);

        // A client that comes late in the flood, whose SYN is over the rate too.
        let client = "10.0.0.9:4000";
        packets.extend([
            sample::tcp("10.9.9.9:4000", server, 2, 1, 0, 0),
            sample::tcp(client, server, 2, 1, 0, 0),
            sample::tcp(server, client, 0x12, 1, 2, 0),
            sample::tcp(client, server, 0x18, 2, 2, 10),
            sample::tcp(server, client, 0x18, 2, 12, 10),
        ]);
        let found = suggest(finding("syn-flood", "", server), &packets);
        assert_eq!((found.healthy_flows, found.healthy_packets), (1, 1), "{found:?}");
        assert_eq!((found.hurt[0].1, found.hurt[0].2), (1, 4));

        // Its next connection comes from an address that is proven.
        let again = "10.0.0.9:4001";
        packets.extend([
            sample::tcp(client, server, 0x10, 12, 12, 0),
            sample::tcp(again, server, 2, 1, 0, 0),
            sample::tcp(server, again, 0x12, 1, 2, 0),
            sample::tcp(again, server, 0x18, 2, 2, 10),
            sample::tcp(server, again, 0x18, 2, 12, 10),
        ]);
        let found = suggest(finding("syn-flood", "", server), &packets);
        assert_eq!(found.healthy_flows, 1, "{found:?}");
        assert!(found.verdict.contains("1 healthy flows would have lost 1 packets"));
    }

    #[test]
    fn a_drop_is_all_that_matches_an_alert_is_nothing_and_what_does_nothing_is_no_rule() {
        let packets = [
            sample::tcp("10.0.0.9:4000", "10.0.0.2:80", 0, 1, 0, 0),
            sample::udp("10.0.0.9:4000", "10.0.0.2:53", 10),
        ];
        for (id, expected, says) in [
            ("tcp-flag-flood", Some((1, 1)), "No healthy flow"),
            ("ics-write", Some((2, 0)), "discards nothing"),
            ("udp-flood", None, "would have discarded nothing"),
            ("land", None, "would have discarded nothing"),
        ] {
            let view = replayed(finding(id, "10.0.0.9 (proven)", "10.0.0.2"), &packets, 1_000_000);
            let found = view.suggestions.first();
            assert_eq!(found.map(|one| (one.matched, one.discarded)), expected, "{id}");
            let words = found.map_or_else(|| &view.without[0].1, |one| &one.verdict);
            assert!(words.contains(says), "{id}: {words}");
            assert!(found.is_none_or(|one| one.replay_only.is_empty()), "{id}");
        }
    }

    #[test]
    fn the_mildest_rate_that_keeps_out_half_is_suggested() {
        let syn = |port: u32| sample::tcp("10.0.0.9:4000", &format!("10.0.0.2:{port}"), 2, 1, 0, 0);
        let packets: Vec<_> = (1..=100).map(syn).collect();
        for (apart_ms, rate) in [(1, "10/s"), (4, "10/s"), (20, "10/s"), (40, "10/s"), (90, "1/s")]
        {
            let scan = finding("port-scan", "10.0.0.9 (x)", "10.0.0.2");
            let found = replayed(scan, &packets, apart_ms * 1_000_000).suggestions.remove(0);
            assert!(found.rule.contains(rate), "every {apart_ms} ms: {}", found.rule);
            assert!(found.discarded * 2 >= found.matched, "{found:?}");
        }
    }
}
