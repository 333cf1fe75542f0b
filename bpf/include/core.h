/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __CORE_H
#define __CORE_H

#include "http1.h"

/*
 * What every tier feeds: bytes about to be sent, bytes sent, bytes received, a change of the
 * connection's state. The tier knows the hook and where the bytes lie; from here on all is one.
 *
 * The TCP sequence tells whether bytes went by unseen: in the middle of a body that is no loss.
 */

#define MSG_OOB_      0x1
#define MSG_PEEK_     0x2
#define MSG_TRUNC_    0x20
#define MSG_ERRQUEUE_ 0x2000
#define IPPROTO_TCP_  6
#define SOCK_STREAM_  1

static __always_inline void conn_addresses(struct sock *sk, struct sk_ctx *c)
{
	__u16 family = FIELD(sk, __sk_common.skc_family);

	if (family == AF_INET6) {
		BPF_CORE_READ_INTO(&c->laddr, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
		BPF_CORE_READ_INTO(&c->raddr, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
	} else if (family == AF_INET) {
		c->laddr[10] = c->laddr[11] = c->raddr[10] = c->raddr[11] = 0xff;
		*(__u32 *)(c->laddr + 12) = FIELD(sk, __sk_common.skc_rcv_saddr);
		*(__u32 *)(c->raddr + 12) = FIELD(sk, __sk_common.skc_daddr);
	}
	c->lport = FIELD(sk, __sk_common.skc_num);
	c->rport = bpf_ntohs(FIELD(sk, __sk_common.skc_dport));
}

/* Sequence behind the last byte that was read: the FIN, once read, counts for one more. */
static __always_inline __u32 read_seq(struct tcp_sock *tp, bool *fin)
{
	unsigned long flags = FIELD((struct sock *)tp, __sk_common.skc_flags);
	__u32 at = FIELD(tp, copied_seq);

	*fin = flags & 1UL << bpf_core_enum_value(enum sock_flags, SOCK_DONE) &&
	       at == FIELD(tp, rcv_nxt);
	return at - *fin;
}

/* Bytes that went each way before the current call; negative after a FIN, never far off. */
static __always_inline bool conn_is_fresh(struct tcp_sock *tp, __u32 received, __u32 sent)
{
	__s64 consumed =
	    FIELD(tp, bytes_received) + FIELD(tp, copied_seq) - FIELD(tp, rcv_nxt) - received;
	__u32 unacked = FIELD(tp, write_seq) - FIELD(tp, snd_una);
	__s64 written = FIELD(tp, bytes_acked) + unacked - sent;

	/* the SYN may count for one */
	return (__s32)consumed <= 0 && written <= 1;
}

static __always_inline struct tcp_sock *tcp_of(struct sock *sk)
{
#ifdef BY_KPROBE
	__u16 family = FIELD(sk, __sk_common.skc_family);

	return family == AF_INET || family == AF_INET6 ? (struct tcp_sock *)sk : NULL;
#else
	return bpf_skc_to_tcp_sock(sk);
#endif
}

static __always_inline bool is_stream(struct sock *sk)
{
	__u16 family = FIELD(sk, __sk_common.skc_family);

	if (family == AF_INET || family == AF_INET6)
		return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP_;
	return family == AF_UNIX && BPF_CORE_READ(sk, sk_type) == SOCK_STREAM_;
}

static __always_inline void conn_name(struct sock *sk, struct sk_ctx *c, __u32 tgid)
{
	c->cookie = conn_number(sk);
	c->tgid = tgid;
	c->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

#define MADE_SPINS 4096

static long made_step(__u32 i, struct sk_ctx **c)
{
	return *(volatile __u32 *)&(*c)->made == CONN_MADE;
}

/* Is it made already, or by someone else just now? That takes less than a microsecond. */
static __always_inline bool conn_is_made(struct sk_ctx *c)
{
	if (!__sync_val_compare_and_swap(&c->made, CONN_NEW, CONN_BEING_MADE))
		return false;
	bpf_loop(MADE_SPINS, made_step, &c, 0);
	return true;
}

static __always_inline __u8 unix_role(struct sock *sk)
{
	struct sock *peer;

	/* an accepted socket shares the address of its listener; a socket pair has none */
	if (BPF_CORE_READ((struct unix_sock *)sk, addr))
		return ROLE_SERVER;
	peer = BPF_CORE_READ((struct unix_sock *)sk, peer);
	if (peer && BPF_CORE_READ((struct unix_sock *)peer, addr))
		return ROLE_CLIENT;
	return ROLE_UNKNOWN;
}

/* The connect that made it is over by the time bytes move: only now it has a port of its own. */
static __always_inline void conn_connected(struct sock *sk, struct sk_ctx *c)
{
	if (!(c->flags & SK_CONNECTING))
		return;
	c->flags &= ~SK_CONNECTING;
	conn_addresses(sk, c);
}

/* The state of a connection whose first bytes are seen. Apart, for its own room on the stack. */
static __noinline struct sk_ctx *conn_met(struct sock *sk, __u32 tgid, __u32 received, __u32 sent)
{
	struct listen_port l = {};
	struct tcp_sock *tp;
	struct sk_ctx *c;
	bool fresh;

	if (!is_stream(sk))
		return NULL;
	c = conn_take(sk);
	if (!c || conn_is_made(c)) {
		if (!c || c->made != CONN_MADE) {
			stat_inc(STAT_SOCKET_STATE);
			return NULL;
		}
		conn_connected(sk, c);
		return c;
	}
	conn_name(sk, c, tgid);
	tp = tcp_of(sk);
	if (tp) {
		conn_addresses(sk, c);
		l.netns = c->netns;
		l.port = c->lport;
		c->role = bpf_map_lookup_elem(&listeners, &l) ? ROLE_SERVER : ROLE_CLIENT;
		fresh = conn_is_fresh(tp, received, sent);
	} else {
		c->role = unix_role(sk);
		c->flags = SK_UNIX;
		if (c->role == ROLE_UNKNOWN)
			c->proto = PROTO_NONE;
		/* nothing counts a unix stream's bytes: take the first we see for the first */
		fresh = true;
	}
	if (fresh) {
		c->flags |= SK_FROM_START;
		c->inject |= INJECT_TRUSTED;
	} else {
		c->req.state = c->rsp.state = H1_SYNC;
	}
	barrier();
	c->made = CONN_MADE;
	return c;
}

/* State of a connection, made when its first bytes are seen. */
static __always_inline struct sk_ctx *conn_get(struct sock *sk, __u32 tgid, __u32 received,
					       __u32 sent)
{
	struct sk_ctx *c = conn_find(sk);

	if (c && c->made == CONN_MADE && !(c->flags & SK_CONNECTING))
		return c;
	return conn_met(sk, tgid, received, sent);
}

/*
 * Brings a direction's expected sequence to `start`, passing over what was not seen. Returns
 * the difference for the caller to feed as unreadable.
 */
static __always_inline __u32 seq_gap(struct dir *d, __u32 start, __u32 len)
{
	__u32 gap = d->seq_valid ? start - d->next_seq : 0;

	d->next_seq = start + len;
	d->seq_valid = 1;
	return gap;
}

/* Bytes in the middle of a body need no parser. */
static __always_inline bool body_only(struct dir *d, __u32 len)
{
	if (d->state == H2_PAYLOAD && d->remain > len) {
		d->remain -= len;
		return true;
	}
	if (d->state == H1_UNTIL_CLOSE) {
		d->body += len;
		return true;
	}
	if ((d->state == H1_BODY || d->state == H1_CHUNK_DATA) && d->remain > len) {
		d->remain -= len;
		d->body += len;
		return true;
	}
	return false;
}

/* We lost our place in the stream. */
static __always_inline void conn_lost(struct sk_ctx *c, __u32 why)
{
	if (c->proto == PROTO_HTTP2)
		h2_resync(c, bpf_ktime_get_ns(), why);
	else
		conn_resync(c, bpf_ktime_get_ns(), why);
}

/* What the parser of the connection's protocol makes of s->f; another may take over in the middle.
 */
static __always_inline void conn_feed(struct scratch *s, struct sk_ctx *c)
{
	if (c->proto == PROTO_HTTP1)
		http1_feed(s, c);
	if (c->proto == PROTO_HTTP2)
		h2_feed(s, c);
}

static __always_inline void feed(struct sock *sk, struct sk_ctx *c, struct dir *d, __u64 who,
				 const struct src *src, __u32 len, __u32 seq, __u32 gap, __u32 from,
				 bool early)
{
	struct scratch *s = scratch_take();

	if (!s) {
		conn_lost(c, STAT_LOST_SYNC);
		return;
	}
	s->f.sk = (__u64)sk;
	s->f.now = bpf_ktime_get_ns();
	s->f.tgid = who;
	s->f.select = who >> 32;
	s->f.is_rsp = d == &c->rsp;
	s->f.one_head = 0;
	s->f.early = early;
	if (gap) {
		feed_init(&s->f, &no_bytes, gap);
		s->f.seq = seq + from - gap;
		/* backwards, or too far to be one connection's backlog */
		if (gap > 1U << 30)
			s->f.fault = 1;
		conn_feed(s, c);
	}
	if (c->proto != PROTO_NONE) {
		feed_init(&s->f, src, len);
		s->f.seq = seq;
		s->f.pos = from;
		conn_feed(s, c);
	}
	scratch_put(s);
}

/* A response without a length is complete when its connection is. */
__separately int until_close_ends(struct sk_ctx *c)
{
	struct ending e = {};

	if (!c)
		return 0;
	e.now = bpf_ktime_get_ns();
	e.request_body = c->req.body;
	e.response_body = c->rsp.body;
	e.stream = c->rsp_next;
	e.status = c->status;
	e.reason = END_COMPLETE;
	request_end(c, &e);
	c->rsp_next++;
	c->rsp.state = H1_IDLE;
	return 0;
}

/* `from` of the `ret` bytes were fed before, where a tier sees a call piece by piece. */
static __always_inline void on_recv(struct sock *sk, const struct src *src, __u64 who, int ret,
				    int flags, __u32 from)
{
	struct tcp_sock *tp = tcp_of(sk);
	__u32 start = 0, gap = 0;
	struct sk_ctx *c;
	struct dir *d;
	bool fin;

	if (ret < 0 || flags & (MSG_OOB_ | MSG_PEEK_ | MSG_ERRQUEUE_))
		return;
	c = conn_get(sk, who, ret, 0);
	if (!c || c->proto == PROTO_NONE)
		return;
	d = c->role == ROLE_SERVER ? &c->req : &c->rsp;
	if (!ret) {
		if (c->role == ROLE_CLIENT && d->state == H1_UNTIL_CLOSE) {
			until_close_ends(c);
		}
		if (c->proto == PROTO_HTTP2 && c->flags & SK_UNIX)
			h2_over(c, bpf_ktime_get_ns());
		return;
	}
	if (tp) {
		start = read_seq(tp, &fin) - ret;
		gap = seq_gap(d, start + from, ret - from);
	}
	if (!gap && body_only(d, ret - from))
		return;
	feed(sk, c, d, who, flags & MSG_TRUNC_ ? &no_bytes : src, ret, start, gap, from, false);
}

/*
 * Before client bytes leave: the server on this host may read them before the call returns, so
 * its join must be there. The parser runs ahead over all that is offered; on_send() puts it
 * back if the socket took less.
 */
static __always_inline void on_send_early(struct sock *sk, const struct src *src, __u64 who,
					  __u32 len)
{
	struct tcp_sock *tp = tcp_of(sk);
	__u32 seq, gap;
	struct task_ctx *t;
	struct sk_ctx *c;
	struct dir *d;

	if (!tp || !len || src->kind == SRC_NONE)
		return;
	c = conn_get(sk, who, 0, 0);
	if (!c || c->proto == PROTO_NONE || c->role != ROLE_CLIENT)
		return;
	d = &c->req;
	if (c->proto == PROTO_HTTP2
		? d->state == H2_PAYLOAD && d->remain >= len
		: d->state != H1_IDLE && d->state != H1_HEAD && d->state != H1_SYNC)
		return;
	t = task_get();
	if (!t || (t->flags & TASK_SPECULATED && t->spec_conn == c->cookie))
		return; /* the same call, a segment later */
	seq = FIELD(tp, write_seq);
	t->spec_dir = *d;
	t->spec_conn = c->cookie;
	t->spec_seq = seq;
	t->spec_len = len;
	t->spec_req_next = c->req_next;
	t->spec_proto = c->proto;
	t->flags |= TASK_SPECULATED;
	gap = seq_gap(d, seq, len);
	feed(sk, c, d, who, src, len, seq, gap, 0, true);
}

/*
 * The end of a send that the sk_msg program looked at. The sequence tells how much of what the
 * socket has taken it did not feed: the rest of a body, or all behind the point where it stopped.
 */
static __always_inline void send_ends(struct sock *sk, struct sk_ctx *c, const struct src *src,
				      __u64 who, struct tcp_sock *tp, int ret)
{
	struct dir *d = &c->req;
	__u32 left, end;

	if (!tp || d->state == H1_SYNC || d->state == H2_SYNC)
		return;
	end = FIELD(tp, write_seq);
	left = end - d->next_seq;
	if ((__s32)left < 0) {
		conn_lost(c, STAT_INJECT_CUT);
		return;
	}
	d->next_seq = end;
	if (!left || body_only(d, left))
		return;
	if (ret < 0 || left > ret)
		conn_lost(c, STAT_INJECT_CUT);
	else
		feed(sk, c, d, who, src, ret, end - ret, 0, ret - left, false);
}

/* Apart, for its own room on the stack. */
__separately int request_pieces_forget(struct sk_ctx *c)
{
	if (c)
		heads_forget(c, false);
	return 0;
}

/* The end of any other send. */
static __always_inline void send_seen(struct sock *sk, struct sk_ctx *c, const struct src *src,
				      __u64 who, struct tcp_sock *tp, int ret, __u32 from)
{
	__u32 start = 0, gap = 0;
	struct task_ctx *t;
	struct dir *d;

	t = c->role == ROLE_CLIENT ? task_find() : NULL;
	if (t && t->flags & TASK_SPECULATED) {
		t->flags &= ~TASK_SPECULATED;
		if (t->spec_conn == c->cookie) {
			if (c->req.state == H1_SYNC || c->req.state == H2_SYNC) {
				if (t->spec_dir.head_len)
					request_pieces_forget(c);
				return;
			}
			/* a head in pieces comes again, as an early feed keeps none */
			if (ret == (int)t->spec_len && (c->proto != t->spec_proto ||
							!(c->req.head_len | t->spec_dir.head_len)))
				return;
			if (ret != (int)t->spec_len)
				stat_inc(STAT_SPECULATION_UNDONE);
			if (c->proto != t->spec_proto) {
				h2_leave(c, bpf_ktime_get_ns(), STAT_LOST_SYNC);
				return;
			}
			c->req = t->spec_dir;
			c->req_next = t->spec_req_next;
		}
	}
	if (ret <= 0)
		return;
	d = c->role == ROLE_SERVER ? &c->rsp : &c->req;
	if (tp) {
		start = FIELD(tp, write_seq) - ret;
		gap = seq_gap(d, start + from, ret - from);
	}
	if (!gap && body_only(d, ret - from))
		return;
	feed(sk, c, d, who, src, ret, start, gap, from, false);
}

/* State of a connection on which a send ends; NULL if there is nothing to see. */
static __always_inline struct sk_ctx *conn_sent(struct sock *sk, __u32 tgid, int ret)
{
	struct sk_ctx *c = conn_get(sk, tgid, 0, ret > 0 ? ret : 0);

	return c && c->proto != PROTO_NONE ? c : NULL;
}

static __always_inline void send_over(struct sock *sk, struct sk_ctx *c, const struct src *src,
				      __u64 who, int ret, __u32 from)
{
	struct tcp_sock *tp = tcp_of(sk);

	if (c->inject & INJECT_FED)
		send_ends(sk, c, src, who, tp, ret);
	else
		send_seen(sk, c, src, who, tp, ret, from);
	c->inject &= ~(INJECT_FED | INJECT_TIGHT);
}

static __always_inline void on_send(struct sock *sk, const struct src *src, __u64 who, int ret,
				    __u32 from)
{
	struct sk_ctx *c = conn_sent(sk, who, ret);

	if (c)
		send_over(sk, c, src, who, ret, from);
}

/* A connect begins, in the context of its caller. */
static __always_inline void on_connect(struct sock *sk)
{
	__u32 tgid = current_tgid();
	struct parent parent = {};
	struct sk_ctx *c;
	struct work *w;
	struct proc *p;

	if (!is_stream(sk))
		return;
	c = conn_take(sk);
	if (!c) {
		stat_inc(STAT_SOCKET_STATE);
		return;
	}
	conn_name(sk, c, tgid);
	c->made = CONN_MADE;
	p = proc_at(proc_of(c, tgid) - 1);
	if (!p)
		return;
	c->role = ROLE_CLIENT;
	c->flags = SK_FROM_START | SK_CONNECTING;
	c->inject = INJECT_TRUSTED;
	c->connect_ns = bpf_ktime_get_ns();
	conn_addresses(sk, c);
	/* a thread of gRPC's core connects for another's call too */
	w = p->flags & PROC_CORE ? NULL : work_find(c);
	if (w)
		work_calls(w, c, sk, p, false);
	ctx_current(w, c, NULL, tgid, p, DEST_CALLED_IDLE | DEST_CONNECTED_IDLE, &parent);
	if (!proc_open(p) && !parent.found)
		dest_mark(c, tgid, p, DEST_CONNECTED_IDLE);
	if (parent.found) {
		c->connect_ctx = parent.ctx;
		c->connect_link = parent.link;
		c->connect_flags = parent.trace_flags;
	}
}

static __always_inline void connect_failed(struct sk_ctx *c, __u16 error)
{
	struct ev_connect *ev;
	struct ev_span ids = {};
	__u64 wakeup;

	*(__u64 *)ids.span_id = random_word() ?: 1;
	if (c->connect_link)
		span_child(&ids, &c->connect_ctx, c->connect_flags, c->connect_link);
	else
		span_root(&ids, random_word(), random_word() ?: 1);
	if (!(ids.trace_flags & FLAG_SAMPLED)) {
		stat_inc(STAT_UNSAMPLED);
		return;
	}
	wakeup = data_wakeup(sizeof(*ev));
	ev = bpf_ringbuf_reserve(&rb_data, sizeof(*ev), 0);
	if (!ev) {
		stat_inc(STAT_RING_FULL_CONNECT);
		return;
	}
	ev->hdr.ts = bpf_ktime_get_ns();
	ev->hdr.kind = EV_CONNECT;
	ev->hdr.tgid = c->tgid;
	ev->start = c->connect_ns;
	__builtin_memcpy(ev->trace_id, ids.trace_id, 32);
	__builtin_memcpy(ev->laddr, c->laddr, 32);
	ev->lport = c->lport;
	ev->rport = c->rport;
	ev->error = error;
	ev->link = ids.link;
	ev->trace_flags = ids.trace_flags;
	bpf_ringbuf_submit(ev, wakeup);
}

/*
 * Before v6.5 sendfile() takes a way that no hook of ours is on. What was written and not seen is
 * known from the sequence when the server closes its side, before the FIN takes a number.
 */
static __always_inline void unseen_at_close(struct sock *sk, struct sk_ctx *c)
{
	struct tcp_sock *tp = tcp_of(sk);
	struct dir *d = &c->rsp;
	__u64 gap;

	if (!tp || !d->seq_valid || d->state != H1_BODY)
		return;
	gap = (__u32)(FIELD(tp, write_seq) - d->next_seq);
	if (gap != d->remain)
		return;
	d->body += gap;
	d->remain = 0;
	until_close_ends(c);
}

/* The connection ends for us, in any context. `closed`: no byte can come any more. */
static __always_inline void on_shutdown(struct sock *sk, struct sk_ctx *c, bool closed)
{
	__u16 error = FIELD(sk, sk_err);
	__u64 now = bpf_ktime_get_ns();

	if (closed && c->flags & SK_CONNECTING) {
		c->flags &= ~SK_CONNECTING;
		/* without an error it was the program that gave up, as happy eyeballs do */
		if (error)
			connect_failed(c, error);
		return;
	}
	if (c->rsp.state == H1_UNTIL_CLOSE && !error && (closed || c->role == ROLE_SERVER)) {
		until_close_ends(c);
	}
	if (!closed) {
		if (c->role == ROLE_SERVER)
			unseen_at_close(sk, c);
		return;
	}
	drop_all(c, now, END_CLOSED, error);
	if (c->proto == PROTO_HTTP2)
		h2_forget(c, now);
	join_forget_orphans(c);
	dir_forget(c, &c->req, false);
	dir_forget(c, &c->rsp, true);
}

#endif
