//! Dense ids for devices.

use psc_formats::event::DeviceId;
use psc_formats::fact::{DeviceFact, Fact};
use rustc_hash::FxHashMap;

/// Devices by namespace and index.
#[derive(Default)]
pub(crate) struct Devices {
    ids: FxHashMap<(u32, u32), DeviceId>,
    last: u16,
}

impl Devices {
    /// The device's id; a fact goes out when it is new. 0 when there are more than ids.
    pub(crate) fn id(&mut self, netns: u32, ifindex: u32, facts: &mut Vec<Fact>) -> DeviceId {
        if let Some(&id) = self.ids.get(&(netns, ifindex)) {
            return id;
        }
        let Some(id) = self.last.checked_add(1) else { return DeviceId(0) };
        self.last = id;
        self.ids.insert((netns, ifindex), DeviceId(id));
        facts.push(Fact::Device(DeviceFact { id, netns, ifindex, ..DeviceFact::default() }));
        DeviceId(id)
    }
}
