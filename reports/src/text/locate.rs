//! Peers, countries and routers.

use std::fmt::{self, Write};

use psc_replay::view::locate::LocateView;

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
    ]);
    for peer in &view.peers {
        let (rtt_min, rtt_median) = peer.rtt.map_or_else(Default::default, |(min, median, _)| {
            (units::duration(min), units::duration(median))
        });
        let country = if peer.country_name.is_empty() { &peer.country } else { &peer.country_name };
        table.row(vec![
            or_dash(&peer.address),
            or_dash(&peer.scope),
            escape::terminal(country).into_owned(),
            units::count(peer.packets.0),
            units::count(peer.packets.1),
            units::bytes(peer.bytes.0),
            units::bytes(peer.bytes.1),
            peer.hops_estimate.map(|hops| hops.to_string()).unwrap_or_default(),
            rtt_min,
            rtt_median,
            peer.distance_bound_km.map(|km| format!("{} km", units::count(km))).unwrap_or_default(),
        ]);
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
    if !view.routers.is_empty() {
        heading("Routers that sent ICMP errors", style, out)?;
        let mut table = Table::new(vec![words("address", 15), words("said", 16), number("times")]);
        for (address, what, times) in &view.routers {
            table.row(vec![or_dash(address), or_dash(what), units::count(*times)]);
        }
        table.write(style, out)?;
    }
    if !view.attribution.is_empty() {
        let line = escape::terminal(&view.attribution);
        let mut filled = String::new();
        wrap(&line, "", style, &mut filled)?;
        writeln!(out)?;
        for line in filled.lines() {
            writeln!(out, "{}", style.paint(Ink::Faint, line))?;
        }
    }
    Ok(())
}
