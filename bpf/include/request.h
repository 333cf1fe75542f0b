/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __REQUEST_H
#define __REQUEST_H

#include "feed.h"

/*
 * Requests: their identity, their parent, their beginning and end. Protocols call
 * request_begin() when a head is complete and request_end() when the response is; nothing here
 * knows HTTP.
 */

static __always_inline struct proc *proc_get(__u32 tgid)
{
	struct proc *p = bpf_map_lookup_elem(&procs, &tgid);
	struct proc fresh = {};

	if (p)
		return p;
	fresh.since = bpf_ktime_get_ns();
	bpf_map_update_elem(&procs, &tgid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&procs, &tgid);
}

/*
 * The only open request of a process is found by the xor over all keys. Order matters: whoever
 * reads a count of one during a change finds a xor that is no key, and takes it for none.
 */
static __always_inline void proc_opened(struct proc *p, const struct req_key *key)
{
	__sync_fetch_and_xor(&p->xor_conn, key->conn);
	__sync_fetch_and_xor(&p->xor_stream, (__u64)key->stream);
	__sync_fetch_and_add(&p->open, 1);
}

static __always_inline void proc_answered(struct proc *p, const struct req_key *key)
{
	__sync_fetch_and_add(&p->open, -1);
	__sync_fetch_and_xor(&p->xor_conn, key->conn);
	__sync_fetch_and_xor(&p->xor_stream, (__u64)key->stream);
}

/* What a call inherits from an open server request. */
struct parent {
	struct trace_ctx ctx;
	__u32 tgid;
	__u8 trace_flags;
	__u8 link;
	__u8 found;
	__u8 pad;
};

/*
 * Copies, then looks whether it is still the same: the table hands out the memory of a deleted
 * entry again at once.
 */
static __always_inline bool parent_from(const struct req_key *key, struct parent *out)
{
	struct open_req *r = bpf_map_lookup_elem(&requests, key);

	if (!r || r->role != ROLE_SERVER)
		return false;
	out->ctx = r->ctx;
	out->tgid = r->tgid;
	out->trace_flags = r->trace_flags;
	barrier();
	return r->key.conn == key->conn && r->key.stream == key->stream;
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
		p->since = ~0ULL; /* rule 5 asks how long the process is known */
}

/*
 * Which server request is this task working for? The one place that answers it; runtimes plug
 * in here. `avoid` are the dest_flags that make the only open request no answer.
 */
static __always_inline void ctx_current(struct task_ctx *t, const struct sk_ctx *c, __u32 tgid,
					struct proc *p, __u32 avoid, struct parent *out)
{
	struct req_key only = {};
	__u32 open = p->open;

	out->found = 0;
	out->link = LINK_ROOT;
	if (t && t->cur.conn) {
		if (!parent_from(&t->cur, out)) {
			stat_inc(STAT_REFUSED_ANSWERED);
			t->cur.conn = 0;
		} else if (t->flags & TASK_INHERITED) {
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
		} else if (t->flags & TASK_INHERITED_PROC) {
			out->link = LINK_INHERITED;
			out->found = 1;
			return;
		} else if (!(t->flags & TASK_MULTIPLEX)) {
			out->link = LINK_THREAD;
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
	if (p->since > bpf_ktime_get_ns() - cfg.exclusive_after_ns) {
		stat_inc(STAT_REFUSED_EARLY);
		return;
	}
	only.conn = p->xor_conn;
	only.stream = p->xor_stream;
	if (!parent_from(&only, out) || out->tgid != tgid)
		return;
	out->link = LINK_EXCLUSIVE;
	out->found = 1;
}

static __always_inline void random_bytes(__u8 *out, int words)
{
	__u32 *w = (__u32 *)out;

	for (int i = 0; i < words; i++)
		w[i] = bpf_get_prandom_u32();
	w[words - 1] |= !w[words - 1]; /* all zero is no id */
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

static __always_inline void request_root(struct open_req *r)
{
	random_bytes(r->ctx.trace_id, 4);
	__builtin_memset(r->parent_id, 0, 8);
	r->link = LINK_ROOT;
	r->trace_flags = FLAG_RANDOM | (sample(r->ctx.trace_id) ? FLAG_SAMPLED : 0);
}

static __always_inline void request_child(struct open_req *r, const struct trace_ctx *parent,
					  __u32 flags, __u8 link)
{
	__builtin_memcpy(r->ctx.trace_id, parent->trace_id, 16);
	__builtin_memcpy(r->parent_id, parent->span_id, 8);
	r->link = link;
	r->trace_flags = flags;
	if (!cfg.parent_based)
		r->trace_flags = (flags & ~FLAG_SAMPLED) | (sample(r->ctx.trace_id) ? 1 : 0);
}

static __always_inline bool same16(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* The name under which the two ends of a connection on this host know one request. */
static __always_inline void join_key(const struct sk_ctx *c, __u64 unix_client, __u32 seq,
				     bool client, struct join_key *k)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->seq = seq;
	if (c->flags & SK_UNIX) {
		*(__u64 *)k->addr = unix_client;
		k->is_unix = 1;
	} else {
		__builtin_memcpy(k->addr, client ? c->laddr : c->raddr, 16);
		k->port = client ? c->lport : c->rport;
	}
}

/* Cookie of the socket at the other end of a unix connection; 0 if nobody asked for it. */
static __always_inline __u64 unix_peer_cookie(struct sock *sk)
{
	struct sock *peer = BPF_CORE_READ((struct unix_sock *)sk, peer);

	return peer ? BPF_CORE_READ(peer, __sk_common.skc_cookie.counter) : 0;
}

static __always_inline void request_begin_server(struct scratch *s, struct sk_ctx *c)
{
	struct head_info *h = &s->f.head;
	struct open_req *r = &s->r;
	struct join *j = NULL;
	bool header = h->tp_count == 1;

	if (h->tp_count > 1)
		stat_inc(STAT_REFUSED_TRACEPARENT);
	if (cfg.join && s->f.can_join) {
		__u64 peer = c->flags & SK_UNIX ? unix_peer_cookie((struct sock *)s->f.sk) : 0;

		join_key(c, peer, c->flags & SK_UNIX ? s->key.stream : s->f.first_seq, false,
			 &s->jk);
		j = bpf_map_lookup_elem(&joins, &s->jk);
	}
	random_bytes(r->ctx.span_id, 2);
	/*
	 * A proxy that hands the header on names the caller before it; the kernel has seen who
	 * really called. A header of another trace is the program's own will.
	 */
	if (j && (!header || same16(j->ctx.trace_id, h->tp.ctx.trace_id))) {
		stat_inc(STAT_JOINS);
		request_child(r, &j->ctx, j->trace_flags, LINK_JOINED);
	} else if (header) {
		request_child(r, &h->tp.ctx, h->tp.flags, LINK_HEADER);
	} else {
		request_root(r);
	}
	if (header) {
		struct by_parent_key bk = {.ctx = h->tp.ctx, .tgid = r->tgid};
		struct by_parent *old = bpf_map_lookup_elem(&by_parent, &bk);
		struct by_parent new = {.key = s->key};

		if (old)
			old->shared = 1;
		else if (!bpf_map_update_elem(&by_parent, &bk, &new, BPF_NOEXIST)) {
			__builtin_memcpy(r->header_id, h->tp.ctx.span_id, 8);
			r->flags |= REQ_BY_PARENT;
		}
	}
}

static __always_inline void request_begin_client(struct scratch *s, struct sk_ctx *c,
						  struct task_ctx *t)
{
	struct head_info *h = &s->f.head;
	struct open_req *r = &s->r;
	struct proc *p = proc_get(r->tgid);
	struct parent parent = {}, from = {};

	if (!p)
		return;
	random_bytes(r->ctx.span_id, 2);
	ctx_current(t, c, r->tgid, p, DEST_CALLED_IDLE, &parent);
	if (!p->open && !parent.found)
		dest_mark(c, r->tgid, p, DEST_CALLED_IDLE);
	if (h->tp_count == 1) {
		struct by_parent_key bk = {.ctx = h->tp.ctx, .tgid = r->tgid};
		struct by_parent *b = bpf_map_lookup_elem(&by_parent, &bk);

		if (b && !b->shared && parent_from(&b->key, &from)) {
			/* it names the server request that it was received with */
			request_child(r, &from.ctx, from.trace_flags, LINK_FORWARDED);
		} else if (b) {
			request_child(r, &h->tp.ctx, h->tp.flags, LINK_PROGRAM);
		} else { /* the program's own: what it sends is what this span is */
			__builtin_memcpy(&r->ctx, &h->tp.ctx, sizeof(r->ctx));
			r->trace_flags = h->tp.flags;
			r->link = LINK_PROGRAM;
			if (parent.found && same16(parent.ctx.trace_id, r->ctx.trace_id)) {
				__builtin_memcpy(r->parent_id, parent.ctx.span_id, 8);
				r->link = parent.link;
			}
		}
	} else if (parent.found) {
		request_child(r, &parent.ctx, parent.trace_flags, parent.link);
	} else {
		request_root(r);
	}
	if (cfg.join && s->f.can_join) {
		r->join_seq = c->flags & SK_UNIX ? s->key.stream : s->f.first_seq;
		join_key(c, c->cookie, r->join_seq, true, &s->jk);
		s->j.ctx = r->ctx;
		s->j.trace_flags = r->trace_flags;
		s->j.pad = 0;
		if (!bpf_map_update_elem(&joins, &s->jk, &s->j, BPF_ANY))
			r->flags |= REQ_JOINABLE;
	}
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
				  (void *)addr + bpf_core_field_offset(struct unix_address, name) + 2))
		return 0;
	return len;
}

static __always_inline void request_announce(struct scratch *s, struct sk_ctx *c, __u32 head_len)
{
	struct open_req *r = &s->r;
	struct ev_request *ev = &s->ev;
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 cap = head_len, total;

	if (cap > HEAD_CAPTURE)
		cap = HEAD_CAPTURE;
	ev->hdr.ts = s->f.first_ns;
	ev->hdr.kind = EV_REQUEST;
	ev->hdr.tgid = r->tgid;
	ev->conn = s->key.conn;
	ev->stream = s->key.stream;
	ev->tid = pid_tgid;
	__builtin_memcpy(ev->trace_id, &r->ctx, sizeof(r->ctx));
	__builtin_memcpy(ev->parent_id, r->parent_id, 8);
	__builtin_memcpy(ev->laddr, c->laddr, 32);
	ev->lport = c->lport;
	ev->rport = c->rport;
	ev->role = r->role;
	ev->link = r->link;
	ev->trace_flags = r->trace_flags;
	ev->is_unix = !!(c->flags & SK_UNIX);
	ev->head_len = head_len;
	ev->captured = cap;
	ev->netns = c->netns;
	ev->unix_len = 0;
	barrier_var(cap);
	if (cap > HEAD_CAPTURE)
		return;
	if (c->flags & SK_UNIX)
		ev->unix_len = unix_path((struct sock *)s->f.sk, r->role, s->buf + cap);
	total = sizeof(*ev) + cap + (c->flags & SK_UNIX ? UNIX_PATH_MAX : 0);
	barrier_var(total);
	if (total > sizeof(*ev) + HEAD_CAPTURE + UNIX_PATH_MAX)
		return;
	if (bpf_ringbuf_output(&rb_data, ev, total, data_wakeup()))
		stat_inc(STAT_RING_FULL_REQUEST);
	else
		r->flags |= REQ_ANNOUNCED;
}

/* Does something else than this thread decide when this socket is read? */
static __always_inline bool event_managed(struct sock *sk)
{
	struct file *file = BPF_CORE_READ(sk, sk_socket, file);

	return !file || (BPF_CORE_READ(file, f_ep) && BPF_CORE_READ(file, f_ep, first));
}

/* The task that read the request works for it, unless it is an event loop. */
static __always_inline void task_takes_up(struct scratch *s, struct task_ctx *t)
{
	struct req_key *key = &s->key;
	struct task_struct *task;
	struct proc_conf *conf;

	if (!t)
		return;
	if (t->cur.conn && t->cur.conn != key->conn && !(t->flags & (TASK_INHERITED | TASK_INHERITED_PROC)) &&
	    bpf_map_lookup_elem(&requests, &t->cur))
		t->flags |= TASK_MULTIPLEX;
	else if (t->cur.conn == key->conn && bpf_map_lookup_elem(&requests, &t->cur))
		return; /* pipelined: the first one is worked on first */
	t->flags &= ~(TASK_INHERITED | TASK_INHERITED_PROC);
	t->cur.conn = 0;
	conf = bpf_map_lookup_elem(&proc_conf, &s->r.tgid);
	if (!conf || !(conf->flags & PROC_THREADS) || event_managed((struct sock *)s->f.sk))
		return;
	task = bpf_get_current_task_btf();
	if (BPF_CORE_READ(task, io_uring))
		return;
	t->cur = *key;
}

/* The head of request s->key is complete, in the scratch buffer up to f->line. */
__separately int request_begin(struct scratch *s, struct sk_ctx *c, struct task_ctx *t)
{
	struct open_req *r;

	if (!s || !c)
		return 0;
	r = &s->r;
	if (bpf_map_lookup_elem(&requests, &s->key))
		return 0; /* a send that was cut short is sent again */
	__builtin_memset(r, 0, sizeof(*r));
	r->key = s->key;
	r->tgid = s->f.tgid;
	r->role = c->role;
	if (c->role == ROLE_SERVER)
		request_begin_server(s, c);
	else
		request_begin_client(s, c, t);
	if (r->trace_flags & FLAG_SAMPLED)
		request_announce(s, c, s->f.line);
	else
		stat_inc(STAT_UNSAMPLED);
	if (c->role == ROLE_SERVER) {
		struct proc *p = proc_get(r->tgid);

		r->flags |= p ? REQ_COUNTED : 0;
		if (bpf_map_update_elem(&requests, &s->key, r, BPF_NOEXIST))
			goto full;
		if (p)
			proc_opened(p, &s->key);
		task_takes_up(s, t);
		return 0;
	}
	if (!bpf_map_update_elem(&requests, &s->key, r, BPF_NOEXIST))
		return 0;
full:
	stat_inc(STAT_REQUESTS_FULL);
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
	__u32 pad;
};

/*
 * Takes a request out of all tables and reports its end. Runs in any context; of two that end
 * it at once, the one whose delete succeeds does the rest.
 */
__separately int request_end(struct sk_ctx *c, const struct ending *e)
{
	struct req_key key = {};
	struct open_req *found;
	struct open_req r;
	struct ev_end *ev;

	if (!c || !e)
		return 0;
	key.conn = c->cookie;
	key.stream = e->stream;
	found = bpf_map_lookup_elem(&requests, &key);
	if (!found)
		return 0;
	r = *found;
	if (bpf_map_delete_elem(&requests, &key))
		return 0;
	if (r.flags & REQ_COUNTED) {
		struct proc *p = bpf_map_lookup_elem(&procs, &r.tgid);

		if (p)
			proc_answered(p, &key);
	}
	if (r.flags & REQ_BY_PARENT) {
		struct by_parent_key bk = {.tgid = r.tgid};

		__builtin_memcpy(bk.ctx.trace_id, r.ctx.trace_id, 16);
		__builtin_memcpy(bk.ctx.span_id, r.header_id, 8);
		bpf_map_delete_elem(&by_parent, &bk);
	}
	if (r.flags & REQ_JOINABLE) {
		struct join_key jk;

		join_key(c, c->cookie, r.join_seq, true, &jk);
		bpf_map_delete_elem(&joins, &jk);
	}
	if (!(r.flags & REQ_ANNOUNCED))
		return 0;
	ev = bpf_ringbuf_reserve(&rb_data, sizeof(*ev), 0);
	if (!ev) {
		stat_inc(STAT_RING_FULL_END);
		return 0;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->hdr.ts = e->now;
	ev->hdr.kind = EV_END;
	ev->hdr.tgid = r.tgid;
	ev->conn = key.conn;
	ev->stream = e->stream;
	ev->status = e->status;
	ev->error = e->error;
	ev->request_body = e->request_body ? e->request_body : r.body;
	ev->response_body = e->response_body;
	ev->reason = e->reason;
	ev->role = r.role;
	bpf_ringbuf_submit(ev, data_wakeup());
	return 0;
}

#endif
