/* SPDX-License-Identifier: MIT */
/* <linux/bpf.h>: the contexts of XDP and TC programs, and the verdicts. Part of the stable interface. */
#ifndef PSC_GUARD_CONTEXT_H
#define PSC_GUARD_CONTEXT_H

enum {
	BPF_MAP_TYPE_LRU_HASH = 9,
};
enum { BPF_ANY = 0 };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
};

#define XDP_DROP 1
#define XDP_PASS 2
/* To the next program, and without one to the stack: TC_ACT_UNSPEC is TCX_NEXT. */
#define TC_NEXT -1
#define TC_SHOT 2

#endif
