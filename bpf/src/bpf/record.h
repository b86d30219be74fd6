/* SPDX-License-Identifier: MIT */
/* Maps, and the way of a record into its CPU's ring. */
#ifndef PSC_RECORD_H
#define PSC_RECORD_H

/* Set before load; its own section, so that userspace writes one struct and no offsets. */
const volatile struct psc_config config SEC(".rodata.config");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
};

/*
 * One ring per CPU: no lock is shared, and a ring's order is its CPU's order. Userspace sets the
 * size and fills it in.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_cpu);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_filter);
} filter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct psc_interface);
	__type(value, __u32);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} namespaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct psc_tuple);
	__type(value, __u32);
} excludes SEC(".maps");

struct psc_levels {
	__u8 level[PSC_LEVELS];
};

/* Written by userspace only: how often to take a stack of this path again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_levels);
} levels SEC(".maps");

/* Learned stacks, PSC_PATHS per CPU: key << 32 | generation. Per CPU, so that the ring's order
 * puts the stack before every event that refers to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PSC_PATHS);
	__type(key, __u32);
	__type(value, __u64);
} paths SEC(".maps");

/* Direct mapped: a collision costs bytes taken again, nothing else. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} skbs SEC(".maps");

#define SOCKS 16384
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SOCKS);
	__type(key, __u32);
	__type(value, __u64);
} socks SEC(".maps");

#define TASKS 8192
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TASKS);
	__type(key, __u32);
	__type(value, __u64);
} tasks SEC(".maps");

/* Devices met where `skb->dev` is surely one; see device.h. */
#define DEVICES 1024
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, __u64);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PSC_AGGREGATES);
	__type(key, __u32);
	__type(value, struct psc_aggregate);
} aggregates SEC(".maps");

/*
 * Since 6.2 the verifier itself turns an address into a pointer that loads like any other; a
 * helper call for each four bytes was a quarter of what an event cost. Before, the helper.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

static __always_inline bool read_u32(__u32 *to, const void *from)
{
	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		struct in_addr *word =
			bpf_rdonly_cast(from, bpf_core_type_id_kernel(struct in_addr));

		*to = word->s_addr;
		return true;
	}
	return !bpf_probe_read_kernel(to, sizeof(*to), from);
}

/* What every program needs of the CPU it runs on. */
struct here {
	struct psc_cpu *cpu;
	void *ring;
	__u32 id;
};

static __always_inline bool find_here(struct here *here)
{
	here->id = bpf_get_smp_processor_id();
	here->cpu = bpf_map_lookup_elem(&cpus, &here->id);
	if (!here->cpu)
		return false;
	here->ring = bpf_map_lookup_elem(&rings, &here->id);
	return here->ring != NULL;
}

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1U;
	return hash ^ (hash >> 15);
}

/*
 * The verifier allows no arithmetic on pointers to kernel structs, but a 32-bit move of one is an
 * unknown number. The low half tells live objects apart well enough for caches.
 */
static __always_inline __u32 low_half(const void *pointer)
{
	__u32 low;

	asm volatile("%[low] = %[pointer]"
		     : [low] "=w"(low)
		     : [pointer] "w"((__u32)(__u64)pointer));
	return low;
}

static __always_inline __u32 mix_pointer(const void *pointer)
{
	return low_half(pointer) * 0x9e3779b1U >> 8;
}

static __always_inline void count_lost(struct psc_cpu *cpu, __u32 probe)
{
	__sync_fetch_and_add(&cpu->ring_full, 1);
	if (probe < PSC_PROBES)
		__sync_fetch_and_add(&cpu->lost[probe], 1);
}

/* The sequence is taken after the reservation, which a softirq may interrupt: userspace sorts. */
static __always_inline void stamp(struct psc_record *to, const struct psc_record *from,
				  struct psc_cpu *cpu)
{
	*to = *from;
	to->head.token = __sync_fetch_and_add(&cpu->seq, 1);
	to->at = bpf_ktime_get_ns();
}

/* Most events are only their first 64 bytes: what is written is what the rings can hold longer. */
struct short_record {
	struct psc_head head;
	__u64 at;
	__u64 rest[(PSC_SHORT - 16) / 8];
};
_Static_assert(sizeof(struct short_record) == PSC_SHORT, "a short record is PSC_SHORT bytes");
_Static_assert(__builtin_offsetof(struct psc_record, gso_kind) == PSC_SHORT,
	       "a short record ends before gso_kind");

static __always_inline void submit_plain(const struct here *here, const struct psc_record *draft)
{
	struct psc_record *rec;

	if (!draft->gso_size && !draft->arg[0] && !draft->arg[1]) {
		struct short_record *brief = bpf_ringbuf_reserve(here->ring, sizeof(*brief), 0);

		if (!brief)
			goto full;
		__builtin_memcpy(brief, draft, sizeof(*brief));
		brief->head.token = __sync_fetch_and_add(&here->cpu->seq, 1);
		brief->at = bpf_ktime_get_ns();
		bpf_ringbuf_submit(brief, BPF_RB_NO_WAKEUP);
		return;
	}
	rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);
	if (!rec)
		goto full;
	stamp(rec, draft, here->cpu);
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	return;
full:
	__sync_fetch_and_add(&here->cpu->seq, 1);
	count_lost(here->cpu, draft->head.probe);
}

static __always_inline void submit_tuple(const struct here *here, struct psc_record *draft,
					 const struct psc_tuple *tuple)
{
	struct {
		struct psc_record rec;
		struct psc_tuple tuple;
	} *out = bpf_ringbuf_reserve(here->ring, sizeof(*out), 0);

	draft->head.payload = PSC_TUPLE;
	if (!out) {
		__sync_fetch_and_add(&here->cpu->seq, 1);
		count_lost(here->cpu, draft->head.probe);
		return;
	}
	stamp(&out->rec, draft, here->cpu);
	out->tuple = *tuple;
	bpf_ringbuf_submit(out, BPF_RB_NO_WAKEUP);
}

/*
 * A reservation's size must be a constant, so sizes come in classes. `from` is a kernel address;
 * the caller has checked that `caplen` bytes of it are inside the skb's linear part.
 */
#define SUBMIT_CLASS(bytes)                                                                        \
	do {                                                                                       \
		struct {                                                                           \
			struct psc_record rec;                                                     \
			__u8 data[bytes];                                                          \
		} *out = bpf_ringbuf_reserve(here->ring, sizeof(*out), 0);                         \
		if (!out)                                                                          \
			goto full;                                                                 \
		stamp(&out->rec, draft, here->cpu);                                                \
		barrier_var(n);                                                                    \
		if (n > (bytes))                                                                   \
			n = (bytes);                                                               \
		if (bpf_probe_read_kernel(out->data, n, from)) {                                   \
			__sync_fetch_and_add(&here->cpu->unreadable, 1);                           \
			out->rec.head.payload = PSC_NOTHING;                                       \
			out->rec.caplen = 0;                                                       \
		}                                                                                  \
		bpf_ringbuf_submit(out, BPF_RB_NO_WAKEUP);                                         \
	} while (0)

static __noinline void submit_bytes(const struct here *here, struct psc_record *draft,
				    const void *from)
{
	__u32 n = draft->caplen;

	draft->head.payload = PSC_BYTES;
	if (n <= 64)
		SUBMIT_CLASS(64);
	else if (n <= 128)
		SUBMIT_CLASS(128);
	else if (n <= 256)
		SUBMIT_CLASS(256);
	else if (n <= 1536)
		SUBMIT_CLASS(1536);
	else if (n <= 9216)
		SUBMIT_CLASS(9216);
	else
		SUBMIT_CLASS(65536);
	return;
full:
	__sync_fetch_and_add(&here->cpu->seq, 1);
	count_lost(here->cpu, draft->head.probe);
}

#endif
