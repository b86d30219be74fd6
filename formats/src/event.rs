//! The event: one sighting of a packet, socket or device at one probe.

mod args;
mod kind;

use crate::flow::FiveTuple;
use crate::manifest::ProbeId;
use args::Arg;
pub use args::ArgValue;

/// Nanoseconds on the recording's clock; [`crate::manifest::Clock`] says which clock that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ns(pub u64);

/// Opaque stand-in for an skb's address, dense from 1; 0 is "no skb".
///
/// Addresses are reused by the kernel, so this is not an identity: replay stamps generations
/// on it to make a `SkbId`. The real address never leaves the recording host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkbAddr(pub u32);

/// Opaque stand-in for a socket, dense from 1; 0 is "no socket". Facts describe it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SockId(pub u32);

/// Index of a unique kernel stack ([`crate::fact::StackFact`]), dense from 1; 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

/// Index of a kernel symbol ([`crate::fact::SymbolFact`]), dense from 1; 0 is "unknown".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId(pub u32);

/// Index of a network device in one namespace ([`crate::fact::DeviceFact`]), dense from 1;
/// 0 is "no device" (`skb->dev` was null, or stale at this probe).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u16);

/// The kernel stack at an event and how it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The stack, or 0 when none is known.
    pub id: StackId,
    /// How `id` is known.
    pub evidence: StackEvidence,
}

/// How the stack of an event is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StackEvidence {
    /// No stack was asked for or none could be taken.
    #[default]
    None = 0,
    /// Taken at this event because its path key was new.
    Observed = 1,
    /// Taken at this event to confirm the stack learned for its path key: it agreed.
    Confirmed = 2,
    /// Taken at this event to confirm the learned stack: it differed. `id` is the one taken.
    Contradicted = 3,
    /// Not taken: the stack learned for this event's path key.
    Inferred = 4,
}

impl StackEvidence {
    /// The evidence for a column value; `None` for a value this version does not know.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::None,
            1 => Self::Observed,
            2 => Self::Confirmed,
            3 => Self::Contradicted,
            4 => Self::Inferred,
            _ => return None,
        })
    }
}

/// What was running on the CPU when the probe fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Context {
    /// Not recorded, or this kernel does not let us tell.
    #[default]
    Unknown,
    /// A task in process context, by pid in the initial namespace (thread id).
    Task(u32),
    /// Softirq; the interrupted task is not the cause and is not kept.
    Softirq,
    /// Hard interrupt or NMI.
    Hardirq,
}

/// `skb_shared_info` segmentation fields. One skb may stand for many wire segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gso {
    /// Payload bytes in each segment; 0 when the skb is one segment.
    pub size: u16,
    /// Segments this skb stands for; 0 and 1 both mean one.
    pub segs: u16,
    /// `SKB_GSO_*` bits.
    pub kind: u32,
}

impl Gso {
    /// Wire segments that this skb stands for, at least one.
    pub fn segments(self) -> u32 {
        u32::from(self.segs.max(1))
    }
}

/// Where the packet bytes of an event are in its [`crate::Batch`], and what they start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketRef {
    /// Offset into [`crate::Batch::bytes`].
    pub offset: u32,
    /// Bytes stored.
    pub caplen: u32,
    /// Bytes the packet had from the same starting point; more than `caplen` when cut.
    pub len: u32,
    /// What the first byte belongs to.
    pub link: LinkType,
}

/// What the first stored byte of a packet belongs to: a `LINKTYPE_*` number of the pcap registry
/// (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: host-order address family, then the network header.
    pub const NULL: Self = Self(0);
    /// Ethernet II or 802.3, no FCS.
    pub const ETHERNET: Self = Self(1);
    /// Raw IPv4 or IPv6, by version nibble.
    pub const RAW: Self = Self(101);
    /// BSD loopback with network-order address family.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One sighting at one probe.
///
/// Made by the live decoder and by the pcap importer; everything downstream treats both alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When the probe fired, read in the probe.
    pub at: Ns,
    /// CPU the probe ran on.
    pub cpu: u16,
    /// Position in this CPU's stream, from 0; a gap is events lost by the recorder.
    pub seq: u64,
    /// Index into the manifest's probe list.
    pub probe: ProbeId,
    /// The skb seen, 0 when the probe has none.
    pub skb: SkbAddr,
    /// The socket of the skb or of the probe, 0 when none or unknown.
    pub sock: SockId,
    /// `skb->dev` or the probe's device; see [`DeviceId`].
    pub device: DeviceId,
    /// `skb->skb_iif`: interface index the packet came in by; 0 when it was made here.
    pub iif: u32,
    /// `skb->len`: bytes from the skb's current start; a GSO skb counts once.
    pub len: u32,
    /// Segmentation, for counts that must say skbs or wire segments.
    pub gso: Gso,
    /// The kernel stack.
    pub stack: Stack,
    /// What was running.
    pub context: Context,
    /// Packet bytes, when this event carries them.
    pub packet: Option<PacketRef>,
    /// Header fingerprint of the packet at this probe; 0 when it was not read. See
    /// [`crate::packet::fingerprint`].
    pub content: u32,
    /// What the probe saw.
    pub kind: EventKind,
}

/// Stable number of an [`EventKind`] in archives; never reused.
pub type KindTag = u8;

macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $tag:literal { $( $(#[$fdoc:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => {
        /// What a probe saw. Kinds are semantic: several tracepoints may give one kind, and the
        /// manifest's probe list says which tracepoint it was.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EventKind {
            $( $(#[$doc])* $name { $( $(#[$fdoc])* $field: $ty ),* }, )*
        }

        impl EventKind {
            /// Number of this kind in archives.
            pub fn tag(&self) -> KindTag {
                match self { $( Self::$name { .. } => $tag, )* }
            }

            /// Name of this kind, as shown and as used in expressions (`event.kind`).
            pub fn name(&self) -> &'static str {
                match self { $( Self::$name { .. } => stringify!($name), )* }
            }

            /// Appends the fields as integers, in declaration order.
            pub fn write_args(&self, out: &mut Vec<u64>) {
                match self { $( Self::$name { $( $field ),* } => { $( Arg::put($field, out); )* let _ = out; } )* }
            }

            /// The fields with their names and meaning, in declaration order, for showing.
            pub fn named_args(&self) -> Vec<(&'static str, ArgValue)> {
                match self {
                    $( Self::$name { $( $field ),* } => {
                        vec![ $( (stringify!($field), Arg::value($field)) ),* ]
                    } )*
                }
            }

            /// How many integers [`Self::write_args`] writes for `tag`; `None` for an unknown tag.
            pub fn arity(tag: KindTag) -> Option<usize> {
                match tag { $( $tag => Some(0 $( + <$ty as Arg>::WIDTH )*), )* _ => None }
            }

            /// Whether the first five integers of `tag` are one 5-tuple, which archives store once
            /// for all events that share it.
            pub fn leads_with_tuple(tag: KindTag) -> bool {
                let widths: &[usize] = match tag { $( $tag => &[$( <$ty as Arg>::WIDTH ),*], )* _ => &[] };
                widths.first() == Some(&5)
            }

            /// The reverse of [`Self::write_args`]; `None` for an unknown tag, too few integers,
            /// or integers that no value of the field has.
            pub fn from_args(tag: KindTag, args: &[u64]) -> Option<Self> {
                let mut args = args.iter().copied();
                let _ = &mut args;
                Some(match tag {
                    $( $tag => Self::$name { $( $field: <$ty as Arg>::take(&mut args)? ),* }, )*
                    _ => return None,
                })
            }
        }
    };
}

kinds! {
    /// A frame of a capture file; no kernel probe. `direction` is 0 unknown, 1 inbound, 2 outbound
    /// (pcapng `epb_flags`, SLL packet type).
    Captured = 0 {
        /// 0 unknown, 1 inbound, 2 outbound.
        direction: u8,
    }
    /// `napi_gro_receive_entry` or `napi_gro_frags_entry`: a driver handed the skb to GRO.
    GroReceive = 1 {}
    /// `netif_rx`: the skb was put on a per-CPU backlog (veth and loopback crossings do this).
    BacklogQueue = 2 {}
    /// `netif_receive_skb`: the stack starts on a received skb.
    Receive = 3 {}
    /// `net_dev_queue`: the stack hands an skb to a device's queue.
    DeviceQueue = 4 {}
    /// `qdisc_enqueue`.
    QdiscEnqueue = 5 {
        /// `qdisc->handle`.
        handle: u32,
    }
    /// `qdisc_dequeue`.
    QdiscDequeue = 6 {
        /// `qdisc->handle`.
        handle: u32,
        /// skbs dequeued in this bulk.
        packets: u32,
    }
    /// `net_dev_start_xmit`: the skb goes to the driver.
    TransmitStart = 7 {}
    /// `net_dev_xmit`: the driver answered. The skb may already be free: only its address is used.
    TransmitDone = 8 {
        /// `NETDEV_TX_*` or a negative errno.
        rc: i32,
    }
    /// `kfree_skb`: freed as discarded. Not yet a drop: see `replay::journey`.
    Free = 9 {
        /// `enum skb_drop_reason` of the recorded kernel; the manifest names it.
        reason: u32,
        /// Caller.
        location: SymbolId,
    }
    /// `consume_skb`: freed as used. For UDP this comes from a deferred flush.
    Consume = 10 {
        /// Caller; 0 on kernels whose tracepoint has none (6.1).
        location: SymbolId,
    }
    /// `skb_copy_datagram_iovec`: bytes copied to a reader.
    CopyToUser = 11 {
        /// Bytes asked for.
        bytes: u32,
    }
    /// `tcp_retransmit_skb`.
    Retransmit = 12 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// TCP state (`TCP_ESTABLISHED` is 1).
        state: u8,
    }
    /// `tcp_retransmit_synack`.
    RetransmitSynAck = 13 {
        /// Connection, local end first.
        tuple: FiveTuple,
    }
    /// `tcp_send_reset`.
    SendReset = 14 {
        /// Connection, local end first; ports 0 when there is no socket.
        tuple: FiveTuple,
        /// `enum sk_rst_reason` where the kernel has it, else 0.
        reason: u32,
    }
    /// `tcp_receive_reset`.
    ReceiveReset = 15 {
        /// Connection, local end first.
        tuple: FiveTuple,
    }
    /// `inet_sock_set_state`.
    SockState = 16 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// State left (`TCP_*`, 7 is `TCP_CLOSE`).
        old: u8,
        /// State entered.
        new: u8,
    }
    /// `tcp_destroy_sock`.
    SockDestroy = 17 {
        /// Connection, local end first.
        tuple: FiveTuple,
    }
    /// `inet_sk_error_report`.
    SockError = 18 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// `sk->sk_err`, a positive errno.
        error: u32,
    }
    /// `sock_rcvqueue_full`.
    ReceiveQueueFull = 19 {
        /// `sk_rmem_alloc`, bytes.
        used: u32,
        /// `sk_rcvbuf`, bytes.
        limit: u32,
    }
    /// `udp_fail_queue_rcv_skb`.
    UdpQueueFail = 20 {
        /// Negative errno.
        rc: i32,
    }
    /// `sock_exceed_buf_limit`.
    BufferLimit = 21 {
        /// Pages allocated by the protocol.
        allocated: u64,
        /// 0 send, 1 receive.
        direction: u8,
    }
    /// `tcp_bad_csum`.
    BadChecksum = 22 {}
    /// `icmp_send`: an ICMP error is about to be sent about this skb.
    IcmpSend = 23 {
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
    }
    /// `neigh_update`, `neigh_create`, `neigh_timer_handler`, `neigh_event_send_done` and kin; the
    /// probe says which.
    Neighbour = 24 {
        /// The neighbour's address (`src`) and, for `neigh_update`, nothing else.
        address: FiveTuple,
        /// Link-layer address, big-endian in the low 48 bits; 0 when none.
        mac: u64,
        /// `NUD_*` state before.
        old: u8,
        /// `NUD_*` state asked for.
        new: u8,
    }
    /// `fib_table_lookup` or `fib6_table_lookup`.
    RouteLookup = 25 {
        /// Flow looked up.
        tuple: FiveTuple,
        /// Table number.
        table: u32,
        /// Output interface index; 0 when none.
        oif: u32,
        /// 0 or a negative errno.
        rc: i32,
    }
    /// `napi_poll`.
    NapiPoll = 26 {
        /// Packets handled.
        work: u32,
        /// Packets allowed.
        budget: u32,
    }
    /// `xdp_exception`.
    XdpException = 27 {
        /// `XDP_*` action.
        action: u32,
    }
    /// `xdp_redirect` or `xdp_redirect_err`.
    XdpRedirect = 28 {
        /// 0 or a negative errno.
        rc: i32,
        /// Target interface index.
        to: u32,
    }
    /// `tcp_probe`: a segment arrived on an established socket.
    TcpProbe = 29 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// Congestion window, segments.
        cwnd: u32,
        /// Slow-start threshold, segments.
        ssthresh: u32,
        /// Smoothed RTT, microseconds.
        srtt_us: u32,
        /// Peer's receive window, bytes.
        rwnd: u32,
    }
    /// `tcp_cong_state_set`.
    CongestionState = 30 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// `TCP_CA_*`.
        state: u8,
    }
    /// `sk_data_ready`: a socket's owner was told of data. Of datagrams only, unless all probes were asked for.
    DataReady = 31 {}
    /// `sock_recv_length`: a reader took data out of a socket's queue; a look at it (`MSG_PEEK`) is not told.
    /// Of datagrams only, unless all probes were asked for.
    SockReceive = 32 {
        /// Bytes returned, or a negative errno.
        rc: i32,
    }
    /// `sock_send_length`.
    SockSend = 33 {
        /// Bytes accepted, or a negative errno.
        rc: i32,
    }
    /// `net_dev_xmit_timeout`: the driver's watchdog fired.
    TransmitTimeout = 34 {
        /// Queue index.
        queue: u32,
    }
    /// Many like events that the recorder counted instead of storing (flood aggregation).
    Repeated = 35 {
        /// Kind counted.
        kind: u8,
        /// How many, not counting stored ones.
        count: u64,
        /// Sum of their `len`, bytes.
        bytes: u64,
        /// Drop reason, when `kind` is [`EventKind::Free`].
        reason: u32,
        /// Location, when `kind` is [`EventKind::Free`] or [`EventKind::Consume`].
        location: SymbolId,
        /// First of them, on the recording's clock (the event's `at` is the last).
        first: u64,
    }
    /// `br_fdb_update` and kin: a bridge learned an address.
    BridgeLearn = 36 {
        /// Address, big-endian in the low 48 bits.
        mac: u64,
        /// VLAN id, 0 when none.
        vlan: u16,
    }
    /// `netif_rx_exit`, `netif_receive_skb_exit`, ...: how the entry ended.
    ReceiveReturn = 37 {
        /// `NET_RX_*`.
        rc: i32,
    }
    /// `tcp_retransmit_skb` on kernels whose tracepoint has a result (6.16 and later) and it is an
    /// error: nothing was sent. -EBUSY is usual: the original still waits in a queue of this host.
    RetransmitFailed = 48 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// TCP state.
        state: u8,
        /// Negative errno, or `NET_XMIT_DROP`.
        rc: i32,
    }
    /// A socket seen for the first time by an event without a tuple of its own.
    SockSeen = 38 {
        /// Connection, local end first.
        tuple: FiveTuple,
        /// State at that time.
        state: u8,
    }
    /// A function of the stack was entered with this skb; the probe says which.
    FunctionEntry = 39 {
        /// 1 when the return is probed, too; 0 when this is all that will be seen of the call.
        returns: u8,
        /// What `value` is: [`crate::function::Argument`] as a number.
        argument: u8,
        /// The argument, or 0.
        value: u64,
    }
    /// The function returned. It was entered at `at - elapsed`, where the same probe has its entry event. The
    /// skb is the one it was entered with and may be free by now: only its address is meant.
    FunctionReturn = 40 {
        /// What `value` means: [`crate::function::Meaning`] as a number.
        meaning: u8,
        /// What it returned, sign-extended from the function's own width.
        value: i64,
        /// Nanoseconds since its entry event.
        elapsed: u64,
    }
    /// `skb_clone`: a second skb shares this one's bytes.
    Cloned = 41 {
        /// The new skb.
        child: SkbAddr,
    }
    /// `skb_copy`, `__pskb_copy_fclone`: a second skb has bytes of its own.
    Copied = 42 {
        /// The new skb.
        child: SkbAddr,
    }
    /// `skb_segment`: software GSO cut this segment from the skb. One event for each segment, in their order.
    Segmented = 43 {
        /// The segment.
        child: SkbAddr,
    }
    /// `skb_gro_receive`: GRO merged this skb into another. It ends here, or shares its bytes until it does.
    Merged = 44 {
        /// The skb that carries on.
        into: SkbAddr,
    }
    /// `ip_do_fragment`, `ip6_fragment`: this fragment was made of the skb.
    Fragmented = 45 {
        /// The fragment.
        child: SkbAddr,
    }
    /// `ip_frag_reasm` and kin: this fragment went into the datagram that another skb carries on.
    Reassembled = 46 {
        /// The skb that carries the datagram on; may be this one.
        into: SkbAddr,
    }
    /// A netfilter link of psc's own (tier 1b) saw the skb at one end of a hook.
    NetfilterHook = 47 {
        /// `NFPROTO_*`: 2 is IPv4, 10 is IPv6.
        family: u8,
        /// `NF_INET_*`: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
        hook: u8,
        /// Priority of the link: the lowest is before, the highest after all other hooks.
        priority: i32,
    }
    /// `psc merge`: the packet goes on in another host's recording. Its first event there is the one of `child`
    /// at exactly `arrival`; how wrong that time can be against the event's own is bounded by causality.
    Handed = 56 {
        /// The skb that it is there.
        child: SkbAddr,
        /// Time of its first event there, on the merged recording's clock, nanoseconds.
        arrival: u64,
        /// How much earlier it may have come, nanoseconds; `u64::MAX` when nothing bounds that.
        earlier: u64,
        /// How much later it may have come, nanoseconds; `u64::MAX` when nothing bounds that.
        later: u64,
    }
    /// `softirq_exit` of a network softirq: one run of it on this CPU, with what `softirq_raise` and
    /// `softirq_entry` said of it.
    Softirq = 57 {
        /// 2 is `NET_TX`, 3 is `NET_RX`.
        vector: u8,
        /// From the first raise that it answers to its entry, nanoseconds; `u64::MAX` when the raise was not seen.
        waited: u64,
        /// From entry to exit, nanoseconds.
        ran: u64,
    }
    /// `sched_switch`: a task runs that a socket with data woke. The event's socket is that socket, its context
    /// the task that starts to run. Whoever had not left its CPU when it was woken has nothing to wait for, and
    /// no event.
    Scheduled = 58 {
        /// Since `sched_waking`, nanoseconds.
        waited: u64,
    }
}
