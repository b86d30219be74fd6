/* SPDX-License-Identifier: MIT */
/* What runs on this CPU: a task, softirq or an interrupt. */
#ifndef PSC_CONTEXT_H
#define PSC_CONTEXT_H

#define SOFTIRQ_SERVING 0x00000100
#define HARDIRQ_OR_NMI 0x00ff0000

/*
 * -1 when this kernel keeps the count where we do not know.
 *
 * x86-64 keeps it in a per-CPU variable. A ksym of it needs CONFIG_KALLSYMS_ALL, which not every
 * kernel has; but the running task leads to `runqueues`, another variable of the same per-CPU
 * area, and BTF has the offsets of both. Others keep it in the task.
 */
static __always_inline int preempt_count(const struct here *here)
{
	struct task_struct *task;
	struct rq *rq;
	__u32 count;

	if (bpf_core_field_exists(struct task_struct___plain, thread_info.preempt_count)) {
		struct task_struct___plain *plain = (void *)bpf_get_current_task_btf();

		return plain->thread_info.preempt_count;
	}
	if (!config.preempt_delta || !bpf_core_field_exists(struct cfs_rq, rq) ||
	    !bpf_core_field_exists(struct sched_entity, cfs_rq))
		return -1;
	if (!here->cpu->preempt_count) {
		task = (void *)bpf_get_current_task_btf();
		rq = task->se.cfs_rq->rq;
		if (!rq)
			return -1;
		here->cpu->preempt_count = (__u64)((void *)rq + config.preempt_delta);
	}
	if (!read_u32(&count, (void *)here->cpu->preempt_count))
		return -1;
	return count;
}

static __always_inline bool serves_softirq(int count)
{
	/* PREEMPT_RT counts softirqs in the task. */
	if (bpf_core_field_exists(struct task_struct___rt, softirq_disable_cnt)) {
		struct task_struct___rt *task = (void *)bpf_get_current_task_btf();

		return task->softirq_disable_cnt & SOFTIRQ_SERVING;
	}
	return count & SOFTIRQ_SERVING;
}

static __always_inline __u32 syscall_number(void)
{
	if (bpf_core_type_exists(struct pt_regs___x86) &&
	    bpf_core_field_exists(struct pt_regs___x86, orig_ax)) {
		struct pt_regs___x86 *regs =
			(void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());

		return regs->orig_ax;
	}
	if (bpf_core_field_exists(struct pt_regs___arm64, syscallno)) {
		struct pt_regs___arm64 *regs =
			(void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());

		return regs->syscallno;
	}
	return 0;
}

/* Names the task in the ring the first time it is met, and again after exec. */
static __noinline void name_task(const struct here *here, __u32 tid, __u32 pid)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u64 tag = ((__u64)tid << 32) | (task->self_exec_id + 1);
	__u32 slot = tid & (TASKS - 1);
	__u64 *known = bpf_map_lookup_elem(&tasks, &slot);
	struct psc_task_record *rec;

	if (!known || *known == tag)
		return;
	rec = bpf_ringbuf_reserve(here->ring, sizeof(*rec), 0);
	if (!rec)
		return;
	__builtin_memset(rec, 0, sizeof(*rec));
	rec->head.token = tid;
	rec->head.type = PSC_TASK;
	rec->pid = pid;
	rec->cgroup = bpf_get_current_cgroup_id();
	bpf_get_current_comm(rec->comm, sizeof(rec->comm));
	bpf_ringbuf_submit(rec, BPF_RB_NO_WAKEUP);
	*known = tag;
}

static __always_inline __u32 context_here(const struct here *here)
{
	int count = preempt_count(here);
	__u64 id;

	if (count == -1)
		return PSC_CONTEXT_UNKNOWN;
	if (count & HARDIRQ_OR_NMI)
		return PSC_CONTEXT_HARDIRQ;
	if (serves_softirq(count))
		return PSC_CONTEXT_SOFTIRQ;
	id = bpf_get_current_pid_tgid();
	name_task(here, (__u32)id, id >> 32);
	return (__u32)id;
}

#endif
