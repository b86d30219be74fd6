//! The table of fields: name, type, where it can be decided, and how it is read.

use std::borrow::Cow;
use std::net::IpAddr;

use psc_formats::event::SymbolId;
use psc_formats::packet::{Network, Quoted, Transport};

use super::subject::Subject;
use crate::engine::Outcome;
use crate::industrial::{Message, Protocol, messages};

/// What a field's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A name that a packet has or has not.
    Protocol,
    /// An unsigned integer.
    Number,
    /// 0 or 1.
    Bool,
    /// Nanoseconds, written with a unit.
    Duration,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// A 48-bit hardware address.
    Mac,
    /// A name.
    Text,
    /// Packet bytes, as far as they were recorded.
    Bytes,
}

impl Type {
    /// In words, with its article.
    pub fn a(self) -> &'static str {
        match self {
            Self::Protocol => "a protocol",
            Self::Number => "a number",
            Self::Bool => "a flag",
            Self::Duration => "a duration",
            Self::V4 => "an IPv4 address",
            Self::V6 => "an IPv6 address",
            Self::Mac => "a hardware address",
            Self::Text => "a name",
            Self::Bytes => "bytes",
        }
    }

    /// What its literals look like.
    pub fn literal(self) -> &'static str {
        match self {
            Self::Protocol => "nothing",
            Self::Number => "a number (443, 0x1bb)",
            Self::Bool => "0 or 1",
            Self::Duration => "a duration with its unit (5ms, 1.5s)",
            Self::V4 => "an IPv4 address or prefix (10.0.0.1, 10.0.0.0/8)",
            Self::V6 => "an IPv6 address or prefix (fe80::1, 2001:db8::/32)",
            Self::Mac => "a hardware address (02:00:00:00:00:01)",
            Self::Text => "a name (\"NO_SOCKET\")",
            Self::Bytes => "a string (\"GET /\")",
        }
    }
}

/// What must be known to decide a field; later ones include earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The packet's headers.
    Headers,
    /// The event.
    Event,
    /// The journey, which is known when it closes.
    Journey,
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Address(IpAddr),
    Mac([u8; 6]),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

/// Calls a test with values until one passes; whether one did.
type AnyOf = for<'a> fn(&Subject<'a>, &mut dyn FnMut(Value<'a>) -> bool) -> bool;

/// How a field is read.
#[derive(Clone, Copy, Debug)]
enum Read {
    One(for<'a> fn(&Subject<'a>) -> Option<Value<'a>>),
    Any(AnyOf),
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// As written in expressions.
    pub name: &'static str,
    /// What its values are.
    pub kind: Type,
    /// Unit of its values; empty when they have none.
    pub unit: &'static str,
    /// Greatest value of a number.
    pub max: u64,
    /// Where it can be decided.
    pub scope: Scope,
    /// What it is, in one line.
    pub doc: &'static str,
    read: Read,
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Field {
    /// Whether one of the values passes.
    pub(super) fn any<'a>(
        &self,
        subject: &Subject<'a>,
        test: &mut dyn FnMut(Value<'a>) -> bool,
    ) -> bool {
        match self.read {
            Read::One(read) => read(subject).is_some_and(test),
            Read::Any(read) => read(subject, test),
        }
    }
}

/// The field of that name.
pub(super) fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// The field whose name is nearest; the first of the table where several are.
pub(crate) fn nearest(name: &str) -> &'static str {
    // Nobody mistypes a name into one this long, and the distance is quadratic.
    let name: Vec<char> = name.chars().take(64).collect();
    FIELDS.iter().min_by_key(|field| distance(&name, field.name)).map_or("", |field| field.name)
}

/// Levenshtein distance.
pub(crate) fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, cb) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, ca) in a.iter().enumerate() {
            let change = diagonal + usize::from(*ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

const U8: u64 = u8::MAX as u64;
const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;

const fn field(
    name: &'static str,
    kind: Type,
    unit: &'static str,
    max: u64,
    scope: Scope,
    doc: &'static str,
    read: Read,
) -> Field {
    Field { name, kind, unit, max, scope, doc, read }
}

fn number(value: impl Into<u64>) -> Value<'static> {
    Value::Number(value.into())
}

fn text(value: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(value))
}

fn quoted<'a>(s: &Subject<'a>) -> Option<&'a Quoted> {
    s.any_icmp()?.quoted.as_ref()
}

fn ports(s: &Subject<'_>, protocol: u8) -> Option<(u16, u16)> {
    let tuple = s.headers?.tuple()?;
    (tuple.protocol == protocol && !matches!(s.headers?.transport, Transport::None))
        .then_some((tuple.sport, tuple.dport))
}

fn function<'a>(s: &Subject<'a>, id: SymbolId) -> Option<Value<'a>> {
    s.world.tables.symbols.get(&id).map(|symbol| text(&symbol.name))
}

fn flag(s: &Subject<'_>, bit: u16) -> Option<Value<'static>> {
    s.tcp().map(|tcp| number(tcp.flags & bit != 0))
}

/// Whether a message of an industrial protocol that is whole in the packet passes; its function is told
/// without `marked`, the bit that sets one kind of function apart, which the message must have.
fn spoken(
    s: &Subject<'_>,
    protocol: Protocol,
    marked: u16,
    test: &mut dyn FnMut(&Message) -> bool,
) -> bool {
    let (Some(headers), Some(payload)) = (s.headers, s.payload()) else { return false };
    let payload = &payload[..payload.len().min(headers.payload_len as usize)];
    messages(headers, payload, protocol).iter().any(|message| {
        message.function & 0x100 == marked
            && test(&Message { function: message.function & !marked, ..*message })
    })
}

macro_rules! fields {
    ($( $name:literal $kind:ident $unit:literal $max:expr, $scope:ident $doc:literal $how:ident $read:expr; )*) => {
        &[$( field($name, Type::$kind, $unit, $max, Scope::$scope, $doc, Read::$how($read)) ),*]
    };
}

/// Every field, packets from the outside in, then events, then journeys.
#[rustfmt::skip]
pub static FIELDS: &[Field] = fields! {
    "frame" Bytes "" 0, Headers "the recorded bytes of the packet" One |s| (!s.bytes.is_empty()).then_some(Value::Bytes(s.bytes));
    "frame.len" Number "bytes" U32, Event "wire length; for events without packet bytes skb->len" One |s| s.event.map(|e| number(e.packet.map_or(e.len, |p| p.len)));
    "frame.cap_len" Number "bytes" U32, Event "bytes recorded of the packet" One |s| s.event?.packet.map(|p| number(p.caplen));
    "frame.headers_cut" Bool "" 1, Headers "the headers go on beyond the bytes that were recorded (or, live, beyond the first 256)" One |s| s.headers.map(|h| number(h.cut));
    "frame.time_relative" Duration "" u64::MAX, Event "since the first event of the recording" One |s| s.relative().map(Value::Number);

    "eth" Protocol "" 0, Headers "Ethernet" One |s| s.headers?.ethernet.map(|_| number(1_u8));
    "eth.src" Mac "" 0, Headers "Ethernet source" One |s| s.headers?.ethernet.map(|e| Value::Mac(e.src));
    "eth.dst" Mac "" 0, Headers "Ethernet destination" One |s| s.headers?.ethernet.map(|e| Value::Mac(e.dst));
    "eth.addr" Mac "" 0, Headers "Ethernet source or destination" Any |s, test| s.headers.and_then(|h| h.ethernet).is_some_and(|e| test(Value::Mac(e.src)) || test(Value::Mac(e.dst)));
    "eth.type" Number "" U16, Headers "EtherType, after VLAN tags" One |s| s.headers.filter(|h| h.ether_type != 0).map(|h| number(h.ether_type));
    "vlan" Protocol "" 0, Headers "802.1Q or 802.1ad tag" One |s| s.headers?.vlans[0].map(|_| number(1_u8));
    "vlan.id" Number "" 4095, Headers "VLAN id, of each tag" Any |s, test| s.headers.is_some_and(|h| h.vlans.into_iter().flatten().any(|id| test(number(id))));

    "arp" Protocol "" 0, Headers "ARP" One |s| s.arp().map(|_| number(1_u8));
    "arp.opcode" Number "" U16, Headers "1 request, 2 reply" One |s| s.arp().map(|a| number(a.opcode));
    "arp.src.hw_mac" Mac "" 0, Headers "ARP sender hardware address" One |s| s.arp().map(|a| Value::Mac(a.sender_mac));
    "arp.src.proto_ipv4" V4 "" 0, Headers "ARP sender address" One |s| s.arp().map(|a| Value::Address(a.sender.into()));
    "arp.dst.hw_mac" Mac "" 0, Headers "ARP target hardware address" One |s| s.arp().map(|a| Value::Mac(a.target_mac));
    "arp.dst.proto_ipv4" V4 "" 0, Headers "ARP target address" One |s| s.arp().map(|a| Value::Address(a.target.into()));

    "ip" Protocol "" 0, Headers "IPv4" One |s| s.v4().map(|_| number(1_u8));
    "ip.src" V4 "" 0, Headers "IPv4 source" One |s| s.v4().map(|ip| Value::Address(ip.src.into()));
    "ip.dst" V4 "" 0, Headers "IPv4 destination" One |s| s.v4().map(|ip| Value::Address(ip.dst.into()));
    "ip.addr" V4 "" 0, Headers "IPv4 source or destination" Any |s, test| s.v4().is_some_and(|ip| test(Value::Address(ip.src.into())) || test(Value::Address(ip.dst.into())));
    "ip.proto" Number "" U8, Headers "IPv4 protocol number" One |s| s.v4().map(|ip| number(ip.protocol));
    "ip.ttl" Number "hops" U8, Headers "time to live" One |s| s.v4().map(|ip| number(ip.ttl));
    "ip.len" Number "bytes" U16, Headers "IPv4 total length field" One |s| s.v4().map(|ip| number(ip.total_len));
    "ip.hdr_len" Number "bytes" 60, Headers "IPv4 header with options" One |s| s.v4().map(|ip| number(ip.header_len));
    "ip.id" Number "" U16, Headers "IPv4 identification" One |s| s.v4().map(|ip| number(ip.id));
    "ip.dsfield.dscp" Number "" 63, Headers "differentiated services code point" One |s| s.v4().map(|ip| number(ip.tos >> 2));
    "ip.dsfield.ecn" Number "" 3, Headers "explicit congestion notification" One |s| s.v4().map(|ip| number(ip.tos & 3));
    "ip.flags.df" Bool "" 1, Headers "don't fragment" One |s| s.v4().map(|ip| number(ip.dont_fragment));
    "ip.flags.mf" Bool "" 1, Headers "more fragments" One |s| s.v4().map(|ip| number(ip.more_fragments));
    "ip.frag_offset" Number "bytes" U16, Headers "fragment offset" One |s| s.v4().map(|ip| number(ip.fragment_offset));
    "ip.checksum" Number "" U16, Headers "IPv4 header checksum field" One |s| s.v4().map(|ip| number(ip.checksum));

    "ipv6" Protocol "" 0, Headers "IPv6" One |s| s.v6().map(|_| number(1_u8));
    "ipv6.src" V6 "" 0, Headers "IPv6 source" One |s| s.v6().map(|ip| Value::Address(ip.src.into()));
    "ipv6.dst" V6 "" 0, Headers "IPv6 destination" One |s| s.v6().map(|ip| Value::Address(ip.dst.into()));
    "ipv6.addr" V6 "" 0, Headers "IPv6 source or destination" Any |s, test| s.v6().is_some_and(|ip| test(Value::Address(ip.src.into())) || test(Value::Address(ip.dst.into())));
    "ipv6.nxt" Number "" U8, Headers "upper-layer protocol, after extension headers" One |s| s.v6().map(|ip| number(ip.protocol));
    "ipv6.hlim" Number "hops" U8, Headers "hop limit" One |s| s.v6().map(|ip| number(ip.hop_limit));
    "ipv6.plen" Number "bytes" U16, Headers "payload length field" One |s| s.v6().map(|ip| number(ip.payload_len));
    "ipv6.flow" Number "" 0xf_ffff, Headers "flow label" One |s| s.v6().map(|ip| number(ip.flow_label));
    "ipv6.tclass" Number "" U8, Headers "traffic class" One |s| s.v6().map(|ip| number(ip.traffic_class));

    "tcp" Protocol "" 0, Headers "TCP" One |s| s.tcp().map(|_| number(1_u8));
    "tcp.srcport" Number "" U16, Headers "TCP source port" One |s| s.tcp().map(|t| number(t.sport));
    "tcp.dstport" Number "" U16, Headers "TCP destination port" One |s| s.tcp().map(|t| number(t.dport));
    "tcp.port" Number "" U16, Headers "TCP source or destination port" Any |s, test| s.tcp().is_some_and(|t| test(number(t.sport)) || test(number(t.dport)));
    "tcp.seq" Number "" U32, Headers "sequence number, as on the wire" One |s| s.tcp().map(|t| number(t.seq));
    "tcp.ack" Number "" U32, Headers "acknowledgement number, as on the wire" One |s| s.tcp().filter(|t| t.flags & 0x10 != 0).map(|t| number(t.ack));
    "tcp.len" Number "bytes" U32, Headers "TCP payload; of a GSO skb, all its segments" One |s| s.tcp().and(s.headers).map(|h| number(h.payload_len));
    "tcp.hdr_len" Number "bytes" 60, Headers "TCP header with options" One |s| s.tcp().map(|t| number(t.header_len));
    "tcp.window_size_value" Number "" U16, Headers "window field, unscaled" One |s| s.tcp().map(|t| number(t.window));
    "tcp.checksum" Number "" U16, Headers "TCP checksum field; of outgoing packets often not yet filled in" One |s| s.tcp().map(|t| number(t.checksum));
    "tcp.flags" Number "" 0x1ff, Headers "all TCP flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 0x10, URG 0x20, ECE 0x40, CWR 0x80" One |s| s.tcp().map(|t| number(t.flags));
    "tcp.flags.fin" Bool "" 1, Headers "FIN" One |s| flag(s, 0x01);
    "tcp.flags.syn" Bool "" 1, Headers "SYN" One |s| flag(s, 0x02);
    "tcp.flags.reset" Bool "" 1, Headers "RST" One |s| flag(s, 0x04);
    "tcp.flags.rst" Bool "" 1, Headers "RST, by its usual name" One |s| flag(s, 0x04);
    "tcp.flags.push" Bool "" 1, Headers "PSH" One |s| flag(s, 0x08);
    "tcp.flags.ack" Bool "" 1, Headers "ACK" One |s| flag(s, 0x10);
    "tcp.flags.urg" Bool "" 1, Headers "URG" One |s| flag(s, 0x20);
    "tcp.flags.ece" Bool "" 1, Headers "ECE" One |s| flag(s, 0x40);
    "tcp.flags.cwr" Bool "" 1, Headers "CWR" One |s| flag(s, 0x80);
    "tcp.options.mss_val" Number "bytes" U16, Headers "maximum segment size option" One |s| s.tcp()?.options.mss.map(number);
    "tcp.options.wscale.shift" Number "" U8, Headers "window scale option" One |s| s.tcp()?.options.window_scale.map(number);
    "tcp.payload" Bytes "" 0, Headers "recorded bytes of the TCP payload" One |s| s.tcp().and(s.payload()).map(Value::Bytes);

    "udp" Protocol "" 0, Headers "UDP" One |s| s.udp().map(|_| number(1_u8));
    "udp.srcport" Number "" U16, Headers "UDP source port" One |s| s.udp().map(|u| number(u.sport));
    "udp.dstport" Number "" U16, Headers "UDP destination port" One |s| s.udp().map(|u| number(u.dport));
    "udp.port" Number "" U16, Headers "UDP source or destination port" Any |s, test| s.udp().is_some_and(|u| test(number(u.sport)) || test(number(u.dport)));
    "udp.length" Number "bytes" U16, Headers "UDP length field" One |s| s.udp().map(|u| number(u.len));
    "udp.checksum" Number "" U16, Headers "UDP checksum field" One |s| s.udp().map(|u| number(u.checksum));
    "udp.payload" Bytes "" 0, Headers "recorded bytes of the UDP payload" One |s| s.udp().and(s.payload()).map(Value::Bytes);
    "sctp" Protocol "" 0, Headers "SCTP" One |s| ports(s, 132).map(|_| number(1_u8));
    "sctp.port" Number "" U16, Headers "SCTP source or destination port" Any |s, test| ports(s, 132).is_some_and(|(from, to)| test(number(from)) || test(number(to)));

    "icmp" Protocol "" 0, Headers "ICMP" One |s| s.icmp().map(|_| number(1_u8));
    "icmp.type" Number "" U8, Headers "ICMP type" One |s| s.icmp().map(|i| number(i.icmp_type));
    "icmp.code" Number "" U8, Headers "ICMP code" One |s| s.icmp().map(|i| number(i.code));
    "icmp.ident" Number "" U16, Headers "ICMP echo identifier" One |s| s.icmp().filter(|i| matches!(i.icmp_type, 0 | 8)).map(|i| number(i.rest >> 16));
    "icmp.seq" Number "" U16, Headers "ICMP echo sequence number" One |s| s.icmp().filter(|i| matches!(i.icmp_type, 0 | 8)).map(|i| number(i.rest & 0xffff));
    "icmpv6" Protocol "" 0, Headers "ICMPv6" One |s| s.icmpv6().map(|_| number(1_u8));
    "icmpv6.type" Number "" U8, Headers "ICMPv6 type" One |s| s.icmpv6().map(|i| number(i.icmp_type));
    "icmpv6.code" Number "" U8, Headers "ICMPv6 code" One |s| s.icmpv6().map(|i| number(i.code));
    "icmp.quoted" Protocol "" 0, Headers "an ICMP or ICMPv6 error that quotes a packet" One |s| quoted(s).map(|_| number(1_u8));
    "icmp.quoted.proto" Number "" U8, Headers "protocol of the quoted packet" One |s| quoted(s).map(|q| number(q.tuple.protocol));
    "icmp.quoted.ip.src" V4 "" 0, Headers "source of the quoted IPv4 packet" One |s| quoted(s).filter(|q| q.tuple.src.is_ipv4()).map(|q| Value::Address(q.tuple.src));
    "icmp.quoted.ip.dst" V4 "" 0, Headers "destination of the quoted IPv4 packet" One |s| quoted(s).filter(|q| q.tuple.dst.is_ipv4()).map(|q| Value::Address(q.tuple.dst));
    "icmp.quoted.ipv6.src" V6 "" 0, Headers "source of the quoted IPv6 packet" One |s| quoted(s).filter(|q| q.tuple.src.is_ipv6()).map(|q| Value::Address(q.tuple.src));
    "icmp.quoted.ipv6.dst" V6 "" 0, Headers "destination of the quoted IPv6 packet" One |s| quoted(s).filter(|q| q.tuple.dst.is_ipv6()).map(|q| Value::Address(q.tuple.dst));
    "icmp.quoted.srcport" Number "" U16, Headers "source port of the quoted packet" One |s| quoted(s).map(|q| number(q.tuple.sport));
    "icmp.quoted.dstport" Number "" U16, Headers "destination port of the quoted packet" One |s| quoted(s).map(|q| number(q.tuple.dport));
    "modbus.func_code" Number "" U8, Headers "Modbus/TCP function, of each message whole in the packet" Any |s, test| spoken(s, Protocol::Modbus, 0, &mut |m| test(number(m.function)));
    "modbus.reference_num" Number "" U16, Headers "first address asked for by Modbus/TCP" Any |s, test| spoken(s, Protocol::Modbus, 0, &mut |m| m.address.is_some_and(|(first, _)| test(number(first))));
    "modbus.exception_code" Number "" U8, Headers "Modbus/TCP exception" Any |s, test| spoken(s, Protocol::Modbus, 0, &mut |m| m.refused.is_some_and(|code| test(number(code))));
    "mbtcp.unit_id" Number "" U8, Headers "Modbus/TCP unit" Any |s, test| spoken(s, Protocol::Modbus, 0, &mut |m| test(number(m.unit)));
    "dnp3.al.func" Number "" U8, Headers "DNP3 application function" Any |s, test| spoken(s, Protocol::Dnp3, 0, &mut |m| test(number(m.function)));
    "s7comm.param.func" Number "" U8, Headers "S7comm job function" Any |s, test| spoken(s, Protocol::S7comm, 0, &mut |m| test(number(m.function)));
    "enip.command" Number "" U16, Headers "EtherNet/IP encapsulation command" Any |s, test| spoken(s, Protocol::Enip, 0, &mut |m| test(number(m.function)));
    "cip.service" Number "" U8, Headers "CIP service, without the bit that marks answers" Any |s, test| spoken(s, Protocol::Enip, 0x100, &mut |m| test(number(m.function)));
    "iec60870_asdu.typeid" Number "" U8, Headers "IEC 60870-5-104 type" Any |s, test| spoken(s, Protocol::Iec104, 0, &mut |m| test(number(m.function)));
    "iec60870_asdu.addr" Number "" U16, Headers "IEC 60870-5-104 common address" Any |s, test| spoken(s, Protocol::Iec104, 0, &mut |m| test(number(m.unit)));
    "bacapp.confirmed_service" Number "" U8, Headers "BACnet confirmed service" Any |s, test| spoken(s, Protocol::Bacnet, 0, &mut |m| test(number(m.function)));
    "bacapp.unconfirmed_service" Number "" U8, Headers "BACnet unconfirmed service" Any |s, test| spoken(s, Protocol::Bacnet, 0x100, &mut |m| test(number(m.function)));
    "malformed" Protocol "" 0, Headers "a header contradicts itself or the length" One |s| s.headers?.malformed.map(|_| number(1_u8));
    "arp.sender_differs" Bool "" 1, Headers "the Ethernet source is not the ARP sender" One |s| match (s.headers?.ethernet, s.headers?.network) { (Some(e), Network::Arp(a)) => Some(number(e.src != a.sender_mac)), _ => None };

    "event.kind" Text "" 0, Event "what the probe saw: Receive, DeviceQueue, Free..." One |s| s.event.map(|e| text(e.kind.name()));
    "event.cpu" Number "" U16, Event "CPU the probe ran on" One |s| s.event.map(|e| number(e.cpu));
    "event.context" Text "" 0, Event "task, softirq or hardirq" One |s| match s.event?.context { psc_formats::Context::Task(_) => Some(text("task")), psc_formats::Context::Softirq => Some(text("softirq")), psc_formats::Context::Hardirq => Some(text("hardirq")), psc_formats::Context::Unknown => None };
    "probe.name" Text "" 0, Event "probe as the manifest names it: skb:kfree_skb" One |s| s.event.map(|e| text(s.world.manifest.probe_name(e.probe)));
    "probe.layer" Text "" 0, Event "layer that the probe observes" One |s| s.world.manifest.probes.get(s.event?.probe.0 as usize).map(|p| text(p.layer.name()));
    "step.function" Text "" 0, Event "each function of the kernel stack" Any |s, test| s.event.and_then(|e| s.world.tables.stacks.get(&e.stack.id)).is_some_and(|stack| stack.frames.iter().filter_map(|&frame| function(s, SymbolId(frame))).any(test));
    "device.name" Text "" 0, Event "network device" One |s| s.world.tables.devices.get(&s.event?.device).map(|d| text(&d.name));
    "device.ifindex" Number "" U32, Event "interface index" One |s| s.world.tables.devices.get(&s.event?.device).map(|d| number(d.ifindex));
    "netns" Text "" 0, Event "network namespace of the device: its name, or its inode number" Any |s, test| s.event.and_then(|e| s.world.tables.devices.get(&e.device)).is_some_and(|d| (!d.netns_name.is_empty() && test(text(&d.netns_name))) || test(Value::Text(d.netns.to_string().into())));
    "skb.len" Number "bytes" U32, Event "skb->len; a GSO skb counts once" One |s| s.event.filter(|e| e.skb.0 != 0).map(|e| number(e.len));
    "skb.iif" Number "" U32, Event "interface index the packet came in by, 0 when made here" One |s| s.event.filter(|e| e.skb.0 != 0).map(|e| number(e.iif));
    "skb.segments" Number "" U32, Event "wire segments that the skb stands for" One |s| s.event.filter(|e| e.skb.0 != 0).map(|e| number(e.gso.segments()));
    "socket.process" Text "" 0, Event "name of the process that owns the socket, else of the task running" One |s| s.process().map(|(comm, _)| text(comm));
    "socket.pid" Number "" U32, Event "process id of the same" One |s| s.process().map(|(_, pid)| number(pid));
    "free.reason" Text "" 0, Event "reason of a kfree_skb, drop or not" One |s| s.free().map(|(reason, _)| Value::Text(s.world.manifest.drop_reason(reason).into()));
    "free.function" Text "" 0, Event "function that called kfree_skb" One |s| s.free().and_then(|(_, location)| function(s, location));

    "drop.reason" Text "" 0, Journey "why the packet was dropped" One |s| s.drop().map(|(reason, _)| Value::Text(s.world.manifest.drop_reason(reason).into()));
    "drop.function" Text "" 0, Journey "function that dropped the packet" One |s| s.drop().and_then(|(_, location)| function(s, location));
    "drop.location" Text "" 0, Journey "where the packet was dropped: function+offset" One |s| s.drop().map(|(_, location)| Value::Text(s.world.tables.location(location).into()));
    "journey.id" Number "" u64::MAX, Journey "number of the journey" One |s| s.journey.map(|j| number(j.id.0));
    "journey.latency" Duration "" u64::MAX, Journey "last step minus first; to its read, when it was read" One |s| s.journey.map(|j| number(j.duration()));
    "journey.steps" Number "" u64::MAX, Journey "steps of the journey" One |s| s.journey.map(|j| number(j.steps.len() as u64));
    "journey.outcome" Text "" 0, Journey "delivered, dropped or unknown" One |s| s.journey.map(|j| text(match j.outcome { Outcome::Delivered => "delivered", Outcome::Dropped { .. } => "dropped", Outcome::EndNotObserved => "unknown" }));
    "journey.ambiguous" Bool "" 1, Journey "its identity could not be settled" One |s| s.journey.map(|j| number(j.ambiguous.is_some()));
};
