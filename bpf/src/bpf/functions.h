/* SPDX-License-Identifier: MIT */
/*
 * Tier 2: entry and return of the stack's functions. A few programs serve all functions, whichever
 * way they are attached; the attach cookie says which function it is and where its arguments are.
 *
 * A return is paired with its entry by where on the kernel's stack the call is: no two calls that are
 * under way share that, whatever interrupts, migrates or recurses.
 */
#ifndef PSC_FUNCTIONS_H
#define PSC_FUNCTIONS_H

#define COOKIE_PROBE(c) ((__u8)(c))
#define COOKIE_SKB(c) ((c) >> 8 & 15)
#define COOKIE_SOCK(c) ((c) >> 12 & 15)
#define COOKIE_ARGUMENT(c) ((c) >> 16 & 15)
#define COOKIE_KIND(c) ((c) >> 20 & 15)
#define COOKIE_LINEAGE(c) ((c) >> 24 & 15)
#define COOKIE_OTHER(c) ((c) >> 28 & 15)
#define COOKIE_RETURNS(c) ((c) >> 32 & 1)

/* psc_formats::function::Argument */
enum { ARGUMENT_NONE, ARGUMENT_HOOK, ARGUMENT_CHAIN };
/* crate::functions::Lineage */
enum {
	LINEAGE_NONE,
	LINEAGE_CLONE,
	LINEAGE_COPY,
	LINEAGE_SEGMENT,
	LINEAGE_MERGE,
	LINEAGE_FRAGMENT,
	LINEAGE_FRAGMENT_LIST,
	LINEAGE_REASSEMBLE,
};

/* Segments and fragments told of one skb. */
#define MAX_PARTS 128
/* Negative errnos as pointers. */
#define IS_NONE(pointer) (!(pointer) || (pointer) >= (__u64)-4095)

struct call_key {
	__u64 frame;
	__u64 probe;
};

struct call {
	__u64 at;
	__u64 skb;
	__u64 sock;
	__u64 other;
	__u32 netns;
	__u32 ifindex;
	__u32 iif;
	__u32 len;
};

/* Calls under way. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct call_key);
	__type(value, struct call);
} calls SEC(".maps");

/*
 * Chains whose names have been told, direct mapped by address. PSC_CHAINS per CPU, so that the ring's
 * order puts the name before every event that refers to it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PSC_CHAINS);
	__type(key, __u32);
	__type(value, __u64);
} chains SEC(".maps");

/* What the programs hand over, all as numbers. */
struct arguments {
	__u64 skb;
	__u64 sock;
	__u64 argument;
	/* The hook state of a chain, or the other skb. */
	__u64 other;
};

static __always_inline bool is_known_device(struct net_device *dev)
{
	__u32 slot = mix_pointer(dev) & (DEVICES - 1);
	__u64 *known = bpf_map_lookup_elem(&devices, &slot);

	return dev && known && *known == (__u64)dev;
}

/* 0 keeps, 1 excludes, 2 sheds. */
static __noinline int judge_sock(struct sock *sk)
{
	struct psc_tuple t = {};
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	t.sport = BPF_CORE_READ(sk, __sk_common.skc_num);
	t.dport = from_be16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	t.protocol = state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV
			     ? IPPROTO_TCP
			     : BPF_CORE_READ(sk, sk_protocol);
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		t.family = 4;
		*(__u32 *)t.src = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		*(__u32 *)t.dst = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else {
		t.family = 6;
		BPF_CORE_READ_INTO((struct in6_addr *)t.src, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)t.dst, sk, __sk_common.skc_v6_daddr);
	}
	return is_excluded(&t) ? 1 : is_shed(&t) ? 2 : 0;
}

/* Fills in what an event says of its skb; false when it is none of the network, or left out. */
static __noinline bool describe_skb(const struct here *here, struct psc_record *rec, __u64 address,
				    __u64 sock)
{
	struct sk_buff *skb = (void *)address;
	struct sock *sk = (void *)sock;
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	__u16 family = 0;

	if (!is_known_device(dev))
		dev = NULL;
	if (!sk)
		sk = BPF_CORE_READ(skb, sk);
	if (sk) {
		family = BPF_CORE_READ(sk, __sk_common.skc_family);
		if (family != AF_INET && family != AF_INET6) {
			if (!dev && family != AF_PACKET)
				return false;
			sk = NULL;
		}
	}
	if (!dev && !sk && !BPF_CORE_READ(skb, protocol))
		return false;
	if (dev) {
		rec->ifindex = BPF_CORE_READ(dev, ifindex);
		rec->netns = BPF_CORE_READ(dev, nd_net.net, ns.inum);
	} else if (sk) {
		rec->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	}
	if (config.filtering) {
		int verdict = sk ? judge_sock(sk) : 0;
		int before = decided(skb, rec->ifindex);

		if (verdict == 1 || before == 1 ||
		    !passes_filter(rec->netns, rec->ifindex)) {
			__sync_fetch_and_add(&here->cpu->filtered, 1);
			return false;
		}
		if (verdict == 2 || before == 2) {
			__sync_fetch_and_add(&here->cpu->shed, 1);
			return false;
		}
	}
	rec->skb = address;
	rec->sock = (__u64)sk;
	rec->len = BPF_CORE_READ(skb, len);
	rec->iif = BPF_CORE_READ(skb, skb_iif);
	return true;
}

/* Tells a chain's name the first time that it is met. */
static __noinline void name_chain(const struct here *here, __u64 address, bool nft)
{
	__u32 slot = here->id * PSC_CHAINS +
		     (((__u32)address * 0x9e3779b1U >> 8) & (PSC_CHAINS - 1));
	__u64 *known = bpf_map_lookup_elem(&chains, &slot);
	struct psc_chain_record *rec;

	if (!known || *known == address)
		return;
	rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);
	if (!rec)
		return;
	__builtin_memset(rec, 0, sizeof(*rec));
	rec->head.type = PSC_CHAIN;
	rec->head.payload = nft;
	rec->address = address;
	if (nft && bpf_core_field_exists(struct nft_chain, name)) {
		struct nft_chain *chain = (void *)address;

		bpf_probe_read_kernel_str(rec->table, sizeof(rec->table),
					  BPF_CORE_READ(chain, table, name));
		bpf_probe_read_kernel_str(rec->chain, sizeof(rec->chain),
					  BPF_CORE_READ(chain, name));
	} else if (!nft && bpf_core_field_exists(struct xt_table, name)) {
		bpf_probe_read_kernel_str(
			rec->table, sizeof(rec->table),
			(void *)address + bpf_core_field_offset(struct xt_table, name));
	}
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	*known = address;
}

static __always_inline __u32 hook_of(__u64 state)
{
	struct nf_hook_state *s = (void *)state;

	return BPF_CORE_READ(s, pf) | BPF_CORE_READ(s, hook) << 8;
}

/* The event's time, or 0 when there was no room for it. */
static __always_inline __u64 submit_call(const struct here *here, const struct psc_record *draft)
{
	__u64 at = 0;

	if (!draft->arg[0] && !draft->arg[1]) {
		struct short_record *brief = bpf_ringbuf_reserve(here->ring, sizeof(*brief), 0);

		if (!brief)
			goto full;
		__builtin_memcpy(brief, draft, sizeof(*brief));
		brief->head.token = __sync_fetch_and_add(&here->cpu->seq, 1);
		at = bpf_ktime_get_ns();
		brief->at = at;
		bpf_ringbuf_submit(brief, BPF_RB_NO_WAKEUP);
	} else {
		struct psc_record *rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);

		if (!rec)
			goto full;
		*rec = *draft;
		rec->head.token = __sync_fetch_and_add(&here->cpu->seq, 1);
		at = bpf_ktime_get_ns();
		rec->at = at;
		bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	}
	return at;
full:
	__sync_fetch_and_add(&here->cpu->seq, 1);
	count_lost(here->cpu, draft->head.probe);
	return 0;
}

/* Always a whole record: in a loop, each way to write it is one more for the verifier to follow. */
static __noinline void tell_lineage(const struct here *here, const struct psc_record *of, __u64 skb,
				    __u64 other)
{
	struct psc_record *rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);

	if (!rec) {
		__sync_fetch_and_add(&here->cpu->seq, 1);
		count_lost(here->cpu, of->head.probe);
		return;
	}
	*rec = *of;
	rec->head.token = __sync_fetch_and_add(&here->cpu->seq, 1);
	rec->head.type = PSC_LINEAGE;
	rec->skb = skb;
	rec->arg[0] = other;
	rec->at = bpf_ktime_get_ns();
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
}

static __noinline int on_entry(__u64 cookie, __u64 frame, const struct arguments *a)
{
	__u32 lineage = COOKIE_LINEAGE(cookie);
	struct psc_record rec = {};
	struct call call = {};
	struct call_key key = { .frame = frame, .probe = COOKIE_PROBE(cookie) };
	struct here here;

	if (!a || config.empty || !a->skb || !find_here(&here))
		return 0;
	if (!describe_skb(&here, &rec, a->skb, a->sock))
		return 0;
	rec.head.probe = COOKIE_PROBE(cookie);
	rec.head.type = COOKIE_RETURNS(cookie) ? PSC_CALL : PSC_ENTRY;
	rec.context = context_here(&here);
	if (lineage == LINEAGE_FRAGMENT_LIST) {
		struct ip_fraglist_iter *iter = (void *)a->other;
		__u64 fragment = (__u64)BPF_CORE_READ(iter, frag);

		if (fragment)
			tell_lineage(&here, &rec, a->skb, fragment);
		return 0;
	}
	call.other = a->other;
	if (!lineage) {
		if (COOKIE_KIND(cookie) == ARGUMENT_HOOK) {
			rec.arg[0] = hook_of(a->argument);
		} else if (COOKIE_KIND(cookie) == ARGUMENT_CHAIN) {
			name_chain(&here, a->argument, COOKIE_SKB(cookie) == 1);
			rec.arg[0] = a->argument;
			rec.arg[1] = hook_of(a->other);
		} else if (COOKIE_KIND(cookie)) {
			rec.arg[0] = (__u32)a->argument;
		}
		call.at = submit_call(&here, &rec);
		if (!call.at)
			return 0;
	}
	if (!COOKIE_RETURNS(cookie))
		return 0;
	call.skb = rec.skb;
	call.sock = rec.sock;
	call.netns = rec.netns;
	call.ifindex = rec.ifindex;
	call.iif = rec.iif;
	call.len = rec.len;
	/* There already: the call that was here before never returned to us. */
	if (bpf_map_update_elem(&calls, &key, &call, BPF_NOEXIST)) {
		__sync_fetch_and_add(&here.cpu->lost_returns, 1);
		bpf_map_update_elem(&calls, &key, &call, 0);
	}
	return 0;
}

/* The call that is returning, and what an event about it starts as; false when it is not known. */
static __always_inline bool end_call(struct here *here, __u64 cookie, __u64 frame,
				     struct call *call, struct psc_record *rec)
{
	struct call_key key = { .frame = frame, .probe = COOKIE_PROBE(cookie) };
	struct call *found;

	if (config.empty || !find_here(here))
		return false;
	found = bpf_map_lookup_elem(&calls, &key);
	if (!found && config.return_frame) {
		key.frame += config.return_frame;
		found = bpf_map_lookup_elem(&calls, &key);
	}
	/* Its entry was filtered, lost, or before the recording. */
	if (!found)
		return false;
	*call = *found;
	bpf_map_delete_elem(&calls, &key);
	rec->head.probe = COOKIE_PROBE(cookie);
	rec->skb = call->skb;
	rec->sock = call->sock;
	rec->netns = call->netns;
	rec->ifindex = call->ifindex;
	rec->iif = call->iif;
	rec->len = call->len;
	rec->context = context_here(here);
	return true;
}

static __noinline int on_return(__u64 cookie, __u64 frame, __u64 returned)
{
	struct psc_record rec = {};
	struct call call;
	struct here here;

	if (!end_call(&here, cookie, frame, &call, &rec))
		return 0;
	rec.head.type = PSC_RETURN;
	rec.arg[0] = returned;
	rec.arg[1] = call.at;
	submit_call(&here, &rec);
	return 0;
}

/* Segments hang on each other, reassembled fragments on the one that carries them on. */
static __always_inline void tell_parts(const struct here *here, const struct psc_record *rec,
				       __u64 whole, __u64 first, bool joined)
{
	struct sk_buff *part = (void *)first;

	for (int i = 0; i < MAX_PARTS; i++) {
		if (IS_NONE((__u64)part))
			break;
		tell_lineage(here, rec, joined ? (__u64)part : whole,
			     joined ? whole : (__u64)part);
		part = BPF_CORE_READ(part, next);
	}
}

/* The return of a function that makes skbs of skbs: it tells which, and not that it returned. */
static __noinline int on_lineage(__u64 cookie, __u64 frame, __u64 returned)
{
	__u32 lineage = COOKIE_LINEAGE(cookie);
	struct psc_record rec = {};
	struct call call;
	struct here here;

	if (!end_call(&here, cookie, frame, &call, &rec))
		return 0;
	if (lineage == LINEAGE_MERGE) {
		if (!(__u32)returned)
			tell_lineage(&here, &rec, call.skb, call.other);
	} else if (lineage == LINEAGE_SEGMENT || lineage == LINEAGE_REASSEMBLE) {
		__u64 first = returned;

		if (lineage == LINEAGE_REASSEMBLE) {
			struct sk_buff *head = (void *)call.skb;
			void *shared = BPF_CORE_READ(head, head) + BPF_CORE_READ(head, end);

			first = 0;
			bpf_probe_read_kernel(&first, sizeof(first),
					      shared + bpf_core_field_offset(
							       struct skb_shared_info, frag_list));
		}
		tell_parts(&here, &rec, call.skb, first, lineage == LINEAGE_REASSEMBLE);
	} else if (!IS_NONE(returned)) {
		tell_lineage(&here, &rec, call.skb, returned);
	}
	return 0;
}

static __always_inline __u64 parameter(struct pt_regs *regs, __u32 number)
{
	switch (number) {
	case 1:
		return PT_REGS_PARM1_CORE(regs);
	case 2:
		return PT_REGS_PARM2_CORE(regs);
	case 3:
		return PT_REGS_PARM3_CORE(regs);
	case 4:
		return PT_REGS_PARM4_CORE(regs);
	case 5:
		return PT_REGS_PARM5_CORE(regs);
	}
	return 0;
}

/* nft_do_chain() is given a struct that starts with the skb and the hook's state. */
static __always_inline void unfold(__u64 cookie, struct arguments *a, __u64 third)
{
	if (COOKIE_KIND(cookie) != ARGUMENT_CHAIN)
		return;
	a->other = third;
	if (COOKIE_SKB(cookie) == 1) {
		__u64 both[2] = {};

		bpf_probe_read_kernel(both, sizeof(both), (void *)a->skb);
		a->skb = both[0];
		a->other = both[1];
	}
}

static __always_inline int probe_entry(struct pt_regs *regs)
{
	__u64 cookie = bpf_get_attach_cookie(regs);
	struct arguments a = {
		.skb = parameter(regs, COOKIE_SKB(cookie)),
		.sock = parameter(regs, COOKIE_SOCK(cookie)),
		.argument = parameter(regs, COOKIE_ARGUMENT(cookie)),
		.other = parameter(regs, COOKIE_OTHER(cookie)),
	};

	unfold(cookie, &a, PT_REGS_PARM3_CORE(regs));
	return on_entry(cookie, PT_REGS_SP_CORE(regs), &a);
}

/* x86 calls push the return address, which is gone when the function has returned. */
#if defined(__TARGET_ARCH_x86)
#define RETURN_ADDRESS 8
#else
#define RETURN_ADDRESS 0
#endif

static __always_inline int probe_return(struct pt_regs *regs)
{
	__u64 cookie = bpf_get_attach_cookie(regs);
	__u64 frame = PT_REGS_SP_CORE(regs) - RETURN_ADDRESS, returned = PT_REGS_RC_CORE(regs);

	return COOKIE_LINEAGE(cookie) ? on_lineage(cookie, frame, returned)
				      : on_return(cookie, frame, returned);
}

SEC("kprobe.multi")
int on_multi_entry(struct pt_regs *regs)
{
	return probe_entry(regs);
}

SEC("kretprobe.multi")
int on_multi_return(struct pt_regs *regs)
{
	return probe_return(regs);
}

SEC("kprobe")
int on_kprobe_entry(struct pt_regs *regs)
{
	return probe_entry(regs);
}

SEC("kretprobe")
int on_kprobe_return(struct pt_regs *regs)
{
	return probe_return(regs);
}

static __always_inline __u64 traced(void *ctx, __u32 number)
{
	__u64 value = 0;

	if (number)
		bpf_get_func_arg(ctx, number - 1, &value);
	return value;
}

/* Entry and return run in one trampoline, whose copy of the arguments marks the call. */
static __always_inline __u64 trampoline_frame(void *ctx)
{
	__u64 frame;

	asm volatile("%[frame] = %[ctx]" : [frame] "=r"(frame) : [ctx] "r"(ctx));
	return frame;
}

SEC("fentry/consume_skb")
int on_trace_entry(void *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);
	struct arguments a = {
		.skb = traced(ctx, COOKIE_SKB(cookie)),
		.sock = traced(ctx, COOKIE_SOCK(cookie)),
		.argument = traced(ctx, COOKIE_ARGUMENT(cookie)),
		.other = traced(ctx, COOKIE_OTHER(cookie)),
	};

	unfold(cookie, &a, traced(ctx, 3));
	return on_entry(cookie, trampoline_frame(ctx), &a);
}

SEC("fexit/consume_skb")
int on_trace_return(void *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);
	__u64 returned = 0;

	bpf_get_func_ret(ctx, &returned);
	return on_return(cookie, trampoline_frame(ctx), returned);
}

/* Each function has a copy of its program: those without lineage need not have its loop verified. */
SEC("fexit/consume_skb")
int on_trace_lineage(void *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);
	__u64 returned = 0;

	bpf_get_func_ret(ctx, &returned);
	return on_lineage(cookie, trampoline_frame(ctx), returned);
}

#endif
