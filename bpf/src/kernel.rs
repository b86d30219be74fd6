//! What the running kernel says of itself: BTF, configuration, capabilities, blind spots.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libbpf_rs::btf::types::{Composite, DataSec, Enum, FuncProto, Ptr, Typedef, Var};
use libbpf_rs::btf::{Btf, BtfType, TypeId};
use psc_formats::manifest::{Clock, ClockKind, Host};
use rustc_hash::FxHashMap;

use crate::StartError;

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What BTF says that the programs or the manifest need.
#[derive(Default)]
pub(crate) struct KernelTypes {
    /// Tracepoint to the number of arguments it passes.
    tracepoints: FxHashMap<String, usize>,
    /// `enum skb_drop_reason`, without its prefix.
    pub(crate) drop_reasons: BTreeMap<u32, String>,
    /// `enum sk_rst_reason`, without its prefix.
    pub(crate) reset_reasons: BTreeMap<u32, String>,
    /// From `runqueues` to the preemption count in the per-CPU area; 0 where it is not there.
    pub(crate) preempt_delta: i64,
}

impl KernelTypes {
    pub(crate) fn read() -> Result<Self, StartError> {
        if !Path::new(BTF_PATH).exists() {
            return Err(StartError::NoBtf);
        }
        let btf =
            Btf::from_vmlinux().map_err(|e| StartError::kernel("read the kernel's BTF", &e))?;
        let mut types = Self::default();
        let mut per_cpu: FxHashMap<String, u32> = FxHashMap::default();
        for id in 1..btf.len() as u32 {
            let Some(ty) = btf.type_by_id::<BtfType<'_>>(TypeId::from(id)) else { continue };
            let name = ty.name().and_then(|name| name.to_str()).unwrap_or("");
            if let Some(tracepoint) = name.strip_prefix("btf_trace_") {
                if let Some(arity) = arity(&btf, ty) {
                    types.tracepoints.insert(tracepoint.to_owned(), arity);
                }
            } else if name == "skb_drop_reason" {
                types.drop_reasons = constants(ty, "SKB_DROP_REASON_", "SKB_");
            } else if name == "sk_rst_reason" {
                types.reset_reasons = constants(ty, "SK_RST_REASON_", "");
            } else if name == ".data..percpu" {
                per_cpu = variables(&btf, ty);
            }
        }
        types.preempt_delta = preempt_delta(&btf, &per_cpu).unwrap_or(0);
        Ok(types)
    }

    /// How many arguments the tracepoint passes; `None` when the kernel proper has no such one.
    pub(crate) fn tracepoint(&self, name: &str) -> Option<usize> {
        self.tracepoints.get(name).copied()
    }
}

/// How much lower the stack of a returning function looks than that of its entry, for the kernels where the
/// return goes through the function graph tracer (x86-64 since 6.14: `return_to_handler` makes room for its
/// registers, 168 bytes, before it notes the stack pointer, and the return address is counted as there).
pub(crate) fn return_frame() -> i64 {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if cfg!(target_arch = "x86_64") && version >= (6, 14) { 168 + 8 } else { 0 }
}

/// A tracepoint's typedef is a pointer to a function whose first argument is private.
fn arity(btf: &Btf<'_>, ty: BtfType<'_>) -> Option<usize> {
    let _ = btf;
    let pointer = Ptr::try_from(Typedef::try_from(ty).ok()?.next_type()?).ok()?;
    FuncProto::try_from(pointer.next_type()?).ok()?.len().checked_sub(1)
}

fn constants(ty: BtfType<'_>, prefix: &str, other: &str) -> BTreeMap<u32, String> {
    let Ok(list) = Enum::try_from(ty) else { return BTreeMap::new() };
    let named = list.iter().filter_map(|member| {
        let name = member.name?.to_str()?;
        let short = name.strip_prefix(prefix).or_else(|| name.strip_prefix(other))?;
        // SKB_DROP_REASON_MAX and the subsystem mask are bounds, not reasons.
        let bound = matches!(short, "MAX" | "SUBSYS_MASK" | "MASK");
        (!bound).then(|| Some((u32::try_from(member.value).ok()?, short.to_owned())))?
    });
    named.collect()
}

fn variables(btf: &Btf<'_>, ty: BtfType<'_>) -> FxHashMap<String, u32> {
    let Ok(section) = DataSec::try_from(ty) else { return FxHashMap::default() };
    let named = section.iter().filter_map(|entry| {
        let var: Var<'_> = btf.type_by_id(entry.ty)?;
        Some((var.name()?.to_str()?.to_owned(), entry.offset))
    });
    named.collect()
}

/// x86-64: `__preempt_count` (before 6.2 and since 6.15), or a member of `pcpu_hot` between.
fn preempt_delta(btf: &Btf<'_>, per_cpu: &FxHashMap<String, u32>) -> Option<i64> {
    let queues = i64::from(*per_cpu.get("runqueues")?);
    let count = match per_cpu.get("__preempt_count") {
        Some(&offset) => i64::from(offset),
        None => i64::from(*per_cpu.get("pcpu_hot")?) + member_offset(btf, "pcpu_hot")?,
    };
    Some(count - queues)
}

/// Byte offset of `preempt_count` in a struct, through anonymous members.
fn member_offset(btf: &Btf<'_>, name: &str) -> Option<i64> {
    fn find(btf: &Btf<'_>, composite: &Composite<'_>, depth: u32) -> Option<i64> {
        use libbpf_rs::btf::types::MemberAttr;
        composite.iter().find_map(|member| {
            let bits = match member.attr {
                MemberAttr::Normal { offset } | MemberAttr::BitField { offset, .. } => offset,
            };
            let at = i64::from(bits / 8);
            if member.name.is_some_and(|name| name == "preempt_count") {
                return Some(at);
            }
            if member.name.is_some_and(|name| !name.is_empty()) || depth == 0 {
                return None;
            }
            let inner = btf.type_by_id::<Composite<'_>>(member.ty)?;
            Some(at + find(btf, &inner, depth - 1)?)
        })
    }
    // A variable of the same name exists, so look for the struct by kind.
    let composite = btf
        .type_by_kind::<Composite<'_>>()
        .find(|c| c.name().is_some_and(|found| found == name))?;
    find(btf, &composite, 4)
}

/// Capabilities that capture needs and this thread lacks.
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    // CAP_SYS_ADMIN covers CAP_BPF and CAP_PERFMON, which are newer.
    const SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    [(39, "CAP_BPF"), (38, "CAP_PERFMON")]
        .into_iter()
        .filter(|&(number, _)| !has(number) && !has(SYS_ADMIN))
        .map(|(_, name)| name)
        .collect()
}

/// Nanoseconds of one clock.
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock id and a valid pointer.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// `CLOCK_MONOTONIC`, the clock of every event.
pub(crate) fn now() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Offset to the Unix epoch: the tightest of a few readings.
pub(crate) fn measure_clock() -> Clock {
    let reading = |_| {
        let before = now();
        let real = clock_ns(libc::CLOCK_REALTIME);
        let after = now();
        let middle = before + (after - before) / 2;
        ((after - before).div_ceil(2), real as i64 - middle as i64)
    };
    let (uncertainty_ns, realtime_offset_ns) = (0..16).map(reading).min().unwrap_or((u64::MAX, 0));
    Clock { kind: ClockKind::Monotonic, realtime_offset_ns, uncertainty_ns }
}

/// CPUs that may ever run a program: rings are made for all of them.
pub(crate) fn possible_cpus() -> usize {
    libbpf_rs::num_possible_cpus().unwrap_or(1).max(1)
}

pub(crate) fn host() -> Host {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Host {
        name: read("/proc/sys/kernel/hostname"),
        kernel: read("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        config: config(),
    }
}

/// Configuration facts that change what events mean.
const CONFIG: &[&str] = &[
    "CONFIG_BPF_JIT",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_FPROBE",
    "CONFIG_HZ",
    "CONFIG_KALLSYMS_ALL",
    "CONFIG_KPROBES",
    "CONFIG_NET_NS",
    "CONFIG_PREEMPT",
    "CONFIG_PREEMPT_DYNAMIC",
    "CONFIG_PREEMPT_NONE",
    "CONFIG_PREEMPT_RT",
    "CONFIG_TLS",
    "CONFIG_XDP_SOCKETS",
];

fn config() -> BTreeMap<String, String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let text = fs::read_to_string(format!("/boot/config-{}", release.trim()))
        .ok()
        .or_else(|| gunzip("/proc/config.gz"))
        .unwrap_or_default();
    let wanted = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        CONFIG.contains(&name).then(|| (name.to_owned(), value.to_owned()))
    });
    wanted.collect()
}

fn gunzip(path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path).ok()?)
        .take(8 << 20)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// What this host may do that the attached probes cannot see.
pub(crate) fn blind_spots() -> Vec<String> {
    let mut spots = vec![
        "transmit has no IP or TCP tracepoint: times above the device queue are unavailable, not zero"
            .to_owned(),
        // `__kfree_skb` in tcp_rcv_established and `kfree_skb_partial` after tcp_try_coalesce.
        "the end of most TCP acknowledgements, and of segments that join the one before them in a socket's queue, is not observed: the kernel frees them without a tracepoint"
            .to_owned(),
        "packets that a network card drops are not events; counters of devices are recorded".to_owned(),
    ];
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    let loaded =
        |name: &str| modules.lines().any(|line| line.split_ascii_whitespace().next() == Some(name));
    if xdp_programs() {
        spots.push(
            "an XDP program is loaded: what it drops or redirects never becomes an skb and is not seen"
                .to_owned(),
        );
    }
    let xdp_sockets = fs::read_to_string("/proc/net/protocols")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "XDP").then(|| words.nth(1)?.parse::<u64>().ok())?
        })
        .sum::<u64>();
    if xdp_sockets > 0 {
        spots.push(format!("{xdp_sockets} AF_XDP sockets: their packets bypass the stack"));
    }
    if loaded("tls") {
        spots.push(
            "kernel TLS is loaded: socket payloads may be encrypted below the socket".to_owned(),
        );
    }
    if loaded("vfio_pci") || loaded("igb_uio") || loaded("uio_pci_generic") {
        spots.push(
            "devices may be driven from userspace (vfio or uio, as DPDK does): their packets bypass the kernel"
                .to_owned(),
        );
    }
    spots
}

fn xdp_programs() -> bool {
    libbpf_rs::query::ProgInfoIter::default()
        .any(|program| program.ty == libbpf_rs::ProgramType::Xdp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_offset_is_tight_and_after_2020() {
        let clock = measure_clock();
        let epoch_ns = now() as i64 + clock.realtime_offset_ns;
        assert!(epoch_ns > 1_577_836_800_000_000_000, "{epoch_ns}");
        assert!(clock.uncertainty_ns < 1_000_000, "{}", clock.uncertainty_ns);
    }
}
