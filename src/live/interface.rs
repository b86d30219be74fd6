//! What an interface is, and so where rules look at its packets.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use psc_bpf::guard::Point;

const ARPHRD_ETHER: u32 = 1;
const ARPHRD_LOOPBACK: u32 = 772;

/// Index of the interface, and whether its frames begin with an Ethernet header.
pub(super) fn find(name: &str) -> anyhow::Result<(u32, bool)> {
    let c_name = CString::new(name)?;
    // SAFETY: a NUL-terminated name.
    let ifindex = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
    anyhow::ensure!(
        ifindex != 0,
        "there is no interface named {name} in this network namespace; `ip link` lists them (use `ip netns \
         exec NAME psc live ...` for another namespace)"
    );
    let kind: u32 =
        attribute(name, "type").and_then(|text| text.parse().ok()).unwrap_or(ARPHRD_ETHER);
    Ok((ifindex, matches!(kind, ARPHRD_ETHER | ARPHRD_LOOPBACK)))
}

/// A file below `/sys/class/net/NAME`.
fn attribute(name: &str, file: &str) -> Option<String> {
    let path = Path::new("/sys/class/net").join(name).join(file);
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What decides about the attach point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Driver of the device behind the interface; `None` when it is made of software.
    pub(super) driver: Option<String>,
    /// Bytes and packets received so far.
    pub(super) received: Option<(u64, u64)>,
    /// Greatest payload of a frame, bytes.
    pub(super) mtu: Option<u64>,
}

pub(super) fn facts(name: &str) -> Facts {
    let link = Path::new("/sys/class/net").join(name).join("device/driver");
    let driver = fs::read_link(link).ok();
    let number = |file: &str| attribute(name, file).and_then(|text| text.parse().ok());
    Facts {
        driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        received: number("statistics/rx_bytes").zip(number("statistics/rx_packets")),
        mtu: number("mtu"),
    }
}

/// Frames of more than the MTU and this much header are several in one.
const HEADERS: u64 = 22;

/// The point, and why.
pub(super) fn choose(facts: &Facts) -> (Point, String) {
    let Some(driver) = &facts.driver else {
        return (
            Point::TcIngress,
            "it is made of software; on veth a bare XDP_PASS took 76 % of TCP throughput, because packets are no \
             longer handed on in large pieces"
                .to_owned(),
        );
    };
    if let (Some((bytes, packets @ 1..)), Some(mtu)) = (facts.received, facts.mtu)
        && bytes / packets > mtu + HEADERS
    {
        return (
            Point::TcIngress,
            format!(
                "{driver} hands on {} bytes at a time where the MTU is {mtu}: XDP would end that",
                bytes / packets
            ),
        );
    }
    (Point::XdpNative, format!("{driver} is hardware whose packets come one by one"))
}

/// TCX came with Linux 6.6.
pub(super) fn kernel_has_tcx() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attach_point_follows_from_what_was_measured() {
        let hardware =
            |received| Facts { driver: Some("ice".to_owned()), received, mtu: Some(1500) };
        #[rustfmt::skip]
        let cases = [
            ("software",                   Facts::default(),                 Point::TcIngress),
            ("hardware, one by one",       hardware(Some((80_000, 100))),    Point::XdpNative),
            ("hardware, full frames",      hardware(Some((151_400, 100))),   Point::XdpNative),
            ("hardware that coalesces",    hardware(Some((900_000, 100))),   Point::TcIngress),
            ("hardware, nothing received", hardware(Some((0, 0))),           Point::XdpNative),
            ("hardware, unknown",          hardware(None),                   Point::XdpNative),
        ];
        for (name, facts, expected) in cases {
            assert_eq!(choose(&facts).0, expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_interface_is_an_error_that_helps() {
        let error = find("no-such0").unwrap_err().to_string();
        assert!(error.contains("no-such0") && error.contains("ip link"), "{error}");
        assert!(find("lo").is_ok_and(|(index, ethernet)| index > 0 && ethernet));
    }
}
