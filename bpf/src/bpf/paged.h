/* SPDX-License-Identifier: MIT */
/* Packets whose payload lies in pages: what an application here sends, and what some drivers receive. */
#ifndef PSC_PAGED_H
#define PSC_PAGED_H

/* What a program context looks like; only its kind and name matter. */
struct __sk_buff {
	__u32 len;
};

/* The kernel's own type; opaque. */
struct bpf_dynptr {
	__u64 opaque[2];
} __attribute__((aligned(8)));

/* Open to tracepoints since 6.12; userspace tries it and says so in `config.paged`. */
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags,
			       struct bpf_dynptr *ptr) __ksym __weak;

/* From the link header to `skb->data` at most: headers with all their options. */
#define PAGED_BEFORE 256

/*
 * A view of an skb begins at `skb->data` and goes on through its pages and fragment list. Headers that
 * have been passed lie before it and are always linear. Pages that may not be read (device memory) leave
 * what is linear.
 */
#define SUBMIT_PAGED(bytes)                                                                        \
	do {                                                                                       \
		struct {                                                                           \
			struct psc_record rec;                                                     \
			__u8 data[PAGED_BEFORE + (bytes)];                                         \
		} *out = bpf_ringbuf_reserve(here->ring, sizeof(*out), 0);                         \
		if (!out)                                                                          \
			goto full;                                                                 \
		stamp(&out->rec, draft, here->cpu);                                                \
		barrier_var(before);                                                               \
		if (before > PAGED_BEFORE)                                                         \
			before = PAGED_BEFORE;                                                     \
		barrier_var(n);                                                                    \
		if (n > (bytes))                                                                   \
			n = (bytes);                                                               \
		if (bpf_probe_read_kernel(out->data, before, from) ||                              \
		    bpf_dynptr_read(out->data + before, n, &view, skip, 0)) {                      \
			barrier_var(linear);                                                       \
			if (linear > (bytes))                                                      \
				linear = (bytes);                                                  \
			out->rec.caplen = linear;                                                  \
			if (bpf_probe_read_kernel(out->data, linear, from)) {                      \
				__sync_fetch_and_add(&here->cpu->unreadable, 1);                   \
				out->rec.head.payload = PSC_NOTHING;                               \
				out->rec.caplen = 0;                                               \
			}                                                                          \
		}                                                                                  \
		bpf_ringbuf_submit(out, BPF_RB_NO_WAKEUP);                                         \
	} while (0)

/* `caplen` is more than the linear part. */
static __noinline void submit_paged(const struct here *here, struct psc_record *draft,
				    struct sk_buff *skb, const struct packet *packet)
{
	/* Lengths are counted from the link header here, from `skb->data` in the skb. */
	__u32 before = packet->pktlen - skb->len, skip = 0;
	__u32 n = draft->caplen, linear = packet->linear;
	const void *from = packet->start;
	struct bpf_dynptr view;

	if ((__s32)before < 0) {
		skip = -before;
		before = 0;
	}
	if (before > PAGED_BEFORE || before > n ||
	    bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &view)) {
		draft->caplen = linear;
		submit_bytes(here, draft, from);
		return;
	}
	n -= before;
	draft->head.payload = PSC_BYTES;
	if (n <= 256)
		SUBMIT_PAGED(256);
	else if (n <= 1536)
		SUBMIT_PAGED(1536);
	else if (n <= 9216)
		SUBMIT_PAGED(9216);
	else
		SUBMIT_PAGED(65536);
	return;
full:
	__sync_fetch_and_add(&here->cpu->seq, 1);
	count_lost(here->cpu, draft->head.probe);
}

#endif
