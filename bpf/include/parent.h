/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __PARENT_H
#define __PARENT_H

#include "slots.h"

/* Which request is a call made for? */

static __always_inline bool req_is_open(const struct req_ref *ref)
{
	struct open_req *r = slot_at(ref->slot);

	return r && ref->tag && r->tag == ref->tag;
}

static __always_inline bool is_polled(struct file *file)
{
	return BPF_CORE_READ(file, f_ep) && BPF_CORE_READ(file, f_ep, first);
}

/* Does something else than the thread that reads it decide when a socket is read? */
static __always_inline bool event_managed(struct sock *sk)
{
	struct file *file = BPF_CORE_READ(sk, sk_socket, file);

	return !file || is_polled(file);
}

/* O_NONBLOCK of asm-generic/fcntl.h */
#define NONBLOCKING 00004000

static __always_inline bool never_blocks(struct sock *sk)
{
	struct file *file = BPF_CORE_READ(sk, sk_socket, file);

	return !file || BPF_CORE_READ(file, f_flags) & NONBLOCKING;
}

/* Copies, then looks whether it is still the same: a slot is taken again at once. */
static __always_inline bool parent_from(const struct req_ref *ref, struct parent *out)
{
	struct open_req *r = slot_at(ref->slot);

	if (!r || !ref->tag || r->tag != ref->tag || r->ev.role != ROLE_SERVER)
		return false;
	__builtin_memcpy(&out->ctx, r->ev.trace_id, sizeof(out->ctx));
	out->tag = ref->tag;
	out->tgid = r->ev.hdr.tgid;
	out->trace_flags = r->ev.trace_flags;
	barrier();
	return r->tag == ref->tag;
}

/*
 * The one request that `opened` tells of. Who has the slot before and after a look that finds it
 * still the only one had it at that moment too, and is that request. parent_from() looks after.
 */
static __always_inline bool req_only(struct proc *p, __u64 opened, struct req_ref *only)
{
	struct open_req *r = slot_at((__u32)opened);

	if (!r)
		return false;
	only->slot = opened;
	only->tag = r->tag;
	/* an addition, as it keeps the reads around it in order */
	return only->tag > 1 && __sync_fetch_and_add(&p->opened, 0) == opened;
}

static __always_inline void dest_key(const struct sk_ctx *c, __u32 tgid, struct dest *d)
{
	__builtin_memcpy(d->addr, c->raddr, 16);
	d->tgid = tgid;
	d->port = c->rport;
}

static __always_inline __u32 dest_flags(const struct sk_ctx *c, __u32 tgid)
{
	struct dest d;
	__u32 *flags;

	dest_key(c, tgid, &d);
	flags = bpf_map_lookup_elem(&dests, &d);
	return flags ? *flags : 0;
}

/* Returns false if it cannot be remembered, which refuses rule 5 to the whole process. */
static __always_inline void dest_mark(const struct sk_ctx *c, __u32 tgid, struct proc *p,
				      __u32 flag)
{
	struct dest d;
	__u32 *flags;

	dest_key(c, tgid, &d);
	flags = bpf_map_lookup_elem(&dests, &d);
	if (flags) {
		*flags |= flag;
		return;
	}
	if (bpf_map_update_elem(&dests, &d, &flag, BPF_ANY))
		__sync_fetch_and_or(&p->flags, PROC_FORGETS);
}

/* proc.kept: from which on a thread that reads for a poller is believed to serve; and its bounds */
#define KEPT_ENOUGH 8
#define KEPT_MOST   1024
#define KEPT_LOST   64 /* below 0; twice as much each time that it is lost again */
#define LOST_MOST   16

/*
 * Another thread answers than the one that read, or that one reads the next before it has answered:
 * after how many other answers is that forgotten?
 */
static __always_inline void kept_is_lost(struct proc *p)
{
	if (p->kept >= 0)
		p->lost += p->lost < LOST_MOST;
	p->kept = -(KEPT_LOST / 2 << (p->lost & 31));
}

/* The kernel may leave a hook out: something was sent behind a request, and no answer was seen. */
static __always_inline bool answered_unseen(const struct work *w)
{
	struct open_req *r = slot_at(w->cur.slot);
	struct tcp_sock *tp = (struct tcp_sock *)w->sk;

	return r && !(r->flags & REQ_ANSWERED) && tp && BPF_CORE_READ(tp, write_seq) != w->sent;
}

/*
 * The task turns to something else. A request that it still has open it serves at the same time, or
 * in a pool, another thread will.
 */
static __always_inline void work_leaves(struct work *w)
{
	struct open_req *r = slot_at(w->cur.slot);
	struct proc *p;

	if (r && w->cur.tag && !(w->flags & (WORK_INHERITED | WORK_INHERITED_PROC)) &&
	    req_is_open(&w->cur) && !answered_unseen(w)) {
		w->flags |= WORK_MULTIPLEX;
		p = w->flags & WORK_POOL && !(r->flags & REQ_ANSWERED) ? proc_at(r->proc - 1)
								       : NULL;
		if (p)
			kept_is_lost(p);
	}
	w->flags &= ~(WORK_INHERITED | WORK_INHERITED_PROC | WORK_HANDED | WORK_POOL | WORK_BLOCKS);
	w->cur.tag = 0;
	w->sk = 0;
}

/* A pool of a JVM: do its threads serve what they read? They may put it aside. */
static __always_inline bool pool_is_doubted(const struct work *w, const struct proc *p)
{
	return w->flags & WORK_POOL && p->kept < KEPT_ENOUGH;
}

/* An event loop: what it calls may be for any of the requests that it has read. */
static __always_inline void turns_between(struct work *w)
{
	if (w->flags & WORK_MULTIPLEX)
		return;
	w->flags |= WORK_MULTIPLEX;
	stat_inc(STAT_LOOPS);
}

/*
 * Who reads a request from a socket that blocks has no other to turn to until it has answered: a
 * loop that it runs meanwhile, as by asyncio.run(), works for that one. Of HTTP/2 the thread that
 * writes a frame may write it for another.
 */
static __always_inline bool loops_within(const struct work *w)
{
	return w->flags & WORK_BLOCKS && req_is_open(&w->cur);
}

/*
 * A task that turns to `sk` while what it called last hangs on an epoll does not wait for that by
 * itself: an event loop, also if it takes sockets off before it reads them. And so is, without any
 * epoll, who takes a request up before anything has come of its call; a call before that may be one
 * of several at once. Pools of a JVM are known by name, and may write where others poll.
 */
static __always_inline void work_turns(struct work *w, struct sock *sk, const struct proc *p,
				       bool takes_up)
{
	struct sock *far = (struct sock *)w->call_sk;
	struct tcp_sock *tp = (struct tcp_sock *)far;
	bool called = w->flags & WORK_CALLED, turns;
	struct file *file;

	if (w->flags & WORK_MULTIPLEX || !far || far == sk || p->flags & PROC_WORKERS ||
	    (__u64)BPF_CORE_READ(far, __sk_common.skc_cookie.counter) != w->call_cookie ||
	    loops_within(w))
		return;
	file = BPF_CORE_READ(far, sk_socket, file);
	if (!file) /* closed */
		return;
	/* what was only connected may have become something else than HTTP/1 */
	turns = (called || !BPF_CORE_READ(tp, bytes_sent)) && is_polled(file);
	if (takes_up && called && BPF_CORE_READ(far, __sk_common.skc_state) == TCP_ESTABLISHED)
		turns |= BPF_CORE_READ(tp, copied_seq) == w->call_read;
	if (turns)
		turns_between(w);
}

/* The task sends a request to `sk`, or begins to connect it. */
static __always_inline void work_calls(struct work *w, const struct sk_ctx *c, struct sock *sk,
				       const struct proc *p, bool request)
{
	work_turns(w, sk, p, false);
	if (w->flags & WORK_MULTIPLEX || c->flags & SK_UNIX || c->proto != PROTO_HTTP1)
		return;
	w->call_sk = (__u64)sk;
	w->call_cookie = c->cookie;
	w->call_read = BPF_CORE_READ((struct tcp_sock *)sk, copied_seq);
	w->flags = request ? w->flags | WORK_CALLED : w->flags & ~WORK_CALLED;
}

/* A process must have been seen idle for so many times as long as its only request is open. */
#define IDLE_PER_OPEN 10

/*
 * What a process calls by itself shows while no request is open, if that was for long enough. Next
 * to a request that stays open, as a stream of events does, it may show for the first time.
 */
static __always_inline bool idle_enough(const struct proc *p, const struct req_ref *only)
{
	struct open_req *r = slot_at(only->slot);
	__s64 open_for = r ? bpf_ktime_get_ns() - r->ev.hdr.ts : 0;

	if (p->flags & PROC_FORGETS || p->idle < cfg.exclusive_after_ns)
		return false;
	return open_for < 0 || p->idle / IDLE_PER_OPEN >= (__u64)open_for;
}

/*
 * Which server request is this task working for? The one place that answers it; runtimes plug
 * in here. `avoid` are the dest_flags that make the only open request no answer. `sk` is what the
 * call is sent on, or NULL.
 */
static __always_inline void ctx_current(struct work *w, const struct sk_ctx *c, struct sock *sk,
					__u32 tgid, struct proc *p, __u32 avoid, struct parent *out)
{
	struct req_ref only = {};
	__u64 opened = p->opened;
	__u32 open = opened >> 32;

	out->found = 0;
	out->link = LINK_ROOT;
	if (w && w->cur.tag) {
		if (!parent_from(&w->cur, out)) {
			stat_inc(STAT_REFUSED_ANSWERED);
			w->cur.tag = 0;
		} else if (answered_unseen(w)) {
			/* It still counts as open, and may be the only one that does. */
			stat_inc(STAT_REFUSED_ANSWERED);
			return;
		} else if (w->flags & WORK_INHERITED) {
			/*
			 * A helper of this request, or a pool thread that happened to be
			 * started by it and now works for another? Alone it makes no
			 * difference; else the process must have shown that its threads end
			 * before the requests that start them.
			 */
			if (open == 1 || (!p->pooled && p->joined_clones >= 8)) {
				out->link = LINK_INHERITED;
				out->found = 1;
			} else {
				stat_inc(STAT_REFUSED_POOL);
			}
			return;
		} else if (w->flags & WORK_INHERITED_PROC) {
			out->link = LINK_INHERITED;
			out->found = 1;
			return;
		} else if (pool_is_doubted(w, p)) {
			stat_inc(STAT_REFUSED_UNKEPT);
		} else if (w->flags & WORK_MULTIPLEX) {
			/* which of several is not known */
		} else if (sk && event_managed(sk) &&
			   (c->proto == PROTO_HTTP2 || !loops_within(w))) {
			/* It will not wait for the answer by itself, but take up something else. */
			stat_inc(STAT_REFUSED_EVENTS);
		} else {
			out->link = w->flags & WORK_HANDED ? LINK_HANDED : LINK_THREAD;
			out->found = 1;
			return;
		}
	}
	if (!open)
		return;
	if (open > 1) {
		stat_inc(STAT_REFUSED_AMBIGUOUS);
		return;
	}
	if (dest_flags(c, tgid) & avoid) {
		stat_inc(STAT_REFUSED_BACKGROUND);
		return;
	}
	if (!req_only(p, opened, &only))
		return;
	if (!idle_enough(p, &only)) {
		stat_inc(STAT_REFUSED_EARLY);
		return;
	}
	if (!parent_from(&only, out) || out->tgid != tgid)
		return;
	out->link = LINK_EXCLUSIVE;
	out->found = 1;
}

#endif
