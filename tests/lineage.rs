//! One packet is one story across namespaces: a client, a router that translates addresses, a server.
//!
//! Each datagram carries its own number in its payload and the recording takes bytes at every event
//! (`--bytes every`), so that who is who is known at each event independently of how journeys are made.
#![cfg(all(target_os = "linux", feature = "live"))]

mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use netns::recording::{Recording, json};
use netns::{Host, join, live};
use psc_formats::packet::{Network, Transport};
use psc_replay::engine::{
    ClosedJourney, JourneyId, Lineage, Observer, Selection, Sighting, World, run,
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
/// Starts each payload, so that other packets are told apart.
const MAGIC: u64 = 0x7073_6373_746f_7279;
const PORT: u16 = 53;
const FORWARDED: u16 = 5353;

/// Client, router and server; the router sends what comes for its port 5353 or 8080 on to the server, as if from
/// itself.
struct Triple {
    client: Host,
    router: Host,
    server: Host,
}

impl Triple {
    fn new() -> Self {
        let triple =
            Self { client: Host::new("c"), router: Host::new("r"), server: Host::new("s") };
        let Self { client, router, server } = &triple;
        join((client, "c0", &["10.77.1.2/24"]), (router, "r0", &["10.77.1.1/24"]));
        join((router, "r1", &["10.77.2.1/24"]), (server, "s0", &["10.77.2.2/24"]));
        client.ip(&["route", "add", "default", "via", "10.77.1.1"]);
        router.sysctl("net.ipv4.ip_forward", "1");
        router.sh(&[
            "nft",
            "table ip nat { \
               chain pre { type nat hook prerouting priority -100; \
                 iifname r0 udp dport 5353 dnat to 10.77.2.2:53; \
                 iifname r0 tcp dport 8080 dnat to 10.77.2.2:80; }; \
               chain post { type nat hook postrouting priority 100; oifname r1 masquerade; }; }",
        ]);
        // Neighbours are known: a packet that waits for one is copied for its sake.
        client.sh(&["ping", "-c", "1", "-q", "10.77.2.2"]);
        triple
    }

    fn record(&self, path: &Path) -> Recording {
        let hosts = [&self.client, &self.router, &self.server];
        let mut args = vec!["--bytes", "every"];
        for host in hosts {
            args.extend(["--netns", &host.name]);
        }
        Recording::start(path, &args)
    }

    /// Numbered datagrams of `len` bytes to the router's port, each answered by the server.
    fn exchange(&self, count: u64, len: usize) {
        let server = self.server.run(|| UdpSocket::bind((SERVER, PORT)).expect("bind"));
        server.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        let answer = std::thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            for _ in 0..count {
                let (len, from) = server.recv_from(&mut bytes).expect("every datagram arrives");
                server.send_to(&bytes[..len], from).expect("send");
            }
        });
        self.client.run(|| {
            let socket = UdpSocket::bind((CLIENT, 0)).expect("bind");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
            let mut bytes = vec![0; len];
            bytes[..8].copy_from_slice(&MAGIC.to_be_bytes());
            for number in 0..count {
                bytes[8..16].copy_from_slice(&number.to_be_bytes());
                socket.send_to(&bytes, (ROUTER, FORWARDED)).expect("send");
                socket.recv(&mut vec![0; 65_536]).expect("an answer");
            }
        });
        answer.join().expect("server");
    }

    /// `len` bytes from the server to the client over the router's port 8080.
    fn download(&self, len: usize) {
        let listener = self.server.run(|| TcpListener::bind((SERVER, 80)).expect("bind"));
        let serve = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(&vec![7; len]).expect("write");
        });
        self.client.run(|| {
            let mut stream = TcpStream::connect((ROUTER, 8080)).expect("connect");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("read");
            assert_eq!(bytes.len(), len);
        });
        serve.join().expect("server");
    }
}

/// What a datagram carries and which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    number: u64,
    answer: bool,
}

/// Reads each event's number; keeps the journeys as they close.
#[derive(Default)]
struct Stories {
    journeys_of: BTreeMap<Label, BTreeSet<JourneyId>>,
    label_of: BTreeMap<JourneyId, Label>,
    ends_of: BTreeMap<Label, BTreeSet<(Ipv4Addr, Ipv4Addr)>>,
    mixed: Vec<JourneyId>,
    closed: BTreeMap<JourneyId, ClosedJourney>,
}

impl Observer for Stories {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        let Some((label, ends)) = label(sighting) else { return };
        let journey = sighting.journey.expect("a numbered packet has a journey");
        if *self.label_of.entry(journey).or_insert(label) != label {
            self.mixed.push(journey);
        }
        self.journeys_of.entry(label).or_default().insert(journey);
        self.ends_of.entry(label).or_default().insert(ends);
    }

    fn closed(&mut self, _: World<'_>, journey: &ClosedJourney) {
        self.closed.insert(journey.id, journey.clone());
    }
}

fn label(sighting: &Sighting<'_>) -> Option<(Label, (Ipv4Addr, Ipv4Addr))> {
    let headers = sighting.headers.filter(|_| sighting.fresh)?;
    let (Transport::Udp(udp), Network::V4(ip)) = (headers.transport, headers.network) else {
        return None;
    };
    let payload = sighting.bytes.get(headers.payload_offset as usize..)?;
    let word = |at: usize| Some(u64::from_be_bytes(payload.get(at..at + 8)?.try_into().ok()?));
    (word(0)? == MAGIC).then_some(())?;
    let answer = udp.sport == PORT || udp.sport == FORWARDED;
    Some((Label { number: word(8)?, answer }, (ip.src, ip.dst)))
}

fn replayed(path: &Path) -> Stories {
    let mut stories = Stories::default();
    let mut reader = psc_formats::archive::Reader::open(path).expect("archive opens");
    run(&mut reader, &Selection::default(), &mut [&mut stories]).expect("replay");
    stories
}

#[test]
fn a_packet_is_one_journey_from_client_to_server_through_translation() {
    if !live("a_packet_is_one_journey_from_client_to_server_through_translation") {
        return;
    }
    let (dir, triple) = (tempfile::tempdir().unwrap(), Triple::new());
    let recording = triple.record(&dir.path().join("nat.psc"));
    triple.exchange(50, 40);
    let path = recording.path.clone();
    let (clean, said) = recording.stop();
    assert!(clean && said.contains("no event lost"), "{said}");
    let stories = replayed(&path);
    assert_eq!(stories.mixed, [], "journeys of two packets");
    assert_eq!(stories.journeys_of.len(), 100, "fifty there, fifty back");
    for (label, journeys) in &stories.journeys_of {
        assert_eq!(journeys.len(), 1, "{label:?} is one journey");
        let (before, after) = if label.answer {
            ((SERVER, OUTSIDE), (ROUTER, CLIENT))
        } else {
            ((CLIENT, ROUTER), (OUTSIDE, SERVER))
        };
        assert!(stories.ends_of[label].is_superset(&[before, after].into()), "{label:?}");
    }
    // What psc tells of one of them: three namespaces, both translations.
    let there = stories.journeys_of[&Label { number: 7, answer: false }].first().unwrap();
    let view = json(&["trace"], &path, &["--journey", &there.0.to_string()]);
    let passages: Vec<(&str, &str)> = view["exemplars"][0]["passages"]
        .as_array()
        .expect("passages")
        .iter()
        .map(|p| {
            (
                p["kind"].as_str().unwrap(),
                p["to"].as_str().unwrap().split([' ', ':']).next().unwrap(),
            )
        })
        .collect();
    let server = SERVER.to_string();
    let expected = [
        ("namespace", "r0"),
        ("forwarded", "r1"),
        ("source NAT", "10.77.2.1"),
        ("destination NAT", server.as_str()),
        ("namespace", "s0"),
    ];
    assert_eq!(passages, expected);
}

#[test]
fn fragments_are_one_story_with_what_they_become() {
    if !live("fragments_are_one_story_with_what_they_become") {
        return;
    }
    let (dir, triple) = (tempfile::tempdir().unwrap(), Triple::new());
    let recording = triple.record(&dir.path().join("fragments.psc"));
    // Three fragments; the router puts them together to translate, and cuts them again.
    triple.exchange(10, 4_000);
    let path = recording.path.clone();
    let (clean, said) = recording.stop();
    assert!(clean && said.contains("no event lost"), "{said}");
    let stories = replayed(&path);
    assert_eq!(stories.mixed, []);
    // The identification tells which fragments are one datagram; addresses tell the two sides apart.
    let mut parts: BTreeMap<(u16, bool), BTreeSet<JourneyId>> = BTreeMap::new();
    for journey in stories.closed.values() {
        for (_, headers) in &journey.headers {
            if let Network::V4(ip) = headers.network
                && (ip.more_fragments || ip.fragment_offset != 0)
            {
                let inside = [ip.src, ip.dst].contains(&CLIENT);
                parts.entry((ip.id, inside)).or_default().insert(journey.id);
            }
        }
    }
    assert_eq!(parts.len(), 40, "ten there and back, on both sides of the router");
    for (datagram, journeys) in &parts {
        assert!(journeys.len() >= 3, "{datagram:?}: {journeys:?}");
        // All of them are joined, to each other and to nothing else.
        let mut reached = BTreeSet::from([*journeys.first().unwrap()]);
        loop {
            let before = reached.len();
            for journey in stories.closed.values() {
                for edge in &journey.lineage {
                    if reached.contains(&journey.id) || reached.contains(&edge.of) {
                        reached.extend([journey.id, edge.of]);
                    }
                }
            }
            if reached.len() == before {
                break;
            }
        }
        assert!(reached.is_superset(journeys), "{datagram:?}: {journeys:?} in {reached:?}");
        let of_story: BTreeSet<u64> =
            reached.iter().filter_map(|id| stories.label_of.get(id)).map(|l| l.number).collect();
        assert_eq!(of_story.len(), 1, "{datagram:?} is joined with {of_story:?}");
    }
    let reassembled = stories.closed.values().flat_map(|journey| &journey.lineage);
    let reassembled = reassembled.filter(|edge| edge.how == Lineage::Reassembled).count();
    assert!(reassembled >= 2 * 40, "two of three fragments each time: {reassembled}");
}

#[test]
fn segments_and_merges_carry_the_bytes_of_the_whole() {
    if !live("segments_and_merges_carry_the_bytes_of_the_whole") {
        return;
    }
    let (dir, triple) = (tempfile::tempdir().unwrap(), Triple::new());
    // Software cuts what is sent, and GRO puts together what is received.
    let devices = [
        (&triple.client, "c0"),
        (&triple.router, "r0"),
        (&triple.router, "r1"),
        (&triple.server, "s0"),
    ];
    for (host, device) in devices {
        host.sh(&["ethtool", "-K", device, "gro", "on", "tso", "off", "gso", "on"]);
    }
    let recording = triple.record(&dir.path().join("bulk.psc"));
    triple.download(400_000);
    let path = recording.path.clone();
    let (clean, said) = recording.stop();
    assert!(clean && said.contains("no event lost"), "{said}");
    let stories = replayed(&path);
    let range = |journey: &ClosedJourney| {
        let (_, headers) = journey.headers.first()?;
        let tcp = headers.tcp().filter(|tcp| tcp.sport == 80 || tcp.sport == 8080)?;
        (headers.payload_len > 0).then_some((tcp.seq, headers.payload_len))
    };
    let (mut segments, mut merged) = (0, 0);
    for journey in stories.closed.values() {
        for edge in &journey.lineage {
            let Some(whole) = stories.closed.get(&edge.of) else { continue };
            let (Some(part), Some((first, _))) = (range(journey), range(whole)) else { continue };
            let offset = part.0.wrapping_sub(first);
            match edge.how {
                Lineage::Segment => {
                    let bytes = whole.headers.iter().map(|(_, headers)| headers.payload_len).max();
                    assert!(offset + part.1 <= bytes.unwrap(), "{journey:?} of {whole:?}");
                    segments += 1;
                }
                Lineage::Merged => {
                    // Behind the first one's own bytes, within what it went on with.
                    let longest = whole.steps.iter().map(|step| step.len).max().unwrap();
                    assert!(offset > 0 && offset + part.1 <= longest, "{journey:?} into {whole:?}");
                    merged += 1;
                }
                _ => {}
            }
        }
    }
    assert!(segments > 100, "{segments} segments of 400,000 bytes twice cut");
    assert!(merged > 50, "{merged} merges");
    // A segment's address was another packet's before: no journey has bytes of two.
    for journey in stories.closed.values() {
        let flows: BTreeSet<bool> = journey
            .headers
            .iter()
            .filter_map(|(_, headers)| headers.tcp())
            .map(|tcp| tcp.sport == 80 || tcp.sport == 8080)
            .collect();
        assert!(flows.len() <= 1, "{:?} goes both ways", journey.id);
    }
}
