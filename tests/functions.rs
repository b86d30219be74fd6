//! Functions of the stack (tier 2) and netfilter links (tier 1b): what they add, and that they take nothing
//! away. Without the events of tier 2, a recording with functions is the recording that tier 1 makes.
//!
//! A kernel without function probes must still record, and say why each is not there. `cargo xtask kernels` runs
//! this where the kernel has them.
#![cfg(all(target_os = "linux", feature = "live"))]

mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use netns::recording::Recording;
use netns::{Pair, delta, live};
use psc_formats::function::{Argument, Meaning};
use psc_formats::manifest::ProbeStatus;
use psc_formats::{
    Batch, Event, EventKind, EventSource, Manifest, Progress, SkbAddr, SourceError, Tables,
};
use psc_replay::engine::{self, ClosedJourney, Observer, Outcome, Selection, World};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const ROUNDS: u64 = 20;
/// Dropped by a rule at the server.
const DROPPED: u64 = 5;

/// Traffic whose packets can be counted: datagrams that a rule accepts and drops, a connection with bytes both ways,
/// echo requests.
fn traffic(pair: &Pair) {
    let server = pair.server.run(|| UdpSocket::bind((SERVER, 4100)).expect("bind"));
    let deaf = pair.server.run(|| UdpSocket::bind((SERVER, 7)).expect("bind"));
    pair.client.run(|| {
        let socket = UdpSocket::bind("10.77.0.1:4099").expect("bind");
        for n in 0..ROUNDS {
            socket.send_to(&n.to_be_bytes(), (SERVER, 4100)).expect("send");
        }
        for _ in 0..DROPPED {
            socket.send_to(b"nobody hears", (SERVER, 7)).expect("send");
        }
    });
    for _ in 0..ROUNDS {
        server.recv(&mut [0; 64]).expect("all came");
    }
    drop(deaf);
    let listener = pair.server.run(|| TcpListener::bind((SERVER, 4200)).expect("bind"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("accept");
            let copied = std::io::copy(&mut stream.try_clone().expect("clone"), &mut stream);
            assert_eq!(copied.expect("echo"), 40_000);
        });
        pair.client.run(|| {
            use std::io::{Read as _, Write as _};
            let mut stream = TcpStream::connect((SERVER, 4200)).expect("connect");
            stream.write_all(&vec![7; 40_000]).expect("write");
            stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
            let mut back = Vec::new();
            stream.read_to_end(&mut back).expect("read");
            assert_eq!(back.len(), 40_000);
        });
    });
    pair.client.sh(&["ping", "-q", "-c", "3", "-i", "0.2", "10.77.0.2"]);
}

fn ready() -> Pair {
    let pair = Pair::new();
    pair.server.sh(&[
        "nft",
        "add table inet psctest; \
         add chain inet psctest entrance { type filter hook input priority 0; }; \
         add rule inet psctest entrance udp dport 7 counter drop; \
         add rule inet psctest entrance ct state invalid drop",
    ]);
    // So that every packet has its neighbour before anything is counted.
    pair.client.sh(&["ping", "-q", "-c", "1", "10.77.0.2"]);
    pair
}

/// A recording, read whole.
struct Recorded {
    manifest: Manifest,
    events: Vec<Event>,
    tables: Tables,
}

fn read(path: &Path) -> Recorded {
    let mut source = psc_formats::open(path).expect("opens");
    let (mut batch, mut events, mut tables) = (Batch::default(), Vec::new(), Tables::default());
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).expect("reads");
        events.append(&mut batch.events);
        batch.facts.iter().for_each(|fact| tables.apply(fact));
        if progress == Progress::End {
            return Recorded { manifest: source.manifest().clone(), events, tables };
        }
    }
}

/// A source without the events of tier 2. The sequence is closed over them, as if they had never been.
struct TierOne {
    inner: Box<dyn EventSource>,
    /// Sequence numbers of what is left out, by CPU, ascending.
    left_out: BTreeMap<u16, Vec<u64>>,
}

impl TierOne {
    fn open(path: &Path, all: &[Event]) -> Box<dyn EventSource> {
        let mut left_out: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for event in all.iter().filter(|event| event.kind.is_deeper_tier()) {
            left_out.entry(event.cpu).or_default().push(event.seq);
        }
        for numbers in left_out.values_mut() {
            numbers.sort_unstable();
        }
        Box::new(Self { inner: psc_formats::open(path).expect("opens"), left_out })
    }
}

impl EventSource for TierOne {
    fn manifest(&self) -> &Manifest {
        self.inner.manifest()
    }

    fn fill(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        let progress = self.inner.fill(batch)?;
        batch.events.retain(|event| !event.kind.is_deeper_tier());
        for event in &mut batch.events {
            let left_out = self.left_out.get(&event.cpu).map_or(&[][..], Vec::as_slice);
            event.seq -= left_out.partition_point(|number| *number < event.seq) as u64;
        }
        Ok(progress)
    }
}

#[derive(Default)]
struct Collected(Vec<ClosedJourney>);

impl Observer for Collected {
    fn closed(&mut self, _: World<'_>, journey: &ClosedJourney) {
        self.0.push(journey.clone());
    }
}

fn journeys(mut source: Box<dyn EventSource>) -> Vec<ClosedJourney> {
    let mut collected = Collected::default();
    engine::run(source.as_mut(), &Selection::default(), &mut [&mut collected]).expect("replays");
    collected.0.sort_by_key(|journey| journey.id);
    collected.0
}

/// Everything that tier 1 says of a journey but whom it is joined to, which functions see too, and more of.
fn projected(journey: &ClosedJourney) -> String {
    let steps: Vec<_> = journey.tier_one().map(|step| (step.at, step.cpu, step.kind)).collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {steps:?}",
        journey.id, journey.skb, journey.flow, journey.outcome, journey.ambiguous, journey.clone
    )
}

/// Whom a journey is joined to, and how.
fn kin(journey: &ClosedJourney) -> Vec<String> {
    journey.lineage.iter().map(|edge| format!("{:?} of {:?}", edge.how, edge.of)).collect()
}

fn recorded(pair: &Pair, args: &[&str], work: impl FnOnce()) -> (tempfile::TempDir, Recorded) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("functions.psc");
    let client = pair.client.name.as_str();
    let mut all = vec!["--netns", client, "--netns", pair.server.name.as_str()];
    all.extend(args);
    let recording = Recording::start(&path, &all);
    work();
    let (ok, said) = recording.stop();
    assert!(ok, "{said}");
    let recorded = read(&path);
    (dir, recorded)
}

/// Whether this kernel let any function be probed; else each must say why not.
fn has_functions(recorded: &Recorded) -> bool {
    let functions: Vec<_> =
        recorded.manifest.probes.iter().filter(|probe| !probe.name.contains(':')).collect();
    assert!(functions.len() > 100, "the manifest lists every function wanted");
    for probe in &functions {
        match &probe.status {
            ProbeStatus::Attached => {
                assert!(matches!(&*probe.method, "kprobe.multi" | "fentry" | "kprobe"));
            }
            ProbeStatus::Failed(why) => assert!(why.len() > 10, "{}: {why}", probe.name),
            ProbeStatus::Unwanted => panic!("{} was wanted", probe.name),
        }
    }
    let attached = functions.iter().filter(|probe| probe.status == ProbeStatus::Attached).count();
    let mut ways: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for probe in &functions {
        let way = match &probe.status {
            ProbeStatus::Failed(why) => why.as_str(),
            _ => probe.method.as_str(),
        };
        ways.entry(way).or_default().push(&probe.name);
    }
    println!("{attached} of {} functions probed", functions.len());
    for (way, names) in ways {
        println!("   {way}: {} ({}...)", names.len(), names[..names.len().min(8)].join(" "));
    }
    if attached == 0 {
        assert!(recorded.events.iter().all(|event| !event.kind.is_deeper_tier()));
        println!("this kernel has no function probes");
    }
    attached > 0
}

#[test]
fn functions_leave_what_tier_one_says_as_it_is() {
    if !live("functions_leave_what_tier_one_says_as_it_is") {
        return;
    }
    let pair = ready();
    let (dir, both) = recorded(&pair, &["--functions", "--profile", "full"], || traffic(&pair));
    let path = dir.path().join("functions.psc");
    let with = journeys(psc_formats::open(&path).expect("opens"));
    let without = journeys(TierOne::open(&path, &both.events));
    assert!(without.len() as u64 > 2 * ROUNDS);
    assert_eq!(with.len(), without.len());
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(projected(with), projected(without));
        let known = kin(with);
        for edge in kin(without) {
            assert!(known.contains(&edge), "{edge} is not in {known:?} of {:?}", with.id);
        }
    }
    if !has_functions(&both) {
        return;
    }
    let functions: usize = with.iter().map(|j| j.steps.len() - j.tier_one().count()).sum();
    let all = both.events.iter().filter(|event| event.kind.is_deeper_tier()).count();
    println!("{functions} of {all} events of functions are steps of journeys");
    assert!(functions * 10 > all * 9, "most belong to a packet");

    // The same traffic again, without functions: the same packets by flow, protocol and end.
    let (dir, _) = recorded(&pair, &["--profile", "full"], || traffic(&pair));
    let alone = journeys(psc_formats::open(&dir.path().join("functions.psc")).expect("opens"));
    assert_eq!(datagrams(&with), datagrams(&alone));
}

/// Packets of the flows that have a fixed number of them: by ports, with outcome and visits of each probe.
fn datagrams(journeys: &[ClosedJourney]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for journey in journeys.iter().filter(|journey| !journey.clone) {
        let Some(flow) = journey.flow.filter(|flow| flow.protocol == 17) else { continue };
        let outcome = match journey.outcome {
            Outcome::Dropped { .. } => "dropped",
            Outcome::Delivered => "delivered",
            Outcome::EndNotObserved => "end not observed",
        };
        let steps: Vec<&str> = journey.tier_one().map(|step| step.kind.name()).collect();
        *counts.entry(format!("{}: {outcome} {steps:?}", flow.dport)).or_default() += 1;
    }
    counts
}

#[test]
fn calls_are_paired_and_say_what_they_returned() {
    if !live("calls_are_paired_and_say_what_they_returned") {
        return;
    }
    let pair = ready();
    let before = pair.server.counters();
    let (_dir, recorded) = recorded(&pair, &["--functions"], || traffic(&pair));
    let after = pair.server.counters();
    if !has_functions(&recorded) {
        return;
    }
    let name = |event: &Event| recorded.manifest.probe_name(event.probe);

    // Each return has its entry: the same function and skb, at exactly the time it says.
    let entries: BTreeSet<(u16, u64, SkbAddr)> = recorded
        .events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::FunctionEntry { returns: 1, .. }))
        .map(|event| (event.probe.0, event.at.0, event.skb))
        .collect();
    let mut returned = 0;
    for event in &recorded.events {
        if let EventKind::FunctionReturn { elapsed, .. } = event.kind {
            let entry = (event.probe.0, event.at.0 - elapsed, event.skb);
            assert!(entries.contains(&entry), "{} has no entry", name(event));
            returned += 1;
        }
    }
    println!("{returned} of {} calls returned", entries.len());
    // Those that were under way when it started or ended have none.
    assert!(returned * 100 >= entries.len() * 99);
    let lost = recorded.tables.loss.as_ref().map_or(0, |loss| loss.lost_returns);
    assert!(lost <= (entries.len() - returned) as u64 + 2);

    // Verdicts: what the rule counted as dropped, and where.
    let mut drops = 0;
    let mut chains = BTreeSet::new();
    for event in &recorded.events {
        match event.kind {
            EventKind::FunctionReturn { meaning, value, .. } if name(event) == "nf_hook_slow" => {
                let meaning = Meaning::from_u8(meaning).expect("known");
                assert_eq!(meaning, Meaning::HookResult);
                drops += u64::from(meaning.is_refusal(value));
            }
            EventKind::FunctionEntry { argument, value, .. } if name(event) == "nft_do_chain" => {
                assert_eq!(argument, Argument::Chain as u8);
                let chain = &recorded.tables.chains[&(value as u32)];
                chains.insert((
                    chain.kind.clone(),
                    chain.table.clone(),
                    chain.chain.clone(),
                    value >> 32,
                ));
            }
            _ => {}
        }
    }
    let counted = pair.server.sh(&["nft", "list", "chain", "inet", "psctest", "entrance"]);
    assert!(counted.contains(&format!("udp dport 7 counter packets {DROPPED} ")), "{counted}");
    if attached(&recorded, "nf_hook_slow") {
        assert_eq!(drops, DROPPED);
    }
    if attached(&recorded, "nft_do_chain") {
        // Local input is hook 1, IPv4 family 2.
        let chain = ("nft".to_owned(), "psctest".to_owned(), "entrance".to_owned(), 2 | 1 << 8);
        assert!(chains.contains(&chain), "{chains:?}");
    }

    // As many IPv4 packets entered ip_rcv at the server as its own counter says, give or take the ones
    // that came while it was being read.
    let received = delta(&before, &after, "IpInReceives");
    let servers = |event: &&Event| {
        recorded.tables.devices.get(&event.device).is_some_and(|device| device.name == "s0")
    };
    let entered = recorded.events.iter().filter(|event| name(event) == "ip_rcv").filter(servers);
    let entered = entered.count() as u64;
    println!("ip_rcv at the server: {entered}, IpInReceives: {received}");
    if attached(&recorded, "ip_rcv") {
        assert_eq!(entered, received);
    }
}

fn attached(recorded: &Recorded, name: &str) -> bool {
    let probes = &recorded.manifest.probes;
    probes.iter().any(|probe| probe.name == name && probe.status == ProbeStatus::Attached)
}

#[test]
fn netfilter_links_see_both_ends_of_each_hook() {
    if !live("netfilter_links_see_both_ends_of_each_hook") {
        return;
    }
    let pair = ready();
    let (_dir, recorded) = recorded(&pair, &["--netfilter-links"], || traffic(&pair));
    let links: Vec<_> =
        recorded.manifest.probes.iter().filter(|probe| probe.method == "netfilter").collect();
    assert_eq!(links.len(), 2);
    let failed = |probe: &&psc_formats::manifest::Probe| match &probe.status {
        ProbeStatus::Failed(why) => Some(why.clone()),
        ProbeStatus::Attached | ProbeStatus::Unwanted => None,
    };
    if let Some(why) = links.iter().find_map(failed) {
        assert!(why.contains("6.4"), "{why}");
        println!("no netfilter links here: {why}");
        return;
    }
    // By end and hook, at the server's input: what the rule drops is seen before it and not after.
    let mut seen: BTreeMap<(bool, u8), u64> = BTreeMap::new();
    let server: BTreeSet<_> = recorded
        .tables
        .devices
        .iter()
        .filter(|(_, device)| device.name == "s0")
        .map(|(id, _)| *id)
        .collect();
    for event in &recorded.events {
        if let EventKind::NetfilterHook { family, hook, priority } = event.kind {
            assert!(matches!(family, 2 | 10) && hook < 5, "family {family} hook {hook}");
            if family == 2 && server.contains(&event.device) {
                *seen.entry((priority < 0, hook)).or_default() += 1;
            }
        }
    }
    println!("at the server, by (first, hook): {seen:?}");
    assert_eq!(seen[&(true, 0)], seen[&(false, 0)], "prerouting keeps nothing");
    assert_eq!(seen[&(true, 1)], seen[&(false, 1)] + DROPPED, "input drops what the rule drops");
    let received = recorded.events.iter().filter(|event| {
        matches!(event.kind, EventKind::Receive {}) && server.contains(&event.device)
    });
    // Neighbours are no business of IPv4's hooks.
    assert!(seen[&(true, 0)] <= received.count() as u64);
}
