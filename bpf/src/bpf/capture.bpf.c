// SPDX-License-Identifier: MIT
/*
 * Tier 1: one program per tracepoint of the network stack, all into one ring per CPU. One object,
 * because all programs share the rings, the caches and the filter.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "wire.h"
#include "probes.h"
#include "record.h"
#include "device.h"
#include "packet.h"
#include "paged.h"
#include "context.h"
#include "stack.h"
#include "sock.h"
#include "aggregate.h"
#include "skb_path.h"
#include "delay_path.h"
#include "sock_path.h"
#include "link_path.h"
#include "functions.h"
#include "netfilter.h"

/* bpf_get_stack() and the per-CPU variables are for GPL-compatible programs. MIT is one. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Never used: a data section is what puts types into the generated skeleton, where ../wire.rs
 * compares them with its own.
 */
const volatile struct psc_wire {
	struct psc_record record;
	struct psc_tuple tuple;
	struct psc_stack_record stack;
	struct psc_task_record task;
	struct psc_chain_record chain;
	struct psc_aggregate aggregate;
	struct psc_cpu cpu;
	struct psc_filter filter;
	struct psc_interface interface;
	enum psc_probe probe;
} wire SEC(".rodata.wire");
