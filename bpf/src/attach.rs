//! The attach ladder: every probe as data, and what became of it.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use libbpf_rs::{Link, Object, OpenObject, PrintLevel, libbpf_sys};
use psc_formats::manifest::{Layer, Probe, ProbeStatus};

use crate::kernel::KernelTypes;
use crate::skeleton::types;
use crate::wire::PROBES as ROOM;
use crate::{Profile, StartError};

/// How the arguments of a record become an [`psc_formats::EventKind`]; one per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    GroReceive,
    BacklogQueue,
    Receive,
    DeviceQueue,
    QdiscEnqueue,
    QdiscDequeue,
    TransmitStart,
    TransmitDone,
    Free,
    Consume,
    CopyToUser,
    Retransmit,
    RetransmitSynAck,
    SendReset,
    ReceiveReset,
    SockState,
    SockDestroy,
    SockError,
    ReceiveQueueFull,
    UdpQueueFail,
    BufferLimit,
    BadChecksum,
    IcmpSend,
    Neighbour,
    RouteLookup,
    NapiPoll,
    XdpException,
    XdpRedirect,
    TcpProbe,
    CongestionState,
    DataReady,
    SockReceive,
    SockSend,
    TransmitTimeout,
    BridgeLearn,
    ReceiveReturn,
    Softirq,
    Scheduled,
}

/// One probe.
pub(crate) struct Spec {
    /// `subsystem:tracepoint`.
    pub(crate) name: &'static str,
    /// Kernel module that may hold it, empty for the kernel proper.
    module: &'static str,
    pub(crate) layer: Layer,
    profile: Profile,
    pub(crate) shape: Shape,
}

impl Spec {
    fn tracepoint(&self) -> &'static str {
        self.name.split_once(':').map_or(self.name, |(_, name)| name)
    }

    /// Programs are named after their tracepoints.
    pub(crate) fn program(&self) -> String {
        format!("on_{}", self.tracepoint())
    }
}

macro_rules! probes {
    ($( $number:ident = $name:literal $layer:ident $profile:ident $shape:ident $( in $module:literal )? ; )*) => {
        /// Every probe; the index is the number in records and the id in the manifest.
        pub(crate) const PROBES: &[Spec] = &[ $( Spec {
            name: $name,
            module: concat!("" $(, $module)?),
            layer: Layer::$layer,
            profile: Profile::$profile,
            shape: Shape::$shape,
        }, )* ];

        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names of probes.h")]
        enum Number { $( $number, )* }

        // The order here is the order of probes.h.
        const _: () = {
            $( assert!(Number::$number as u32 == types::psc_probe::$number.0); )*
            assert!(PROBES.len() as u32 == types::psc_probe::PROBE_COUNT.0);
            assert!(FIRST_FUNCTION as usize + crate::functions::FUNCTIONS.len() <= ROOM);
            assert!(FIRST_FUNCTION as u32 == types::psc_probe::PROBE_FUNCTIONS.0);
        };
    };
}

probes! {
    PROBE_NETIF_RX = "net:netif_rx" Link Default BacklogQueue;
    PROBE_GRO_RECEIVE = "net:napi_gro_receive_entry" Link Default GroReceive;
    PROBE_GRO_FRAGS = "net:napi_gro_frags_entry" Link Default GroReceive;
    PROBE_NETIF_RECEIVE_SKB = "net:netif_receive_skb" Link Default Receive;
    PROBE_NET_DEV_QUEUE = "net:net_dev_queue" Link Default DeviceQueue;
    PROBE_NET_DEV_START_XMIT = "net:net_dev_start_xmit" Driver Default TransmitStart;
    PROBE_NET_DEV_XMIT = "net:net_dev_xmit" Driver Default TransmitDone;
    PROBE_KFREE_SKB = "skb:kfree_skb" Network Default Free;
    PROBE_CONSUME_SKB = "skb:consume_skb" Network Default Consume;
    PROBE_COPY_DATAGRAM = "skb:skb_copy_datagram_iovec" User Default CopyToUser;
    PROBE_TCP_RETRANSMIT_SKB = "tcp:tcp_retransmit_skb" Transport Default Retransmit;
    PROBE_TCP_RETRANSMIT_SYNACK = "tcp:tcp_retransmit_synack" Transport Default RetransmitSynAck;
    PROBE_TCP_SEND_RESET = "tcp:tcp_send_reset" Transport Default SendReset;
    PROBE_TCP_RECEIVE_RESET = "tcp:tcp_receive_reset" Transport Default ReceiveReset;
    PROBE_SOCK_SET_STATE = "sock:inet_sock_set_state" Socket Default SockState;
    PROBE_TCP_DESTROY_SOCK = "tcp:tcp_destroy_sock" Socket Default SockDestroy;
    PROBE_RCVQUEUE_FULL = "sock:sock_rcvqueue_full" Socket Default ReceiveQueueFull;
    PROBE_UDP_FAIL_QUEUE = "udp:udp_fail_queue_rcv_skb" Transport Default UdpQueueFail;
    PROBE_EXCEED_BUF_LIMIT = "sock:sock_exceed_buf_limit" Socket Default BufferLimit;
    PROBE_TCP_BAD_CSUM = "tcp:tcp_bad_csum" Transport Default BadChecksum;
    PROBE_ICMP_SEND = "icmp:icmp_send" Network Default IcmpSend;
    PROBE_NEIGH_UPDATE = "neigh:neigh_update" Link Default Neighbour;
    PROBE_SK_ERROR_REPORT = "sock:inet_sk_error_report" Socket Default SockError;
    PROBE_XDP_EXCEPTION = "xdp:xdp_exception" Driver Default XdpException;
    PROBE_XMIT_TIMEOUT = "net:net_dev_xmit_timeout" Driver Default TransmitTimeout;
    PROBE_QDISC_ENQUEUE = "qdisc:qdisc_enqueue" Qdisc Default QdiscEnqueue;
    PROBE_QDISC_DEQUEUE = "qdisc:qdisc_dequeue" Qdisc Default QdiscDequeue;
    PROBE_NETIF_RX_EXIT = "net:netif_rx_exit" Link Full ReceiveReturn;
    PROBE_NETIF_RECEIVE_SKB_EXIT = "net:netif_receive_skb_exit" Link Full ReceiveReturn;
    PROBE_NETIF_RECEIVE_LIST_EXIT = "net:netif_receive_skb_list_exit" Link Full ReceiveReturn;
    PROBE_GRO_RECEIVE_EXIT = "net:napi_gro_receive_exit" Link Full ReceiveReturn;
    PROBE_GRO_FRAGS_EXIT = "net:napi_gro_frags_exit" Link Full ReceiveReturn;
    PROBE_NAPI_POLL = "napi:napi_poll" Driver Full NapiPoll;
    PROBE_FIB_LOOKUP = "fib:fib_table_lookup" Network Default RouteLookup;
    PROBE_FIB6_LOOKUP = "fib6:fib6_table_lookup" Network Full RouteLookup in "ipv6";
    PROBE_TCP_PROBE = "tcp:tcp_probe" Transport Full TcpProbe;
    PROBE_TCP_CONG_STATE = "tcp:tcp_cong_state_set" Transport Full CongestionState;
    PROBE_DATA_READY = "sock:sk_data_ready" Socket Default DataReady;
    PROBE_SOCK_SEND = "sock:sock_send_length" User Default SockSend;
    PROBE_SOCK_RECV = "sock:sock_recv_length" User Default SockReceive;
    PROBE_XDP_REDIRECT = "xdp:xdp_redirect" Driver Full XdpRedirect;
    PROBE_XDP_REDIRECT_ERR = "xdp:xdp_redirect_err" Driver Default XdpRedirect;
    PROBE_NEIGH_CREATE = "neigh:neigh_create" Link Full Neighbour;
    PROBE_NEIGH_TIMER = "neigh:neigh_timer_handler" Link Full Neighbour;
    PROBE_NEIGH_SEND_DONE = "neigh:neigh_event_send_done" Link Full Neighbour;
    PROBE_NEIGH_SEND_DEAD = "neigh:neigh_event_send_dead" Link Full Neighbour;
    PROBE_NEIGH_CLEANUP = "neigh:neigh_cleanup_and_release" Link Full Neighbour;
    PROBE_FDB_UPDATE = "bridge:br_fdb_update" Link Full BridgeLearn in "bridge";
    PROBE_FDB_ADD = "bridge:br_fdb_add" Link Full BridgeLearn in "bridge";
    PROBE_FDB_EXTERNAL = "bridge:br_fdb_external_learn_add" Link Full BridgeLearn in "bridge";
    PROBE_SOFTIRQ_RAISE = "irq:softirq_raise" Driver Full Softirq;
    PROBE_SOFTIRQ_ENTRY = "irq:softirq_entry" Driver Full Softirq;
    PROBE_SOFTIRQ_EXIT = "irq:softirq_exit" Driver Full Softirq;
    PROBE_SCHED_WAKING = "sched:sched_waking" User Full Scheduled;
    PROBE_SCHED_SWITCH = "sched:sched_switch" User Full Scheduled;
}

/// Number of psc's first netfilter link; the other is the next.
pub(crate) const NETFILTER: u8 = PROBES.len() as u8;
/// Number of the first function of [`crate::functions::FUNCTIONS`].
pub(crate) const FIRST_FUNCTION: u8 = NETFILTER + 2;

/// Number of `kfree_skb`, whose repetitions are aggregated.
pub(crate) const FREE: u16 = Number::PROBE_KFREE_SKB as u16;

/// Whether a probe is one that journeys and drops can do without.
pub(crate) fn is_optional(number: usize) -> bool {
    PROBES.get(number).is_some_and(|spec| spec.profile == Profile::Full)
}

/// The rung reached by each probe: wanted and possible, or the reason why not.
pub(crate) fn choose(profile: Profile, kernel: &KernelTypes) -> Vec<ProbeStatus> {
    let status = |spec: &Spec| {
        if profile == Profile::Default && spec.profile == Profile::Full {
            return ProbeStatus::Unwanted;
        }
        let in_module = !spec.module.is_empty()
            && std::path::Path::new("/sys/kernel/btf").join(spec.module).exists();
        if kernel.tracepoint(spec.tracepoint()).is_some() || in_module {
            ProbeStatus::Attached
        } else if spec.module.is_empty() {
            ProbeStatus::Failed("this kernel has no such tracepoint".to_owned())
        } else {
            ProbeStatus::Failed(format!("module {} is not loaded", spec.module))
        }
    };
    PROBES.iter().map(status).collect()
}

/// Leaves only the programs of attachable probes to be loaded.
pub(crate) fn set_autoload(object: &mut OpenObject, status: &[ProbeStatus], others: &[&str]) {
    for mut program in object.progs_mut() {
        let wanted = PROBES.iter().zip(status).any(|(spec, status)| {
            *status == ProbeStatus::Attached && program.name() == &*spec.program()
        });
        let name = program.name().to_string_lossy().into_owned();
        program.set_autoload(wanted || others.contains(&name.as_str()));
    }
}

/// Attaches every loaded program; what fails is noted, not fatal.
pub(crate) fn attach(
    object: &Object,
    status: &mut [ProbeStatus],
) -> Result<Vec<(usize, Link)>, StartError> {
    let mut links = Vec::new();
    for (number, (spec, status)) in PROBES.iter().zip(status.iter_mut()).enumerate() {
        if *status != ProbeStatus::Attached {
            continue;
        }
        let wanted = spec.program();
        match object.progs_mut().find(|program| program.name() == &*wanted) {
            None => *status = ProbeStatus::Failed("psc has no program for it".to_owned()),
            Some(program) => match program.attach() {
                Ok(link) => links.push((number, link)),
                Err(e) => *status = ProbeStatus::Failed(format!("attach: {e:#}")),
            },
        }
    }
    if links.is_empty() {
        let first = PROBES
            .iter()
            .zip(status.iter())
            .find_map(|(spec, status)| match status {
                ProbeStatus::Failed(why) => Some(format!("{}: {why}", spec.name)),
                _ => None,
            })
            .unwrap_or_default();
        return Err(StartError::NoProbe { first });
    }
    Ok(links)
}

/// The probes as the manifest lists them.
pub(crate) fn manifest(status: &[ProbeStatus]) -> Vec<Probe> {
    let probe = |(spec, status): (&Spec, &ProbeStatus)| Probe {
        name: spec.name.to_owned(),
        method: "tp_btf".to_owned(),
        layer: spec.layer,
        status: status.clone(),
    };
    PROBES.iter().zip(status).map(probe).collect()
}

/// A descriptor of a program, for its counters.
pub(crate) fn program_fd(object: &Object, wanted: &str) -> Option<OwnedFd> {
    let program = object.progs().find(|program| program.name() == wanted)?;
    program.as_fd().try_clone_to_owned().ok()
}

/// Runs that the kernel skipped because the program was already running on that CPU; `None`
/// before 5.12.
pub(crate) fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    info(program).map(|info| info.recursion_misses)
}

/// Nanoseconds that a program has run for while the kernel's statistics were on.
pub(crate) fn run_time(program: BorrowedFd<'_>) -> Option<u64> {
    info(program).map(|info| info.run_time_ns)
}

fn info(program: BorrowedFd<'_>) -> Option<libbpf_sys::bpf_prog_info> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info and its size belong together; zeroed pointers ask for no arrays.
    let rc = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            program.as_raw_fd(),
            std::ptr::from_mut(&mut info).cast(),
            &raw mut len,
        )
    };
    (rc == 0).then_some(info)
}

/// What libbpf and the verifier said while one program was tried alone.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Loads an object with one program; the error is the verifier's own last words.
pub(crate) fn load_with_reason(object: OpenObject) -> Result<(), String> {
    #[expect(clippy::needless_pass_by_value, reason = "the signature that libbpf-rs calls")]
    fn listen(_: PrintLevel, text: String) {
        if let Ok(mut said) = SAID.lock() {
            said.push_str(&text);
        }
    }
    if let Ok(mut said) = SAID.lock() {
        said.clear();
    }
    let before = libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
    let loaded = object.load();
    libbpf_rs::set_print(before);
    let Err(e) = loaded else { return Ok(()) };
    let said = SAID.lock().map(|said| said.clone()).unwrap_or_default();
    Err(match last_words(&said) {
        Some(words) => format!("load: {words}"),
        None => format!("load: {e:#}"),
    })
}

/// The line before the verifier's statistics says what was wrong.
fn last_words(log: &str) -> Option<&str> {
    let lines: Vec<&str> = log.lines().collect();
    let end = lines.iter().rposition(|line| line.starts_with("processed "))?;
    lines[..end].iter().rev().copied().find(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_have_a_subsystem() {
        let mut names: Vec<_> = PROBES.iter().map(|spec| spec.name).collect();
        assert!(names.iter().all(|name| name.contains(':')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }

    #[test]
    fn the_verifiers_last_words_are_found() {
        let log = "libbpf: prog 'x': BPF program load failed\n\
                   14: (61) r1 = *(u32 *)(r0 +0)\n\
                   R0 invalid mem access 'map_value_or_null'\n\
                   processed 15 insns (limit 1000000)\n-- END PROG LOAD LOG --\n";
        assert_eq!(last_words(log), Some("R0 invalid mem access 'map_value_or_null'"));
        assert_eq!(last_words("libbpf: failed to find BTF\n"), None);
    }
}
