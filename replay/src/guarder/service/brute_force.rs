//! Passwords guessed, of one account or many, at one host or many.
//!
//! **Sees**, of one client and one kind of service within half an hour,
//! - 20 refused logins where the service says so in the clear (FTP, telnet, SMTP, POP3, IMAP, HTTP, SMB,
//!   LDAP, Kerberos, RADIUS, SIP, databases, VNC);
//! - 30 logins to SSH over connections that ended without one, as told by sizes: the packet that accepts one is
//!   smaller than every other of the server (RFC 4252 section 5.1: one byte);
//! - 30 connections to RDP that ended after the handshake.
//!
//! The numbers are those of Zeek's `detect-bruteforcing` scripts (20 for FTP, 30 for SSH). A login for
//! every four refusals, and it is somebody who mistypes, or an address behind which many are.
//!
//! **Silent on** deployments and pollers that are let in, digest and NTLM (which begin with a refusal), and
//! health checks that say nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use psc_formats::packet::Transport;
use psc_formats::{FiveTuple, Manifest};

use super::refusals::{self, Said};
use crate::analyzer::tcp::{ACK, FIN, RST, SYN};
use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Draft, Seen, listed};
use crate::view::detect::Finding;

const WINDOW_NS: u64 = 1_800_000_000_000;
const REFUSED: u64 = 20;
const INFERRED: u64 = 30;
const GUESSERS: usize = 4_096;
const CONNECTIONS: usize = 16_384;
const REMEMBERED: usize = 256;

/// Larger packets of a server carry keys or data, not the outcome of a login.
const SMALL: u32 = 120;
/// More than this from the server, and somebody was at work.
const WORK: u64 = 16_384;
/// A packet of RDP's security handshake with a certificate; a health check gets 19 bytes.
const HANDSHAKE: u64 = 400;
/// `MaxAuthTries` of OpenSSH.
const MOST_TRIES: u64 = 6;
/// NEWKEYS on its own (RFC 4253 section 7.3).
const NEW_KEYS: u32 = 16;

/// A connection whose login is read from sizes.
#[derive(Debug, Default)]
struct Encrypted {
    server_bytes: u64,
    client_bytes: u64,
    /// The first small packet of the server after the keys.
    accepted_service: Option<u32>,
    /// Small packets after it: "none" is refused first, then each password.
    answers: u64,
    let_in: bool,
    begun: bool,
}

#[derive(Debug, Default)]
struct Guesses {
    start: u64,
    refused: u64,
    inferred: u64,
    let_in: u64,
    /// A login after refusals.
    last_yes: Option<u64>,
    servers: BTreeSet<IpAddr>,
    seen: Seen,
}

impl Guesses {
    fn is_attack(&self) -> bool {
        let failed = self.refused + self.inferred;
        (self.refused >= REFUSED || self.inferred >= INFERRED) && self.let_in * 4 <= failed
    }
}

#[derive(Debug)]
pub(super) struct BruteForce {
    guessers: Bounded<(IpAddr, &'static str), Guesses>,
    kept: Vec<((IpAddr, &'static str), Guesses)>,
    /// By tuple, client first.
    encrypted: Bounded<FiveTuple, Encrypted>,
    /// HTTP connections whose last request carried credentials.
    asked: Bounded<FiveTuple, bool>,
}

impl Default for BruteForce {
    fn default() -> Self {
        Self {
            guessers: Bounded::new(GUESSERS),
            kept: Vec::new(),
            encrypted: Bounded::new(CONNECTIONS),
            asked: Bounded::new(CONNECTIONS),
        }
    }
}

fn hidden(port: u16) -> Option<&'static str> {
    match port {
        22 | 2222 => Some("SSH"),
        3389 => Some("RDP"),
        _ => None,
    }
}

/// What came of a login.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Refused,
    Inferred(u64),
    LetIn,
}

impl BruteForce {
    fn heard(
        &mut self,
        client: IpAddr,
        server: IpAddr,
        service: &'static str,
        what: Outcome,
        packet: &Packet<'_>,
    ) {
        let mut spill = Vec::new();
        let guesses = self.guessers.entry((client, service), Guesses::default, &mut spill);
        if guesses.start == 0
            || packet.at.saturating_sub(guesses.start) > WINDOW_NS && !guesses.is_attack()
        {
            *guesses = Guesses { start: packet.at.max(1), ..Guesses::default() };
        }
        match what {
            Outcome::Refused => guesses.refused += 1,
            Outcome::Inferred(tries) => guesses.inferred += tries,
            Outcome::LetIn => {
                guesses.let_in += 1;
                guesses.last_yes = Some(packet.at);
                self.keep(spill);
                return;
            }
        }
        guesses.seen.add(packet);
        if guesses.servers.len() < REMEMBERED {
            guesses.servers.insert(server);
        }
        self.keep(spill);
    }

    fn keep(&mut self, gone: Vec<((IpAddr, &'static str), Guesses)>) {
        let room = GUESSERS.saturating_sub(self.kept.len());
        self.kept.extend(gone.into_iter().filter(|(_, guesses)| guesses.is_attack()).take(room));
    }

    /// SSH and RDP: only sizes tell.
    fn sizes(&mut self, tuple: FiveTuple, flags: u16, packet: &Packet<'_>) {
        let (key, service, from_server) = match (hidden(tuple.dport), hidden(tuple.sport)) {
            (Some(service), _) => (tuple, service, false),
            (None, Some(service)) => (tuple.reversed(), service, true),
            (None, None) => return,
        };
        if flags & (SYN | ACK) == SYN {
            // One whose beginning is in view: of others too little is known.
            self.encrypted.remove(&key);
            self.encrypted
                .entry_or_forget(key, || Encrypted { begun: true, ..Encrypted::default() });
            return;
        }
        let size = packet.headers.payload_len;
        if flags & (FIN | RST) != 0 {
            let Some(seen) = self.encrypted.remove(&key).filter(|seen| seen.begun) else { return };
            let tried = match service {
                "SSH" => seen.accepted_service.is_some() && seen.client_bytes > 1_000,
                _ => seen.server_bytes >= HANDSHAKE,
            };
            let worked = seen.let_in || seen.server_bytes > WORK;
            if worked {
                self.heard(key.src, key.dst, service, Outcome::LetIn, packet);
            } else if tried {
                let tries = seen.answers.saturating_sub(1).clamp(1, MOST_TRIES);
                self.heard(key.src, key.dst, service, Outcome::Inferred(tries), packet);
            }
            return;
        }
        let Some(seen) = self.encrypted.get_mut(&key).filter(|_| size > 0) else { return };
        if !from_server {
            seen.client_bytes += u64::from(size);
            return;
        }
        seen.server_bytes += u64::from(size);
        // Behind the banner and the server's half of the key exchange.
        if service == "SSH"
            && seen.server_bytes > 700
            && seen.client_bytes > 700
            && size != NEW_KEYS
            && size < SMALL
        {
            match seen.accepted_service {
                None => seen.accepted_service = Some(size),
                Some(before) => {
                    seen.let_in |= size < before;
                    seen.answers += 1;
                }
            }
        }
    }

    fn http(&mut self, tuple: FiveTuple, packet: &Packet<'_>) {
        let payload = packet.payload();
        if payload.starts_with(b"HTTP/1.") {
            let key = tuple.reversed();
            if self.asked.get(&key) != Some(&true) {
                return;
            }
            match payload.get(9..12) {
                Some(b"401") => self.heard(key.src, key.dst, "HTTP", Outcome::Refused, packet),
                Some([b'2' | b'3', ..]) => {
                    self.heard(key.src, key.dst, "HTTP", Outcome::LetIn, packet);
                }
                _ => {}
            }
        } else if [&b"GET "[..], b"POST ", b"HEAD ", b"PUT "].iter().any(|m| payload.starts_with(m))
        {
            let head = &payload[..payload.len().min(2_048)];
            let with = head.windows(15).any(|part| part.eq_ignore_ascii_case(b"\nauthorization:"));
            *self.asked.entry_or_forget(tuple, || with) = with;
        }
    }
}

impl Detector for BruteForce {
    fn about(&self) -> About {
        About {
            id: "brute-force",
            sees: "20 refused logins of one client within half an hour, or 30 connections to SSH or RDP \
                   that ended without one; silent on who is let in, on mistyping, digest and NTLM, and \
                   health checks.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(tuple) = packet.headers.tuple() else { return };
        if let Transport::Tcp(tcp) = packet.headers.transport {
            self.sizes(tuple, tcp.flags, packet);
            if packet.headers.payload_len == 0 {
                return;
            }
            self.http(tuple, packet);
        }
        if let Some((service, said)) = refusals::read(packet) {
            let what = match said {
                Said::No => Outcome::Refused,
                Said::Yes => Outcome::LetIn,
            };
            self.heard(tuple.dst, tuple.src, service, what, packet);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let guessers = std::mem::replace(&mut self.guessers, Bounded::new(1));
        self.keep(guessers.into_oldest_first());
        std::mem::take(&mut self.kept)
            .iter()
            .map(|((client, service), guesses)| finding(*client, service, guesses, context))
            .collect()
    }
}

fn finding(client: IpAddr, service: &str, guesses: &Guesses, context: &Context<'_>) -> Finding {
    let failed = guesses.refused + guesses.inferred;
    let seconds = (guesses.seen.last() - guesses.seen.first()) / 1_000_000_000;
    let mut evidence =
        vec![format!("{failed} logins failed within {seconds} s, {} succeeded.", guesses.let_in)];
    if guesses.inferred > 0 {
        evidence.push(format!(
            "{} of them are told by sizes: the connection ended after the handshake without the small packet \
             that accepts a login.",
            guesses.inferred
        ));
    }
    if guesses.servers.len() > 1 {
        evidence.push(format!("{} hosts were tried.", guesses.servers.len()));
    }
    let after = guesses.last_yes.is_some_and(|at| at >= guesses.seen.first());
    let effect = if after {
        "confirmed: a login of this client succeeded after refusals.".to_owned()
    } else {
        "not confirmed: no login of this client succeeded.".to_owned()
    };
    Draft {
        id: "brute-force",
        severity: if after { "high" } else { "medium" },
        doubt: (guesses.refused == 0).then_some("medium: the logins are encrypted, their outcome is told by sizes"),
        title: if guesses.servers.len() > 1 {
            format!("{client} tried {failed} logins over {service} at {} hosts in vain.", guesses.servers.len())
        } else {
            format!(
                "{client} tried {failed} logins over {service} at {} in vain.",
                listed(guesses.servers.iter().map(ToString::to_string), 1)
            )
        },
        evidence,
        effect,
        advice: "Limit failed logins per address (fail2ban, MaxAuthTries), use keys or a second factor, and \
                 see whether one succeeded.",
        actors: vec![format!("{client} (proven: it read the answers)")],
        targets: guesses.servers.iter().take(5).map(ToString::to_string).collect(),
        seen: &guesses.seen,
        references: &["MITRE ATT&CK T1110", "Zeek policy/protocols/ssh/detect-bruteforcing.zeek", "RFC 4252"],
    }
    .finding(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::scene::{A, B, Scene, ip, tcp};

    const C: &str = "192.0.2.1";
    const S: &str = "10.0.0.2";

    fn exchange(scene: &mut Scene, at: u64, ports: (u16, u16), says: &[(bool, &[u8])]) {
        let syn = tcp(ports, SYN as u8, 1, 0, &[], &[]);
        scene.frame(at, &ip((A, B), C, S, 6, &syn));
        for (n, (client, bytes)) in says.iter().enumerate() {
            let at = at + n as u64;
            if *client {
                scene.frame(at, &ip((A, B), C, S, 6, &tcp(ports, 0x18, 2, 1, &[], bytes)));
            } else {
                let ports = (ports.1, ports.0);
                scene.frame(at, &ip((B, A), S, C, 6, &tcp(ports, 0x18, 1, 2, &[], bytes)));
            }
        }
        let fin = tcp((ports.1, ports.0), 0x11, 9, 9, &[], &[]);
        scene.frame(at + says.len() as u64, &ip((B, A), S, C, 6, &fin));
    }

    #[test]
    fn refusals_are_counted_and_logins_excuse_them() {
        for (no, yes, gap_ms, found) in [
            (20, 0, 1_000, 1),
            (19, 0, 1_000, 0),
            (24, 6, 1_000, 1),
            (20, 6, 1_000, 0),
            (40, 0, 100_000, 0),
        ] {
            let mut scene = Scene::of(BruteForce::default());
            for n in 0..no + yes {
                let answer: &[u8] = if n < yes { b"230 in\r\n" } else { b"530 no\r\n" };
                let port = 20_000 + n as u16;
                exchange(
                    &mut scene,
                    n * gap_ms,
                    (port, 21),
                    &[(true, b"PASS x\r\n"), (false, answer)],
                );
            }
            assert_eq!(scene.ids().len(), found, "{no} no, {yes} yes");
        }
    }

    #[test]
    fn ssh_is_judged_by_the_smallest_packet() {
        for (n, last, found) in [(30_u16, 84_usize, 1), (29, 84, 0), (60, 36, 0)] {
            let mut scene = Scene::of(BruteForce::default());
            for i in 0..n {
                let (keys, small, outcome) = ([7; 1000], [7; 52], vec![7; last]);
                let says: [(bool, &[u8]); 6] = [
                    (true, &keys),
                    (false, &keys),
                    (true, &[7; 64]),
                    (false, &small),
                    (true, &[7; 148]),
                    (false, &outcome),
                ];
                exchange(&mut scene, u64::from(i) * 1_000, (20_000 + i, 22), &says);
            }
            assert_eq!(scene.ids().len(), found, "{n} with {last} bytes");
        }
    }

    #[test]
    fn http_counts_who_came_with_a_password() {
        let plain: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let with: &[u8] = b"GET / HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n";
        let (no, yes): (&[u8], &[u8]) =
            (b"HTTP/1.1 401 Unauthorized\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n");
        for (name, says, found) in [
            ("guessed", vec![(true, with), (false, no)], 1),
            ("asked without", vec![(true, plain), (false, no)], 0),
            ("then let in", vec![(true, with), (false, no), (true, with), (false, yes)], 0),
        ] {
            let mut scene = Scene::of(BruteForce::default());
            for n in 0..30 {
                exchange(&mut scene, n * 500, (20_000 + n as u16, 80), &says);
            }
            assert_eq!(scene.ids().len(), found, "{name}");
        }
    }
}
