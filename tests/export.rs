//! `psc import` and `psc export` as a user runs them, with tshark as the reader.
#![allow(missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use psc_formats::archive::Writer;
use psc_formats::event::{DeviceId, LinkType, SymbolId};
use psc_formats::fact::{DeviceFact, EndFact, LossFact, SymbolFact};
use psc_formats::manifest::{Host, Layer, Origin, Probe, ProbeStatus};
use psc_formats::{
    Batch, Context, Event, EventKind, Fact, Gso, Manifest, Ns, PacketRef, ProbeId, SkbAddr, SockId,
    Stack,
};

fn psc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_psc")).args(args).output().expect("psc runs")
}

fn well(args: &[&str]) -> Output {
    let output = psc(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/captures")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// (output, complaints) of tshark; `None`, said aloud, where there is none.
fn tshark(test: &str, file: &Path, fields: &[&str]) -> Option<(Vec<String>, String)> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields"]).arg("-r").arg(file);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var("PSC_REQUIRE_LIVE").as_deref() != Ok("1"), "{test}: {error}");
            println!("SKIPPED (live) {test}: no tshark ({error})");
            return None;
        }
    };
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(ToOwned::to_owned).collect()
    };
    let mut complaints = lines(&output.stderr);
    complaints.retain(|line| !line.starts_with("Running as user"));
    Some((lines(&output.stdout), complaints.join("\n")))
}

/// Every capture goes through a recording and comes out the same to tshark, in time order.
#[test]
fn captures_survive_import_and_export() {
    let folder = tempfile::tempdir().expect("folder");
    let fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.protocols", "ip.src"];
    let mut seen = 0;
    for entry in std::fs::read_dir(captures()).expect("captures") {
        let path = entry.expect("entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        // The reader orders by time; what these have out of order is tested where it is read.
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        let recording = folder.path().join(format!("{name}.psc"));
        let exported = folder.path().join(format!("{name}.pcapng"));
        well(&["import", text(&path), "-o", text(&recording)]);
        well(&["export", text(&recording), "--to", "pcapng", "-o", text(&exported)]);
        let test = "captures_survive_import_and_export";
        let Some((before, _)) = tshark(test, &path, &fields) else { return };
        let Some((after, complaints)) = tshark(test, &exported, &fields) else { return };
        assert_eq!(complaints, "", "{name}");
        assert_eq!(after, before, "{name}");
        seen += before.len();
    }
    assert!(seen > 250, "only {seen} packets");
}

#[test]
fn an_import_depends_on_the_capture_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let capture = captures().join("interfaces.pcapng");
    let (first, second) = (folder.path().join("a.psc"), folder.path().join("b.psc"));
    well(&["import", text(&capture), "-o", text(&first)]);
    well(&["import", text(&capture), "-o", text(&second)]);
    let read = |path: &Path| std::fs::read(path).expect("written");
    assert!(read(&first) == read(&second), "two imports differ");

    let again = psc(&["import", text(&capture), "-o", text(&first)]);
    assert_eq!(again.status.code(), Some(2), "replaced unasked");
    well(&["import", "--force", text(&capture), "-o", text(&first)]);
    let twice = psc(&["import", text(&first), "-o", text(&folder.path().join("c.psc"))]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("is a recording already"));
}

#[test]
fn a_cut_capture_imports_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("folder");
    let whole = std::fs::read(captures().join("ethernet.pcap")).expect("capture");
    let cut = folder.path().join("cut.pcap");
    std::fs::write(&cut, &whole[..whole.len() - 30]).expect("writes");
    let recording = folder.path().join("cut.psc");
    let output = well(&["import", text(&cut), "-o", text(&recording)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ends inside a packet") && said.contains("27 packets"), "{said}");
}

/// A datagram that comes in, is rewritten, and is dropped for want of a socket.
fn recording(path: &Path) {
    let probe = |name: &str, layer: Layer| Probe {
        name: name.to_owned(),
        method: "tp_btf".to_owned(),
        layer,
        status: ProbeStatus::Attached,
    };
    let manifest = Manifest {
        origin: Origin::Kernel,
        host: Host { kernel: "6.18.0".to_owned(), arch: "x86_64".to_owned(), ..Host::default() },
        probes: vec![
            probe("net:netif_rx", Layer::Link),
            probe("net:netif_receive_skb", Layer::Link),
            probe("skb:kfree_skb", Layer::Network),
        ],
        drop_reasons: [(3, "NO_SOCKET".to_owned())].into(),
        ..Manifest::default()
    };
    let datagram: [u8; 30] = [
        0x45, 0, 0, 30, 0, 7, 0, 0, 64, 17, 0x66, 0xc4, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0,
        53, 0, 10, 0, 0, b'h', b'i',
    ];
    let mut batch = Batch::default();
    batch.facts.push(Fact::Device(DeviceFact {
        id: 1,
        name: "veth0".to_owned(),
        netns: 7,
        netns_name: "blue".to_owned(),
        mac: "02:00:00:00:00:09".to_owned(),
        ..DeviceFact::default()
    }));
    let name = "__udp4_lib_rcv".to_owned();
    batch.facts.push(Fact::Symbol(SymbolFact { id: 1, name, offset: 28, ..SymbolFact::default() }));
    let kinds = [
        EventKind::BacklogQueue {},
        EventKind::Receive {},
        EventKind::Free { reason: 3, location: SymbolId(1) },
    ];
    for (seq, kind) in kinds.into_iter().enumerate() {
        let packet = (seq < 2).then(|| {
            let offset = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(&datagram);
            // Rewritten on the way: another destination.
            batch.bytes[offset as usize + 19] += seq as u8;
            PacketRef { offset, caplen: 30, len: 30, link: LinkType::IPV4 }
        });
        batch.events.push(Event {
            at: Ns(1_000 + 500 * seq as u64),
            cpu: 0,
            seq: seq as u64,
            probe: ProbeId(seq as u16),
            skb: SkbAddr(1),
            sock: SockId(0),
            device: DeviceId(1),
            iif: 3,
            len: 30,
            gso: Gso::default(),
            stack: Stack::default(),
            context: Context::Softirq,
            packet,
            content: 0,
            kind,
        });
    }
    let loss = LossFact { at: 2_000, ring_full: vec![4, 1], ..LossFact::default() };
    batch.facts.push(Fact::Loss(loss));
    let file = std::fs::File::create(path).expect("creates");
    let mut writer = Writer::new(file, &manifest).expect("writes");
    writer.append(&batch).expect("writes");
    writer.finish(EndFact::default()).expect("writes");
}

#[test]
fn comments_tell_what_became_of_a_packet() {
    let folder = tempfile::tempdir().expect("folder");
    let (recorded, exported) = (folder.path().join("k.psc"), folder.path().join("k.pcapng"));
    recording(&recorded);
    well(&["export", text(&recorded), "-o", text(&exported)]);
    let fields = ["frame.interface_name", "frame.interface_description", "ip.dst", "frame.comment"];
    let Some((rows, complaints)) =
        tshark("comments_tell_what_became_of_a_packet", &exported, &fields)
    else {
        return;
    };
    assert_eq!(complaints, "");
    assert_eq!(
        rows,
        [
            "veth0\tnetns blue\t10.0.0.2\tjourney 1 dropped: NO_SOCKET in __udp4_lib_rcv+0x1c; path: \
             net:netif_rx on veth0 > net:netif_receive_skb > skb:kfree_skb; 1.00 µs in view",
            "veth0\tnetns blue\t10.0.0.3\tjourney 1 again, changed by net:netif_receive_skb: UDP 2 bytes",
        ]
    );
}

#[test]
fn jsonl_has_an_object_for_each_event() {
    let folder = tempfile::tempdir().expect("folder");
    let recorded = folder.path().join("k.psc");
    recording(&recorded);
    let output = well(&["export", text(&recorded), "--to", "jsonl", "-o", "-"]);
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["packet"]["summary"], "UDP 2 bytes");
    assert_eq!(lines[0]["journey"], 1);
    assert_eq!(lines[2]["event"], "Free");
    assert_eq!(lines[2]["args"]["location"], "__udp4_lib_rcv+0x1c");
    assert_eq!(lines[2]["args"]["reason_name"], "NO_SOCKET");
    assert!(lines.iter().all(|line| line["schema"] == 1));
}
