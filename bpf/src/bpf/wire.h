/* SPDX-License-Identifier: MIT */
/*
 * The one boundary between the BPF programs and psc. Every struct that crosses it is here, has
 * explicit padding, and is mirrored in ../wire.rs, where constant assertions compare the two.
 *
 * Kernel addresses (`skb`, `sock`, stack frames, `arg` of frees) cross this boundary and go no
 * further: userspace turns them into dense ids before anything else sees them.
 */
#ifndef PSC_WIRE_H
#define PSC_WIRE_H

/* Frames kept of one kernel stack; the outer ones are cut. */
#define PSC_FRAMES 40
/* Learned stacks per CPU, direct mapped. */
#define PSC_PATHS 4096
/* Path keys whose sampling userspace may raise; indexed by hash. */
#define PSC_LEVELS 16384
/* Probes there is room to count losses for. */
#define PSC_PROBES 256
/* Firewall chains whose names each CPU remembers to have told. */
#define PSC_CHAINS 64
/* Aggregated drops per CPU, direct mapped. */
#define PSC_AGGREGATES 64

/* psc_record.type */
enum psc_type {
	PSC_EVENT = 1,
	/* An event of kind SockSeen: the tuple of a socket not met before. */
	PSC_SOCK_SEEN = 2,
	/* Totals of one aggregate that gives way to another. */
	PSC_REPEATED = 3,
	/* psc_stack_record */
	PSC_STACK = 4,
	/* psc_task_record */
	PSC_TASK = 5,
	/* A function was entered, and no more will be seen of the call. */
	PSC_ENTRY = 6,
	/* A function was entered, and its return is probed. */
	PSC_CALL = 7,
	/* It returned: arg[0] is what, arg[1] when it was entered. */
	PSC_RETURN = 8,
	/* `skb` and the one at arg[0] belong together; the probe says how. */
	PSC_LINEAGE = 9,
	/* psc_chain_record */
	PSC_CHAIN = 10,
	/* psc's own netfilter link saw the skb: arg[0] is family | hook << 8, arg[1] the priority. */
	PSC_HOOK = 11,
};

/* psc_record.payload: what follows the record. */
enum psc_payload {
	PSC_NOTHING = 0,
	/* `caplen` bytes of the packet. */
	PSC_BYTES = 1,
	/* One psc_tuple. */
	PSC_TUPLE = 2,
};

/* psc_record.stack: how the stack of this event is known. */
enum psc_stack_how {
	PSC_STACK_NONE = 0,
	/* Taken, the path was new; the stack record with this `path` came just before. */
	PSC_STACK_LEARNED = 1,
	/* Taken to compare with the one learned; `path` is the token of the stack record. */
	PSC_STACK_SAMPLED = 2,
	/* Not taken; the one learned for `path`. */
	PSC_STACK_INFERRED = 3,
	/* Wanted and not taken. */
	PSC_STACK_MISSED = 4,
};

/* psc_record.context, and below these values a thread id. */
#define PSC_CONTEXT_UNKNOWN 0xffffffffU
#define PSC_CONTEXT_HARDIRQ 0xfffffffeU
#define PSC_CONTEXT_SOFTIRQ 0xfffffffdU

/* psc_config.stacks */
enum psc_stacks {
	PSC_STACKS_OFF = 0,
	PSC_STACKS_LEARN = 1,
	PSC_STACKS_ALL = 2,
	PSC_STACKS_DROPS = 3,
};

/* Priorities of psc's netfilter links: the outermost that the kernel gives away. */
#define PSC_HOOK_FIRST (-2147483647)
#define PSC_HOOK_LAST 2147483646

struct psc_tuple {
	/* Network order; IPv4 in the first four bytes. */
	__u8 src[16];
	__u8 dst[16];
	/* Host order. */
	__u16 sport;
	__u16 dport;
	/* 4 or 6; 0 is no tuple. */
	__u8 family;
	__u8 protocol;
	/* TCP_* */
	__u8 state;
	__u8 pad;
} __attribute__((aligned(4)));

/* Every ring record starts so; the ring's own header has the length. */
struct psc_head {
	/* Event: low half of the CPU's sequence. Stack: sample, 0 when learned. Task: thread id. */
	__u32 token;
	__u8 type;
	__u8 probe;
	__u8 payload;
	__u8 stack;
};

struct psc_record {
	struct psc_head head;
	/* CLOCK_MONOTONIC, read after the record was reserved: all older ones are in the ring. */
	__u64 at;
	__u64 skb;
	__u64 sock;
	__u32 netns;
	__u32 ifindex;
	__u32 iif;
	__u32 len;
	__u16 gso_size;
	__u16 gso_segs;
	__u32 content;
	__u32 context;
	/* Slot of the learned stack << 16 | its generation; with PSC_STACK_SAMPLED, the sample. */
	__u32 path;
	/* From here on all zero in most events: then the record ends here. See PSC_SHORT. */
	__u32 gso_kind;
	/* LINKTYPE_* of the bytes. */
	__u16 link;
	__u16 pad;
	__u32 caplen;
	/* Bytes the packet has from where the stored ones start. */
	__u32 pktlen;
	__u64 arg[2];
};

/* Bytes of a record without the part that is zero. */
#define PSC_SHORT 64

struct psc_stack_record {
	struct psc_head head;
	/* As in the event; 0 when nothing is learned (psc_config.stacks is ALL). */
	__u32 path;
	/* Index into `levels` of this path. */
	__u16 level;
	__u16 frames;
	__u64 address[PSC_FRAMES];
};

struct psc_task_record {
	struct psc_head head;
	__u32 pid;
	__u32 pad;
	/* cgroup v2 id, 0 when there is none. */
	__u64 cgroup;
	__u8 comm[16];
};

/* A chain of firewall rules; `payload` of the head is 1 for nft, 0 for iptables. */
struct psc_chain_record {
	struct psc_head head;
	__u64 address;
	__u8 table[32];
	__u8 chain[32];
};

/* Totals of one kind of drop beyond the threshold; they only grow while `epoch` stays. */
struct psc_aggregate {
	__u64 location;
	__u32 reason;
	__u32 netns;
	__u32 ifindex;
	__u32 epoch;
	__u64 window;
	__u64 in_window;
	__u64 count;
	__u64 bytes;
	__u64 first;
	__u64 last;
};

/* One per CPU, mapped by userspace. */
struct psc_cpu {
	/* Events attempted: each takes one number, so a gap is a loss. */
	__u64 seq;
	__u64 ring_full;
	__u64 missed_stacks;
	__u64 unreadable;
	__u64 filtered;
	__u64 aggregated;
	/* Events of flows left out to keep within the budget. */
	__u64 shed;
	/* Calls of probed functions whose return never came. */
	__u64 lost_returns;
	__u32 samples;
	/* Path key of the transmit this CPU is in, or was in last. */
	__u32 sending;
	/* For stack_depth(). */
	__u64 depth;
	/* Where this CPU's preemption count is, once found. */
	__u64 preempt_count;
	__u64 lost[PSC_PROBES];
};

/* Fixed before load. */
struct psc_config {
	__u32 snaplen;
	/* Identical drops per window beyond which they are counted; 0 never counts. */
	__u32 aggregate_over;
	__u64 aggregate_window_ns;
	/*
	 * From this CPU's `runqueues` to its preemption count, both per-CPU variables, as BTF
	 * says; 0 when the count is elsewhere. See context.h.
	 */
	__s64 preempt_delta;
	/*
	 * Where else a return may find its call: kernels since 6.14 show returning functions a stack that
	 * is this much lower. 0 looks nowhere else.
	 */
	__s64 return_frame;
	/* Slots of the skb cache - 1; a power of two - 1. */
	__u32 skb_mask;
	/* enum psc_stacks */
	__u8 stacks;
	/* Bytes at each event that has a packet, not once per journey. */
	__u8 bytes_always;
	/* Programs return at once: what attaching alone costs. */
	__u8 empty;
	/* psc_filter has something to say. */
	__u8 filtering;
	/* What this kernel's tracepoints pass. */
	__u8 consume_has_location;
	__u8 free_has_socket;
	__u8 reset_has_reason;
	__u8 retransmit_has_result;
	__u8 udp_fail_has_skb;
	/* Probes that fire at each call tell of all, not of refusals only. */
	__u8 every_call;
	/* Payload in pages is asked for, and this kernel lets tracepoints read it. */
	__u8 paged;
	__u8 pad;
};

/* Changed while recording: which of the filter's tables have a say. */
struct psc_filter {
	__u32 interfaces;
	__u32 namespaces;
	__u32 excludes;
	/* Weight - 1 of the flows kept, a power of two - 1: 0 keeps all. See is_shed(). */
	__u32 shed_mask;
};

/* Key of an interface let through. */
struct psc_interface {
	__u32 netns;
	__u32 ifindex;
};

#endif
