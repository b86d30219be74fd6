//! Dense ids for devices, and their names.

use psc_formats::event::DeviceId;
use psc_formats::fact::{DeviceFact, Fact};
use rustc_hash::FxHashMap;

use super::{namespaces, tables};
use crate::kernel;

/// A namespace is asked again about devices we do not know at most this often.
const ASK_AGAIN_NS: u64 = 250_000_000;

/// Devices by namespace and index.
#[derive(Default)]
pub(crate) struct Devices {
    ids: FxHashMap<(u32, u32), DeviceId>,
    /// As last told, by id - 1.
    told: Vec<DeviceFact>,
    /// As last read.
    seen: FxHashMap<(u32, u32), DeviceFact>,
    asked: FxHashMap<u32, u64>,
}

impl Devices {
    /// The device's id; a fact goes out when it is new. 0 when there are more than ids.
    pub(crate) fn id(&mut self, netns: u32, ifindex: u32, facts: &mut Vec<Fact>) -> DeviceId {
        if let Some(&id) = self.ids.get(&(netns, ifindex)) {
            return id;
        }
        if !self.seen.contains_key(&(netns, ifindex)) {
            self.ask(netns);
        }
        self.tell(netns, ifindex, facts)
    }

    /// Takes in the devices of one namespace as just read.
    pub(super) fn update(&mut self, netns: u32, name: &str, devices: Vec<DeviceFact>) {
        self.seen.retain(|&(of, _), _| of != netns);
        for device in devices {
            let key = (netns, device.ifindex);
            self.seen.insert(key, DeviceFact { netns, netns_name: name.to_owned(), ..device });
        }
    }

    /// Tells of every device that is new or has changed.
    pub(super) fn tell_all(&mut self, facts: &mut Vec<Fact>) {
        let mut keys: Vec<_> = self.seen.keys().copied().collect();
        keys.sort_unstable();
        for (netns, ifindex) in keys {
            self.tell(netns, ifindex, facts);
        }
    }

    /// Indexes of the devices with this name, with their namespaces.
    pub(crate) fn named(&self, name: &str) -> Vec<(u32, u32)> {
        let mut found: Vec<_> = self
            .seen
            .iter()
            .filter(|(_, device)| device.name == name)
            .map(|(&key, _)| key)
            .collect();
        found.sort_unstable();
        found
    }

    /// Reads the links of these namespaces, or of all.
    pub(crate) fn read_all(&mut self, only: &[u32]) {
        for space in namespaces::list() {
            if only.is_empty() || only.contains(&space.inode) {
                self.read(&space);
            }
        }
    }

    fn tell(&mut self, netns: u32, ifindex: u32, facts: &mut Vec<Fact>) -> DeviceId {
        let key = (netns, ifindex);
        let id = if let Some(&id) = self.ids.get(&key) {
            id
        } else {
            let Ok(id) = u16::try_from(self.told.len() + 1) else { return DeviceId(0) };
            self.told.push(DeviceFact::default());
            self.ids.insert(key, DeviceId(id));
            DeviceId(id)
        };
        let bare = || DeviceFact { netns, ifindex, ..DeviceFact::default() };
        let fact = DeviceFact { id: id.0, ..self.seen.get(&key).cloned().unwrap_or_else(bare) };
        let told = &mut self.told[usize::from(id.0) - 1];
        if *told != fact {
            told.clone_from(&fact);
            facts.push(Fact::Device(fact));
        }
        id
    }

    /// Reads the links of a namespace that something leads to; it may have just gone.
    fn ask(&mut self, netns: u32) {
        let now = kernel::now();
        let asked = self.asked.entry(netns).or_default();
        if *asked != 0 && now - *asked < ASK_AGAIN_NS {
            return;
        }
        *asked = now;
        if let Some(space) = namespaces::list().into_iter().find(|space| space.inode == netns) {
            self.read(&space);
        }
    }

    fn read(&mut self, space: &namespaces::Namespace) {
        let read = if space.is_own() {
            tables::read(false)
        } else {
            space.inside(|| tables::read(false)).and_then(|read| read)
        };
        if let Ok(tables) = read {
            self.update(space.inode, &space.name, tables.devices);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, name: &str) -> DeviceFact {
        DeviceFact { ifindex, name: name.to_owned(), ..DeviceFact::default() }
    }

    #[test]
    fn a_device_is_told_once_and_again_when_it_changes() {
        let (mut devices, mut facts) = (Devices::default(), Vec::new());
        devices.update(7, "web", vec![device(1, "lo"), device(2, "eth0")]);
        devices.tell_all(&mut facts);
        assert_eq!(facts.len(), 2);
        assert_eq!(devices.id(7, 2, &mut facts), DeviceId(2));
        assert_eq!(facts.len(), 2, "nothing new to tell");
        devices.update(7, "web", vec![device(1, "lo"), device(2, "wan0")]);
        devices.tell_all(&mut facts);
        let Some(Fact::Device(told)) = facts.last() else { panic!("{facts:?}") };
        assert_eq!((told.id, told.name.as_str()), (2, "wan0"));
        assert_eq!((facts.len(), devices.named("wan0")), (3, vec![(7, 2)]));
    }

    #[test]
    fn a_device_nobody_can_name_still_has_an_id() {
        let (mut devices, mut facts) = (Devices::default(), Vec::new());
        // No namespace has inode 1.
        assert_eq!(devices.id(1, 9, &mut facts), DeviceId(1));
        assert_eq!(facts.len(), 1);
    }
}
