//! Spoofed and contested addresses, and changes of ownership that are in order.

use psc_formats::fact::DeviceFact;
use psc_formats::{Fact, FiveTuple};

use super::*;
use crate::engine::Pass;
use crate::guarder::Detectors;
use crate::sample::{self, Feed};

const OWNER: Mac = [2, 0, 0, 0, 0, 1];
const OTHER: Mac = [2, 0, 0, 0, 0, 2];
const VICTIM: Mac = [2, 0, 0, 0, 0, 7];
const ZERO: Mac = [0; 6];
const GATEWAY: &str = "10.0.0.1";
const HOST: &str = "10.0.0.7";
const SECOND: u64 = 1_000_000_000;

struct Scene {
    feed: Feed,
    detectors: Detectors,
}

impl Scene {
    fn new() -> Self {
        let detectors = Detectors::of(vec![Box::new(Arp::default())]);
        Self { feed: Feed::default(), detectors }
    }

    fn frame(&mut self, seconds: u64, headers: &Headers) {
        self.feed.frame(&mut self.detectors, seconds * SECOND, headers);
    }

    /// The victim asks for the gateway.
    fn asks(&mut self, seconds: u64) {
        self.frame(seconds, &sample::arp(1, VICTIM, HOST, ZERO, GATEWAY));
    }

    /// `mac` tells the victim that it is the gateway.
    fn tells(&mut self, seconds: u64, mac: Mac) {
        self.frame(seconds, &sample::arp(2, mac, GATEWAY, VICTIM, HOST));
    }

    /// `mac` announces to all that it is the gateway.
    fn announces(&mut self, seconds: u64, mac: Mac) {
        self.frame(seconds, &sample::arp(2, mac, GATEWAY, [0xff; 6], GATEWAY));
    }

    fn sends(&mut self, seconds: u64, mac: Mac) {
        let packet = sample::udp(&format!("{GATEWAY}:1"), &format!("{HOST}:2"), 9);
        self.frame(seconds, &sample::with_mac(packet, mac));
    }

    fn findings(self) -> Vec<Finding> {
        let mut pass = Pass { tables: self.feed.tables.clone(), ..Pass::default() };
        pass.provenance.completeness.lost = Some(0);
        self.detectors.finish(&self.feed.manifest, &pass).findings
    }
}

/// The owner is asked and answers, then the other tells the victim every two seconds, as arpspoof
/// does, while the owner is alive.
fn spoofed() -> Scene {
    let mut scene = Scene::new();
    scene.asks(0);
    scene.tells(0, OWNER);
    for n in 0..10 {
        scene.tells(20 + 2 * n, OTHER);
        scene.sends(21 + 2 * n, OWNER);
    }
    scene
}

#[test]
fn repeated_claims_against_a_live_owner_are_spoofing() {
    let found = spoofed().findings();
    assert_eq!(found.len(), 1);
    let finding = &found[0];
    assert_eq!((finding.id.as_str(), finding.severity.as_str()), ("arp-spoofing", "high"));
    assert_eq!(finding.confidence, "high");
    assert_eq!(
        finding.title,
        "02:00:00:00:00:02 claims 10.0.0.1, which belongs to 02:00:00:00:00:01."
    );
    assert!(finding.evidence.iter().any(|e| e.contains("went on sending")));
    assert!(finding.evidence.iter().any(|e| e.contains("10 replies that nobody had asked for")));
    assert!(finding.actors[0].contains("can be forged"));
    assert_eq!((finding.first, finding.last), (20 * SECOND, 39 * SECOND));
    assert_eq!(finding.packets, 11);
    assert!(finding.effect.starts_with("not observable"));
}

#[test]
fn the_effect_is_confirmed_by_the_neighbour_table() {
    for (mac, at, expected) in [
        (OTHER, 22, "confirmed: the neighbour entry of 10.0.0.1 became 02:00:00:00:00:02"),
        (OWNER, 22, "not confirmed"),
        (OTHER, 10, "not confirmed"), // before it was claimed
    ] {
        let mut scene = spoofed();
        scene.feed.manifest.origin = Origin::Kernel;
        let ip = sample::ip(GATEWAY);
        let mut wide = [0; 8];
        wide[2..].copy_from_slice(&mac);
        let learned = EventKind::Neighbour {
            address: FiveTuple { protocol: 0, src: ip, sport: 0, dst: ip, dport: 0 },
            mac: u64::from_be_bytes(wide),
            old: 0x04,
            new: 0x04,
        };
        scene.feed.bare(&mut scene.detectors, sample::event(at * SECOND, learned));
        assert!(scene.findings()[0].effect.starts_with(expected), "{mac:?} at {at}");
    }
}

#[test]
fn a_silent_owner_leaves_doubt() {
    let mut scene = Scene::new();
    scene.asks(0);
    scene.tells(0, OWNER);
    for n in 0..10 {
        scene.tells(20 + 2 * n, OTHER);
    }
    let found = scene.findings();
    assert_eq!(found.len(), 1);
    assert!(found[0].confidence.starts_with("medium: the owner before stayed silent"));
}

#[test]
fn two_hosts_with_one_address_are_a_conflict() {
    let mut race = Scene::new();
    race.asks(0);
    race.tells(0, OWNER);
    race.tells(0, OTHER);
    let mut flips = Scene::new();
    for n in 0..4 {
        flips.asks(n * 10);
        flips.tells(n * 10, if n % 2 == 0 { OWNER } else { OTHER });
    }
    for (name, scene) in [("race", race), ("flips", flips)] {
        let found = scene.findings();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!((found[0].id.as_str(), found[0].severity.as_str()), ("arp-conflict", "medium"));
        assert!(found[0].confidence.starts_with("medium: two hosts"), "{name}");
    }
}

#[test]
fn a_claim_for_an_address_of_this_host_is_a_conflict_at_once() {
    let mut scene = Scene::new();
    scene.feed.manifest.origin = Origin::Kernel;
    scene.feed.tables.apply(&Fact::Device(DeviceFact {
        id: 1,
        netns: 10,
        name: "eth0".to_owned(),
        mac: "02:00:00:00:00:01".to_owned(),
        addresses: vec![format!("{GATEWAY}/24")],
        ..DeviceFact::default()
    }));
    let own = sample::arp(1, OWNER, GATEWAY, ZERO, HOST);
    let claim = sample::arp(1, OTHER, GATEWAY, ZERO, HOST);
    let queue = sample::event(SECOND, EventKind::DeviceQueue {}).device(1);
    let receive = sample::event(2 * SECOND, EventKind::Receive {}).device(1);
    scene.feed.step(&mut scene.detectors, queue, &own, true);
    scene.feed.step(&mut scene.detectors, receive, &claim, true);
    let found = scene.findings();
    assert_eq!(found.len(), 1);
    assert!(found[0].evidence[0].contains("an address of this host itself"));
}

#[test]
fn two_ends_of_one_link_tell_one_conflict() {
    let mut scene = Scene::new();
    for n in 0..6 {
        let mac = if n % 2 == 0 { OWNER } else { OTHER };
        let claim = sample::arp(1, mac, GATEWAY, ZERO, HOST);
        let queue = sample::event(n * SECOND, EventKind::DeviceQueue {}).device(1);
        let receive = sample::event(n * SECOND + 9, EventKind::Receive {}).device(2);
        scene.feed.step(&mut scene.detectors, queue, &claim, true);
        scene.feed.step(&mut scene.detectors, receive, &claim, false);
    }
    let found = scene.findings();
    assert_eq!(found.len(), 1);
    assert!(found[0].evidence.iter().any(|e| e == "2 recorded devices saw it."));
    assert_eq!(found[0].first, SECOND);
}

#[test]
fn links_are_told_apart() {
    let mut scene = Scene::new();
    for n in 0..6 {
        let mac = if n % 2 == 0 { OWNER } else { OTHER };
        let receive = sample::event(n * SECOND, EventKind::Receive {}).device(1 + (n % 2) as u16);
        let claim = sample::arp(1, mac, GATEWAY, ZERO, HOST);
        scene.feed.step(&mut scene.detectors, receive, &claim, true);
    }
    assert!(scene.findings().is_empty(), "two networks may use the same addresses");
}

#[test]
fn benign_twins_are_left_alone() {
    let mut failover = Scene::new();
    failover.asks(0);
    failover.tells(0, OWNER);
    failover.sends(5, OWNER);
    for n in 0..5 {
        failover.announces(10 + n, OTHER);
    }
    failover.sends(16, OTHER);
    // And back again, within the same minute.
    for n in 0..5 {
        failover.announces(40 + n, OWNER);
    }
    failover.sends(46, OWNER);

    let mut vrrp = Scene::new();
    let shared: Mac = [0, 0, 0x5e, 0, 1, 51];
    for n in 0..20 {
        vrrp.announces(n, shared);
        // A router that speaks for the address with its own, too.
        vrrp.frame(n, &sample::arp(1, OWNER, GATEWAY, ZERO, HOST));
    }

    let mut dhcp = Scene::new();
    dhcp.asks(0);
    dhcp.tells(0, OWNER);
    dhcp.frame(7200, &sample::arp(1, OTHER, "0.0.0.0", ZERO, GATEWAY)); // probe
    dhcp.announces(7202, OTHER);
    for n in 0..10 {
        dhcp.asks(7300 + 60 * n);
        dhcp.tells(7300 + 60 * n, OTHER);
    }

    let mut proxy = Scene::new();
    for n in 1..50 {
        let remote = format!("10.9.0.{n}");
        proxy.frame(n, &sample::arp(1, VICTIM, HOST, ZERO, &remote));
        proxy.frame(n, &sample::arp(2, OWNER, &remote, VICTIM, HOST));
    }

    let mut under_way = Scene::new();
    under_way.asks(0);
    under_way.tells(0, OWNER);
    under_way.announces(10, OTHER);
    under_way.sends(10, OWNER); // sent before it knew

    for (name, scene) in [
        ("failover and return", failover),
        ("virtual router", vrrp),
        ("reassignment by DHCP", dhcp),
        ("proxy ARP", proxy),
        ("packets under way", under_way),
    ] {
        let found = scene.findings();
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn a_flood_of_claims_stays_bounded() {
    let mut arp = Arp::default();
    for n in 0..100_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let claim = ArpPacket {
            opcode: 1,
            sender_mac: [2, 0, 0, a, b, c],
            sender: Ipv4Addr::from(0x0a00_0000 + n),
            target_mac: ZERO,
            target: sample::v4(HOST),
        };
        arp.arp(DeviceId(1), u64::from(n), None, &Headers::default(), &claim);
    }
    assert!(arp.addresses.len() <= ADDRESSES);
}
