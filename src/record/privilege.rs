//! What recording may do, what it lacks, and giving up what it needs no more.

use std::fs;
use std::io;

/// A Linux capability, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capability {
    number: u8,
    name: &'static str,
}

const CHOWN: Capability = Capability { number: 0, name: "CAP_CHOWN" };
const DAC_OVERRIDE: Capability = Capability { number: 1, name: "CAP_DAC_OVERRIDE" };
const DAC_READ_SEARCH: Capability = Capability { number: 2, name: "CAP_DAC_READ_SEARCH" };
const KILL: Capability = Capability { number: 5, name: "CAP_KILL" };
const NET_ADMIN: Capability = Capability { number: 12, name: "CAP_NET_ADMIN" };
const SYS_PTRACE: Capability = Capability { number: 19, name: "CAP_SYS_PTRACE" };
const SYS_ADMIN: Capability = Capability { number: 21, name: "CAP_SYS_ADMIN" };
const SYSLOG: Capability = Capability { number: 34, name: "CAP_SYSLOG" };
const PERFMON: Capability = Capability { number: 38, name: "CAP_PERFMON" };
const BPF: Capability = Capability { number: 39, name: "CAP_BPF" };

/// Without these nothing can be recorded.
const REQUIRED: [(Capability, &str); 2] =
    [(BPF, "to load programs"), (PERFMON, "to attach them to tracepoints and read packets")];

/// Without these a recording says less; what it lacks is noted in it.
const WANTED: [(Capability, &str); 4] = [
    (SYSLOG, "kernel functions stay unnamed"),
    (SYS_ADMIN, "other network namespaces cannot be described"),
    (SYS_PTRACE, "sockets of other users have no process"),
    (NET_ADMIN, "socket and queue details are missing"),
];

/// What this process may do, as a bit per capability number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Privileges {
    effective: u64,
}

impl Privileges {
    /// Reads the effective capabilities of this thread.
    pub(super) fn of_this_process() -> anyhow::Result<Self> {
        let status = fs::read_to_string("/proc/thread-self/status").map_err(|error| {
            anyhow::anyhow!(
                "cannot read own capabilities: /proc/thread-self/status: {error}; is /proc mounted?"
            )
        })?;
        let effective = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        Ok(Self { effective })
    }

    fn has(self, capability: Capability) -> bool {
        // Before 5.8 there was only CAP_SYS_ADMIN, and it still includes these two.
        let implied =
            [BPF, PERFMON].contains(&capability) && self.effective & (1 << SYS_ADMIN.number) != 0;
        implied || self.effective & (1 << capability.number) != 0
    }

    /// An error that names every capability that recording needs and this process lacks.
    pub(super) fn require(self) -> anyhow::Result<()> {
        let missing: Vec<String> = REQUIRED
            .iter()
            .filter(|(capability, _)| !self.has(*capability))
            .map(|(capability, why)| format!("{} ({why})", capability.name))
            .collect();
        anyhow::ensure!(
            missing.is_empty(),
            "cannot record: missing {}; run it as root: sudo psc record ...",
            missing.join(" and ")
        );
        Ok(())
    }

    /// One sentence for each thing the recording will lack.
    pub(super) fn shortcomings(self) -> Vec<String> {
        WANTED
            .iter()
            .filter(|(capability, _)| !self.has(*capability))
            .map(|(capability, lost)| format!("without {}, {lost}", capability.name))
            .collect()
    }
}

/// Why the kernel itself will not let anyone record, if so.
pub(super) fn kernel_refuses() -> Option<String> {
    // The active mode is the one in brackets: `none [integrity] confidentiality`.
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    lockdown.contains("[confidentiality]").then(|| {
        "the kernel is locked down: /sys/kernel/security/lockdown says confidentiality, which forbids \
         BPF programs to read packets; boot with lockdown=integrity or none"
            .to_owned()
    })
}

/// Lets kernels before 5.11, which count BPF maps as locked memory, create ours. Later ones ignore
/// the limit, so a failure here shows later as what it is.
pub(super) fn lift_locked_memory_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a local that outlives the call.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// What the rest of the recording will do, and so what must be kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remaining {
    /// Files will be created later: rotation, `--ring`.
    pub(super) creates_files: bool,
    /// A command runs as another user and may have to be stopped.
    pub(super) stops_command: bool,
}

/// Gives up, for this thread and all it starts, every capability that is not needed once the probes
/// are attached. Kept, with the reason:
///
/// - `CAP_BPF`: reading counters from maps, where unprivileged BPF is switched off;
/// - `CAP_PERFMON`, `CAP_SYSLOG`: naming the functions of modules loaded while recording;
/// - `CAP_SYS_ADMIN`, `CAP_NET_ADMIN`: entering network namespaces for the regular facts;
/// - `CAP_SYS_PTRACE`, `CAP_DAC_READ_SEARCH`: which process owns a socket;
/// - `CAP_DAC_OVERRIDE`, `CAP_CHOWN`: only when more files are to be created;
/// - `CAP_KILL`: only when a command runs as another user.
///
/// Gone are, among others, changing users, raw I/O, loading modules, and tracing's right to override
/// file permissions. Capabilities belong to a thread, so this comes before any other one starts.
pub(super) fn drop_unneeded(remaining: Remaining) -> io::Result<()> {
    let mut kept = vec![BPF, PERFMON, SYSLOG, SYS_ADMIN, NET_ADMIN, SYS_PTRACE, DAC_READ_SEARCH];
    if remaining.creates_files {
        kept.extend([DAC_OVERRIDE, CHOWN]);
    }
    if remaining.stops_command {
        kept.push(KILL);
    }
    let mask = kept.iter().fold(0_u64, |mask, capability| mask | 1 << capability.number);
    restrict(mask)?;
    // SAFETY: takes integers only. After this no executed file can give a privilege back.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`; version 3 takes two, low and high half.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Keeps of this thread's capabilities only those in `mask`, and lets none be inherited.
fn restrict(mask: u64) -> io::Result<()> {
    let mut header = Header { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: header and both sets are live locals in the layout of version 3.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for (set, half) in sets.iter_mut().zip([mask as u32, (mask >> 32) as u32]) {
        set.permitted &= half;
        set.effective &= half;
        set.inheritable = 0;
    }
    // SAFETY: as above; the kernel only reads.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let nothing = Privileges { effective: 0 };
        let text = nothing.require().unwrap_err().to_string();
        assert!(text.contains("CAP_BPF") && text.contains("CAP_PERFMON"), "{text}");
        assert_eq!(nothing.shortcomings().len(), WANTED.len());
        let only_admin = Privileges { effective: 1 << SYS_ADMIN.number };
        assert!(only_admin.require().is_ok(), "CAP_SYS_ADMIN includes both");
        let split = Privileges { effective: 1 << BPF.number | 1 << PERFMON.number };
        assert!(split.require().is_ok());
        assert!(split.shortcomings().iter().any(|line| line.contains("CAP_SYSLOG")));
    }

    #[test]
    fn dropping_keeps_only_what_is_named() {
        // On a thread of its own, since it cannot be undone.
        std::thread::spawn(|| {
            let before = Privileges::of_this_process().unwrap();
            drop_unneeded(Remaining::default()).unwrap();
            let after = Privileges::of_this_process().unwrap();
            assert_eq!(after.effective & !before.effective, 0, "nothing is gained");
            for gone in [CHOWN, DAC_OVERRIDE, KILL] {
                assert_eq!(after.effective & (1 << gone.number), 0, "{}", gone.name);
            }
            if before.has(SYS_PTRACE) {
                assert!(after.has(SYS_PTRACE));
            }
        })
        .join()
        .unwrap();
    }
}
