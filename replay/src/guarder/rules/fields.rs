//! Which fields of the expression language a packet in the kernel has, and as which keys.

use std::fmt::Write;

use psc_formats::guard::Key;

use crate::expr::{FIELDS, Field, Scope, Type};

/// How a field is read from keys.
#[derive(Clone, Copy)]
pub(super) enum Lowered {
    /// The values of these keys; the first is there whenever one is.
    Plain(&'static [Key]),
    /// A name that a packet has exactly when it has this key.
    Present(Key),
    /// A value computed from a small key.
    Derived(Key, fn(u64) -> u64),
}

/// How `field` is read from keys; else why it cannot be.
pub(super) fn lower(field: &Field) -> Result<Lowered, String> {
    use Key::{
        ArpDiffers, ArpOpcode, ArpSender, ArpSenderMac, ArpTarget, ArpTargetMac, Cut, EthDst,
        EthSrc, EthType, FrameLen, Icmp6Code, Icmp6Type, IcmpCode, IcmpIdent, IcmpSeq, IcmpType,
        IpChecksum, IpDst, IpFragment, IpHdrLen, IpId, IpLen, IpProto, IpSrc, IpTos, IpTtl,
        Malformed, QuotedDst, QuotedDstPort, QuotedProto, QuotedSrc, QuotedSrcPort, QuotedV6Dst,
        QuotedV6Src, SctpDstPort, SctpSrcPort, TcpAck, TcpChecksum, TcpDstPort, TcpFlags,
        TcpHdrLen, TcpLen, TcpMss, TcpSeq, TcpSrcPort, TcpWindow, TcpWindowScale, UdpChecksum,
        UdpDstPort, UdpLen, UdpSrcPort, V6Dst, V6Flow, V6HopLimit, V6Next, V6PayloadLen, V6Src,
        V6TrafficClass, Vlan0, Vlan1,
    };
    use Lowered::{Derived, Plain, Present};
    Ok(match field.name {
        "frame.len" => Plain(&[FrameLen]),
        "frame.headers_cut" => Plain(&[Cut]),
        "malformed" => Present(Malformed),
        "eth" => Present(EthSrc),
        "eth.src" => Plain(&[EthSrc]),
        "eth.dst" => Plain(&[EthDst]),
        "eth.addr" => Plain(&[EthSrc, EthDst]),
        "eth.type" => Plain(&[EthType]),
        "vlan" => Present(Vlan0),
        "vlan.id" => Plain(&[Vlan0, Vlan1]),
        "arp" => Present(ArpOpcode),
        "arp.opcode" => Plain(&[ArpOpcode]),
        "arp.src.hw_mac" => Plain(&[ArpSenderMac]),
        "arp.src.proto_ipv4" => Plain(&[ArpSender]),
        "arp.dst.hw_mac" => Plain(&[ArpTargetMac]),
        "arp.dst.proto_ipv4" => Plain(&[ArpTarget]),
        "arp.sender_differs" => Plain(&[ArpDiffers]),
        "ip" => Present(IpProto),
        "ip.src" => Plain(&[IpSrc]),
        "ip.dst" => Plain(&[IpDst]),
        "ip.addr" => Plain(&[IpSrc, IpDst]),
        "ip.proto" => Plain(&[IpProto]),
        "ip.ttl" => Plain(&[IpTtl]),
        "ip.len" => Plain(&[IpLen]),
        "ip.hdr_len" => Plain(&[IpHdrLen]),
        "ip.id" => Plain(&[IpId]),
        "ip.dsfield.dscp" => Derived(IpTos, |tos| tos >> 2),
        "ip.dsfield.ecn" => Derived(IpTos, |tos| tos & 3),
        "ip.flags.df" => Derived(IpFragment, |word| word >> 14 & 1),
        "ip.flags.mf" => Derived(IpFragment, |word| word >> 13 & 1),
        "ip.frag_offset" => Derived(IpFragment, |word| (word & 0x1fff) * 8),
        "ip.checksum" => Plain(&[IpChecksum]),
        "ipv6" => Present(V6Next),
        "ipv6.src" => Plain(&[V6Src]),
        "ipv6.dst" => Plain(&[V6Dst]),
        "ipv6.addr" => Plain(&[V6Src, V6Dst]),
        "ipv6.nxt" => Plain(&[V6Next]),
        "ipv6.hlim" => Plain(&[V6HopLimit]),
        "ipv6.plen" => Plain(&[V6PayloadLen]),
        "ipv6.flow" => Plain(&[V6Flow]),
        "ipv6.tclass" => Plain(&[V6TrafficClass]),
        "tcp" => Present(TcpFlags),
        "tcp.srcport" => Plain(&[TcpSrcPort]),
        "tcp.dstport" => Plain(&[TcpDstPort]),
        "tcp.port" => Plain(&[TcpSrcPort, TcpDstPort]),
        "tcp.seq" => Plain(&[TcpSeq]),
        "tcp.ack" => Plain(&[TcpAck]),
        "tcp.len" => Plain(&[TcpLen]),
        "tcp.hdr_len" => Plain(&[TcpHdrLen]),
        "tcp.window_size_value" => Plain(&[TcpWindow]),
        "tcp.checksum" => Plain(&[TcpChecksum]),
        "tcp.flags" => Plain(&[TcpFlags]),
        "tcp.flags.fin" => Derived(TcpFlags, |flags| flags & 1),
        "tcp.flags.syn" => Derived(TcpFlags, |flags| flags >> 1 & 1),
        "tcp.flags.reset" | "tcp.flags.rst" => Derived(TcpFlags, |flags| flags >> 2 & 1),
        "tcp.flags.push" => Derived(TcpFlags, |flags| flags >> 3 & 1),
        "tcp.flags.ack" => Derived(TcpFlags, |flags| flags >> 4 & 1),
        "tcp.flags.urg" => Derived(TcpFlags, |flags| flags >> 5 & 1),
        "tcp.flags.ece" => Derived(TcpFlags, |flags| flags >> 6 & 1),
        "tcp.flags.cwr" => Derived(TcpFlags, |flags| flags >> 7 & 1),
        "tcp.options.mss_val" => Plain(&[TcpMss]),
        "tcp.options.wscale.shift" => Plain(&[TcpWindowScale]),
        "udp" => Present(UdpDstPort),
        "udp.srcport" => Plain(&[UdpSrcPort]),
        "udp.dstport" => Plain(&[UdpDstPort]),
        "udp.port" => Plain(&[UdpSrcPort, UdpDstPort]),
        "udp.length" => Plain(&[UdpLen]),
        "udp.checksum" => Plain(&[UdpChecksum]),
        "sctp" => Present(SctpDstPort),
        "sctp.port" => Plain(&[SctpSrcPort, SctpDstPort]),
        "icmp" => Present(IcmpType),
        "icmp.type" => Plain(&[IcmpType]),
        "icmp.code" => Plain(&[IcmpCode]),
        "icmp.ident" => Plain(&[IcmpIdent]),
        "icmp.seq" => Plain(&[IcmpSeq]),
        "icmpv6" => Present(Icmp6Type),
        "icmpv6.type" => Plain(&[Icmp6Type]),
        "icmpv6.code" => Plain(&[Icmp6Code]),
        "icmp.quoted" => Present(QuotedProto),
        "icmp.quoted.proto" => Plain(&[QuotedProto]),
        "icmp.quoted.ip.src" => Plain(&[QuotedSrc]),
        "icmp.quoted.ip.dst" => Plain(&[QuotedDst]),
        "icmp.quoted.ipv6.src" => Plain(&[QuotedV6Src]),
        "icmp.quoted.ipv6.dst" => Plain(&[QuotedV6Dst]),
        "icmp.quoted.srcport" => Plain(&[QuotedSrcPort]),
        "icmp.quoted.dstport" => Plain(&[QuotedDstPort]),
        name => {
            return Err(match (field.scope, field.kind) {
                (Scope::Headers, Type::Bytes) => {
                    format!("{name}: payload bytes are not searched in the kernel")
                }
                (Scope::Headers, _) => format!("{name} is not read in the kernel"),
                (Scope::Event, _) => {
                    format!(
                        "{name} belongs to an event of the recording, not to a packet on the wire"
                    )
                }
                (Scope::Journey, _) => format!("{name} is known when a packet's journey has ended"),
            });
        }
    })
}

/// The key of a field with one value, for counting distinct ones; else what is wrong.
pub(super) fn single_key(name: &str) -> Result<Key, String> {
    let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
        let nearest = crate::expr::nearest_field(name);
        return Err(format!("there is no field {}; the nearest is {nearest}", name.escape_debug()));
    };
    match lower(field) {
        Ok(Lowered::Plain([key])) => Ok(*key),
        Ok(Lowered::Plain(_)) => {
            Err(format!("{name} has several values; count one of them, as tcp.dstport or ip.src"))
        }
        Ok(_) => Err(format!("{name} has too few values to be counted")),
        Err(why) => Err(why),
    }
}

/// The reference page of all fields, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Fields\n\n\
         Fields of the expressions that `-f`, `match` in a rule, and expectations use. Names are Wireshark's \
         where it has them. This page is written from the table in `replay/src/expr/fields.rs`: \
         `psc guard fields` prints it.\n\n\
         *Where* says what can decide the field: **replay** is any recording or capture, **TC** and **XDP** are \
         a rule enforced in the kernel, on packets as long as their first 256 bytes hold the header. \
         *n* is a number, decimal or `0x` hexadecimal.\n\n\
         | Field | Type | Unit | Greatest | Where | What it is |\n\
         |---|---|---|---|---|---|\n",
    );
    for field in FIELDS {
        let max = match field.kind {
            Type::Number if field.max == u64::MAX => "–".to_owned(),
            Type::Number => field.max.to_string(),
            _ => "–".to_owned(),
        };
        let place = if lower(field).is_ok() { "replay, TC, XDP" } else { "replay" };
        let kind = field.kind.a().split_once(' ').map_or(field.kind.a(), |(article, rest)| {
            if matches!(article, "a" | "an") { rest } else { field.kind.a() }
        });
        let unit = if field.unit.is_empty() { "–" } else { field.unit };
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {unit} | {max} | {place} | {} |",
            field.name,
            field.doc.replace('|', "\\|")
        );
    }
    page.push_str("\n## Literals\n\n| Type | Written |\n|---|---|\n");
    for kind in [
        Type::Number,
        Type::Bool,
        Type::Duration,
        Type::V4,
        Type::V6,
        Type::Mac,
        Type::Text,
        Type::Bytes,
    ] {
        let _ = writeln!(page, "| {} | {} |", kind.a(), kind.literal());
    }
    page.push_str(
        "\n## Operators\n\n\
         `==` `!=` `<` `<=` `>` `>=`, `in {80 443 8000..8999}`, `contains \"text\"`, `&` with a mask \
         (`tcp.flags & 0x12 == 2`), and `and`, `or`, `not`, brackets. A field that a packet lacks makes a comparison false. \
         A field with several values (`ip.addr`, `tcp.port`) matches when one of them does, and `!=` when all differ. \
         A name alone asks whether the packet has it.\n",
    );
    page
}
