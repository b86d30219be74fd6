/* SPDX-License-Identifier: MIT */
/* Tables of a rule set, whose sizes are set before loading, and state that outlives it. */
#ifndef PSC_GUARD_MAPS_H
#define PSC_GUARD_MAPS_H

struct scratch;

/* Each table is one value, reached by a masked offset. */
#define TABLE(name)                                                                               \
	struct {                                                                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                 \
		__uint(max_entries, 1);                                                           \
		__uint(key_size, 4);                                                              \
		__uint(value_size, 8);                                                            \
	} name SEC(".maps")

TABLE(small);
TABLE(edges32);
TABLE(edges64);
TABLE(classes);
TABLE(starts);
TABLE(vectors);
TABLE(rows);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_guard_rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_rule_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_guard_totals);
} totals SEC(".maps");

/* Read back by bucket and threshold: what a flood of keys pushes out starts anew. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct psc_state_key);
	__type(value, struct psc_bucket);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct psc_state_key);
	__type(value, struct psc_cells);
} thresholds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct psc_state_key);
	__type(value, struct psc_block);
} blocks SEC(".maps");

/* Sources that completed a handshake; psc puts them in. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct psc_state_key);
	__type(value, __u64);
} proven SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct psc_never_key);
	__type(value, __u64);
} nevers SEC(".maps");

/* 0: time of a test run; 1: when psc last gave a sign. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} clocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_told);
} told SEC(".maps");

#endif
