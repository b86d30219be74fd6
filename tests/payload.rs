//! What applications here send lies in pages of an skb, not in its first part. A whole recording holds it, byte
//! for byte what tcpdump saw, and once, whatever the packet passed before the namespace that was asked for.
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "live", target_os = "linux"))]

mod netns;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use netns::dump::Dump;
use netns::recording::{Recording, psc};
use netns::{Pair, live};
use psc_formats::{Batch, Progress};
use psc_replay::engine::{self, Selection};
use psc_replay::industrial::{Learner, Protocol};

const WRITES: u16 = 40;

/// TCP and UDP frames of a capture, each as its wire length and stored bytes, sorted.
fn frames(path: &Path) -> Vec<(u32, Vec<u8>)> {
    let mut source = psc_formats::open(path).expect("opens");
    let (mut all, mut batch) = (Vec::new(), Batch::default());
    loop {
        batch.clear();
        let progress = source.fill(&mut batch).expect("reads");
        for packet in batch.events.iter().filter_map(|event| event.packet) {
            let bytes = batch.packet(packet);
            if bytes[12..14] == [8, 0] && [6, 17].contains(&bytes[23]) {
                all.push((packet.len, bytes.to_vec()));
            }
        }
        if progress == Progress::End {
            all.sort();
            return all;
        }
    }
}

/// The packets of a recording, each once.
fn exported(recording: &Path) -> Vec<(u32, Vec<u8>)> {
    let out = recording.with_extension("pcapng");
    let mut export = psc();
    export.arg("export").arg(recording).args(["--force", "--to", "pcapng", "-o"]).arg(&out);
    assert!(export.output().expect("psc").status.success());
    frames(&out)
}

/// A POST with a body of many pages, Modbus writes, and a datagram that is cut into fragments.
fn talk(pair: &Pair) {
    let web = pair.server.run(|| TcpListener::bind("10.77.0.2:8080").expect("bind"));
    let plant = pair.server.run(|| TcpListener::bind("10.77.0.2:502").expect("bind"));
    let _udp = pair.server.run(|| UdpSocket::bind("10.77.0.2:5300").expect("bind"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = web.accept().expect("accept");
        let mut body = Vec::new();
        stream.read_to_end(&mut body).expect("read");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("write");
        drop(stream);
        let (mut stream, _) = plant.accept().expect("accept");
        let mut asked = [0; 12];
        while stream.read_exact(&mut asked).is_ok() {
            stream.write_all(&asked).expect("the answer to a write is its echo");
        }
        body.len()
    });
    let body: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    pair.client.run(|| {
        let mut stream = TcpStream::connect("10.77.0.2:8080").expect("connect");
        stream.write_all(head.as_bytes()).expect("write");
        stream.write_all(&body).expect("write");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        stream.read_to_end(&mut Vec::new()).expect("read");
        let mut stream = TcpStream::connect("10.77.0.2:502").expect("connect");
        for number in 0..WRITES {
            let [high, low] = number.to_be_bytes();
            stream.write_all(&[high, low, 0, 0, 0, 6, 1, 5, 0, 3, 0xff, 0]).expect("write");
            stream.read_exact(&mut [0; 12]).expect("read");
        }
        let datagram = UdpSocket::bind("10.77.0.1:0").expect("bind");
        datagram.send_to(&body[..5000], "10.77.0.2:5300").expect("sent");
    });
    assert_eq!(served.join().expect("server"), head.len() + body.len());
}

#[test]
fn what_is_sent_here_is_recorded_whole_and_once() {
    if !live("payload in pages") {
        return;
    }
    let pair = Pair::new();
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    // Of two namespaces that the same skbs pass, one each: the sender's and the receiver's.
    let client = Recording::start(&at("client.psc"), &["-s", "0", "--netns", &pair.client.name]);
    let server = Recording::start(&at("server.psc"), &["-s", "0", "--netns", &pair.server.name]);
    let some = Recording::start(&at("some.psc"), &["-s", "300", "--netns", &pair.client.name]);
    let few = Recording::start(&at("few.psc"), &["--netns", &pair.client.name]);
    let dumps = [("client.pcap", &pair.client, "c0"), ("server.pcap", &pair.server, "s0")]
        .map(|(file, host, device)| Dump::start(host, device, (0, "tcp or udp"), &at(file)));
    talk(&pair);
    std::thread::sleep(Duration::from_millis(300));
    drop(dumps);
    for recording in [client, server, some, few] {
        let (ok, said) = recording.stop();
        assert!(ok, "{said}");
    }

    for side in ["client", "server"] {
        let recorded = exported(&at(&format!("{side}.psc")));
        let seen = frames(&at(&format!("{side}.pcap")));
        let less = |a: &[(u32, Vec<u8>)], b: &[(u32, Vec<u8>)]| -> Vec<_> {
            let other = a.iter().filter(|one| !b.contains(one));
            other.map(|(len, bytes)| (*len, bytes.len(), bytes[23])).collect()
        };
        assert!(seen.iter().any(|(len, _)| *len > 20_000), "offloads make large packets");
        let (more, missing) = (less(&recorded, &seen), less(&seen, &recorded));
        assert!(missing.is_empty(), "{side}: {missing:?} missing");
        // The receiver's stack puts the datagram together, and passes it on as one packet.
        let whole = if side == "server" { vec![(5042, 5042, 17)] } else { vec![] };
        assert_eq!(more, whole, "{side}");
        assert_eq!(recorded.len(), seen.len() + whole.len(), "{side}: each packet once");
        let mut source = psc_formats::open(&at(&format!("{side}.psc"))).expect("opens");
        let mut learner = Learner::default();
        engine::run(source.as_mut(), &Selection::default(), &mut [&mut learner]).expect("pass");
        // Asked and answered.
        let writes = learner.counts().get(&(Protocol::Modbus, 5)).copied();
        assert_eq!(writes, Some(2 * u64::from(WRITES)), "{side}: {:?}", learner.counts());
    }
    for (len, bytes) in exported(&at("some.psc")) {
        assert_eq!(bytes.len(), len.min(300) as usize, "as much as was asked for");
    }
    // Who keeps headers only pays for no page: what is sent ends with its headers.
    let from_here = |(len, bytes): &(u32, Vec<u8>)| *len > 10_000 && bytes[29] == 1;
    let sent: Vec<_> = exported(&at("few.psc")).into_iter().filter(from_here).collect();
    assert!(sent.iter().all(|(_, bytes)| bytes.len() == 66) && !sent.is_empty(), "{}", sent.len());
}
