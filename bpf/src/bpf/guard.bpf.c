// SPDX-License-Identifier: MIT
/*
 * The rules in the kernel: one program for XDP and one for each direction of TC, all over the same tables. A rule
 * set is loaded as a program of its own, so that the verifier removes what the set does not need and
 * a change of rules is a change of programs, which is atomic.
 */
#include "kernel.h"
#include "guard_context.h"
#include <bpf/bpf_helpers.h>

#include "guard.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile struct psc_guard_config config SEC(".rodata.config");

#include "guard_maps.h"
#include "guard_walk.h"
#include "guard_state.h"
#include "guard_match.h"

static __always_inline __u64 time_now(void)
{
	__u32 zero = 0;
	__u64 *clock;

	if (!config.test)
		return bpf_ktime_get_ns();
	clock = bpf_map_lookup_elem(&clocks, &zero);
	return clock ? *clock : 0;
}

/* psc writes the second clock; when it has been silent for a second, nothing is discarded. */
static __always_inline bool psc_is_gone(void)
{
	__u32 one = 1;
	__u64 *beat;

	if (!config.heartbeat)
		return false;
	beat = bpf_map_lookup_elem(&clocks, &one);
	return !beat || bpf_ktime_get_ns() > *beat + 1000000000ULL;
}

static __always_inline struct scratch *begin(__u32 len, __u8 way)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &zero);

	if (!s)
		return NULL;
	s->present = 0;
	s->len = len;
	s->have = len < PSC_WINDOW ? len : PSC_WINDOW;
	s->end = len;
	s->malformed = 0;
	s->cut = 0;
	s->tags = 0;
	s->ways = way;
	s->done = 0;
	if (config.stateful || config.never) {
		__builtin_memset(&s->flow, 0, sizeof(s->flow));
		__builtin_memset(s->mac, 0, sizeof(s->mac));
	}
	return s;
}

/* Whether to discard. */
static __always_inline bool decide(struct scratch *s)
{
	bool discard;

	walk(s);
	if (config.stateful)
		s->now = time_now();
	discard = ask(s);
	if (discard && config.never && is_never(s)) {
		discard = false;
		told_never(s);
	}
	account(s, discard);
	return discard && config.enforce && !psc_is_gone();
}

SEC("xdp")
int guard_xdp(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data;
	struct scratch *s = begin(len, 1);

	if (!s || !s->have || bpf_xdp_load_bytes(ctx, 0, s->bytes, bounded(s->have)))
		return XDP_PASS;
	return decide(s) ? XDP_DROP : XDP_PASS;
}

static __always_inline int tc(struct __sk_buff *skb, __u8 way)
{
	struct scratch *s = begin(skb->len, way);

	if (!s || !s->have)
		return TC_NEXT;
	/* The device or the stack has taken the outer tag out of the bytes: on the wire it is there. */
	if (config.ethernet && skb->vlan_present) {
		put(s, config.used, PSC_VLAN0, skb->vlan_tci & 0x0fff);
		s->tags = 1;
		s->len += 4;
		if (s->have > PSC_WINDOW - 4)
			s->have = PSC_WINDOW - 4;
	}
	if (bpf_skb_load_bytes(skb, 0, s->bytes, bounded(s->have)))
		return TC_NEXT;
	return decide(s) ? TC_SHOT : TC_NEXT;
}

SEC("tc")
int guard_ingress(struct __sk_buff *skb)
{
	return tc(skb, 1);
}

SEC("tc")
int guard_egress(struct __sk_buff *skb)
{
	return tc(skb, 2);
}

/* For the benchmark: what an empty program costs. */
SEC("xdp")
int guard_nothing(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Never used: puts types into the generated skeleton, where they are compared with the mirror. */
const volatile struct psc_guard_wire {
	struct psc_guard_config config;
	struct psc_guard_rule rule;
	struct psc_state_key key;
	struct psc_bucket bucket;
	struct psc_block block;
	struct psc_never_key never;
	struct psc_rule_counters counters;
	struct psc_guard_totals totals;
	struct psc_told told;
	enum psc_key last_key;
} wire SEC(".rodata.wire");
