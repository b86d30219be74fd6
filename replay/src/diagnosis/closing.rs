//! Resets: those that a server sends on purpose, and those that somebody else sends in its name.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use psc_formats::event::DeviceId;
use psc_formats::manifest::Layer;

use super::case::{Case, counted, service};
use super::endings::reset_reason;
use super::rule::{Find, Found, Rule};
use super::seen::Times;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "foreign-reset",
        layer: Layer::Transport,
        severity: "high",
        looks_at: "resets that first appear at a device of another namespace than the one that has their source address",
        cause: "something on the path ends connections with resets in the name of one end",
        silent_on: "resets of the ends themselves, filters that reject (told as such), address translation",
        references: &["RFC 5961 section 1", "RFC 3360"],
        find: Find::Own(foreign),
    },
    Rule {
        id: "abortive-close",
        layer: Layer::Socket,
        severity: "medium",
        looks_at: "resets sent by the serving end for TCP_STATE, TCP_DISCONNECT_WITH_DATA or TCP_ABORT_ON_LINGER before it answered anything",
        cause: "the serving application resets connections instead of answering (SO_LINGER of 0, or it was ended)",
        silent_on: "servers that reset after their answer, clients that reset",
        references: &["socket(7) SO_LINGER", "net/ipv4/tcp.c __tcp_close, tcp_disconnect"],
        find: Find::Own(abortive),
    },
];

/// When it happened, and a few examples.
type Told = (Times, Vec<String>);

fn foreign(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<(IpAddr, u16, u32, DeviceId), Told> = BTreeMap::new();
    let mut flows = Vec::new();
    for connection in case.connections() {
        let tuple = connection.tuple;
        if !connection.syn_ack || case.is_explained(tuple) {
            continue;
        }
        for (side, ends) in connection.sides.iter().zip([tuple, tuple.reversed()]) {
            let at = case.tables.devices.get(&side.reset_at).map_or(0, |device| device.netns);
            let Some(owner) = case.owner(ends.src) else { continue };
            // Everything else of this end has to come from where the address is: no translation.
            if side.reset.is_none()
                || at == 0
                || at == owner.netns
                || side.first_at == side.reset_at
            {
                continue;
            }
            let first = case.tables.devices.get(&side.first_at).map_or(0, |device| device.netns);
            if first != owner.netns {
                continue;
            }
            let sent = case.seen.sockets.resets().into_iter().any(|(reset, _)| reset.tuple == ends);
            if sent {
                continue;
            }
            let key = (tuple.dst, tuple.dport, at, side.reset_at);
            let row = rows.entry(key).or_default();
            row.0.merge(&Times { count: 1, ..connection.times.clone() });
            if row.1.len() < 3 {
                row.1.push(format!(
                    "{tuple}: the reset of {} first appeared at {}; namespace {} has that address and sent none.",
                    SocketAddr::new(ends.src, ends.sport),
                    case.place(at, side.reset_at),
                    owner.name
                ));
            }
            flows.push(tuple);
        }
    }
    for flow in flows {
        case.explain_flow(flow);
    }
    rows.into_iter()
        .map(|((address, port, netns, device), (times, evidence))| {
            let place = case.place(netns, device);
            Found {
                title: format!(
                    "{} to {} {} ended by a reset that neither end sent: it comes from {place}.",
                    counted(times.count, "connection"),
                    SocketAddr::new(address, port),
                    super::case::were(times.count)
                ),
                evidence,
                advice: format!(
                    "What sends at {place}? A filter with `reject with tcp reset`, an intrusion prevention or proxy, a load balancer \
                     that timed out, or an attack; `psc trace -f 'tcp.flags.reset == 1'` shows the packets."
                ),
                targets: vec![place, service(6, address, port)],
                times,
                ..Found::default()
            }
        })
        .collect()
}

fn abortive(case: &mut Case<'_>) -> Vec<Found> {
    let mut rows: BTreeMap<(IpAddr, u16, String), Told> = BTreeMap::new();
    let mut flows = Vec::new();
    for (reset, times) in case.seen.sockets.resets() {
        let reason = reset_reason(case, reset);
        let Some(connection) = case.seen.connections.get(reset.tuple) else { continue };
        let serves =
            (reset.tuple.src, reset.tuple.sport) == (connection.tuple.dst, connection.tuple.dport);
        if !["TCP_STATE", "DISCONNECT_WITH_DATA", "ABORT_ON_LINGER"]
            .iter()
            .any(|r| reason.contains(r))
            || !serves
            || !connection.whole
            || connection.sides[0].bytes == 0
            || connection.sides[1].bytes > 0
            || case.is_explained(connection.tuple)
        {
            continue;
        }
        let key = (connection.tuple.dst, connection.tuple.dport, reason.to_owned());
        let row = rows.entry(key).or_default();
        row.0.merge(&Times { journeys: connection.times.journeys.clone(), ..times.clone() });
        if row.1.len() < 3 {
            row.1.push(format!(
                "{}: reset after {} bytes from the client and none from the server.",
                connection.tuple, connection.sides[0].bytes
            ));
        }
        flows.push(connection.tuple);
    }
    for flow in flows {
        case.explain_flow(flow);
    }
    rows.into_iter()
        .map(|((address, port, reason), (times, mut evidence))| {
            evidence.insert(
                0,
                format!("tcp_send_reset with reason {reason}: {}.", counted(times.count, "connection")),
            );
            let place = case.owner(address).map(|space| format!("namespace {}", space.name));
            Found {
                title: format!(
                    "The server at {} reset {} instead of answering.",
                    SocketAddr::new(address, port),
                    counted(times.count, "connection")
                ),
                evidence,
                advice: "Did the process end or crash, or does it set SO_LINGER to 0? Look at its log at that time; \
                         shutdown(SHUT_WR) and read to the end before close()."
                    .to_owned(),
                targets: [service(6, address, port)].into_iter().chain(place).collect(),
                times,
                ..Found::default()
            }
        })
        .collect()
}
