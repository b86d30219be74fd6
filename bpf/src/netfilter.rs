//! Tier 1b: psc's own first and last hook in netfilter's lists, where the kernel lets BPF be a hook (6.4).

use std::os::fd::AsRawFd as _;

use libbpf_rs::{Link, NetfilterOpts, Object, libbpf_sys};
use psc_formats::manifest::{Layer, Probe, ProbeStatus};

/// The hooks of IPv4 and IPv6: prerouting, input, forward, output, postrouting.
const HOOKS: i32 = 5;
const FAMILIES: [i32; 2] = [libbpf_rs::NFPROTO_IPV4, libbpf_rs::NFPROTO_IPV6];

/// The outermost priorities that are given away, as in wire.h.
const FIRST: i32 = i32::MIN + 1;
const LAST: i32 = i32::MAX - 1;

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
    links: Vec<Link>,
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

    /// Attaches both ends of every hook of this namespace.
    pub(crate) fn attach(&mut self, object: &Object) {
        for end in self.ends.iter_mut().filter(|end| end.status == ProbeStatus::Attached) {
            let Some(program) = object.progs_mut().find(|program| program.name() == end.program)
            else {
                end.status = ProbeStatus::Failed("psc has no program for it".to_owned());
                continue;
            };
            for family in FAMILIES {
                for hook in 0..HOOKS {
                    let opts = NetfilterOpts {
                        protocol_family: family,
                        hooknum: hook,
                        priority: end.priority,
                        ..NetfilterOpts::default()
                    };
                    match program.attach_netfilter_with_opts(opts) {
                        Ok(link) => self.links.push(link),
                        Err(e) => end.status = ProbeStatus::Failed(format!("attach: {e:#}")),
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
