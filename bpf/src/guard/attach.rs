//! Programs to where packets are, in a way that ends with the process.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libbpf_rs::libbpf_sys::{
    self, BPF_TCX_EGRESS, BPF_TCX_INGRESS, BPF_XDP, bpf_attach_type, bpf_link_create_opts,
};
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};

use super::{Guard, GuardError};

/// Where a program looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// In the driver, before there is an skb; ingress only.
    XdpNative,
    /// The same program after the skb was made, for drivers without XDP.
    XdpGeneric,
    /// TC, packets that come in.
    TcIngress,
    /// TC, packets that go out.
    TcEgress,
}

impl Point {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::XdpNative | Self::XdpGeneric => "guard_xdp",
            Self::TcIngress => "guard_ingress",
            Self::TcEgress => "guard_egress",
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "XDP in the driver",
            Self::XdpGeneric => "generic XDP",
            Self::TcIngress => "TC ingress",
            Self::TcEgress => "TC egress",
        }
    }
}

/// A program at work. What ends it is the end of this value, or of the process.
#[derive(Debug)]
pub struct Attached {
    point: Point,
    how: How,
}

enum How {
    /// The kernel detaches with the last descriptor.
    Link(OwnedFd),
    /// Before TCX (6.6): a filter that stays, and passes everything when psc is silent. The hook itself
    /// is removed with it when psc made it.
    Classic { hook: TcHook, made_qdisc: bool },
}

impl std::fmt::Debug for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link(_) => "link",
            Self::Classic { .. } => "filter",
        })
    }
}

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Our filter's place, so that it can be found and replaced.
const HANDLE: u32 = 0x70_73_63;
const PRIORITY: u32 = 0x7063;

fn link(
    program: BorrowedFd<'_>,
    ifindex: i32,
    kind: bpf_attach_type,
    flags: u32,
) -> Result<OwnedFd, std::io::Error> {
    let opts = bpf_link_create_opts {
        sz: size_of::<bpf_link_create_opts>() as _,
        flags,
        ..bpf_link_create_opts::default()
    };
    // SAFETY: an open program and initialised options.
    let fd =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, kind, &raw const opts) };
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: just created and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Attached {
    /// Puts the program of `guard` at `point` of the interface. `classic` is for kernels without TCX; load with
    /// a heartbeat then.
    pub fn new(
        guard: &Guard,
        point: Point,
        ifindex: u32,
        classic: bool,
    ) -> Result<Self, GuardError> {
        let program = guard.program(point)?;
        let ifindex = ifindex as i32;
        let failed =
            |error: &std::io::Error| GuardError::io(format!("attach to {}", point.name()), error);
        let made = match point {
            Point::XdpNative => link(program.as_fd(), ifindex, BPF_XDP, XDP_FLAGS_DRV_MODE),
            Point::XdpGeneric => link(program.as_fd(), ifindex, BPF_XDP, XDP_FLAGS_SKB_MODE),
            Point::TcIngress | Point::TcEgress if classic => {
                return Self::classic(program.as_fd(), point, ifindex);
            }
            Point::TcIngress => link(program.as_fd(), ifindex, BPF_TCX_INGRESS, 0),
            Point::TcEgress => link(program.as_fd(), ifindex, BPF_TCX_EGRESS, 0),
        };
        let how = How::Link(made.map_err(|error| failed(&error))?);
        Ok(Self { point, how })
    }

    fn classic(program: BorrowedFd<'_>, point: Point, ifindex: i32) -> Result<Self, GuardError> {
        let failed = |error: &libbpf_rs::Error| {
            GuardError::new(format!("attach to {} as a filter", point.name()), error)
        };
        let side = if point == Point::TcIngress { TC_INGRESS } else { TC_EGRESS };
        let mut builder = TcHookBuilder::new(program);
        builder.ifindex(ifindex).replace(true).handle(HANDLE).priority(PRIORITY);
        let mut hook = builder.hook(side);
        // Fails when somebody else has one already: then it is theirs to remove.
        let made_qdisc = hook.create().is_ok();
        let hook = hook.attach().map_err(|error| failed(&error))?;
        Ok(Self { point, how: How::Classic { hook, made_qdisc } })
    }

    /// Where it is.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Whether a filter stays behind when the process is killed (and passes everything).
    pub fn stays(&self) -> bool {
        matches!(self.how, How::Classic { .. })
    }

    /// Puts the program of `guard` in the place of the one at work; each packet meets one or the other.
    pub fn replace(&mut self, guard: &Guard, ifindex: u32) -> Result<(), GuardError> {
        let program = guard.program(self.point)?;
        match &mut self.how {
            How::Link(fd) => {
                // SAFETY: two open descriptors and no options.
                let rc = unsafe {
                    libbpf_sys::bpf_link_update(
                        fd.as_raw_fd(),
                        program.as_raw_fd(),
                        std::ptr::null(),
                    )
                };
                if rc < 0 {
                    let error = std::io::Error::from_raw_os_error(-rc);
                    return Err(GuardError::io("replace the rules", &error));
                }
            }
            How::Classic { hook, .. } => {
                let side = if self.point == Point::TcIngress { TC_INGRESS } else { TC_EGRESS };
                let mut builder = TcHookBuilder::new(program.as_fd());
                builder.ifindex(ifindex as i32).replace(true).handle(HANDLE).priority(PRIORITY);
                *hook = builder
                    .hook(side)
                    .attach()
                    .map_err(|error| GuardError::new("replace the rules", &error))?;
            }
        }
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let How::Classic { hook, made_qdisc } = &mut self.how {
            // What cannot be removed passes everything from a second after our end.
            let _ = hook.detach();
            if *made_qdisc {
                let _ = hook.destroy();
            }
        }
    }
}
