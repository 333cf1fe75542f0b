// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#define IN_SK_MSG
#include "core.h"
#include "inject.h"

/*
 * An object of its own: where the kernel refuses it, tracing goes on without. It shares all maps
 * with the tracer.
 */
const volatile struct tracer_config cfg = {};
const volatile __u32 huffman[4096] = {};
__s64 joins_live SEC(".data.shared") = 0;
__u64 own_numbers SEC(".data.shared") = 0;

/*
 * Sockets whose sends pass through on_message(), by cookie. Membership changes a socket's behaviour
 * on some kernels (docs/PROPAGATION.md), so only client sockets of processes that inject are in it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} claims SEC(".maps");

#define ROOM_LEAST 128	/* less is not worth a look */
#define ROOM_SPARE 3072 /* of a send buffer, for a header and what segments cost */

/* What user space has to do: an sk_msg program may not delete from `claims`. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} rb_claim SEC(".maps");

const struct ev_claim *btf_anchor_claim __attribute__((unused));

/* Addresses and ports that nothing is written to. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct net_prefix);
	__type(value, __u32);
} denied SEC(".maps");

static __always_inline bool is_denied(const struct sk_ctx *c)
{
	struct net_prefix key = {.bits = 128 + 16};
	__u32 *hit;

	key.port = bpf_htons(c->rport);
	__builtin_memcpy(key.addr, c->raddr, 16);
	hit = bpf_map_lookup_elem(&denied, &key);
	if (hit)
		return true;
	key.port = 0;
	return bpf_map_lookup_elem(&denied, &key);
}

static __always_inline void let_go(struct bpf_sock_ops *ops, struct sk_ctx *c)
{
	__u64 cookie = bpf_get_socket_cookie(ops);

	bpf_map_delete_elem(&claims, &cookie);
	c->inject &= ~(INJECT_BRIEFLY | INJECT_READY);
}

/* Completions of MSG_ZEROCOPY are numbered by send, and a claimed socket sends more often. */
static __always_inline bool wants_completions(struct tcp_sock *tp)
{
	struct sock *sk = (struct sock *)tp;

	return sk->__sk_common.skc_flags &
	       1UL << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY);
}

static __always_inline int established(struct bpf_sock_ops *ops, struct bpf_sock *sk,
				       struct sk_ctx *c)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 select = tgid_selected(c->tgid);
	__u64 cookie = bpf_get_socket_cookie(ops);

	if (c->role != ROLE_CLIENT || !(select & SELECT_INJECT))
		return 1;
	/* somebody else's: another sockmap, or a protocol on top of TCP */
	if (!tp || BPF_CORE_READ((struct sock *)tp, sk_user_data) || wants_completions(tp)) {
		stat_inc(STAT_CLAIM_HELD);
		return 1;
	}
	if (is_denied(c)) {
		stat_inc(STAT_CLAIM_DENIED);
		return 1;
	}
	if (bpf_sock_hash_update(ops, &claims, &cookie, BPF_NOEXIST)) {
		stat_inc(STAT_CLAIM_REFUSED);
		return 1;
	}
	stat_inc(STAT_CLAIMED);
	if (select & SELECT_BRIEFLY) {
		c->inject |= INJECT_BRIEFLY;
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG |
						   BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
	}
	return 1;
}

/* Does the segment that came in carry payload? */
static __always_inline bool has_payload(struct bpf_sock_ops *ops)
{
	__u8 *tcp = ops->skb_data, *end = ops->skb_data_end;

	if (tcp + 14 > end)
		return true;
	return ops->skb_len > (tcp[12] >> 4) * 4;
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct sk_ctx *c;

	if (!sk)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		break;
	default:
		return 1;
	}
	c = cfg.conns_in_hash ? conn_hashed((__u64)bpf_skc_to_tcp_sock(sk))
			      : bpf_sk_storage_get(&sk_ctxs, sk, 0, 0);
	if (!c)
		return 1;
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return established(ops, sk, c);
	if (!(c->inject & INJECT_BRIEFLY))
		return 1;
	/* before the request's first segment leaves, or the first answer arrives */
	if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB ? c->inject & INJECT_READY : has_payload(ops)) {
		let_go(ops, c);
		bpf_sock_ops_cb_flags_set(ops, 0);
	}
	return 1;
}

/*
 * The bytes in reach. In assembly: the compiler makes one load of several with a computed offset,
 * which the verifier forbids for a context.
 */
#define MSG_FIELD(msg, field)                                                                      \
	({                                                                                         \
		void *value;                                                                       \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                              \
			     : "=r"(value)                                                         \
			     : "r"(msg), "i"(__builtin_offsetof(struct sk_msg_md, field)));        \
		value;                                                                             \
	})

/*
 * How many bytes more the socket surely takes without waiting. Half as much again is for the
 * overhead of small segments.
 */
static __always_inline __s32 room(struct tcp_sock *tp)
{
	struct sock *sk = (struct sock *)tp;

	__s32 left = sk->sk_sndbuf - sk->sk_wmem_queued - ROOM_SPARE;

	return left > 0 ? (__u32)left / 3 * 2 : left;
}

/* Why the request whose head just ended is left as it is; 0: it is not. */
static __always_inline __u32 refusal(const struct scratch *s, const struct sk_ctx *c, __u8 trusted)
{
	const struct head_info *h = &s->f.head;

	if (!trusted)
		return STAT_INJECT_UNSYNCED;
	if (h->is_upgrade || h->is_connect)
		return STAT_INJECT_UPGRADE;
	if (h->bare || h->bad || (h->te && !h->chunked))
		return STAT_INJECT_FRAMING;
	return 0;
}

/*
 * Makes room for `bytes` at `at`, and the message one piece again: each piece is sent by itself,
 * and a small one may wait for an acknowledgement. Where there is no memory for that, the room
 * alone is in reach. Returns where it begins in the bytes that are in reach, negative if nothing
 * was done.
 */
static __always_inline int make_room(struct sk_msg_md *msg, __u32 at, __u32 bytes)
{
	__u32 end = at + bytes + 1;

	if (bpf_msg_push_data(msg, at, bytes, 0))
		return -1;
	if (end > msg->size)
		end = msg->size;
	if (!bpf_msg_pull_data(msg, 0, end, 0))
		return at;
	if (!bpf_msg_pull_data(msg, at, at + bytes, 0))
		return 0;
	bpf_msg_pop_data(msg, at, bytes, 0);
	return -1;
}

/* Copies a tracestate to `at` of the bytes in reach. Returns 0 if there is no room for all of it.
 */
__separately int put_state(struct sk_msg_md *msg, const struct tracestate *ts, __u32 at, __u32 len)
{
	void *end;
	__u8 *to;

	end = MSG_FIELD(msg, data_end);
	to = MSG_FIELD(msg, data);
	barrier_var(at);
	barrier_var(len); /* old verifiers have lost the bound by which clang 19 would go */
	if (!ts || at > 0xf000 || len > TS_MAX)
		return 0;
	to += at;
	for (int i = 0; i < TS_MAX; i++) {
		if (i >= len)
			return 1;
		if ((void *)(to + i + 1) > end)
			return 0;
		to[i] = ts->text[i];
	}
	return 1;
}

/* Copies `n` bytes, a constant, to `at` of the bytes in reach. False: there is no room for them. */
static __always_inline bool put(struct sk_msg_md *msg, __u32 at, const void *bytes, const __u32 n)
{
	const __u8 *from = bytes;
	void *end;
	__u8 *to;

	end = MSG_FIELD(msg, data_end);
	to = MSG_FIELD(msg, data);
	barrier_var(at);
	if (at > 0xf000)
		return false;
	to += at;
	if ((void *)(to + n) > end)
		return false;
	for (int i = 0; i < n; i++)
		to[i] = from[i];
	return true;
}

/* HTTP/2: the frame that begins at `at` of the bytes in reach is longer now. */
static __always_inline bool lengthen(struct sk_msg_md *msg, __u32 at, __u32 bytes)
{
	void *end;
	__u8 *to;
	__u32 length;

	end = MSG_FIELD(msg, data_end);
	to = MSG_FIELD(msg, data);
	barrier_var(at);
	if (at > 0xf000)
		return false;
	to += at;
	if ((void *)(to + H2_FRAME_HEAD) > end)
		return false;
	length = ((__u32)to[0] << 16 | (__u32)to[1] << 8 | to[2]) + bytes;
	to[0] = length >> 16;
	to[1] = length >> 8;
	to[2] = length;
	return true;
}

/* Bytes that the fields of `s` take, `len` of them of the tracestate. */
static __always_inline __u32 fields_room(const struct scratch *s, __u32 len)
{
	return s->fields.tp_len + s->fields.ts_len + len + s->fields.end_len;
}

/*
 * Writes the fields of `s`, and `ts` if there is one, at `at`, the end of a head. Returns the bytes
 * inserted.
 */
__separately int insert(struct sk_msg_md *msg, struct scratch *s, struct tracestate *ts, __u32 at)
{
	__u32 len = ts ? ts->len : 0, room;
	int from;

	barrier_var(len);
	if (!s || len > TS_MAX)
		return 0;
	room = fields_room(s, len);
	from = make_room(msg, at, room);
	if (from < 0)
		return 0;
	if (put(msg, from, s->fields.tp, TP_LINE) &&
	    (!len || (put(msg, from + TP_LINE, s->fields.ts, TS_LINE) &&
		      put_state(msg, ts, from + TP_LINE + TS_LINE, len) &&
		      put(msg, from + TP_LINE + TS_LINE + len, "\r\n", 2))))
		return room;
	/* the room is there by the kernel's word; if not, no byte of it may leave */
	bpf_msg_pop_data(msg, at, room, 0);
	return 0;
}

/* The same at the end of the fragment of the HTTP/2 frame that begins at `frame_at`. */
__separately int h2_insert(struct sk_msg_md *msg, struct scratch *s, struct tracestate *ts,
			   __u32 at, __u32 frame_at)
{
	__u32 len = ts ? ts->len : 0, room;
	bool done;
	int from;

	barrier_var(len);
	if (!s || len > TS_MAX)
		return 0;
	room = fields_room(s, len);
	from = make_room(msg, at, room);
	if (from < 0)
		return 0;
	done = put(msg, from, s->fields.tp, TP_LITERAL);
	/* the length of the second takes one, two or three bytes */
	if (done && len)
		done = put(msg, from + TP_LITERAL, s->fields.ts, TS_LITERAL) &&
		       (s->fields.ts_len < TS_LITERAL + 1 ||
			put(msg, from + TP_LITERAL + TS_LITERAL, s->fields.ts + TS_LITERAL, 1)) &&
		       (s->fields.ts_len < TS_LITERAL + 2 ||
			put(msg, from + TP_LITERAL + TS_LITERAL + 1, s->fields.ts + TS_LITERAL + 1,
			    1)) &&
		       put_state(msg, ts, from + TP_LITERAL + s->fields.ts_len, len);
	if (done && from == at && lengthen(msg, frame_at, room))
		return room;
	bpf_msg_pop_data(msg, at, room, 0);
	return 0;
}

/* What is to be written of the caller's tracestate. */
static __always_inline struct tracestate *state_of(const struct scratch *s,
						   const struct open_req *r)
{
	struct tracestate *ts = NULL;

	if (r->caller && !s->f.head.ts_count)
		ts = bpf_map_lookup_elem(&tracestates, &r->caller);
	return ts && ts->len ? ts : NULL;
}

static __always_inline bool has_room(struct tcp_sock *tp, const struct scratch *s)
{
	return room(tp) + ROOM_SPARE / 2 >= (__s32)(s->f.pos + TP_LINE + TS_MAX);
}

static __always_inline __u32 inject(struct sk_msg_md *msg, struct tcp_sock *tp, struct scratch *s,
				    struct sk_ctx *c, __u8 trusted)
{
	__u32 slot = c->slots[s->f.stream % PIPELINE_MAX], why, done, at;
	struct open_req *r = slot_at(slot - 1);
	struct tracestate *ts;

	if (s->f.head.tp_count)
		return 0; /* counted already */
	why = refusal(s, c, trusted);
	if (why) {
		stat_inc(why);
		return 0;
	}
	if (!slot || !r || r->tag != req_tag(c->cookie, s->f.stream)) {
		stat_inc(STAT_INJECT_UNKNOWN);
		return 0;
	}
	/* before the empty line; its carriage return is in this message, or half_end saw it */
	at = s->f.pos - (s->f.half_end ? 1 : 2);
	if (s->f.pos + s->f.half_end < 2) {
		stat_inc(STAT_INJECT_FAILED);
		return 0;
	}
	if (!has_room(tp, s)) {
		stat_inc(STAT_INJECT_NO_ROOM);
		return 0;
	}
	ts = state_of(s, r);
	fields_http1(&s->fields, r->ev.trace_id, r->ev.span_id, r->ev.trace_flags,
		     ts ? ts->len : 0);
	done = insert(msg, s, ts, at);
	stat_inc(done ? STAT_INJECT_DONE : STAT_INJECT_FAILED);
	return done;
}

/* What a field of a header block adds to its size (RFC 9113 6.5.2), at most. */
#define TP_LISTED (ENTRY_SPARE + 11 + TRACEPARENT_LEN)
#define TS_LISTED (ENTRY_SPARE + 10)

/* The same for HTTP/2; 0: nothing speaks against it. */
static __always_inline __u32 h2_refusal(const struct scratch *s, const struct sk_ctx *c,
					const struct h2_conn *h, __u32 more)
{
	const struct feed *f = &s->f;

	if (!h || c->req.h2.met != H2_SURE || h2_is_strange(&c->rsp))
		return STAT_INJECT_UNSYNCED;
	if (f->block.connect)
		return STAT_INJECT_UPGRADE;
	if (f->block.unproved)
		return STAT_INJECT_UNPROVED;
	if (f->patch_at == ~0U || f->insert_at < f->patch_at + H2_FRAME_HEAD)
		return STAT_INJECT_SPLIT;
	/* of the frame, its fragment ends there; what pads it counts too, and is at most 255 */
	if (f->insert_at - f->patch_at + 255 + more > H2_FRAME_MAX ||
	    f->block.list + more + TP_LISTED + TS_LISTED > h->max_list)
		return STAT_INJECT_TOO_LARGE;
	return 0;
}

static __always_inline __u32 h2_inject(struct sk_msg_md *msg, struct tcp_sock *tp,
				       struct scratch *s, struct sk_ctx *c)
{
	__u32 slot = slot_of(c, s->f.stream), why, done;
	struct open_req *r = slot_at(slot - 1);
	struct tracestate *ts;

	if (s->f.head.tp_count)
		return 0; /* counted already */
	if (!r) {
		stat_inc(STAT_INJECT_UNKNOWN);
		return 0;
	}
	ts = state_of(s, r);
	fields_http2(&s->fields, r->ev.trace_id, r->ev.span_id, r->ev.trace_flags,
		     ts ? ts->len : 0);
	why = h2_refusal(s, c, h2_conn_of(c),
			 s->fields.tp_len + s->fields.ts_len + (ts ? ts->len : 0));
	if (why) {
		stat_inc(why);
		return 0;
	}
	if (!has_room(tp, s)) {
		stat_inc(STAT_INJECT_NO_ROOM);
		return 0;
	}
	done = h2_insert(msg, s, ts, s->f.insert_at, s->f.patch_at);
	stat_inc(done ? STAT_INJECT_DONE : STAT_INJECT_FAILED);
	return done;
}

/*
 * What is in reach ends in the middle of a frame's head, or of HEADERS: the length of a frame
 * that has left cannot be changed any more, so it is looked at again with what follows it.
 */
static __always_inline void h2_step_back(struct scratch *s, struct sk_ctx *c, struct dir *d)
{
	bool head = d->state == H2_FRAME && d->h2.small_len;
	bool block = d->h2.block_type == H2_HEADERS && d->h2.type == H2_HEADERS && !s->f.stopped;

	if (s->f.frame_at == ~0U || !s->f.frame_at || !(head || block))
		return;
	dir_forget(c, d, false);
	d->state = H2_FRAME;
	d->h2.small_len = 0;
	d->h2.small_want = H2_FRAME_HEAD;
	if (block)
		d->h2.block_type = 0;
	s->f.pos = s->f.frame_at;
}

/* Nothing in this connection concerns us any more. */
static __always_inline void leave(struct sk_msg_md *msg, struct tcp_sock *tp, struct sk_ctx *c)
{
	struct ev_claim *ev;

	bpf_msg_apply_bytes(msg, ~0U);
	if (c->inject & INJECT_LEFT)
		return;
	ev = bpf_ringbuf_reserve(&rb_claim, sizeof(*ev), 0);
	if (!ev)
		return;
	ev->cookie = ((struct sock *)tp)->__sk_common.skc_cookie.counter;
	ev->tgid = c->tgid;
	ev->pad = 0;
	bpf_ringbuf_submit(ev, BPF_RB_FORCE_WAKEUP);
	c->inject |= INJECT_LEFT;
}

static __always_inline void feed_message(struct sk_msg_md *msg, struct tcp_sock *tp,
					 struct sk_ctx *c, __u64 who, __u32 takes)
{
	struct dir *d = &c->req;
	__u32 gap = seq_gap(d, tp->write_seq, 0);
	__u8 trusted = c->inject & INJECT_TRUSTED;
	__u32 len = msg->size, fed, done = 0;
	struct src src = {.kind = SRC_KBUF};
	struct scratch *s;

	if (MSG_FIELD(msg, data) + 1 > MSG_FIELD(msg, data_end))
		/* pages of a file, or of a pipe: heads are copied, they are rare there */
		bpf_msg_pull_data(msg, 0, len < HEAD_PIECE ? len : HEAD_PIECE, 0);
	else if (c->proto == PROTO_HTTP2 &&
		 (__u64)MSG_FIELD(msg, data_end) - (__u64)MSG_FIELD(msg, data) < HEAD_PIECE)
		/* the pieces of a message, as far as a header block may lie across them */
		bpf_msg_pull_data(msg, 0, len < HEAD_PIECE ? len : HEAD_PIECE, 0);
	src.ptr = (__u64)MSG_FIELD(msg, data);
	len = MSG_FIELD(msg, data_end) - MSG_FIELD(msg, data);
	if (len > takes)
		len = takes;
	c->inject |= INJECT_FED;
	s = scratch_take();
	if (!s || !len) {
		if (s)
			scratch_put(s);
		conn_lost(c, STAT_LOST_SYNC);
		return;
	}
	s->f.sk = (__u64)tp;
	s->f.now = bpf_ktime_get_ns();
	s->f.tgid = who;
	s->f.select = who >> 32;
	s->f.is_rsp = 0;
	s->f.one_head = 1;
	s->f.early = 0;
	if (gap) {
		feed_init(&s->f, &no_bytes, gap);
		s->f.seq = tp->write_seq - gap;
		s->f.fault = gap > 1U << 30;
		conn_feed(s, c);
	}
	feed_init(&s->f, &src, len);
	s->f.seq = tp->write_seq;
	conn_feed(s, c);
	if (c->proto == PROTO_HTTP2)
		h2_step_back(s, c, d);
	fed = s->f.pos;
	if (s->f.stopped && c->proto == PROTO_HTTP1)
		done = inject(msg, tp, s, c, trusted);
	else if (s->f.stopped && c->proto == PROTO_HTTP2)
		done = h2_inject(msg, tp, s, c);
	if (c->inject & INJECT_BRIEFLY && s->f.stopped)
		c->inject |= INJECT_READY;
	scratch_put(s);
	if (c->proto == PROTO_NONE) {
		leave(msg, tp, c);
		return;
	}
	if (d->state == H1_SYNC || d->state == H2_SYNC) {
		d->seq_valid = 0;
		return;
	}
	fed += done;
	d->next_seq += fed;
	if (d->state == H1_BODY || d->state == H1_CHUNK_DATA || d->state == H2_PAYLOAD)
		fed += d->remain < 1U << 30 ? d->remain : 1U << 30;
	bpf_msg_apply_bytes(msg, fed);
}

SEC("sk_msg")
int on_message(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct tcp_sock *tp;
	struct sk_ctx *c;
	struct dir *d;
	__s32 takes;
	__u64 who;

	if (!sk)
		return SK_PASS;
	tp = bpf_skc_to_tcp_sock(sk);
	c = cfg.conns_in_hash ? conn_hashed((__u64)tp) : bpf_sk_storage_get(&sk_ctxs, sk, 0, 0);
	if (!c || !tp)
		return SK_PASS;
	conn_connected((struct sock *)tp, c);
	who = current_selected();
	if (c->proto == PROTO_NONE || c->role != ROLE_CLIENT || !(who >> 32 & SELECT_INJECT) ||
	    wants_completions(tp)) {
		leave(msg, tp, c);
		return SK_PASS;
	}
	d = &c->req;
	if ((d->state == H1_BODY || d->state == H2_PAYLOAD) && d->seq_valid &&
	    d->next_seq == tp->write_seq && d->remain >= msg->size) {
		/* on_send() counts these */
		bpf_msg_apply_bytes(msg, d->remain < 1U << 30 ? d->remain : 1U << 30);
		return SK_PASS;
	}
	takes = room(tp);
	if (takes < ROOM_LEAST)
		c->inject |= INJECT_TIGHT;
	if (c->inject & INJECT_TIGHT) {
		/* on_send() sees the rest; the kernel kept what a part before asked for */
		bpf_msg_apply_bytes(msg, 0);
		return SK_PASS;
	}
	feed_message(msg, tp, c, who, takes);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
