//! Tier 1b: psc's own first and last hook in netfilter's lists, where the kernel lets BPF be a hook (6.4).

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use libbpf_rs::{Object, libbpf_sys};
use psc_formats::manifest::{Layer, Probe, ProbeStatus};

use crate::facts::namespaces::{self, Namespace};

/// The hooks of IPv4 and IPv6: prerouting, input, forward, output, postrouting.
const HOOKS: u32 = 5;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILIES: [u32; 2] = [2, 10];

/// The outermost priorities that are given away, as in wire.h.
const FIRST: i32 = i32::MIN + 1;
const LAST: i32 = i32::MAX - 1;

/// Priorities tried, from the outermost inwards.
const NEAR: i32 = 4;

/// One end of the hooks.
struct End {
    name: &'static str,
    program: &'static str,
    priority: i32,
    status: ProbeStatus,
}

/// Both ends and their links.
pub(crate) struct NetfilterLinks {
    ends: [End; 2],
    links: Vec<OwnedFd>,
}

impl NetfilterLinks {
    /// What is wanted; nothing is attached yet.
    pub(crate) fn plan(wanted: bool) -> Self {
        let end = |name, program, priority| {
            End {
            name,
            program,
            priority,
            status: match (wanted, wanted && kernel_can()) {
                (false, _) => ProbeStatus::Unwanted,
                (true, true) => ProbeStatus::Attached,
                (true, false) => ProbeStatus::Failed(
                    "this kernel has no BPF netfilter links (6.4 and later, CONFIG_NETFILTER_BPF_LINK)"
                        .to_owned(),
                ),
            },
        }
        };
        Self {
            ends: [
                end("netfilter:first", "on_netfilter_first", FIRST),
                end("netfilter:last", "on_netfilter_last", LAST),
            ],
            links: Vec::new(),
        }
    }

    /// Programs that the object must have loaded for this.
    pub(crate) fn programs(&self) -> Vec<&'static str> {
        let wanted = self.ends.iter().filter(|end| end.status == ProbeStatus::Attached);
        wanted.map(|end| end.program).collect()
    }

    /// A program that the verifier of this kernel refused.
    pub(crate) fn refused(&mut self, program: &str, why: &str) {
        for end in self.ends.iter_mut().filter(|end| end.program == program) {
            end.status = ProbeStatus::Failed(why.to_owned());
        }
    }

    /// Attaches both ends of every hook in the namespaces with these inodes; in this process's own when there
    /// are none.
    pub(crate) fn attach(&mut self, object: &Object, inodes: &[u32]) {
        if self.programs().is_empty() {
            return;
        }
        let all = namespaces::list();
        let named = |inode: &u32| all.iter().find(|space| space.inode == *inode);
        let spaces: Vec<&Namespace> = if inodes.is_empty() {
            all.iter().filter(|space| space.is_own()).collect()
        } else {
            inodes.iter().filter_map(named).collect()
        };
        for end in self.ends.iter_mut().filter(|end| end.status == ProbeStatus::Attached) {
            let Some(program) = object.progs().find(|program| program.name() == end.program) else {
                end.status = ProbeStatus::Failed("psc has no program for it".to_owned());
                continue;
            };
            let (program, priority) = (program.as_fd().as_raw_fd(), end.priority);
            for space in &spaces {
                let linked = space
                    .inside(|| hook_all(program, priority))
                    .unwrap_or_else(|e| Err(e.to_string()));
                match linked {
                    Ok(links) => self.links.extend(links),
                    Err(why) => {
                        let of = if space.name.is_empty() { "" } else { " of namespace " };
                        let why = format!("attach to the hooks{of}{}: {why}", space.name);
                        end.status = ProbeStatus::Failed(why);
                    }
                }
            }
        }
    }

    pub(crate) fn detach(&mut self) {
        self.links.clear();
    }

    /// The links as the manifest lists them.
    pub(crate) fn manifest(&self) -> impl Iterator<Item = Probe> + '_ {
        self.ends.iter().map(|end| Probe {
            name: end.name.to_owned(),
            method: "netfilter".to_owned(),
            layer: Layer::Network,
            status: end.status.clone(),
        })
    }
}

/// Links the program to one hook.
fn hook_one(program: i32, pf: u32, hooknum: u32, priority: i32) -> Result<OwnedFd, String> {
    let mut opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        ..libbpf_sys::bpf_link_create_opts::default()
    };
    opts.__bindgen_anon_1.netfilter =
        libbpf_sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_5 {
            pf,
            hooknum,
            priority,
            flags: 0,
        };
    // SAFETY: a program that its object keeps, and options that live through the call.
    crate::tier2::owned(unsafe {
        libbpf_sys::bpf_link_create(program, 0, libbpf_sys::BPF_NETFILTER, &raw const opts)
    })
}

/// Links the program to every hook of the namespace that this thread is in.
fn hook_all(program: i32, priority: i32) -> Result<Vec<OwnedFd>, String> {
    let mut links = Vec::new();
    for pf in FAMILIES {
        for hooknum in 0..HOOKS {
            // Two hooks of one priority are refused where one is BPF: then as near as can be.
            let near = (0..NEAR).map(|step| priority - step * priority.signum());
            let mut link = Err(String::new());
            for priority in near {
                link = hook_one(program, pf, hooknum, priority);
                if link.is_ok() {
                    break;
                }
            }
            links.push(link?);
        }
    }
    Ok(links)
}

/// Whether the kernel knows the program type: it loads `return NF_ACCEPT`.
fn kernel_can() -> bool {
    let insn = |code, imm| libbpf_sys::bpf_insn { code, imm, ..libbpf_sys::bpf_insn::default() };
    let insns = [insn(0xb7, 1), insn(0x95, 0)];
    let mut opts = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
        expected_attach_type: libbpf_sys::BPF_NETFILTER,
        ..libbpf_sys::bpf_prog_load_opts::default()
    };
    // SAFETY: instructions, names and options live through the call.
    let program = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_NETFILTER,
            c"psc_try".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as libbpf_sys::size_t,
            &raw mut opts,
        )
    };
    crate::tier2::owned(program).is_ok_and(|program| program.as_raw_fd() >= 0)
}
