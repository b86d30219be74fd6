/* SPDX-License-Identifier: MIT */
/*
 * What packets wait for beside queues: the softirq that works on them, and the CPU for the task that was
 * woken to read them. Full profile only. Nothing is written but one event for each run of a network
 * softirq and one for each task that runs after a socket woke it; all else ends at its first comparison.
 */
#ifndef PSC_DELAY_PATH_H
#define PSC_DELAY_PATH_H

/* <linux/interrupt.h>: these numbers are user-visible (/proc/softirqs) and stay. */
#define NET_TX_SOFTIRQ 2
#define NET_RX_SOFTIRQ 3
/* A time that was not seen. */
#define UNSEEN (~0ULL)

struct psc_softirq {
	/* First raise since the last entry, 0 for none; by vector - NET_TX_SOFTIRQ. */
	__u64 raised[2];
	/* Entry of the run under way, 0 for none. */
	__u64 entered;
	/* What that run waited. */
	__u64 waited;
	/* `seq` of the CPU then. */
	__u64 seq;
	/* Socket that tells its owner of data, in this run; 0 for none. */
	__u64 telling;
	__u32 netns;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct psc_softirq);
} softirqs SEC(".maps");

/* A task woken and not run yet. */
struct psc_woken {
	__u64 at;
	__u64 sock;
	__u32 tid;
	__u32 netns;
};

/* Direct mapped by thread id: of two that share a slot, the one woken first is not told of. */
#define WOKEN 4096
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WOKEN);
	__type(key, __u32);
	__type(value, struct psc_woken);
} woken SEC(".maps");

static __always_inline struct psc_softirq *this_softirq(void)
{
	__u32 zero = 0;

	return config.empty ? NULL : bpf_map_lookup_elem(&softirqs, &zero);
}

SEC("tp_btf/softirq_raise")
int BPF_PROG(on_softirq_raise, unsigned int vector)
{
	struct psc_softirq *run;
	__u32 which = vector - NET_TX_SOFTIRQ;

	if (which > 1)
		return 0;
	run = this_softirq();
	/* Raised again before it runs, it waits since the first. */
	if (run && !run->raised[which & 1])
		run->raised[which & 1] = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(on_softirq_entry, unsigned int vector)
{
	struct psc_softirq *run;
	struct here here;
	__u32 which = vector - NET_TX_SOFTIRQ;
	__u64 raised;

	if (which > 1)
		return 0;
	run = this_softirq();
	if (!run || !find_here(&here))
		return 0;
	raised = run->raised[which & 1];
	run->raised[which & 1] = 0;
	run->seq = here.cpu->seq;
	run->telling = 0;
	run->entered = bpf_ktime_get_ns();
	run->waited = raised ? run->entered - raised : UNSEEN;
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(on_softirq_exit, unsigned int vector)
{
	struct psc_record rec = {};
	struct psc_softirq *run;
	struct here here;
	__u32 which = vector - NET_TX_SOFTIRQ;

	if (which > 1)
		return 0;
	run = this_softirq();
	if (!run || !run->entered || !find_here(&here))
		return 0;
	rec.arg[0] = run->waited;
	rec.arg[1] = (bpf_ktime_get_ns() - run->entered) << 8 | (__u8)vector;
	run->entered = 0;
	run->telling = 0;
	/* Under a filter, a run that worked for nothing that is recorded is none of ours. */
	if (config.filtering && run->seq == here.cpu->seq) {
		__sync_fetch_and_add(&here.cpu->filtered, 1);
		return 0;
	}
	rec.head.type = PSC_EVENT;
	rec.head.probe = PROBE_SOFTIRQ_EXIT;
	rec.context = PSC_CONTEXT_SOFTIRQ;
	submit_plain(&here, &rec);
	return 0;
}

/*
 * A socket is about to tell its owner of data: whom this run of the softirq wakes next is woken to read
 * it. Outside of softirqs it is the reader itself that takes up what had to wait for it.
 */
static __always_inline void tells_of_data(struct sock *sk)
{
	struct psc_softirq *run = this_softirq();
	struct psc_tuple tuple = {};

	if (!run || !run->entered || !sk || !is_inet(sk))
		return;
	run->netns = netns_of(sk->__sk_common.skc_net.net);
	run->telling = 0;
	if (config.filtering) {
		put_sock_tuple(&tuple, sk);
		if (!passes_filter(run->netns, 0) || is_excluded(&tuple) || is_shed(&tuple))
			return;
	}
	run->telling = (__u64)sk;
}

/*
 * Runs where the waking is done, on the waker's CPU, so that the socket that does it is known; and before
 * the task is put into any queue, so that a wait for another CPU to take it is told, too.
 */
SEC("tp_btf/sched_waking")
int BPF_PROG(on_sched_waking, struct task_struct *task)
{
	struct psc_softirq *run = this_softirq();
	struct psc_woken *slot;
	struct here here;
	__u32 tid, index;
	int count;

	if (!run || !run->telling || !run->entered)
		return 0;
	/* An interrupt of the softirq wakes for reasons of its own. */
	if (!find_here(&here))
		return 0;
	count = preempt_count(&here);
	if (count == -1 || count & HARDIRQ_OR_NMI)
		return 0;
	tid = task->pid;
	/* Not off its CPU yet: it waits for nothing. */
	if (!bpf_core_field_exists(task->on_cpu) || task->on_cpu)
		return 0;
	index = tid & (WOKEN - 1);
	slot = bpf_map_lookup_elem(&woken, &index);
	if (!slot)
		return 0;
	slot->sock = run->telling;
	slot->netns = run->netns;
	slot->tid = tid;
	slot->at = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempted, struct task_struct *from, struct task_struct *to)
{
	struct psc_record rec = {};
	struct psc_woken *slot;
	struct here here;
	__u32 tid = to->pid, index = tid & (WOKEN - 1);
	__u64 at;

	if (config.empty || !tid)
		return 0;
	slot = bpf_map_lookup_elem(&woken, &index);
	if (!slot || slot->tid != tid || !slot->at)
		return 0;
	at = slot->at;
	slot->at = 0;
	if (!find_here(&here))
		return 0;
	rec.head.type = PSC_EVENT;
	rec.head.probe = PROBE_SCHED_SWITCH;
	rec.sock = slot->sock;
	rec.netns = slot->netns;
	rec.context = tid;
	rec.arg[0] = bpf_ktime_get_ns() - at;
	submit_plain(&here, &rec);
	return 0;
}

#endif
