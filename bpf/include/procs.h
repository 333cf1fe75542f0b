/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __PROCS_H
#define __PROCS_H

#include "conns.h"

/* Tasks and processes: their state, and what they work for. */

/* Before v6.18 sk_msg programs are refused the storage of a task. */
#ifdef IN_SK_MSG
#define TASK_STORAGE_WORKS (cfg.task_storage)
#else
#define TASK_STORAGE_WORKS 1
#endif

static __always_inline struct task_ctx *task_get(void)
{
	struct task_ctx *t;

	if (!TASK_STORAGE_WORKS)
		return NULL;
	t = bpf_task_storage_get(&task_ctxs, bpf_get_current_task_btf(), 0,
				 BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t)
		stat_inc(STAT_TASK_STATE);
	return t;
}

static __always_inline struct task_ctx *task_find(void)
{
	if (!TASK_STORAGE_WORKS)
		return NULL;
	return bpf_task_storage_get(&task_ctxs, bpf_get_current_task_btf(), 0, 0);
}

/* What the task in whose name `c` sends works for. */
static __always_inline struct work *work_find(struct sk_ctx *c)
{
	struct task_ctx *t;

	if (!TASK_STORAGE_WORKS)
		return c->sender == bpf_get_current_pid_tgid() ? &c->work : NULL;
	t = task_find();
	return &t->work;
}

/* The same, to keep something there. */
static __always_inline struct work *work_get(struct sk_ctx *c)
{
	if (!TASK_STORAGE_WORKS)
		return work_find(c);
	return &task_get()->work;
}

/* For a send in progress: what the task works for goes along with the socket, and comes back. */
static __always_inline void work_lend(struct sock *sk, const struct task_ctx *t)
{
	struct sk_ctx *c = cfg.task_storage ? NULL : conn_find(sk);

	if (!c)
		return;
	c->work = t->work;
	c->sender = bpf_get_current_pid_tgid();
}

static __always_inline void work_return(struct sock *sk, struct task_ctx *t)
{
	struct sk_ctx *c = cfg.task_storage ? NULL : conn_find(sk);

	if (!c || c->sender != bpf_get_current_pid_tgid())
		return;
	t->work = c->work;
	c->sender = 0;
}

static __always_inline struct proc *proc_at(__u32 index)
{
	return bpf_map_lookup_elem(&procs, &index);
}

/* The state of a process, taken if it has none yet. Returns its index plus one, 0 if full. */
__separately int proc_find(__u32 tgid)
{
	/* unrolled: 6.1 refuses a loop whose way back is no jump */
#pragma unroll
	for (__u32 i = 0; i < PROC_PROBES; i++) {
		__u32 at = (tgid + i) % PROCS;
		struct proc *p = proc_at(at);

		if (p && p->tgid == tgid)
			return at + 1;
	}
#pragma unroll
	for (__u32 i = 0; i < PROC_PROBES; i++) {
		__u32 at = (tgid + i) % PROCS;
		struct proc *p = proc_at(at);

		if (p && __sync_val_compare_and_swap(&p->tgid, 0, tgid) == 0) {
			__u64 *since = bpf_map_lookup_elem(&watched, &tgid);

			p->idle_from = since ? *since : bpf_ktime_get_ns();
			if (since && *since & WATCH_WORKERS)
				p->flags |= PROC_WORKERS;
			return at + 1;
		}
	}
	stat_inc(STAT_PROCS_FULL);
	return 0;
}

/* A connection keeps the index: most calls need no search. */
static __always_inline __u32 proc_of(struct sk_ctx *c, __u32 tgid)
{
	struct proc *p = c->proc ? proc_at(c->proc - 1) : NULL;

	if (!p || p->tgid != tgid)
		c->proc = proc_find(tgid);
	return c->proc;
}

static __always_inline void proc_forget(__u32 tgid)
{
#pragma unroll
	for (__u32 i = 0; i < PROC_PROBES; i++) {
		struct proc *p = proc_at((tgid + i) % PROCS);

		if (p && p->tgid == tgid) {
			p->opened = 0;
			p->joined_clones = p->pooled = p->flags = 0;
			p->kept = p->lost = 0;
			p->idle = p->idle_from = 0;
			p->tgid = 0;
		}
	}
}

/*
 * Count and sum in one word, which one instruction changes: a count of one and a sum that is not
 * the slot of that one are never to be seen. A sum of all slots there are is below 2^32.
 */
#define OPENED_ONE (1ULL << 32)

/* Whoever opens the first one takes `idle_from` away, so that no busy time counts as idle. */
static __always_inline void proc_opened(struct proc *p, __u32 slot, __u64 now)
{
	__u64 before = __sync_fetch_and_add(&p->opened, OPENED_ONE + slot);

	if (before >> 32)
		return;
	if (p->idle_from && now > p->idle_from)
		p->idle += now - p->idle_from;
	p->idle_from = ~0ULL;
}

static __always_inline void proc_answered(struct proc *p, __u32 slot, __u64 now)
{
	__u64 before = __sync_fetch_and_add(&p->opened, -(OPENED_ONE + slot));

	if (before >> 32 == 1)
		p->idle_from = now;
}

static __always_inline __u32 proc_open(const struct proc *p)
{
	return p->opened >> 32;
}

#endif
