/* SPDX-License-Identifier: MIT */
/*
 * Learned stacks. Taking one costs more than the rest of an event together, so one is taken when
 * a path's key is new and rarely after, to confirm. Userspace compares and raises the rate of
 * keys that disagree.
 */
#ifndef PSC_STACK_H
#define PSC_STACK_H

static __noinline bool take_stack(void *ctx, const struct here *here, __u32 token, __u32 path,
				  __u32 level)
{
	struct psc_stack_record *rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);
	long bytes;

	if (!rec)
		goto missed;
	bytes = bpf_get_stack(ctx, rec->address, sizeof(rec->address), 0);
	if (bytes <= 0) {
		bpf_ringbuf_discard(rec, BPF_RB_NO_WAKEUP);
		goto missed;
	}
	rec->head.token = token;
	rec->head.type = PSC_STACK;
	rec->head.probe = 0;
	rec->head.payload = PSC_NOTHING;
	rec->head.stack = 0;
	rec->path = path;
	rec->level = level;
	rec->frames = bytes / sizeof(__u64);
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	return true;
missed:
	__sync_fetch_and_add(&here->cpu->missed_stacks, 1);
	return false;
}

static __always_inline __u32 next_sample(const struct here *here)
{
	return __sync_fetch_and_add(&here->cpu->samples, 1) + 1;
}

/* One in 1,024, 64 or 4, spread by a multiplicative hash: packets make events in fixed cycles. */
static __always_inline bool time_to_confirm(__u32 seq, __u8 level)
{
	__u32 spread = seq * 0x9e3779b1U;

	return level == 0 ? spread < (1U << 22) : level == 1 ? spread < (1U << 26)
							     : spread < (1U << 30);
}

static __always_inline void put_stack(void *ctx, const struct here *here, struct psc_record *rec,
				      __u32 key, bool discards)
{
	__u32 slot, other, index, level, zero = 0, sample;
	struct psc_levels *table;
	__u64 *entry, *second, learned;

	if (config.stacks == PSC_STACKS_OFF)
		return;
	if (config.stacks == PSC_STACKS_DROPS && !discards)
		return;
	if (config.stacks == PSC_STACKS_ALL) {
		sample = next_sample(here);
		rec->head.stack = take_stack(ctx, here, sample, 0, 0) ? PSC_STACK_SAMPLED
								      : PSC_STACK_MISSED;
		rec->path = sample;
		return;
	}
	level = (key >> 12) & (PSC_LEVELS - 1);
	slot = key & (PSC_PATHS - 1);
	index = here->id * PSC_PATHS + slot;
	entry = bpf_map_lookup_elem(&paths, &index);
	if (!entry)
		return;
	if (*entry && *entry >> 32 != key) {
		/* Two slots to choose from: keys that collide in one would learn for ever. */
		other = (key >> 20) & (PSC_PATHS - 1);
		index = here->id * PSC_PATHS + other;
		second = bpf_map_lookup_elem(&paths, &index);
		if (!second)
			return;
		if (!*second || *second >> 32 == key || here->cpu->seq & 1) {
			entry = second;
			slot = other;
		}
	}
	learned = *entry;
	rec->path = slot << 16 | (learned & 0xffff);
	if (learned && learned >> 32 == key) {
		table = bpf_map_lookup_elem(&levels, &zero);
		if (!table)
			return;
		if (!time_to_confirm(here->cpu->seq, table->level[level])) {
			rec->head.stack = PSC_STACK_INFERRED;
			return;
		}
		sample = next_sample(here);
		rec->head.stack = PSC_STACK_MISSED;
		if (take_stack(ctx, here, sample, rec->path, level)) {
			rec->head.stack = PSC_STACK_SAMPLED;
			rec->path = sample;
		}
		return;
	}
	/* Generations skip 0, so that a used entry is never 0. */
	learned = (learned + 1) & 0xffff;
	learned = learned ? learned : 1;
	rec->path = slot << 16 | learned;
	rec->head.stack = PSC_STACK_MISSED;
	if (take_stack(ctx, here, 0, rec->path, level)) {
		*entry = (__u64)key << 32 | learned;
		rec->head.stack = PSC_STACK_LEARNED;
	}
}

#endif
