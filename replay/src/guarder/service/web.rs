//! Web servers tried out: paths guessed (dirb, gobuster, nikto), and passwords guessed in forms.
//!
//! **Sees**, per client and server within a minute,
//! - 100 or more answers of which four in five say that there is nothing, or nothing for this client (400 to
//!   405, 410), to 80 or more different requests;
//! - 30 or more forms with a password sent to one path and answered with a page and not, as most sites do
//!   after a login, with another place to go.
//!
//! **Silent on** crawlers, which follow links of which most lead somewhere, broken pictures of a page, and
//! scripts that send forms without a password. Encrypted connections are not read.

use std::net::{IpAddr, SocketAddr};

use psc_formats::{FiveTuple, Manifest};

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Distinct, Draft, hash};
use crate::guarder::watch::{Tally, Watch};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 60_000_000_000;
const ANSWERS: u64 = 100;
const DIFFERENT: usize = 80;
const FORMS: u64 = 30;
const KEYS: usize = 2_048;
const CONNECTIONS: usize = 16_384;

#[derive(Debug)]
struct Visit {
    requests: Distinct<u64>,
    answers: u64,
    nothing: u64,
    forms: u64,
    let_in: u64,
}

impl Visit {
    fn is_scan(&self) -> bool {
        self.answers >= ANSWERS
            && self.nothing * 5 >= self.answers * 4
            && self.requests.len() >= DIFFERENT
    }

    fn is_guessing(&self) -> bool {
        self.forms >= FORMS && self.let_in * 4 <= self.forms
    }
}

impl Tally for Visit {
    fn new() -> Self {
        Self { requests: Distinct::new(1_024), answers: 0, nothing: 0, forms: 0, let_in: 0 }
    }
    fn is_attack(&self) -> bool {
        self.is_scan() || self.is_guessing()
    }
    fn merge(&mut self, later: Self) {
        self.requests.merge(later.requests);
        self.answers += later.answers;
        self.nothing += later.nothing;
        self.forms += later.forms;
        self.let_in += later.let_in;
    }
}

#[derive(Debug)]
pub(super) struct Web {
    visits: Watch<(IpAddr, SocketAddr), Visit>,
    /// Connections whose last request carried a password in a form.
    forms: Bounded<FiveTuple, bool>,
}

impl Default for Web {
    fn default() -> Self {
        Self { visits: Watch::new(KEYS, WINDOW_NS), forms: Bounded::new(CONNECTIONS) }
    }
}

/// First line of a request.
fn request(payload: &[u8]) -> Option<&[u8]> {
    let begins = [&b"GET "[..], b"POST ", b"HEAD "].iter().any(|m| payload.starts_with(m));
    begins.then(|| payload.split(|byte| *byte == b'\r').next()).flatten()
}

/// Whether it sends a field that is named as passwords are, in its address or as the form's own text.
fn has_password(payload: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] =
        [b"password=", b"passwd=", b"pwd=", b"pass=", b"<name>wp.getusersblogs"];
    let start = &payload[..payload.len().min(4_096)];
    NAMES.iter().any(|name| {
        start.windows(name.len() + 1).any(|part| {
            let before = part[0];
            part[1..].eq_ignore_ascii_case(name)
                && (before.is_ascii_punctuation() || before.is_ascii_whitespace() || before == b'r')
        })
    })
}

impl Detector for Web {
    fn about(&self) -> About {
        About {
            id: "web-scan",
            sees: "100 or more HTTP answers to one client within a minute of which four in five say that \
                   there is nothing, and 30 forms with a password that led nowhere; silent on crawlers, \
                   broken pages and forms without a password.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let (Some(_), Some(tuple)) = (packet.headers.tcp(), packet.headers.tuple()) else { return };
        let payload = packet.payload();
        if let Some(line) = request(payload) {
            if tuple.dst.is_loopback() {
                return;
            }
            let line = hash(line);
            let key = (tuple.src, SocketAddr::new(tuple.dst, tuple.dport));
            self.visits.of(key, packet.at).add(packet, |visit| {
                visit.requests.add(line);
            });
            let form = has_password(payload);
            *self.forms.entry_or_forget(tuple, || form) = form;
        } else if payload.starts_with(b"HTTP/1.")
            && let Some(status) = payload.get(9..12)
        {
            let asked = tuple.reversed();
            let form = self.forms.remove(&asked) == Some(true);
            let key = (tuple.dst, SocketAddr::new(tuple.src, tuple.sport));
            if let Some(visits) = self.visits.known(&key) {
                visits.note(|visit| {
                    visit.answers += 1;
                    let nothing =
                        matches!(status, b"400" | b"401" | b"403" | b"404" | b"405" | b"410");
                    visit.nothing += u64::from(nothing);
                    visit.forms += u64::from(form && status[0] != b'3');
                    visit.let_in += u64::from(form && status[0] == b'3');
                });
            }
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let found = self.visits.finish();
        found
            .into_iter()
            .map(|((client, server), watched)| {
                let visit = &watched.attack;
                let guessing = visit.is_guessing();
                let (id, title, references): (_, _, &[&str]) = if guessing {
                    let title = format!("{client} sent {server} {} passwords in forms in vain.", visit.forms);
                    ("brute-force", title, &["MITRE ATT&CK T1110", "OWASP OAT-008"])
                } else {
                    let title = format!("{client} tried out what there is on {server}.");
                    ("web-scan", title, &["MITRE ATT&CK T1595.003", "OWASP OAT-014"])
                };
                Draft {
                    id,
                    severity: "medium",
                    doubt: guessing.then_some(
                        "medium: a site may answer a login with a page, and many may be behind one address",
                    ),
                    title,
                    evidence: vec![
                        format!(
                            "{} different requests; {} of {} answers said that there is nothing.",
                            visit.requests.count(),
                            visit.nothing,
                            visit.answers
                        ),
                        format!(
                            "{} forms with a password got a page, {} another place to go.",
                            visit.forms, visit.let_in
                        ),
                    ],
                    effect: "not observable: what was found is in the answers that are no errors.".to_owned(),
                    advice: "Limit requests and failed logins per address, and see what was found.",
                    actors: vec![format!("{client} (proven: it read the answers)")],
                    targets: vec![server.to_string()],
                    seen: &watched.evidence,
                    references,
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
    fn guessed_paths_and_forms_are_told_from_visits() {
        let form = "POST /login HTTP/1.1\r\n\r\nuser=a&password=";
        for (name, n, ask, status, found) in [
            ("paths", 100, "GET /", "404 no", vec!["web-scan"]),
            ("few paths", 99, "GET /", "404 no", vec![]),
            ("pages", 300, "GET /", "200 ok", vec![]),
            ("one page", 300, "HEAD /x HTTP/1.1\r\n", "404 no", vec![]),
            ("passwords", 30, form, "200 ok", vec!["brute-force"]),
            ("few passwords", 29, form, "200 ok", vec![]),
            ("logins", 60, form, "302 on", vec![]),
            ("a form", 60, "POST /report HTTP/1.1\r\n\r\ncompass=", "200 ok", vec![]),
        ] {
            let mut scene = Scene::of(Web::default());
            for i in 0..n {
                let ask = format!("{ask}{i}");
                let answer = format!("HTTP/1.1 {status}\r\n\r\n");
                let (there, back) = ((40_000, 80), (80, 40_000));
                let at = i * 100;
                let frame = tcp(there, 0x18, 1, 1, &[], ask.as_bytes());
                scene.frame(at, &ip((A, B), "192.0.2.1", "10.0.0.2", 6, &frame));
                let frame = tcp(back, 0x18, 1, 1, &[], answer.as_bytes());
                scene.frame(at + 1, &ip((B, A), "10.0.0.2", "192.0.2.1", 6, &frame));
            }
            assert_eq!(scene.ids(), found, "{name}");
        }
    }
}
