//! Hand-made events, headers and journeys for tests.

use std::net::{IpAddr, Ipv4Addr};

use psc_formats::event::{DeviceId, LinkType, SockId, Stack};
use psc_formats::fact::DeviceFact;
use psc_formats::packet::{
    self, Arp, Ethernet, Headers, Icmp, Ipv4, Network, Tcp, TcpOptions, Transport, Udp,
};
use psc_formats::{Context, Event, EventKind, Fact, Gso, Manifest, Ns, ProbeId, SkbAddr, Tables};

use crate::engine::{ClosedJourney, JourneyId, Observer, Outcome, Sighting, SkbId, World};

/// An event being made.
#[derive(Clone, Debug)]
pub(crate) struct Made(pub(crate) Event);

pub(crate) fn event(at: u64, kind: EventKind) -> Made {
    Made(Event {
        at: Ns(at),
        cpu: 0,
        seq: 0,
        probe: ProbeId(0),
        skb: SkbAddr(1),
        sock: SockId(0),
        device: DeviceId(0),
        iif: 0,
        len: 0,
        gso: Gso::default(),
        stack: Stack::default(),
        context: Context::default(),
        packet: None,
        content: 0,
        kind,
    })
}

impl Made {
    pub(crate) fn device(mut self, id: u16) -> Self {
        self.0.device = DeviceId(id);
        self
    }
    pub(crate) fn len(mut self, len: u32) -> Self {
        self.0.len = len;
        self
    }
    pub(crate) fn segments(mut self, segs: u16) -> Self {
        self.0.gso.segs = segs;
        self
    }
    pub(crate) fn probe(mut self, id: u16) -> Self {
        self.0.probe = ProbeId(id);
        self
    }
    pub(crate) fn sock(mut self, id: u32) -> Self {
        self.0.sock = SockId(id);
        self
    }
}

impl From<Made> for Event {
    fn from(made: Made) -> Self {
        made.0
    }
}

pub(crate) fn journey(id: u64, steps: Vec<Event>) -> ClosedJourney {
    ClosedJourney {
        id: JourneyId(id),
        skb: SkbId::default(),
        steps,
        headers: Vec::new(),
        flow: None,
        outcome: Outcome::Delivered,
        ambiguous: None,
        lineage: Vec::new(),
        clone: false,
    }
}

/// Devices as (id, name, namespace inode).
pub(crate) fn devices(list: &[(u16, &str, u32)]) -> Tables {
    let mut tables = Tables::default();
    for &(id, name, netns) in list {
        tables.apply(&Fact::Device(DeviceFact {
            id,
            name: name.to_owned(),
            netns,
            ..DeviceFact::default()
        }));
    }
    tables
}

pub(crate) fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("IPv4 address")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// IPv4 headers around `transport`; `end` is `address:port`.
fn over_ip(
    src: &str,
    dst: &str,
    protocol: u8,
    transport: Transport,
    transport_len: u16,
    payload: u32,
) -> Headers {
    let host = |end: &str| v4(end.split(':').next().unwrap_or(end));
    Headers {
        ether_type: 0x0800,
        network: Network::V4(Ipv4 {
            src: host(src),
            dst: host(dst),
            protocol,
            ttl: 64,
            tos: 0,
            total_len: (20 + u32::from(transport_len) + payload).min(65535) as u16,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            header_len: 20,
            checksum: 0,
        }),
        transport,
        payload_len: payload,
        ..Headers::default()
    }
}

fn port(end: &str) -> u16 {
    end.split(':').nth(1).map_or(0, |p| p.parse().expect("port"))
}

pub(crate) fn tcp(src: &str, dst: &str, flags: u16, seq: u32, ack: u32, payload: u32) -> Headers {
    let tcp = Tcp {
        sport: port(src),
        dport: port(dst),
        seq,
        ack,
        flags,
        window: 64240,
        header_len: 20,
        checksum: 0,
        options: TcpOptions::default(),
    };
    over_ip(src, dst, 6, Transport::Tcp(tcp), 20, payload)
}

pub(crate) fn udp(src: &str, dst: &str, payload: u32) -> Headers {
    let udp = Udp { sport: port(src), dport: port(dst), len: (8 + payload) as u16, checksum: 0 };
    over_ip(src, dst, 17, Transport::Udp(udp), 8, payload)
}

pub(crate) fn icmp(src: &str, dst: &str, icmp: Icmp) -> Headers {
    over_ip(src, dst, 1, Transport::Icmp(icmp), 8, 0)
}

pub(crate) fn with_ttl(mut headers: Headers, ttl: u8) -> Headers {
    if let Network::V4(ip) = &mut headers.network {
        ip.ttl = ttl;
    }
    headers
}

pub(crate) fn with_mac(mut headers: Headers, src: [u8; 6]) -> Headers {
    headers.ethernet = Some(Ethernet { dst: [2, 0, 0, 0, 0, 99], src });
    headers
}

/// An ARP packet in an Ethernet frame sent by `mac`.
pub(crate) fn arp(
    opcode: u16,
    mac: [u8; 6],
    sender: &str,
    target_mac: [u8; 6],
    target: &str,
) -> Headers {
    let dst = if opcode == 1 || target_mac == [0; 6] { [0xff; 6] } else { target_mac };
    Headers {
        ethernet: Some(Ethernet { dst, src: mac }),
        ether_type: 0x0806,
        network: Network::Arp(Arp {
            opcode,
            sender_mac: mac,
            sender: v4(sender),
            target_mac,
            target: v4(target),
        }),
        ..Headers::default()
    }
}

/// Feeds observers by hand: a manifest, facts, and packets as a capture would have them.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) manifest: Manifest,
    pub(crate) tables: Tables,
    pub(crate) journeys: u64,
}

impl Feed {
    /// A captured frame, direction not known; returns its journey.
    pub(crate) fn frame(&mut self, observer: &mut dyn Observer, at: u64, headers: &Headers) -> u64 {
        let len = match headers.network {
            Network::V4(ip) => u32::from(ip.total_len) + 14,
            _ => 60,
        };
        self.step(observer, event(at, EventKind::Captured { direction: 0 }).len(len), headers, true)
    }

    /// A captured Ethernet frame as it is on the wire.
    pub(crate) fn wire(&mut self, observer: &mut dyn Observer, at: u64, bytes: &[u8]) -> u64 {
        self.journeys += 1;
        let len = bytes.len() as u32;
        let headers = packet::decode(LinkType::ETHERNET, bytes, len);
        let event: Event = event(at, EventKind::Captured { direction: 0 }).len(len).into();
        let sighting = Sighting {
            event: &event,
            bytes,
            headers: Some(&headers),
            fresh: true,
            journey: Some(JourneyId(self.journeys)),
            opens: true,
        };
        observer.sighting(
            World { manifest: &self.manifest, tables: &self.tables, start: None },
            &sighting,
        );
        self.journeys
    }

    /// One sighting; `opens` starts a new journey, else it belongs to the last one.
    pub(crate) fn step(
        &mut self,
        observer: &mut dyn Observer,
        made: Made,
        headers: &Headers,
        opens: bool,
    ) -> u64 {
        self.journeys += u64::from(opens);
        let event: Event = made.into();
        let sighting = Sighting {
            event: &event,
            bytes: &[],
            headers: Some(headers),
            fresh: opens,
            journey: Some(JourneyId(self.journeys)),
            opens,
        };
        observer.sighting(
            World { manifest: &self.manifest, tables: &self.tables, start: None },
            &sighting,
        );
        self.journeys
    }

    /// An event without an skb.
    pub(crate) fn bare(&mut self, observer: &mut dyn Observer, made: Made) {
        let mut event: Event = made.into();
        event.skb = SkbAddr(0);
        let sighting = Sighting {
            event: &event,
            bytes: &[],
            headers: None,
            fresh: false,
            journey: None,
            opens: false,
        };
        observer.sighting(
            World { manifest: &self.manifest, tables: &self.tables, start: None },
            &sighting,
        );
    }

    pub(crate) fn close(&mut self, observer: &mut dyn Observer, journey: &ClosedJourney) {
        observer
            .closed(World { manifest: &self.manifest, tables: &self.tables, start: None }, journey);
    }
}
