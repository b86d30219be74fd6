//! Forged DNS answers: guessed by somebody who does not see the question, or sent ahead of the real one by
//! somebody who does.
//!
//! **Sees**
//! - **guessing** (Kaminsky, CVE-2008-1447): 20 or more answers within ten seconds to a question that is
//!   open, with identifications or to ports that were not asked;
//! - **racing** (dnsspoof, injection on the way): a question asked once and answered twice with addresses
//!   of which none is the same, or once with addresses and once with "no such name".
//!
//! **Silent on** answers that come twice because the question was asked twice or the packet was, and on
//! rotation (the addresses are the same in another order).

use std::net::IpAddr;

use psc_formats::packet::Transport;
use psc_formats::{FiveTuple, Manifest};

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, Seen, counted, hash, listed};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 10_000_000_000;
const GUESSES: u64 = 20;
const QUESTIONS: usize = 16_384;
const HOSTS: usize = 1_024;
/// Second answers kept for the evidence.
const NAMED: usize = 5;

/// What was asked under one identification, and what was answered first.
#[derive(Debug)]
struct Question {
    at: u64,
    name: u64,
    asked: u32,
    answers: u32,
    first: Option<(u8, Vec<IpAddr>)>,
}

#[derive(Debug)]
struct Guesses {
    wrong: u64,
    names: Distinct<u64>,
}

impl Tally for Guesses {
    fn new() -> Self {
        Self { wrong: 0, names: Distinct::new(256) }
    }
    fn is_attack(&self) -> bool {
        self.wrong >= GUESSES
    }
    fn merge(&mut self, later: Self) {
        self.wrong += later.wrong;
        self.names.merge(later.names);
    }
}

/// Questions of one client that two answered.
#[derive(Debug, Default)]
struct Raced {
    seen: Seen,
    examples: Vec<String>,
    other_ttl: u64,
}

#[derive(Debug)]
pub(super) struct DnsPoisoning {
    /// By the question's tuple and identification.
    questions: Bounded<(FiveTuple, u16), Question>,
    /// Tuples with a question open, and when it was asked.
    open: Bounded<FiveTuple, u64>,
    /// What a client asked a server last, from any port, and when.
    asked: Bounded<(IpAddr, IpAddr), (u64, u64)>,
    guessed: Watch<(IpAddr, IpAddr), Guesses>,
    raced: Bounded<(IpAddr, IpAddr), Raced>,
    ttls: Bounded<(FiveTuple, u16), u8>,
}

impl Default for DnsPoisoning {
    fn default() -> Self {
        Self {
            questions: Bounded::new(QUESTIONS),
            open: Bounded::new(QUESTIONS),
            asked: Bounded::new(QUESTIONS),
            guessed: Watch::new(HOSTS, WINDOW_NS),
            raced: Bounded::new(HOSTS),
            ttls: Bounded::new(QUESTIONS),
        }
    }
}

fn contradicts(first: &(u8, Vec<IpAddr>), rcode: u8, addresses: &[IpAddr]) -> bool {
    match (first.1.is_empty(), addresses.is_empty()) {
        (false, false) => !first.1.iter().any(|address| addresses.contains(address)),
        (false, true) => rcode == 3,
        (true, false) => first.0 == 3,
        (true, true) => false,
    }
}

fn words(rcode: u8, addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        format!("error {rcode}")
    } else {
        listed(addresses.iter().map(ToString::to_string), 2)
    }
}

impl Detector for DnsPoisoning {
    fn about(&self) -> About {
        About {
            id: "dns-poisoning",
            sees: "DNS answers with guessed identifications by the dozen, and questions asked once that \
                   got two answers with nothing in common; silent on repeated questions, duplicates and \
                   rotation.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Udp(udp) = packet.headers.transport else { return };
        let Some(tuple) = packet.headers.tuple() else { return };
        if udp.dport != 53 && udp.sport != 53 || udp.sport == udp.dport {
            return;
        }
        let Some(message) = packet.dns else { return };
        let name = hash(message.name.as_bytes());
        if udp.dport == 53 && !message.response {
            *self.open.entry_or_forget(tuple, || packet.at) = packet.at;
            let last = (name, packet.at);
            *self.asked.entry_or_forget((tuple.src, tuple.dst), || last) = last;
            let fresh = || Question { at: packet.at, name, asked: 0, answers: 0, first: None };
            let question = self.questions.entry_or_forget((tuple, message.id), fresh);
            if question.name != name || packet.at.saturating_sub(question.at) > WINDOW_NS {
                *question = fresh();
            }
            question.asked += 1;
            return;
        }
        if udp.sport != 53 || !message.response {
            return;
        }
        let key = (tuple.reversed(), message.id);
        let Some(question) = self.questions.get_mut(&key).filter(|q| q.name == name) else {
            // Somebody who has to guess the port, too, knows the name: it was asked for at his bidding.
            let elsewhere =
                self.asked.get(&(tuple.dst, tuple.src)).filter(|(asked, _)| *asked == name);
            let asked = self.open.get(&key.0).or(elsewhere.map(|(_, at)| at)).copied();
            if asked.is_some_and(|at| packet.at.saturating_sub(at) < WINDOW_NS) {
                self.guessed.of((tuple.src, tuple.dst), packet.at).add(packet, |guesses| {
                    guesses.wrong += 1;
                    guesses.names.add(name);
                });
            }
            return;
        };
        if packet.at.saturating_sub(question.at) > WINDOW_NS {
            return;
        }
        question.answers += 1;
        let ttl = packet.headers.ttl().unwrap_or(0);
        let Some(first) = &question.first else {
            question.first = Some((message.rcode, message.addresses.clone()));
            *self.ttls.entry_or_forget(key, || ttl) = ttl;
            return;
        };
        if question.answers > question.asked
            && contradicts(first, message.rcode, &message.addresses)
        {
            let raced = self.raced.entry_or_forget((tuple.src, tuple.dst), Raced::default);
            raced.seen.add(packet);
            raced.other_ttl += u64::from(self.ttls.get(&key).is_some_and(|before| *before != ttl));
            if raced.examples.len() < NAMED {
                raced.examples.push(format!(
                    "{}: first {}, then {}",
                    message.name,
                    words(first.0, &first.1),
                    words(message.rcode, &message.addresses)
                ));
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((server, client), watched) in self.guessed.finish() {
            let guesses = &watched.attack;
            findings.push(
                Draft {
                    id: "dns-poisoning",
                    severity: "high",
                    doubt: None,
                    title: format!(
                        "{client} got {} answers in the name of {server} to questions that it had not asked.",
                        guesses.wrong
                    ),
                    evidence: vec![
                        format!(
                            "Their identifications are not those of its open questions; they are about {} names.",
                            guesses.names.count()
                        ),
                        format!("{} such answers in the worst ten seconds.", watched.peak),
                    ],
                    effect: "not confirmed: whether one was right shows in what the client believes later."
                        .to_owned(),
                    advice: ADVICE,
                    actors: vec![format!("somebody in the name of {server} (forged)")],
                    targets: vec![client.to_string()],
                    seen: &watched.evidence,
                    references: REFERENCES,
                }
                .finding(context),
            );
        }
        let raced = std::mem::replace(&mut self.raced, Bounded::new(1));
        for ((server, client), raced) in raced.into_oldest_first() {
            findings.push(
                Draft {
                    id: "dns-poisoning",
                    severity: "high",
                    doubt: (raced.other_ttl == 0 && raced.seen.packets < 3)
                        .then_some("medium: a resolver that asks two others may answer twice"),
                    title: format!(
                        "{} of {client} to {server} got two answers with nothing in common.",
                        counted(raced.seen.packets, "question")
                    ),
                    evidence: vec![
                        format!("{}.", raced.examples.join("; ")),
                        format!(
                            "{} of the second answers came with another TTL than the first.",
                            raced.other_ttl
                        ),
                    ],
                    effect: "confirmed: a client believes the first answer that it gets."
                        .to_owned(),
                    advice: ADVICE,
                    actors: vec![format!("somebody on the way, in the name of {server} (forged)")],
                    targets: vec![client.to_string()],
                    seen: &raced.seen,
                    references: REFERENCES,
                }
                .finding(context),
            );
        }
        findings
    }
}

const ADVICE: &str = "Validate answers (DNSSEC) or ask over an encrypted transport (RFC 7858, RFC 8484); \
                      let resolvers use random ports (RFC 5452).";
const REFERENCES: &[&str] = &["RFC 3833", "RFC 5452", "CVE-2008-1447", "MITRE ATT&CK T1557"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    struct Talk(Scene, u64);

    impl Talk {
        fn ask(&mut self, id: u16) {
            let body = dns::message(id, 0x0100, "www.example.com", 1, &[]);
            self.1 += 1;
            self.0.frame(self.1, &ip((A, B), "10.0.0.9", "192.0.2.53", 17, &udp(4000, 53, &body)));
        }
        fn tell(&mut self, id: u16, rcode: u16, addresses: &[[u8; 4]]) {
            let answers: Vec<(u16, &[u8])> = addresses.iter().map(|a| (1, &a[..])).collect();
            let body = dns::message(id, 0x8180 | rcode, "www.example.com", 1, &answers);
            self.1 += 1;
            self.0.frame(self.1, &ip((B, A), "192.0.2.53", "10.0.0.9", 17, &udp(53, 4000, &body)));
        }
    }

    #[test]
    fn two_answers_to_one_question_contradict_or_not() {
        let (one, two, three): ([u8; 4], [u8; 4], [u8; 4]) =
            ([192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]);
        type Answer<'a> = (u16, &'a [[u8; 4]]);
        let cases: [(&str, u32, [Answer<'_>; 2], usize); 6] = [
            ("other", 1, [(0, &[one]), (0, &[two])], 1),
            ("no such name after all", 1, [(0, &[one]), (3, &[])], 1),
            ("the same again", 1, [(0, &[one]), (0, &[one])], 0),
            ("rotated", 1, [(0, &[one, two]), (0, &[two, three])], 0),
            ("asked twice", 2, [(0, &[one]), (0, &[two])], 0),
            ("a server that failed first", 1, [(2, &[]), (0, &[two])], 0),
        ];
        for (name, asked, answers, found) in cases {
            let mut talk = Talk(Scene::of(DnsPoisoning::default()), 0);
            (0..asked).for_each(|_| talk.ask(7));
            for (rcode, addresses) in answers {
                talk.tell(7, rcode, addresses);
            }
            assert_eq!(talk.0.ids().len(), found, "{name}");
        }
    }

    #[test]
    fn guesses_are_counted_while_a_question_is_open() {
        for (n, asked, found) in [(20, true, 1), (19, true, 0), (200, false, 0)] {
            let mut talk = Talk(Scene::of(DnsPoisoning::default()), 0);
            if asked {
                talk.ask(7);
            }
            for id in 0..n {
                talk.tell(1000 + id, 0, &[[192, 0, 2, 66]]);
            }
            assert_eq!(talk.0.ids().len(), found, "{n}, asked {asked}");
        }
    }
}
