/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __REQUEST_H
#define __REQUEST_H

#include "join.h"
#include "parent.h"
#include "tracestate.h"

/*
 * Requests: their identity, their parent, their beginning and end. Protocols call
 * request_begin() when a head is complete and request_end() when the response is; nothing here
 * knows HTTP.
 */

static __always_inline __u64 random_word(void)
{
	return (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
}

static __always_inline __u64 rotated(__u64 x, int by)
{
	return x << by | x >> (64 - by);
}

/*
 * 64 bits of an id: xoroshiro128++ (Blackman, Vigna 2019), begun with the kernel's own numbers,
 * which are a call for each half. All zero is no id.
 */
static __always_inline __u64 id_word(struct scratch *s)
{
	__u64 a = s->random[0], b = s->random[1], sum;

	if (!(a | b)) {
		a = random_word();
		b = random_word() | 1;
	}
	sum = rotated(a + b, 17) + a;
	b ^= a;
	s->random[0] = rotated(a, 49) ^ b ^ b << 21;
	s->random[1] = rotated(b, 28);
	return sum ?: 1;
}

/* OpenTelemetry's TraceIdRatioBased: the low 63 of the last 64 bits against a bound. */
static __always_inline bool sample(const __u8 *trace_id)
{
	__u64 low = bpf_be64_to_cpu(*(__u64 *)(trace_id + 8));

	if (cfg.sampler == SAMPLE_ON)
		return true;
	if (cfg.sampler == SAMPLE_OFF)
		return false;
	return (low & ~(1ULL << 63)) < cfg.sample_bound;
}

#define FLAG_SAMPLED 1
#define FLAG_RANDOM  2

static __always_inline void span_root(struct ev_span *ev, __u64 high, __u64 low)
{
	*(__u64 *)ev->trace_id = high;
	*(__u64 *)(ev->trace_id + 8) = low;
	__builtin_memset(ev->parent_id, 0, 8);
	ev->link = LINK_ROOT;
	ev->trace_flags =
	    (cfg.random_flag ? FLAG_RANDOM : 0) | (sample(ev->trace_id) ? FLAG_SAMPLED : 0);
}

static __always_inline void span_child(struct ev_span *ev, const struct trace_ctx *parent,
				       __u32 flags, __u8 link)
{
	__builtin_memcpy(ev->trace_id, parent->trace_id, 16);
	__builtin_memcpy(ev->parent_id, parent->span_id, 8);
	ev->link = link;
	ev->trace_flags = flags;
	if (!cfg.parent_based)
		ev->trace_flags = (flags & ~FLAG_SAMPLED) | (sample(ev->trace_id) ? 1 : 0);
}

static __always_inline bool same16(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* Keeps the list for the calls that this request causes. */
static __always_inline void tracestate_keep(struct scratch *s, struct open_req *r, __u64 tag)
{
	struct tracestate *ts;
	struct head *none;
	__u32 zero = 0;

	none = bpf_map_lookup_elem(&no_head, &zero);
	if (!none || bpf_map_update_elem(&tracestates, &tag, none, BPF_NOEXIST))
		return;
	r->flags |= REQ_STATE;
	ts = bpf_map_lookup_elem(&tracestates, &tag);
	if (ts)
		tracestate_collect(s, ts);
}

/* The request in slot `slot` carries a traceparent, which calls may pass on as it is. */
__separately int known_by_parent(struct scratch *s, struct open_req *r, __u64 tag, __u32 slot)
{
	struct by_parent_key bk;
	struct by_parent new, *old;

	if (!s || !r)
		return 0;
	bk.ctx = s->f.head.tp.ctx;
	bk.tgid = s->f.tgid;
	bk.pad = 0;
	old = bpf_map_lookup_elem(&by_parent, &bk);
	if (old) {
		old->shared = 1;
		return 0;
	}
	__builtin_memset(&new, 0, sizeof(new));
	new.ref.tag = tag;
	new.ref.slot = slot;
	if (!bpf_map_update_elem(&by_parent, &bk, &new, BPF_NOEXIST)) {
		__builtin_memcpy(r->header_id, bk.ctx.span_id, 8);
		r->flags |= REQ_BY_PARENT;
	}
	return 0;
}

/*
 * Is the traceparent of a call one that the process received? 2: as that of one request, which is
 * in s->parent; 1: of several, or it is over; 0: it is the program's own.
 */
__separately int parent_by_header(struct scratch *s)
{
	struct by_parent_key bk;
	struct by_parent *b;

	if (!s)
		return 0;
	bk.ctx = s->f.head.tp.ctx;
	bk.tgid = s->f.tgid;
	bk.pad = 0;
	b = bpf_map_lookup_elem(&by_parent, &bk);
	if (!b)
		return 0;
	return !b->shared && parent_from(&b->ref, &s->parent) ? 2 : 1;
}

static __always_inline void begin_server(struct scratch *s, struct sk_ctx *c, struct open_req *r,
					 const struct req_ref *ref)
{
	struct head_info *h = &s->f.head;
	struct ev_span *ev = &r->ev;
	bool header = h->tp_count == 1;

	if (h->tp_count > 1)
		stat_inc(STAT_REFUSED_TRACEPARENT);
	*(__u64 *)ev->span_id = id_word(s);
	/*
	 * A proxy that hands the header on names the caller before it; the kernel has seen who
	 * really called. A header of another trace is the program's own will.
	 */
	if (may_be_joined(s) && joined(s, c) &&
	    (!header || same16(s->join.ctx.trace_id, h->tp.ctx.trace_id))) {
		stat_inc(STAT_JOINS);
		span_child(ev, &s->join.ctx, s->join.trace_flags, LINK_JOINED);
	} else if (header) {
		span_child(ev, &h->tp.ctx, h->tp.flags, LINK_HEADER);
	} else {
		span_root(ev, id_word(s), id_word(s));
	}
	if (header && h->ts_count && s->f.select & SELECT_INJECT)
		tracestate_keep(s, r, ref->tag);
	if (header)
		known_by_parent(s, r, ref->tag, ref->slot);
}

/* The call in s->parent has one, or shows what its process calls by itself. */
static __always_inline int caller_told(struct scratch *s, struct sk_ctx *c, struct proc *p)
{
	if (!proc_open(p) && !s->parent.found)
		dest_mark(c, s->f.tgid, p, DEST_CALLED_IDLE);
	return 1;
}

/* The request that a call is made for, into s->parent. */
__separately int caller_of(struct scratch *s, struct sk_ctx *c, struct proc *p)
{
	struct sock *sk;
	struct work *w;

	if (!s || !c || !p)
		return 0;
	sk = (struct sock *)s->f.sk;
	w = s->f.select & SELECT_THREADS ? work_get(c) : work_find(c);
	if (w)
		work_calls(w, c, sk, p, true);
	ctx_current(w, c, sk, s->f.tgid, p, DEST_CALLED_IDLE, &s->parent);
	return caller_told(s, c, p);
}

/*
 * The same of a stream, where a probe tells who began the call: who writes it may be anyone. 0: it
 * does not.
 */
__separately int beginner_of(struct scratch *s, struct sk_ctx *c, struct proc *p)
{
	struct begun_call *begun;
	__u64 tag;

	if (!s || !c || !p)
		return 0;
	tag = req_tag(c->cookie, s->f.stream);
	begun = bpf_map_lookup_elem(&begun_calls, &tag);
	if (!begun)
		return 0;
	ctx_current(&begun->work, c, NULL, s->f.tgid, p, DEST_CALLED_IDLE, &s->parent);
	/* forgotten meanwhile, it may be another's */
	if (begun->tag != tag)
		s->parent.found = 0;
	bpf_map_delete_elem(&begun_calls, &tag);
	return caller_told(s, c, p);
}

static __always_inline void begin_client(struct scratch *s, struct sk_ctx *c, struct open_req *r,
					 struct proc *p)
{
	struct head_info *h = &s->f.head;
	struct parent *parent = &s->parent;
	struct ev_span *ev = &r->ev;
	int received;

	*(__u64 *)ev->span_id = id_word(s);
	if (!(p->flags & PROC_CORE) || c->proto != PROTO_HTTP2 || !beginner_of(s, c, p))
		caller_of(s, c, p);
	if (s->f.select & SELECT_INJECT) {
		if (h->tp_count)
			stat_inc(STAT_INJECT_OWN);
		else if (!s->f.one_head)
			stat_inc(c->inject & INJECT_TIGHT ? STAT_INJECT_NO_ROOM
							  : STAT_INJECT_UNCLAIMED);
	}
	if (h->tp_count == 1) {
		/* over what caller_of() found, which only a header of our own trace needs */
		__u8 found = parent->found, link = parent->link;
		struct trace_ctx ctx = parent->ctx;

		received = parent_by_header(s);
		if (received == 2) {
			/* it names the server request that it was received with */
			span_child(ev, &parent->ctx, parent->trace_flags, LINK_FORWARDED);
		} else if (received) {
			span_child(ev, &h->tp.ctx, h->tp.flags, LINK_PROGRAM);
		} else { /* the program's own: what it sends is what this span is */
			__builtin_memcpy(ev->trace_id, &h->tp.ctx, sizeof(h->tp.ctx));
			__builtin_memset(ev->parent_id, 0, 8);
			ev->trace_flags = h->tp.flags;
			ev->link = LINK_PROGRAM;
			if (found && same16(ctx.trace_id, ev->trace_id)) {
				__builtin_memcpy(ev->parent_id, ctx.span_id, 8);
				ev->link = link;
			}
		}
	} else if (parent->found) {
		span_child(ev, &parent->ctx, parent->trace_flags, parent->link);
		r->caller = parent->tag;
	} else {
		span_root(ev, id_word(s), id_word(s));
	}
	joinable(s, c, r);
}

/* Server path of a unix connection, for both ends. */
static __always_inline __u32 unix_path(struct sock *sk, __u8 role, __u8 *out)
{
	struct sock *named = sk;
	struct unix_address *addr;
	int len;

	if (role == ROLE_CLIENT)
		named = BPF_CORE_READ((struct unix_sock *)sk, peer);
	if (!named)
		return 0;
	addr = BPF_CORE_READ((struct unix_sock *)named, addr);
	if (!addr)
		return 0;
	len = BPF_CORE_READ(addr, len) - 2;
	if (len <= 0)
		return 0;
	if (len > UNIX_PATH_MAX)
		len = UNIX_PATH_MAX;
	if (bpf_probe_read_kernel(out, UNIX_PATH_MAX,
				  (void *)addr + bpf_core_field_offset(struct unix_address, name) +
				      2))
		return 0;
	return len;
}

/* Keeps the head in the slot, or sends it ahead if it is too long for that. */
static __always_inline void head_keep(struct scratch *s, struct sk_ctx *c, struct open_req *r,
				      __u32 head_len)
{
	struct ev_head *ev = &s->ev;
	__u32 cap = head_len, total;

	if (head_len <= HEAD_INLINE && !(c->flags & SK_UNIX)) {
		barrier_var(cap);
		if (cap > HEAD_INLINE)
			return;
		bpf_probe_read_kernel(r->head, cap, s->buf);
		r->ev.captured = cap;
		return;
	}
	if (cap > HEAD_CAPTURE)
		cap = HEAD_CAPTURE;
	ev->hdr.ts = s->f.first_ns;
	ev->hdr.kind = EV_HEAD;
	ev->hdr.tgid = s->f.tgid;
	ev->conn = c->cookie;
	ev->stream = s->f.stream;
	ev->captured = cap;
	ev->unix_len = 0;
	ev->first = 0;
	barrier_var(cap);
	if (cap > HEAD_CAPTURE)
		return;
	if (c->flags & SK_UNIX)
		ev->unix_len = unix_path((struct sock *)s->f.sk, c->role, s->buf + cap);
	total = sizeof(*ev) + cap + (c->flags & SK_UNIX ? UNIX_PATH_MAX : 0);
	barrier_var(total);
	if (total > sizeof(*ev) + HEAD_CAPTURE + UNIX_PATH_MAX)
		return;
	if (bpf_ringbuf_output(&rb_data, ev, total, data_wakeup(total))) {
		stat_inc(STAT_RING_FULL_HEAD);
		r->ev.flags |= SPAN_HEAD_LOST;
	} else {
		r->ev.flags |= SPAN_HEAD_AHEAD;
	}
}

/* Is it of a pool whose threads serve one request after the other? Their names tell. */
static __always_inline bool of_workers(struct task_struct *task)
{
	__u64 name[2] = {};

	bpf_core_read(name, sizeof(name), &task->comm);
#pragma unroll
	for (__u32 i = 0; i < WORKER_NAMES; i++) {
		if (cfg.worker_masks[i][0] &&
		    (name[0] & cfg.worker_masks[i][0]) == cfg.worker_names[i][0] &&
		    (name[1] & cfg.worker_masks[i][1]) == cfg.worker_names[i][1])
			return true;
	}
	return false;
}

/*
 * Does the current thread wait for connections and for what comes on them at the same time? One
 * that only accepts by poll() and serves one after the other is taken for such a loop too, unless
 * it reads from what blocks.
 */
static __always_inline bool polls_for_many(const struct work *w, struct sock *sk)
{
	return cfg.waits_unseen && !(w->flags & WORK_MULTIPLEX) && never_blocks(sk) &&
	       bpf_task_storage_get(&pollers, bpf_get_current_task_btf(), 0, 0);
}

/*
 * Does the current thread serve what it reads from here, and how far is that to be believed? Who
 * reads from a polled socket is an event loop. Selectors of a JVM take a socket off the epoll
 * before they let anyone read it, so there it counts whether it blocks, and if not, who reads: any
 * thread may be in between, as of actors, of coroutines, or one that carries virtual threads.
 */
static __always_inline bool serves(struct work *w, struct sock *sk, struct proc *p, __u32 tgid)
{
	bool polled = event_managed(sk);

	if (polled && !(p->flags & PROC_LOOPS)) {
		__sync_fetch_and_or(&p->flags, PROC_LOOPS);
		emit_proc(EV_LOOP, tgid, 0, 0);
	}
	if (!(p->flags & PROC_WORKERS)) {
		polled |= polls_for_many(w, sk);
		if (polled)
			turns_between(w);
		return !polled;
	}
	if (!never_blocks(sk))
		return true;
	if (!of_workers(bpf_get_current_task_btf()))
		return false;
	w->flags |= WORK_POOL;
	return true;
}

/* The task that read the request works for it, unless it is an event loop. */
static __always_inline void task_takes_up(struct scratch *s, struct sk_ctx *c, struct proc *p,
					  struct open_req *r, const struct req_ref *ref)
{
	struct task_struct *task;
	struct task_ctx *t;
	struct tcp_sock *tp;

	if (!(s->f.select & SELECT_THREADS) || c->flags & SK_EVENTS)
		return;
	/* any thread of gRPC's core reads for all others, whatever it works for itself */
	if (c->proto == PROTO_HTTP2 && p->flags & PROC_CORE) {
		c->flags |= SK_EVENTS;
		return;
	}
	t = task_get();
	if (!t)
		return;
	if (t->work.cur.tag >> 20 == ref->tag >> 20 && req_is_open(&t->work.cur)) {
		/* pipelined: the first one is worked on first; streams have no order */
		if (c->proto == PROTO_HTTP2)
			t->work.flags |= WORK_MULTIPLEX;
		return;
	}
	work_turns(&t->work, (struct sock *)s->f.sk, p, true);
	work_leaves(&t->work);
	/* who reads the frames of a connection reads for all its streams, and hands them on */
	if (c->proto == PROTO_HTTP2 || !serves(&t->work, (struct sock *)s->f.sk, p, s->f.tgid)) {
		c->flags |= SK_EVENTS;
		return;
	}
	task = bpf_get_current_task_btf();
	if (BPF_CORE_READ(task, io_uring))
		return;
	t->work.cur = *ref;
	if (!never_blocks((struct sock *)s->f.sk))
		t->work.flags |= WORK_BLOCKS;
	tp = c->flags & SK_UNIX ? NULL : (struct tcp_sock *)s->f.sk;
	t->work.sk = (__u64)tp;
	t->work.sent = tp ? BPF_CORE_READ(tp, write_seq) : 0;
	r->flags |= REQ_HELD;
}

/* What a send took in part, or a head in pieces, comes again. */
static __always_inline bool begun_before(const struct sk_ctx *c, __u32 number)
{
	return (__s32)(number - c->begun) < 0;
}

/* The head of request s->f.stream is complete, in the scratch buffer up to f->line. */
__separately int request_begin(struct scratch *s, struct sk_ctx *c)
{
	struct req_ref ref = {};
	struct open_req *r;
	struct proc *p;
	__u32 slot = 0, proc, hint;
	bool placed;

	if (!s || !c)
		return 0;
	ref.tag = req_tag(c->cookie, s->f.stream);
	if (begun_before(c, s->f.stream))
		return 0;
	c->begun = s->f.stream + 1;
	proc = proc_of(c, s->f.tgid);
	p = proc_at(proc - 1);
	if (!proc || !p)
		return 0;
	/* a probe knows of a stream no more than the tag */
	hint = c->proto == PROTO_HTTP2 &&
	       (p->flags & PROC_CORE || c->slots[s->f.stream % PIPELINE_MAX]);
	/* of several only the first could be told from what leads to the connection */
	if (p->flags & PROC_HANDS && c->proto != PROTO_HTTP2 && s->f.stream == c->rsp_next)
		slot = slot_take_at(c->cookie, ref.tag);
	placed = slot;
	if (!slot)
		slot = hint ? slot_take_by_tag(ref.tag) : slot_take(ref.tag);
	r = slot_at(slot - 1);
	if (!slot || !r)
		return 0;
	ref.slot = slot - 1;
	if (c->proto == PROTO_HTTP2)
		__sync_fetch_and_add(&c->streams, 1);
	if (!hint)
		c->slots[s->f.stream % PIPELINE_MAX] = slot;
	r->proc = proc;
	r->flags = placed ? REQ_PLACED : 0;
	r->caller = 0;
	r->body_seq = s->f.first_seq;
	__builtin_memset(&r->ev, 0, sizeof(r->ev));
	r->ev.hdr.ts = s->f.first_ns;
	r->ev.hdr.kind = EV_SPAN;
	r->ev.hdr.tgid = s->f.tgid;
	r->ev.conn = c->cookie;
	r->ev.stream = s->f.stream;
	r->ev.netns = c->netns;
	__builtin_memcpy(r->ev.laddr, c->laddr, 32);
	r->ev.lport = c->lport;
	r->ev.rport = c->rport;
	r->ev.role = c->role;
	r->ev.flags = c->flags & SK_UNIX ? SPAN_UNIX : 0;
	if (c->proto == PROTO_HTTP2) {
		r->flags = REQ_STREAM;
		r->ev.flags |= SPAN_HTTP2;
	}
	if (c->role == ROLE_SERVER) {
		begin_server(s, c, r, &ref);
		r->flags |= REQ_COUNTED;
		proc_opened(p, ref.slot, s->f.first_ns);
		task_takes_up(s, c, p, r, &ref);
	} else {
		begin_client(s, c, r, p);
	}
	if (r->ev.trace_flags & FLAG_SAMPLED) {
		r->flags |= REQ_SAMPLED;
		if (c->proto != PROTO_HTTP2) /* which has a block of its own */
			head_keep(s, c, r, s->f.line);
	} else {
		stat_inc(STAT_UNSAMPLED);
	}
	return 0;
}

/* How a request ended. */
struct ending {
	__u64 now;
	__u64 request_body;
	__u64 response_body;
	__u32 stream;
	__u16 status;
	__u16 error;
	__u32 reason;
	__u32 slot; /* plus one; 0: the connection keeps it */
};

/*
 * The head of an answer has left. Whether it is the thread that read the request which sends it
 * tells how far its reading means that it serves; the rest of an answer may be anyone's.
 */
__separately int answer_begins(struct sk_ctx *c)
{
	struct open_req *r;
	struct task_ctx *t;
	struct proc *p;
	__u32 slot;

	if (!c)
		return 0;
	slot = c->slots[c->rsp_next % PIPELINE_MAX];
	r = slot ? slot_at(slot - 1) : NULL;
	if (!r || r->tag != req_tag(c->cookie, c->rsp_next) || !(r->flags & REQ_HELD))
		return 0;
	__sync_fetch_and_or(&r->flags, REQ_ANSWERED);
	p = proc_at(r->proc - 1);
	if (!p || p->tgid != current_tgid())
		return 0;
	t = task_find();
	if (!t || t->work.cur.tag != r->tag) {
		/* with a request behind it, the answer of this one may have gone by unseen */
		if (c->req_next == c->rsp_next + 1)
			kept_is_lost(p);
		return 0;
	}
	if (p->kept < KEPT_MOST)
		__sync_fetch_and_add(&p->kept, 1);
	return 0;
}

/*
 * The head of an answer is read. A thread that serves one request waits for it by itself; who has
 * it from a polled socket turns between several, also when it reads the next request before it
 * polls for that.
 */
__separately int answer_is_read(struct scratch *s, struct sk_ctx *c)
{
	struct task_ctx *t;

	if (!s || !c)
		return 0;
	if (!(s->f.select & SELECT_THREADS) || !event_managed((struct sock *)s->f.sk))
		return 0;
	t = task_get();
	if (!t || loops_within(&t->work))
		return 0;
	c->flags |= SK_EVENTS; /* the next ones tell nothing new */
	turns_between(&t->work);
	return 0;
}

/* The task that answers turns to the next pipelined request, if it is there. */
static __always_inline void task_answers(struct sk_ctx *c, __u64 tag, __u32 stream)
{
	struct task_ctx *t = task_find();
	__u32 slot = c->slots[(stream + 1) % PIPELINE_MAX];
	struct open_req *next = slot ? slot_at(slot - 1) : NULL;
	struct tcp_sock *tp;

	if (!t || t->work.cur.tag != tag)
		return;
	t->work.cur.tag = next ? req_tag(c->cookie, stream + 1) : 0;
	t->work.cur.slot = slot - 1;
	tp = (struct tcp_sock *)t->work.sk;
	t->work.sent = tp ? BPF_CORE_READ(tp, write_seq) : 0;
	if (next && next->tag == t->work.cur.tag)
		__sync_fetch_and_or(&next->flags, REQ_HELD); /* who reads it may begin it now */
}

/*
 * Takes a request out of all tables and reports it. Runs in any context; of two that end it at
 * once, the one that takes the tag away does the rest.
 */
__separately int request_end(struct sk_ctx *c, const struct ending *e)
{
	struct open_req *r;
	__u32 slot, total;
	__u64 tag;

	if (!c || !e)
		return 0;
	tag = req_tag(c->cookie, e->stream);
	slot = e->slot ?: c->slots[e->stream % PIPELINE_MAX];
	if (!slot)
		return 0;
	r = slot_at(slot - 1);
	if (!r || __sync_val_compare_and_swap(&r->tag, tag, 1) != tag)
		return 0;
	if (c->slots[e->stream % PIPELINE_MAX] == slot)
		c->slots[e->stream % PIPELINE_MAX] = 0;
	if (r->flags & REQ_STREAM)
		__sync_fetch_and_add(&c->streams, -1);
	if (r->flags & REQ_HELD && e->reason != END_CLOSED)
		task_answers(c, tag, e->stream);
	if (r->flags & REQ_COUNTED) {
		struct proc *p = proc_at(r->proc - 1);

		if (p && p->tgid == r->ev.hdr.tgid)
			proc_answered(p, slot - 1, e->now);
	}
	if (r->flags & REQ_BY_PARENT) {
		struct by_parent_key bk = {.tgid = r->ev.hdr.tgid};

		__builtin_memcpy(bk.ctx.trace_id, r->ev.trace_id, 16);
		__builtin_memcpy(bk.ctx.span_id, r->header_id, 8);
		bpf_map_delete_elem(&by_parent, &bk);
	}
	if (r->flags & REQ_STATE)
		bpf_map_delete_elem(&tracestates, &tag);
	if (r->flags & REQ_JOINABLE && e->reason == END_RESET) {
		join_orphaned(c, r->join_seq);
	} else if (r->flags & REQ_JOINABLE) {
		join_forget(c, r->join_seq);
	}
	if (!(r->flags & REQ_SAMPLED))
		goto out;
	r->ev.end_ts = e->now;
	if (e->request_body)
		r->ev.request_body = e->request_body;
	if (e->response_body)
		r->ev.response_body = e->response_body;
	if (e->status)
		r->ev.status = e->status;
	r->ev.error = e->error;
	r->ev.reason = e->reason;
	total = sizeof(r->ev) + r->ev.captured;
	barrier_var(total);
	if (total <= sizeof(r->ev) + HEAD_INLINE &&
	    bpf_ringbuf_output(&rb_data, &r->ev, total, data_wakeup(total)))
		stat_inc(STAT_RING_FULL_SPAN);
out:
	r->tag = 0;
	slot_note(slot - 1);
	return 0;
}

#endif
