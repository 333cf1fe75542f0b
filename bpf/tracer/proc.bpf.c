// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "request.h"
#include "stay.h"

/*
 * Life of processes and threads. Selection and the request a task works for are copied at fork
 * and dropped at exit; user space hears of all processes on a ring of its own.
 */

static __always_inline bool holds_open_request(struct task_ctx *t)
{
	return t && req_is_open(&t->work.cur);
}

/* Does the task work for an open request, and for no other, so that what it starts does so too? */
static __always_inline bool hands_on(struct task_ctx *t)
{
	struct open_req *r = t ? slot_at(t->work.cur.slot) : NULL;
	struct proc *p;

	if (!r || !holds_open_request(t) || t->work.flags & WORK_MULTIPLEX)
		return false;
	p = proc_at(r->proc - 1);
	return p && !pool_is_doubted(&t->work, p);
}

static __always_inline void forked(struct task_struct *parent, struct task_struct *child,
				   __u32 bits)
{
	__u32 from = parent->tgid, to = child->tgid;
	struct task_ctx *pt, *ct;

	if (from != to) {
		tgid_select(to, bits);
		emit_proc(EV_FORK, from, to, 0);
	}
	pt = bpf_task_storage_get(&task_ctxs, parent, 0, 0);
	if (!hands_on(pt))
		return;
	ct = bpf_task_storage_get(&task_ctxs, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!ct) {
		stat_inc(STAT_TASK_STATE);
		return;
	}
	ct->work.cur = pt->work.cur;
	ct->work.flags = from == to ? WORK_INHERITED : WORK_INHERITED_PROC;
	if (pt->work.flags & WORK_INHERITED)
		ct->work.flags = WORK_INHERITED;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(tp_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 bits = tgid_selected(parent->tgid);

	if (!bits || child->flags & PF_KTHREAD_)
		return 0;
	stay();
	forked(parent, child, bits);
	go();
	return 0;
}

/* Of all processes: whoever is not selected may become so by what it runs. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(tp_exec, struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
{
	__u32 tgid = p->tgid;
	struct task_ctx *t;
	bool serving;
	__u8 select;

	stay();
	t = bpf_task_storage_get(&task_ctxs, p, 0, 0);
	serving = holds_open_request(t);
	select = tgid_selected(tgid);
	if (select) {
		/* what user space knew of its threads and of FIONREAD was about another program */
		select &= SELECT_ON | SELECT_INJECT;
		tgid_select(tgid, select & SELECT_INJECT ? select | SELECT_BRIEFLY : select);
		proc_forget(tgid);
	}
	emit_proc(EV_EXEC, tgid, 0, serving ? EXEC_SERVING : 0);
	go();
	return 0;
}

static __always_inline void exits(struct task_struct *p)
{
	__u32 tgid = p->tgid;
	struct task_ctx *t;
	struct proc *proc;

	if (p->signal->live.counter == 0) {
		if (tgid_selected(tgid)) {
			tgid_select(tgid, 0);
			proc_forget(tgid);
		}
		emit_proc(EV_EXIT, tgid, 0, 0);
		return;
	}
	if (!tgid_selected(tgid))
		return;
	t = bpf_task_storage_get(&task_ctxs, p, 0, 0);
	if (!t || !(t->work.flags & WORK_INHERITED))
		return;
	proc = proc_at(proc_find(tgid) - 1);
	if (!proc)
		return;
	if (holds_open_request(t))
		__sync_fetch_and_add(&proc->joined_clones, 1);
	else
		proc->pooled = 1;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(tp_exit, struct task_struct *p)
{
	stay();
	exits(p);
	go();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
