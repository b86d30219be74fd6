/* SPDX-License-Identifier: MIT */
/*
 * Floods of identical drops become counts: whoever makes this host drop packets must not be able
 * to fill its disk. One table per CPU; a program does not run twice at once on a CPU, so an entry
 * has one writer. Totals only grow while an entry keeps its key, and userspace reports growth.
 */
#ifndef PSC_AGGREGATE_H
#define PSC_AGGREGATE_H

/* The entry's totals go into the ring before another key takes its place. */
static __noinline void retire(const struct here *here, const struct psc_aggregate *old,
			      __u32 index)
{
	struct psc_record *rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);

	if (!rec)
		return;
	__builtin_memset(rec, 0, sizeof(*rec));
	rec->head.type = PSC_REPEATED;
	rec->head.probe = PROBE_KFREE_SKB;
	rec->at = old->last;
	rec->netns = old->netns;
	rec->ifindex = old->ifindex;
	rec->content = index;
	rec->path = old->epoch;
	rec->skb = old->count;
	rec->sock = old->bytes;
	rec->context = old->reason;
	rec->arg[0] = old->first;
	rec->arg[1] = old->location;
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
}

/* Whether this drop is one too many of its kind in this window: then it is only counted. */
static __always_inline bool aggregated(const struct here *here, const struct psc_record *rec)
{
	__u32 reason = rec->arg[0], index;
	__u64 location = rec->arg[1], now = bpf_ktime_get_ns();
	struct psc_aggregate *entry;

	index = mix(mix(mix(reason, (__u32)location), rec->ifindex), rec->netns);
	index = here->id * PSC_AGGREGATES + ((index >> 8) & (PSC_AGGREGATES - 1));
	entry = bpf_map_lookup_elem(&aggregates, &index);
	if (!entry)
		return false;
	if (entry->location != location || entry->reason != reason ||
	    entry->ifindex != rec->ifindex || entry->netns != rec->netns) {
		if (entry->count)
			retire(here, entry, index);
		entry->location = location;
		entry->reason = reason;
		entry->ifindex = rec->ifindex;
		entry->netns = rec->netns;
		entry->epoch++;
		entry->count = 0;
		entry->bytes = 0;
		entry->first = 0;
		entry->window = now;
		entry->in_window = 1;
		return false;
	}
	if (now - entry->window > config.aggregate_window_ns) {
		entry->window = now;
		entry->in_window = 1;
		return false;
	}
	if (++entry->in_window <= config.aggregate_over)
		return false;
	if (!entry->count)
		entry->first = now;
	entry->last = now;
	entry->bytes += rec->len;
	entry->count++;
	__sync_fetch_and_add(&here->cpu->aggregated, 1);
	return true;
}

#endif
