//! Peers, countries and routers.

use std::fmt::{self, Write};

use psc_replay::view::locate::{LocateView, PeerRow, Spread};

use super::routes;
use super::table::{Table, address, number, short, words};
use super::{Ink, Style, heading, omitted, or_dash, preamble, wrap};
use crate::escape;
use crate::units;

/// Peers with what is measured, estimated and registered about each.
pub fn locate(view: &LocateView, style: Style, out: &mut impl Write) -> fmt::Result {
    preamble(&view.provenance, style, out)?;
    let shown = view.peers.len() as u64;
    let peers = units::counted(shown.saturating_add(view.omitted), "peer", "peers");
    heading(&format!("{peers}, most bytes first"), style, out)?;
    if view.peers.is_empty() {
        writeln!(out, "  no IP packet with bytes was recorded")?;
    }
    if let Some(vantage) = &view.vantage {
        let within = if vantage.within_km > 0 {
            format!(", within {} km", units::count(vantage.within_km))
        } else {
            String::new()
        };
        let line = format!(
            "  seen from {} ({}{within})",
            escape::terminal(&vantage.name),
            escape::terminal(&vantage.how)
        );
        wrap(&line, "  ", style, out)?;
    }
    // Each column's title says how its values are known.
    let mut table = Table::new(vec![
        address("address", 21),
        short("scope").optional(),
        words("registered in", 6),
        number("pkts from"),
        number("pkts to"),
        number("from"),
        number("to"),
        number("hops est.").optional(),
        number("RTT min").optional(),
        number("median").optional(),
        number("within").optional(),
        number("p90").optional(),
        number("jitter").optional(),
        short("RTT of").optional(),
    ]);
    for peer in &view.peers {
        let (rtt, of) = best(peer);
        let time = |pick: fn(&Spread) -> u64| {
            rtt.as_ref().map(|rtt| units::duration(pick(rtt))).unwrap_or_default()
        };
        table.row(vec![
            or_dash(&peer.address),
            or_dash(&peer.scope),
            escape::terminal(&place(peer)).into_owned(),
            units::count(peer.packets.0),
            units::count(peer.packets.1),
            units::bytes(peer.bytes.0),
            units::bytes(peer.bytes.1),
            peer.hops_estimate.map(|hops| hops.to_string()).unwrap_or_default(),
            time(|rtt| rtt.min),
            time(|rtt| rtt.p50),
            peer.distance_bound_km.map(units::distance_bound).unwrap_or_default(),
            time(|rtt| rtt.p90),
            rtt.and_then(|rtt| rtt.jitter_rfc3550).map(units::duration).unwrap_or_default(),
            of.to_owned(),
        ]);
        let about = about(peer);
        if !about.is_empty() {
            table.note(escape::terminal(&about).into_owned());
        }
    }
    table.write(style, out)?;
    omitted(view.omitted, "peers", "raise the limit or select with -f EXPR", style, out)?;
    if !view.countries.is_empty() {
        heading(
            "Registered countries (where a block is registered, not where a host is)",
            style,
            out,
        )?;
        let mut table =
            Table::new(vec![short("code"), words("country", 12), number("peers"), number("bytes")]);
        for (code, name, peers, bytes) in &view.countries {
            table.row(vec![
                or_dash(code),
                or_dash(name),
                units::count(*peers),
                units::bytes(*bytes),
            ]);
        }
        table.write(style, out)?;
    }
    routes::sections(view, style, out)?;
    if !view.routers.is_empty() {
        heading("Routers that sent ICMP errors", style, out)?;
        let mut table = Table::new(vec![words("address", 15), words("said", 16), number("times")]);
        for (address, what, times) in &view.routers {
            table.row(vec![or_dash(address), or_dash(what), units::count(*times)]);
        }
        table.write(style, out)?;
    }
    let attributions = [&view.attribution].into_iter().chain(&view.sources);
    for attribution in attributions.filter(|text| !text.is_empty()) {
        let line = escape::terminal(attribution);
        let mut filled = String::new();
        wrap(&line, "", style, &mut filled)?;
        writeln!(out)?;
        for line in filled.lines() {
            writeln!(out, "{}", style.paint(Ink::Faint, line))?;
        }
    }
    Ok(())
}

/// The round trip to show in one line, and what it was measured from.
fn best(peer: &PeerRow) -> (Option<Spread>, &'static str) {
    [(peer.rtt_handshake, "handshake"), (peer.rtt_data, "data"), (peer.rtt_probe, "probe")]
        .into_iter()
        .find(|(rtt, _)| rtt.is_some())
        .unwrap_or((None, ""))
}

fn place(peer: &PeerRow) -> String {
    let country = if peer.country_name.is_empty() { &peer.country } else { &peer.country_name };
    if peer.city.is_empty() { country.clone() } else { format!("{}, {country}", peer.city) }
}

/// What deserves a line of its own.
fn about(peer: &PeerRow) -> String {
    let mut parts = Vec::new();
    if let Some(asn) = peer.asn {
        parts.push(format!("AS{asn} {}", peer.as_name).trim_end().to_owned());
    }
    if !peer.anycast.is_empty() {
        parts.push(format!("anycast: {} answers from many places", peer.anycast));
    }
    if !peer.listed.is_empty() {
        parts.push(format!("listed: {}", peer.listed));
    }
    if !peer.hop_changes.is_empty() {
        let changes: Vec<String> = peer
            .hop_changes
            .iter()
            .take(4)
            .map(|(from, to, times)| format!("{from} to {to} ({times} times)"))
            .collect();
        parts.push(format!("TTL changed within a flow: {}", changes.join(", ")));
    }
    if !peer.asymmetry.is_empty() {
        parts.push(format!("asymmetry: {}", peer.asymmetry));
    }
    if let Some(host) = peer.host_ns.filter(|ns| *ns > 0) {
        parts.push(format!("{} in this host taken off (median)", units::duration(host)));
    }
    parts.join("; ")
}
