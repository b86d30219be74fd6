//! Mirror of `bpf/wire.h`, compared with what clang made of it at compile time.

use crate::skeleton::types;

/// Frames kept of one kernel stack.
pub(crate) const FRAMES: usize = 40;
/// Learned stacks per CPU.
pub(crate) const PATHS: usize = 4096;
/// Path keys whose sampling can be raised.
pub(crate) const LEVELS: usize = 16384;
/// Probes there is room to count losses for.
pub(crate) const PROBES: usize = 256;
/// Chains that each CPU remembers to have named.
pub(crate) const CHAINS: usize = 64;
/// Aggregated drops per CPU.
pub(crate) const AGGREGATES: usize = 64;

/// `psc_head.type`.
pub(crate) mod kind {
    pub(crate) const EVENT: u8 = 1;
    pub(crate) const SOCK_SEEN: u8 = 2;
    pub(crate) const REPEATED: u8 = 3;
    pub(crate) const STACK: u8 = 4;
    pub(crate) const TASK: u8 = 5;
    pub(crate) const ENTRY: u8 = 6;
    pub(crate) const CALL: u8 = 7;
    pub(crate) const RETURN: u8 = 8;
    pub(crate) const LINEAGE: u8 = 9;
    pub(crate) const CHAIN: u8 = 10;
    pub(crate) const HOOK: u8 = 11;
}

/// `psc_head.payload`.
pub(crate) mod payload {
    pub(crate) const BYTES: u8 = 1;
    pub(crate) const TUPLE: u8 = 2;
}

/// `psc_head.stack`.
pub(crate) mod how {
    pub(crate) const LEARNED: u8 = 1;
    pub(crate) const SAMPLED: u8 = 2;
    pub(crate) const INFERRED: u8 = 3;
}

/// `psc_record.context`; below these, a thread id.
pub(crate) mod context {
    pub(crate) const UNKNOWN: u32 = 0xffff_ffff;
    pub(crate) const HARDIRQ: u32 = 0xffff_fffe;
    pub(crate) const SOFTIRQ: u32 = 0xffff_fffd;
}

/// Types that any bytes are a value of.
///
/// # Safety
/// `repr(C)`, no padding, only integers and arrays of them.
pub(crate) unsafe trait Wire: Copy {}

/// The value at the start of `bytes`; `None` when they are too few.
pub(crate) fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    // SAFETY: enough bytes are there, and any bytes are a value of a `Wire` type.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Bytes of a record whose rest is zero.
pub(crate) const SHORT: usize = 64;

const _: () = assert!(std::mem::offset_of!(Record, gso_kind) == SHORT);

/// The record at the start of `bytes`, whole or short.
pub(crate) fn read_record(bytes: &[u8]) -> Option<Record> {
    if bytes.len() != SHORT {
        return read(bytes);
    }
    let mut whole = [0; size_of::<Record>()];
    whole[..SHORT].copy_from_slice(bytes);
    read(&whole)
}

/// The bytes of a value.
pub(crate) fn bytes_of<T: Wire>(value: &T) -> &[u8] {
    // SAFETY: a `Wire` type has no padding, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

macro_rules! mirror {
    ($( $(#[$doc:meta])* $name:ident = $c:ident { $( $field:ident = $cfield:ident : $ty:ty ),* $(,)? } )*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name { $( pub(crate) $field: $ty, )* }

        // SAFETY: integers and arrays only; the assertion on the sum of sizes excludes padding.
        unsafe impl Wire for $name {}

        const _: () = {
            assert!(size_of::<$name>() == size_of::<types::$c>());
            assert!(size_of::<$name>() == 0 $( + size_of::<$ty>() )*);
            $( assert!(std::mem::offset_of!($name, $field) == std::mem::offset_of!(types::$c, $cfield)); )*
        };
    )* };
}

pub(crate) use mirror;

mirror! {
    /// Start of every record.
    Head = psc_head { token = token: u32, kind = r#type: u8, probe = probe: u8, payload = payload: u8, stack = stack: u8 }
    /// An event.
    Record = psc_record {
        head = head: Head, at = at: u64, skb = skb: u64, sock = sock: u64,
        netns = netns: u32, ifindex = ifindex: u32, iif = iif: u32, len = len: u32,
        gso_size = gso_size: u16, gso_segs = gso_segs: u16,
        content = content: u32, context = context: u32, path = path: u32, gso_kind = gso_kind: u32,
        link = link: u16, pad = pad: u16, caplen = caplen: u32, pktlen = pktlen: u32,
        arg = arg: [u64; 2],
    }
    /// Both ends of a socket or flow.
    Tuple = psc_tuple {
        src = src: [u8; 16], dst = dst: [u8; 16], sport = sport: u16, dport = dport: u16,
        family = family: u8, protocol = protocol: u8, state = state: u8, pad = pad: u8,
    }
    /// A kernel stack, innermost frame first.
    StackRecord = psc_stack_record {
        head = head: Head, path = path: u32, level = level: u16, frames = frames: u16,
        address = address: [u64; FRAMES],
    }
    /// A task's name.
    TaskRecord = psc_task_record { head = head: Head, pid = pid: u32, pad = pad: u32, cgroup = cgroup: u64, comm = comm: [u8; 16] }
    /// A chain of firewall rules.
    ChainRecord = psc_chain_record { head = head: Head, address = address: u64, table = table: [u8; 32], chain = chain: [u8; 32] }
    /// Totals of one kind of drop.
    Aggregate = psc_aggregate {
        location = location: u64, reason = reason: u32, netns = netns: u32, ifindex = ifindex: u32, epoch = epoch: u32,
        window = window: u64, in_window = in_window: u64, count = count: u64, bytes = bytes: u64,
        first = first: u64, last = last: u64,
    }
    /// Counters of one CPU.
    Cpu = psc_cpu {
        seq = seq: u64, ring_full = ring_full: u64, missed_stacks = missed_stacks: u64,
        unreadable = unreadable: u64, filtered = filtered: u64, aggregated = aggregated: u64,
        shed = shed: u64, lost_returns = lost_returns: u64,
        samples = samples: u32, sending = sending: u32, depth = depth: u64, preempt_count = preempt_count: u64, lost = lost: [u64; PROBES],
    }
    /// What is fixed before load.
    Config = psc_config {
        snaplen = snaplen: u32, aggregate_over = aggregate_over: u32,
        aggregate_window_ns = aggregate_window_ns: u64, preempt_delta = preempt_delta: i64,
        return_frame = return_frame: i64,
        skb_mask = skb_mask: u32, stacks = stacks: u8, bytes_always = bytes_always: u8,
        empty = empty: u8, filtering = filtering: u8,
        consume_has_location = consume_has_location: u8, free_has_socket = free_has_socket: u8,
        reset_has_reason = reset_has_reason: u8, retransmit_has_result = retransmit_has_result: u8,
        udp_fail_has_skb = udp_fail_has_skb: u8, every_call = every_call: u8, paged = paged: u8, pad = pad: u8,
    }
    /// What may change while recording.
    Filter = psc_filter {
        interfaces = interfaces: u32, namespaces = namespaces: u32, excludes = excludes: u32, shed_mask = shed_mask: u32,
    }
    /// Key of an interface let through.
    Interface = psc_interface { netns = netns: u32, ifindex = ifindex: u32 }
}

// SAFETY: any byte is a value.
unsafe impl Wire for u8 {}
// SAFETY: any four bytes are a value.
unsafe impl Wire for u32 {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_record_is_the_whole_one_with_zeros() {
        let mut bytes = [0_u8; size_of::<Record>()];
        bytes[..SHORT].fill(0x5a);
        assert_eq!(read_record(&bytes[..SHORT]), read_record(&bytes));
        assert_eq!(read_record(&bytes[..SHORT - 1]), None);
        assert_eq!(read_record(&bytes[..=SHORT]), None, "neither whole nor short");
    }
}
