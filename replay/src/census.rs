//! What a recording holds, counted and not analysed: events by probe and by kind, devices.

use std::collections::{BTreeMap, HashMap};

use psc_formats::manifest::ProbeStatus;
use psc_formats::{Event, Manifest, ProbeId};

use crate::engine::{Observer, Pass, Sighting, World};
use crate::view::info::InfoView;

/// Observes a pass and counts.
#[derive(Debug, Default)]
pub struct Census {
    probes: BTreeMap<ProbeId, u64>,
    kinds: BTreeMap<&'static str, u64>,
}

impl Census {
    /// What was counted; frames and sizes are the archive's to tell.
    pub fn finish(self, manifest: &Manifest, pass: &Pass) -> InfoView {
        let mut kinds: Vec<(String, u64)> =
            self.kinds.iter().map(|(name, events)| ((*name).to_owned(), *events)).collect();
        kinds.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let count = |id: usize| {
            let id = u16::try_from(id).ok().map(ProbeId);
            id.and_then(|id| self.probes.get(&id)).copied().unwrap_or(0)
        };
        let probes = manifest.probes.iter().enumerate().map(|(id, probe)| {
            let status = match &probe.status {
                ProbeStatus::Attached => "attached".to_owned(),
                ProbeStatus::Failed(why) => format!("failed: {why}"),
                ProbeStatus::Unwanted => "not wanted".to_owned(),
            };
            (probe.name.clone(), probe.method.clone(), status, count(id))
        });
        let mut devices: Vec<_> = pass
            .tables
            .devices
            .values()
            .map(|device| {
                let netns = if device.netns_name.is_empty() {
                    device.netns.to_string()
                } else {
                    device.netns_name.clone()
                };
                let addresses = device.addresses.join(" ");
                ((device.netns, device.ifindex, device.id), netns, device, addresses)
            })
            .collect();
        devices.sort_by_key(|(order, ..)| *order);
        InfoView {
            provenance: pass.provenance.clone(),
            probes: probes.collect(),
            kinds,
            devices: devices
                .into_iter()
                .map(|(_, netns, device, addresses)| {
                    (netns, device.name.clone(), device.kind.clone(), addresses)
                })
                .collect(),
            ..InfoView::default()
        }
    }
}

impl Observer for Census {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        *self.probes.entry(sighting.event.probe).or_default() += 1;
        *self.kinds.entry(sighting.event.kind.name()).or_default() += 1;
    }
}

/// Which events a pass selected: those it showed, and all of the journeys that it showed.
///
/// Remembers a bit for each, so that a second reading can keep exactly those.
#[derive(Debug, Default)]
pub struct Selected {
    /// 64 sequence numbers of one CPU, a bit for each.
    bits: HashMap<(u16, u64), u64>,
}

impl Selected {
    fn add(&mut self, event: &Event) {
        *self.bits.entry((event.cpu, event.seq / 64)).or_default() |= 1 << (event.seq % 64);
    }

    /// Whether the event was selected.
    pub fn contains(&self, event: &Event) -> bool {
        self.bits
            .get(&(event.cpu, event.seq / 64))
            .is_some_and(|bits| bits & (1 << (event.seq % 64)) != 0)
    }
}

impl Observer for Selected {
    fn sighting(&mut self, _: World<'_>, sighting: &Sighting<'_>) {
        self.add(sighting.event);
    }

    fn closed(&mut self, _: World<'_>, journey: &crate::engine::ClosedJourney) {
        for step in &journey.steps {
            self.add(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use psc_formats::fact::DeviceFact;
    use psc_formats::manifest::Probe;
    use psc_formats::{EventKind, Fact};

    use super::*;
    use crate::sample;

    #[test]
    fn probes_count_their_events_and_devices_are_in_order() {
        let named = |name: &str| Probe { name: name.to_owned(), ..Probe::default() };
        let manifest = Manifest { probes: vec![named("a"), named("b")], ..Manifest::default() };
        let mut pass = Pass::default();
        for (id, ifindex, name) in [(1, 7, "late"), (2, 1, "lo")] {
            let device = DeviceFact { id, ifindex, name: name.to_owned(), ..DeviceFact::default() };
            pass.tables.apply(&Fact::Device(device));
        }
        let mut census = Census::default();
        let world = World { manifest: &manifest, tables: &pass.tables, start: None };
        for (probe, kind) in
            [(0, EventKind::Receive {}), (0, EventKind::Receive {}), (9, EventKind::GroReceive {})]
        {
            let mut event = sample::event(0, kind).0;
            event.probe = ProbeId(probe);
            let sighting = Sighting {
                event: &event,
                bytes: &[],
                headers: None,
                fresh: false,
                journey: None,
                opens: false,
            };
            census.sighting(world, &sighting);
        }
        let view = census.finish(&manifest, &pass);
        let probes: Vec<_> = view.probes.iter().map(|row| (row.0.as_str(), row.3)).collect();
        assert_eq!(probes, [("a", 2), ("b", 0)], "a probe that the manifest lacks is no row");
        assert_eq!(view.kinds, [("Receive".to_owned(), 2), ("GroReceive".to_owned(), 1)]);
        let names: Vec<_> = view.devices.iter().map(|row| row.1.as_str()).collect();
        assert_eq!(names, ["lo", "late"]);
    }

    #[test]
    fn selected_events_are_known_again() {
        let mut selected = Selected::default();
        let at = |cpu, seq| {
            let mut event = sample::event(0, EventKind::Receive {}).0;
            (event.cpu, event.seq) = (cpu, seq);
            event
        };
        for seq in [0, 63, 64, u64::MAX] {
            selected.add(&at(1, seq));
        }
        for (cpu, seq, expected) in
            [(1, 0, true), (1, 1, false), (1, 63, true), (1, 64, true), (2, 0, false)]
        {
            assert_eq!(selected.contains(&at(cpu, seq)), expected, "{cpu} {seq}");
        }
        assert!(selected.contains(&at(1, u64::MAX)));
    }
}
