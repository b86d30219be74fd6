//! What queueing disciplines count: drops there name the queue that was too short.

use std::collections::BTreeMap;

use psc_formats::fact::DeviceFact;

use super::netlink::{Netlink, attributes, text, u32_at};

/// Adds `qdisc.DEVICE.HANDLE.KIND.drops` and kin for the namespace that the thread is in.
pub(super) fn read(devices: &[DeviceFact], into: &mut BTreeMap<String, u64>) {
    let Ok(mut netlink) = Netlink::open(libc::NETLINK_ROUTE) else { return };
    // struct tcmsg: family, pad, ifindex, handle, parent, info; all devices.
    let _ = netlink.dump(libc::RTM_GETQDISC, &[0; 20], |body| {
        queue(body, devices, into);
    });
}

fn queue(body: &[u8], devices: &[DeviceFact], into: &mut BTreeMap<String, u64>) {
    const KIND: u16 = 1;
    const STATISTICS: u16 = 3;
    let (Some(index), Some(handle)) = (u32_at(body, 4), u32_at(body, 8)) else { return };
    let Some(device) = devices.iter().find(|device| device.ifindex == index) else { return };
    let (mut kind, mut statistics): (String, &[u8]) = (String::new(), &[]);
    for (attribute, value) in attributes(body, 20) {
        match attribute {
            KIND => kind = text(value),
            STATISTICS => statistics = value,
            _ => {}
        }
    }
    let handle = format!("{:x}:", handle >> 16);
    // struct tc_stats of include/uapi/linux/pkt_sched.h: bytes (64 bits), packets, drops, overlimits,
    // bps, pps, queue length, backlog.
    for (at, name) in [(8, "packets"), (12, "drops"), (16, "overlimits")] {
        if let Some(value) = u32_at(statistics, at) {
            into.insert(format!("qdisc.{}.{handle}.{kind}.{name}", device.name), value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_by_device_handle_and_kind() {
        let device = DeviceFact { ifindex: 7, name: "eth0".to_owned(), ..DeviceFact::default() };
        let mut body = vec![0; 20];
        body[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        body[8..12].copy_from_slice(&0x8001_0000_u32.to_ne_bytes());
        let mut attribute = |kind: u16, value: &[u8]| {
            body.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        };
        attribute(1, b"tbf\0");
        let mut statistics = [0; 40];
        statistics[8..12].copy_from_slice(&9_u32.to_ne_bytes());
        statistics[12..16].copy_from_slice(&3_u32.to_ne_bytes());
        attribute(3, &statistics);
        let mut values = BTreeMap::new();
        queue(&body, &[device], &mut values);
        assert_eq!(values["qdisc.eth0.8001:.tbf.packets"], 9);
        assert_eq!(values["qdisc.eth0.8001:.tbf.drops"], 3);
        for len in 0..body.len() {
            queue(&body[..len], &[], &mut values);
        }
    }
}
