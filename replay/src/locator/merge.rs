//! Several hosts' views as one, and one held against an earlier one.

use std::collections::BTreeMap;

use super::risk;
use crate::view::locate::{LocateView, PeerRow};

/// Holds `view` against `earlier`, called `name`: what changed, and the scores with that in them.
pub fn compare(view: &mut LocateView, earlier: &LocateView, name: &str) {
    view.changes = risk::changes(view, earlier);
    name.clone_into(&mut view.baseline);
    view.risks = risk::assess(view);
}

/// Several recordings as one view: routes side by side, so that their routers join into one topology;
/// traffic added up. Round trips are those of the recording that is nearest to a peer: distributions from
/// different places are not one.
///
/// # Panics
/// When there is no view.
pub fn merge(views: Vec<LocateView>, limit: usize) -> LocateView {
    let mut views = views.into_iter();
    let mut all = views.next().expect("at least one view");
    let mut names = vec![all.provenance.source.clone()];
    label(&mut all);
    for mut view in views {
        label(&mut view);
        names.push(view.provenance.source.clone());
        join(&mut all, view);
    }
    if names.len() > 1 {
        all.provenance.source = names.join(", ");
    }
    all.peers.sort_by(|a, b| {
        let total = |peer: &PeerRow| peer.bytes.0.saturating_add(peer.bytes.1);
        total(b).cmp(&total(a)).then_with(|| a.address.cmp(&b.address))
    });
    all.omitted += all.peers.len().saturating_sub(limit) as u64;
    all.peers.truncate(limit);
    all.risks = risk::assess(&all);
    all
}

/// Routes say which recording they are from when their host has no name.
fn label(view: &mut LocateView) {
    let source = &view.provenance.source;
    for route in view.routes.iter_mut().filter(|route| route.host.is_empty()) {
        route.host.clone_from(source);
    }
}

fn join(all: &mut LocateView, view: LocateView) {
    let (a, b) = (&mut all.provenance, view.provenance);
    a.events += b.events;
    a.packets += b.packets;
    let (to, from) = (&mut a.completeness, b.completeness);
    to.line = format!("{}; {}: {}", to.line, b.source, from.line);
    to.lost = to.lost.zip(from.lost).map(|(a, b)| a + b);
    to.closed &= from.closed;
    a.notices.extend(b.notices);

    let mut peers: BTreeMap<String, PeerRow> =
        std::mem::take(&mut all.peers).into_iter().map(|row| (row.address.clone(), row)).collect();
    for row in view.peers {
        match peers.get_mut(&row.address) {
            Some(known) => peer(known, row),
            None => drop(peers.insert(row.address.clone(), row)),
        }
    }
    all.peers = peers.into_values().collect();
    all.omitted += view.omitted;

    for (code, name, peers, bytes) in view.countries {
        match all.countries.iter_mut().find(|row| row.0 == code) {
            // The same peer may be in both: what there are at least.
            Some(row) => {
                row.2 = row.2.max(peers);
                row.3 = row.3.saturating_add(bytes);
            }
            None => all.countries.push((code, name, peers, bytes)),
        }
    }
    all.countries.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.0.cmp(&b.0)));
    for row in view.prefixes {
        match all.prefixes.iter_mut().find(|known| known.prefix == row.prefix) {
            Some(known) => {
                known.peers = known.peers.max(row.peers);
                known.bytes = known.bytes.saturating_add(row.bytes);
            }
            None => all.prefixes.push(row),
        }
    }
    all.prefixes.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.prefix.cmp(&b.prefix)));
    all.routers.extend(view.routers);
    all.routers.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
    all.routes.extend(view.routes);
    all.routes.sort_by(|a, b| {
        (&a.target, &a.protocol, &a.source, &a.host).cmp(&(
            &b.target,
            &b.protocol,
            &b.source,
            &b.host,
        ))
    });
    all.routes_omitted += view.routes_omitted;
    all.path_mtus.extend(view.path_mtus);
    all.contradictions.extend(view.contradictions);
    if all.vantage.is_none() {
        all.vantage = view.vantage;
    }
    for source in view.sources {
        if !all.sources.contains(&source) {
            all.sources.push(source);
        }
    }
}

fn peer(known: &mut PeerRow, row: PeerRow) {
    let least = |row: &PeerRow| {
        let all = [row.rtt_handshake, row.rtt_data, row.rtt_probe];
        all.iter().flatten().map(|spread| spread.min).min().unwrap_or(u64::MAX)
    };
    let packets = (known.packets.0 + row.packets.0, known.packets.1 + row.packets.1);
    let bytes =
        (known.bytes.0.saturating_add(row.bytes.0), known.bytes.1.saturating_add(row.bytes.1));
    if least(&row) < least(known) {
        *known = row;
    }
    (known.packets, known.bytes) = (packets, bytes);
}
