/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __RUNTIME_H
#define __RUNTIME_H

#define BY_KPROBE
#include "parent.h"
#include "files.h"
#include "stay.h"

/*
 * What the probes of all runtimes need. From v6.13 on a program has one stack a CPU, and uprobes
 * can be preempted: by the same program for another task. So nothing is on the stack before stay(),
 * neither what is looked up nor an argument: these are read behind it.
 */

/* The number that the requests of a socket have in their tags; 0: it has none. */
static __always_inline __u64 cookie_of(struct sock *sk)
{
	struct sk_ctx *c;

	if (!sk)
		return 0;
	if (!cfg.conns_in_hash)
		return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	c = conn_find(sk);
	return c ? c->cookie : 0;
}

/* The current thread serves this request from now on. False if it did before. */
static __always_inline bool takes_over(const struct req_ref *ref)
{
	struct task_ctx *t = task_get();

	if (!t || t->work.cur.tag == ref->tag)
		return false;
	work_leaves(&t->work);
	t->work.flags |= WORK_HANDED;
	t->work.cur = *ref;
	stat_inc(STAT_HANDED);
	return true;
}

#endif
