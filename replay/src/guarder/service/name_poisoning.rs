//! Names of others answered on the link (LLMNR, NetBIOS): a host that says of every name that it is its own
//! (Responder, Inveigh), to be sent the passwords meant for others.
//!
//! **Sees** a host that answered for four or more names with its own address over LLMNR (RFC 4795), NetBIOS
//! (RFC 1002) or multicast DNS (RFC 6762), or for `wpad` and one more, or for `wpad` to two or more.
//!
//! **Silent on** hosts that answer for themselves (a workstation's NetBIOS name has several suffixes and is
//! one name) and name servers, which give the addresses of others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use psc_formats::Manifest;
use psc_formats::packet::Transport;

use crate::bounded::Bounded;
use crate::guarder::detect::{About, Context, Detector, Packet, needs_payload};
use crate::guarder::evidence::{Draft, Seen, counted, listed};
use crate::view::detect::Finding;

const NAMES: usize = 4;
const WITH_WPAD: usize = 2;
const WPAD_CLIENTS: usize = 2;
const HOSTS: usize = 1_024;
const REMEMBERED: usize = 64;

#[derive(Debug, Default)]
struct Claims {
    seen: Seen,
    names: BTreeSet<String>,
    clients: BTreeSet<IpAddr>,
}

#[derive(Debug)]
pub(super) struct NamePoisoning {
    hosts: Bounded<IpAddr, Claims>,
}

impl Default for NamePoisoning {
    fn default() -> Self {
        Self { hosts: Bounded::new(HOSTS) }
    }
}

/// A NetBIOS name (half a byte a letter, RFC 1001 section 14.1) without its suffix and padding.
fn netbios(encoded: &str) -> Option<String> {
    let letters = encoded.split('.').next()?.as_bytes();
    if letters.len() != 32 || !letters.iter().all(|letter| (b'a'..=b'p').contains(letter)) {
        return None;
    }
    let plain = letters[..30].chunks(2).map(|pair| ((pair[0] - b'a') << 4) | (pair[1] - b'a'));
    let plain: String = plain
        .map(|b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '?' })
        .collect();
    Some(plain.trim_end().to_ascii_lowercase())
}

impl Detector for NamePoisoning {
    fn about(&self) -> About {
        About {
            id: "name-poisoning",
            sees: "a host that answers for four or more names on the link with its own address, or for \
                   wpad; silent on hosts that answer for themselves and on name servers.",
        }
    }

    fn blind(&self, manifest: &Manifest) -> String {
        needs_payload(manifest)
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let Transport::Udp(udp) = packet.headers.transport else { return };
        if !matches!(udp.sport, 137 | 5353 | 5355) {
            return;
        }
        let Some((src, dst)) = packet.headers.addresses() else { return };
        let Some(message) = packet.dns else { return };
        let own = message.response
            && match udp.sport {
                // Everybody is answered, and of services first: the name of an address is the host's.
                5353 => matches!(message.kind, 1 | 28),
                _ => !dst.is_multicast(),
            }
            && message.addresses.contains(&src);
        let name = match udp.sport {
            137 => netbios(&message.name),
            5353 => message.name.strip_suffix(".local").map(str::to_owned),
            _ => Some(message.name.clone()),
        };
        let Some(name) = name.filter(|name| own && !name.is_empty()) else { return };
        let claims = self.hosts.entry_or_forget(src, Claims::default);
        claims.seen.add(packet);
        if claims.names.len() < REMEMBERED {
            claims.names.insert(name);
        }
        if claims.clients.len() < REMEMBERED {
            claims.clients.insert(dst);
        }
    }

    fn finish(&mut self, context: &Context<'_>) -> Vec<Finding> {
        let hosts = std::mem::replace(&mut self.hosts, Bounded::new(1)).into_oldest_first();
        hosts
            .into_iter()
            .filter_map(|(host, claims)| {
                let wpad = claims.names.contains("wpad");
                let many = claims.names.len() >= if wpad { WITH_WPAD } else { NAMES };
                let told = many || wpad && claims.clients.len() >= WPAD_CLIENTS;
                if !told {
                    return None;
                }
                let draft = Draft {
                    id: "name-poisoning",
                    severity: "high",
                    doubt: (!wpad).then_some("medium: a host with many aliases answers for all of them"),
                    title: format!(
                        "{host} answered for {} with its own address.",
                        counted(claims.names.len() as u64, "name")
                    ),
                    evidence: vec![
                        format!("Names: {}.", listed(claims.names.iter().cloned(), 10)),
                        format!("{} answered.", counted(claims.clients.len() as u64, "address")),
                    ],
                    effect: "not observable: who then sent it a password shows in connections to it.".to_owned(),
                    advice: "Turn LLMNR and NetBIOS name service off (they trust whoever answers), require \
                             SMB signing, and find the station.",
                    actors: vec![host.to_string()],
                    targets: claims.clients.iter().take(5).map(ToString::to_string).collect(),
                    seen: &claims.seen,
                    references: &["MITRE ATT&CK T1557.001", "RFC 4795 section 5"],
                };
                Some(draft.finding(context))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns;
    use crate::guarder::scene::{A, B, Scene, ip, udp};

    #[test]
    fn one_host_answers_for_itself_and_another_for_everybody() {
        for (names, address, found) in [
            (&["a", "b", "c", "d"][..], [10, 0, 0, 66], 1),
            (&["a", "b", "c"], [10, 0, 0, 66], 0),
            (&["wpad", "a"], [10, 0, 0, 66], 1),
            (&["wpad"], [10, 0, 0, 66], 0),
            (&["a", "b", "c", "d"], [10, 0, 0, 7], 0),
            (&["a", "a", "a", "a"], [10, 0, 0, 66], 0),
        ] {
            let mut scene = Scene::of(NamePoisoning::default());
            for (n, name) in names.iter().enumerate() {
                let body = dns::message(1, 0x8000, name, 1, &[(1, &address)]);
                let frame = ip((A, B), "10.0.0.66", "10.0.0.9", 17, &udp(5355, 5000, &body));
                scene.frame(n as u64, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{names:?} {address:?}");
        }
    }

    #[test]
    fn multicast_names_and_wpad_alone_are_judged_by_whose_they_are() {
        let own = [10, 0, 0, 66];
        for (port, name, kind, clients, names, found) in [
            (5353, "pc", 1, 1, 4, 1),
            (5353, "pc", 1, 1, 3, 0),
            (5353, "_ipp._tcp", 12, 1, 4, 0),
            (5355, "wpad", 1, 2, 1, 1),
            (5355, "wpad", 1, 1, 1, 0),
        ] {
            let mut scene = Scene::of(NamePoisoning::default());
            for n in 0..names.max(clients) {
                let number = if names > 1 { n.to_string() } else { String::new() };
                let end = if port == 5353 { ".local" } else { "" };
                let asked = format!("{name}{number}{end}");
                let body = dns::message(1, 0x8400, &asked, kind, &[(1, &own)]);
                let to = format!("10.0.0.{}", if clients > 1 { n + 9 } else { 9 });
                let frame = ip((A, B), "10.0.0.66", &to, 17, &udp(port, port, &body));
                scene.frame(n, &frame);
            }
            assert_eq!(scene.ids().len(), found, "{port} {name} {clients} {names}");
        }
    }

    #[test]
    fn netbios_names_are_one_whatever_their_suffix() {
        let encode = |suffix: u8| -> String {
            let mut name = b"PC             ".to_vec();
            name.push(suffix);
            name.iter().flat_map(|b| [b'a' + (b >> 4), b'a' + (b & 15)]).map(char::from).collect()
        };
        assert_eq!(netbios(&encode(0)), Some("pc".to_owned()));
        assert_eq!(netbios(&encode(0x20)), Some("pc".to_owned()));
        assert_eq!(netbios("www.example.com"), None);
    }
}
