//! The same on a wire: what a real packet has been through before a program sees it (a tag taken out of its bytes, a
//! copy, a head of another size) must not change a verdict.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use psc_bpf::guard::{Attached, Guard, GuardOptions, GuardRules, Point};
use psc_replay::guarder::rules::{By, Evaluator};

use super::netns::{self, Host, join};
use super::{Random, behaviours, compile, expected, packets, rules};

/// Sends frames as they are, in the calling thread's namespace.
fn sender(device: &str) -> (OwnedFd, libc::sockaddr_ll) {
    let name = CString::new(device).expect("device name");
    // SAFETY: plain calls with a name that ends; the descriptor is new and has no other owner; zeros are an address.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
        let mut addr: libc::sockaddr_ll = std::mem::zeroed();
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        (OwnedFd::from_raw_fd(fd), addr)
    }
}

/// What the stack throws away before TC looks: a tag with nothing behind it.
fn is_bare_tag(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) && frame.len() < 20
}

#[test]
fn frames_on_a_wire_are_decided_alike() {
    if !netns::live("parity on a wire") {
        return;
    }
    let (from, to) = (Host::new("f"), Host::new("t"));
    // Nobody says anything of his own: no addresses, not even IPv6's.
    for host in [&from, &to] {
        host.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        host.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
    }
    join((&from, "f0", &[]), (&to, "t0", &[]));
    let (socket, address) = from.run(|| sender("f0"));
    let mut random = Random::new(4711);
    let frames: Vec<Vec<u8>> = std::iter::repeat_with(|| packets::random(&mut random))
        .filter(|frame| !is_bare_tag(frame))
        .take(1500)
        .collect();
    let tagged = frames.iter().filter(|frame| frame[12..14] == [0x81, 0]).count();
    assert!(tagged > 50, "{tagged}");

    for seed in 0..4 {
        let text = rules::stateless(&mut Random::new(seed), 40);
        let set = compile(&text);
        let behaviours = behaviours(&set);
        // (matched, discarded) of each rule.
        let mut wanted = vec![(0_u64, 0_u64); behaviours.len()];
        let mut evaluator = Evaluator::new(set.clone());
        for frame in &frames {
            let told = expected(&mut evaluator, Point::XdpNative, frame, 0);
            let decided = match told.by {
                By::Rule(rule) => Some(rule),
                By::Nothing | By::Block(_) => None,
            };
            for rule in told.noted.iter().copied().chain(decided) {
                wanted[rule as usize].0 += 1;
            }
            if let (Some(rule), true) = (decided, told.discard) {
                wanted[rule as usize].1 += 1;
            }
        }
        for point in [Point::XdpNative, Point::XdpGeneric, Point::TcIngress] {
            let got = to.run(|| {
                let table = GuardRules { table: &set.table, behaviours: &behaviours, never: false };
                let options = GuardOptions { enforce: true, ..GuardOptions::default() };
                let guard = Guard::load(&table, options, None).expect("loads");
                // SAFETY: a name that ends.
                let ifindex = unsafe { libc::if_nametoindex(c"t0".as_ptr()) };
                let _attached = Attached::new(&guard, point, ifindex, false).expect("attaches");
                for frame in &frames {
                    // SAFETY: a plain call on an open descriptor, with an address of its own size.
                    let sent = unsafe {
                        libc::sendto(
                            socket.as_raw_fd(),
                            frame.as_ptr().cast(),
                            frame.len(),
                            0,
                            (&raw const address).cast(),
                            size_of::<libc::sockaddr_ll>() as u32,
                        )
                    };
                    assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
                }
                let asked = || guard.totals().expect("totals").asked;
                for _ in 0..600 {
                    if asked() >= frames.len() as u64 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                assert_eq!(asked(), frames.len() as u64, "{point:?}");
                let counters = guard.counters().expect("counters");
                counters.iter().map(|c| (c.matched, c.discarded)).collect::<Vec<_>>()
            });
            let wrong: Vec<_> = (0..wanted.len())
                .filter(|rule| got[*rule] != wanted[*rule])
                .map(|rule| {
                    format!("r{rule}: kernel {:?}, evaluator {:?}", got[rule], wanted[rule])
                })
                .collect();
            assert!(wrong.is_empty(), "{point:?}, seed {seed}: {}\n{text}", wrong.join(", "));
        }
    }
}
