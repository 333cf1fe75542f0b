/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __HTTP1_H
#define __HTTP1_H

#include "http2.h"

/*
 * HTTP/1 message framing (RFC 9112) as a state machine over one direction of a connection. A
 * head may come byte by byte, a feed may hold many messages. Responses answer requests in
 * order; both directions count messages, and the count is the request's number.
 */

#define SYNC_TRIES 64

struct drop {
	struct sk_ctx *c;
	__u64 now;
	__u32 stream;
	__u16 error;
	__u8 reason;
	__u8 pad;
};

static long drop_step(__u32 i, struct drop *x)
{
	struct sk_ctx *c = x->c;
	bool first = x->stream == c->rsp_next;
	bool last = x->stream + 1 == c->req_next;

	struct ending e = {
	    .now = x->now,
	    .request_body = last ? c->req.body : 0,
	    .response_body = first ? c->rsp.body : 0,
	    .status = first ? c->status : 0,
	    .error = x->error,
	    .stream = x->stream,
	    .reason = x->reason,
	};

	if ((__s32)(c->req_high - x->stream) <= 0)
		return 1;
	request_end(c, &e);
	x->stream++;
	return 0;
}

/* Ends every open request of the connection. */
__separately int drop_all(struct sk_ctx *c, __u64 now, __u32 reason, __u32 error)
{
	struct drop x = {.c = c, .now = now, .error = error, .reason = reason};

	if (!c)
		return 0;
	if (c->proto == PROTO_HTTP2)
		return h2_drop_from(c, now, 0, DROP_HOW(reason, error));
	x.stream = c->rsp_next;
	if (c->req_high != c->rsp_next)
		bpf_loop(PIPELINE_MAX + 2, drop_step, &x, 0);
	c->rsp_next = c->req_next = c->req_high;
	c->status = 0;
	return 0;
}

/* Other bytes than HTTP/1 from now on. */
__separately int conn_leave(struct sk_ctx *c, __u64 now, __u32 reason)
{
	if (!c)
		return 0;
	drop_all(c, now, reason, 0);
	dir_forget(c, &c->req, false);
	dir_forget(c, &c->rsp, true);
	c->proto = PROTO_NONE;
	return 0;
}

/* We lost our place: wait for the next request that begins with a send or recv. */
__separately int conn_resync(struct sk_ctx *c, __u64 now, __u32 why)
{
	if (!c)
		return 0;
	stat_inc(why);
	drop_all(c, now, END_DISCARD, 0);
	dir_forget(c, &c->req, false);
	dir_forget(c, &c->rsp, true);
	c->req.state = H1_SYNC;
	c->rsp.state = H1_SYNC;
	c->flags &= ~SK_FROM_START;
	c->inject &= ~INJECT_TRUSTED;
	if (++c->req.tries > SYNC_TRIES)
		c->proto = PROTO_NONE;
	return 0;
}

static __always_inline void request_message_end(struct sk_ctx *c)
{
	if (c->req.body) {
		__u32 stream = c->req_next - 1, slot = c->slots[stream % PIPELINE_MAX];
		struct open_req *r = slot ? slot_at(slot - 1) : NULL;

		if (r && r->tag == req_tag(c->cookie, stream))
			r->ev.request_body = c->req.body;
	}
	c->req.state = H1_IDLE;
}

/* `reason`: why no more of it comes, enum end_reason. */
__separately int response_message_end(struct scratch *s, struct sk_ctx *c, __u32 reason)
{
	struct ending e = {};
	__u32 stream;

	if (!s || !c)
		return 0;
	stream = c->rsp_next;
	c->rsp.state = H1_IDLE;
	if (stream == c->req_next)
		return 0;
	e.now = s->f.now;
	e.request_body = stream + 1 == c->req_next ? c->req.body : 0;
	e.response_body = c->rsp.body;
	e.status = c->status;
	e.stream = stream;
	e.reason = reason;
	request_end(c, &e);
	c->rsp_next = stream + 1;
	c->status = 0;
	if (c->req.state == H1_IDLE && c->rsp_next == c->req_next)
		c->inject |= INJECT_TRUSTED;
	return 0;
}

static __always_inline void message_end(struct walk *w)
{
	if (w->s->f.is_rsp)
		response_message_end(w->s, w->c, END_COMPLETE);
	else
		request_message_end(w->c);
}

static __always_inline void request_head(struct walk *w)
{
	struct head_info *h = &w->s->f.head;
	struct sk_ctx *c = w->c;
	__u32 stream = c->req_next, bit = 1U << (stream % PIPELINE_MAX);

	if (stream - c->rsp_next >= PIPELINE_MAX) {
		conn_resync(c, w->s->f.now, STAT_PIPELINE_TOO_DEEP);
		return;
	}
	c->was_head = h->is_head ? c->was_head | bit : c->was_head & ~bit;
	c->was_connect = h->is_connect ? c->was_connect | bit : c->was_connect & ~bit;
	c->req_next = stream + 1;
	if ((__s32)(c->req_next - c->req_high) > 0)
		c->req_high = c->req_next;
	if (w->s->f.from_sync) { /* responses count from here */
		c->rsp_next = stream;
		c->rsp.state = H1_IDLE;
		w->d->tries = 0;
	}
	w->s->f.stream = stream;
	w->s->f.first_ns = w->d->first_ns;
	w->s->f.first_seq = w->d->first_seq;
	w->s->f.can_join = c->flags & SK_UNIX ? !!(c->flags & SK_FROM_START) : w->d->seq_valid;
	request_begin(w->s, c);
	w->d->body = 0;
	w->d->head_len = 0;
	if (h->bad || (h->te && !h->chunked)) {
		conn_resync(c, w->s->f.now, STAT_BAD_FRAMING);
		return;
	}
	if (h->te) {
		/* the end of a chunk is a newline too */
		w->d->state = w->s->f.half_end ? H1_CHUNK_END : H1_CHUNK_SIZE;
		w->d->remain = 0;
		w->d->digits = 0;
	} else if (h->length) {
		w->d->state = H1_BODY;
		w->d->remain = h->length + w->s->f.half_end;
		w->d->body -= w->s->f.half_end;
	} else {
		/* a newline before a request is passed over */
		request_message_end(c);
	}
}

/* What answered as HTTP/1 goes on as HTTP/2; the answer to the first request comes as stream 1. */
__separately int upgraded_to_h2(struct scratch *s, struct sk_ctx *c)
{
	struct open_req *r;
	__u32 slot;

	if (!s || !c)
		return 0;
	slot = c->rsp_next == 0 ? slot_of(c, 0) : 0;
	r = slot_at(slot - 1);
	if (r) {
		r->flags |= REQ_STREAM;
		c->streams = 1;
	} else {
		response_message_end(s, c, END_UPGRADED);
	}
	return h2_starts(c, true, H2_FIRST);
}

static __always_inline void response_head(struct walk *w)
{
	struct head_info *h = &w->s->f.head;
	struct sk_ctx *c = w->c;
	__u32 bit = 1U << (c->rsp_next % PIPELINE_MAX);

	w->d->head_len = 0;
	w->d->body = 0;
	if (c->rsp_next == c->req_next) {
		/* 408 on an idle connection, or a request that went by unseen: never pair it */
		conn_resync(c, w->s->f.now, STAT_UNEXPECTED_RESPONSE);
		return;
	}
	if (!(c->flags & SK_EVENTS)) {
		if (c->role == ROLE_SERVER)
			answer_begins(c);
		else
			answer_is_read(w->s, c);
	}
	if (h->status < 200 && h->status != 101) { /* interim: the final one is still to come */
		w->d->state = H1_IDLE;
		return;
	}
	c->status = h->status;
	if (h->status == 101 && h->is_h2c) {
		if (!upgraded_to_h2(w->s, c))
			conn_leave(c, w->s->f.now, END_DISCARD);
		return;
	}
	if (h->status == 101 || (h->status < 300 && (c->was_connect & bit))) {
		response_message_end(w->s, w->c, END_UPGRADED);
		conn_leave(c, w->s->f.now, END_DISCARD);
		return;
	}
	if (h->status == 204 || h->status == 304 || (c->was_head & bit)) {
		response_message_end(w->s, w->c, END_COMPLETE);
		return;
	}
	if (h->te && h->chunked) {
		w->d->state = H1_CHUNK_SIZE;
		w->d->remain = 0;
		w->d->digits = 0;
	} else if (h->te || h->bad || !h->has_length) {
		w->d->state = H1_UNTIL_CLOSE;
	} else if (h->length) {
		w->d->state = H1_BODY;
		w->d->remain = h->length;
	} else {
		response_message_end(w->s, w->c, END_COMPLETE);
	}
}

/*
 * No HTTP/1: is it the beginning of HTTP/2, the client's or a server's that does not wait for it,
 * or could it be the middle? f->pos is behind the first `seen` of `n` bytes.
 */
__separately int head_is_h2(struct scratch *s, struct sk_ctx *c, __u32 n, __u32 seen)
{
	struct feed *f;
	const __u8 *b;

	if (!s || !c)
		return 0;
	f = &s->f;
	b = s->buf;
	if (f->is_rsp) {
		/*
		 * SETTINGS of less than 43 entries, on a connection where nothing else has passed
		 * but, maybe, a part of the preface; or all of it just now
		 */
		if (seen || b[0] || (n > 1 && b[1]) || (n > 3 && b[3] != H2_SETTINGS) ||
		    !(c->flags & SK_FROM_START) || c->req_high)
			return 0;
		if (*(volatile __u8 *)&c->req.state > H1_HEAD &&
		    *(volatile __u8 *)&c->proto != PROTO_HTTP2)
			return 0;
		return h2_starts(c, true, H2_FIRST);
	}
	/* behind a request that is not answered it is none: that one would stay open for good */
	if (n >= 16 && c->rsp_next == c->req_high &&
	    *(__u64 *)b == WORD('P', 'R', 'I', ' ', '*', ' ', 'H', 'T') &&
	    *(__u64 *)(b + 8) == WORD('T', 'P', '/', '2', '.', '0', '\r', '\n')) {
		/* its first line ends among the bytes that came last */
		f->pos = f->pos - seen + H2_PREFACE_LINE;
		heads_forget(c, false);
		if (!h2_starts(c, false, H2_FIRST))
			return 0;
		c->req.h2.preface = H2_PREFACE_LINE;
		c->req.h2.small_want = h2_preface_want(H2_PREFACE_LINE);
		f->early = 0; /* there is no way back */
		return 1;
	}
	if (!f->from_sync || seen || n < H2_FRAME_HEAD || b[0] || b[3] != H2_HEADERS ||
	    !(b[4] & H2_END_HEADERS) || !(b[8] & 1))
		return 0;
	f->early = 0;
	return h2_starts(c, false, H2_STRANGER);
}

/* The bytes at the start of a message are none of HTTP/1. Returns 1: the feed is over. */
static __always_inline long head_refuse(struct walk *w, __u32 n, __u32 seen)
{
	struct feed *f = &w->s->f;

	if (f->again) {
		f->stopped = 1;
		return 1;
	}
	if (head_is_h2(w->s, w->c, n, seen))
		return 1;
	if (f->from_sync) {
		w->d->state = H1_SYNC;
		w->d->head_len = 0;
		if (++w->d->tries > SYNC_TRIES)
			w->c->proto = PROTO_NONE;
		return 1;
	}
	stat_inc(STAT_NOT_HTTP);
	conn_leave(w->c, f->now, END_DISCARD);
	return 1;
}

/* One window of a head. */
static __always_inline long head_step(struct walk *w)
{
	struct scratch *s = w->s;
	struct feed *f = &s->f;
	struct dir *d = w->d;
	__u32 had = d->head_len, n, extra;

	n = f->seg_start + f->seg_len - f->pos;
	if (n > f->len - f->pos)
		n = f->len - f->pos;
	if (n > WINDOW)
		n = WINDOW;
	if (had >= HEAD_MAX)
		goto too_long;
	barrier_var(n);
	if (n > WINDOW)
		return 1;
	barrier_var(had);
	if (had >= HEAD_MAX)
		return 1;
	if (feed_read(f, s->buf + had, n)) {
		f->fault = 1;
		return 1;
	}
	if (!had && !f->is_rsp && !f->from_sync && (s->buf[0] == '\r' || s->buf[0] == '\n')) {
		/* RFC 9112 2.2: empty lines before a request line are ignored */
		f->pos++;
		d->state = H1_IDLE;
		return 0;
	}
	if (had < METHOD_MAX &&
	    !(f->is_rsp ? response_start(s, had + n)
			: request_is_common(s, had + n) || head_plausible(s, had + n)))
		return head_refuse(w, had + n, had);
	f->pos += n;
	d->head_len = had + n;
	f->end = d->head_len;
	head_scan(s);
	if (f->head.not_http)
		return head_refuse(w, d->head_len, d->head_len);
	if (!f->head.done) {
		if (f->one_head && f->line && f->end < HEAD_MAX && f->line + 1 == f->end &&
		    ld1(s, f->line) == '\r') {
			/* nothing can be inserted any more once this byte has left */
			f->half_end = 1;
			f->line = f->end;
		} else if (d->head_len < HEAD_MAX) {
			return 0;
		} else {
			goto too_long;
		}
	}
	if (f->line > HEAD_MAX)
		goto too_long;
	/* what was fetched beyond the head is the body's, or the next message's */
	extra = d->head_len - f->line;
	f->pos -= extra;
	if (f->rescan) {
		d->head_len = f->line;
		f->end = f->line;
		head_reset(f);
		f->rescan = 0;
		head_scan(s);
		if (!f->again)
			heads_forget(w->c, f->is_rsp);
		if (f->head.not_http) {
			f->rescan = 1;
			return head_refuse(w, d->head_len, d->head_len);
		}
	}
	if (f->is_rsp)
		response_head(w);
	else
		request_head(w);
	f->from_sync = 0;
	f->stopped = f->one_head | f->again;
	return f->stopped ? 1 : 0;
too_long:
	conn_resync(w->c, f->now, STAT_HEAD_TOO_LONG);
	return 1;
}

/* One byte of a chunk size, an extension or a trailer. Returns 1 when a body or message ends. */
static long control_byte(__u32 i, struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = &f->control_dir;
	__u8 c;
	int v;

	if (i >= f->control_len)
		return 1;
	c = f->control[i % CONTROL_MAX];
	f->pos++;
	switch (d->state) {
	case H1_CHUNK_SIZE:
		v = hex_digit(c >= 'A' ? c | 0x20 : c);
		if (v >= 0 && d->digits < 15) {
			d->remain = d->remain << 4 | v;
			d->digits++;
			return 0;
		}
		if (!d->digits || v >= 0)
			break;
		if (c == ';' || is_ows(c))
			d->state = H1_CHUNK_EXT;
		else if (c != '\n')
			return c == '\r' ? 0 : (f->control_bad = 1);
	/* fall through */
	case H1_CHUNK_EXT:
		if (c != '\n')
			return 0;
		d->state = d->remain ? H1_CHUNK_DATA : H1_TRAILER;
		return 1;
	case H1_CHUNK_END:
		if (c == '\r')
			return 0;
		if (c != '\n')
			break;
		d->state = H1_CHUNK_SIZE;
		d->remain = 0;
		d->digits = 0;
		return 0;
	case H1_TRAILER:
		if (c == '\n') {
			f->control_done = 1;
			return 1;
		}
		if (c != '\r')
			d->state = H1_TRAILER_LINE;
		return 0;
	case H1_TRAILER_LINE:
		if (c == '\n')
			d->state = H1_TRAILER;
		return 0;
	}
	f->control_bad = 1;
	return 1;
}

__separately int control_bytes(struct scratch *s)
{
	struct walk w = {.s = s};

	if (s)
		bpf_loop(CONTROL_MAX, control_byte, &w, 0);
	return 0;
}

/* Chunk sizes, extensions, trailers: bytes that are looked at one by one. */
static __always_inline long control_step(struct walk *w)
{
	struct feed *f = &w->s->f;
	__u32 n = f->seg_start + f->seg_len - f->pos;

	if (n > f->len - f->pos)
		n = f->len - f->pos;
	if (n > CONTROL_MAX)
		n = CONTROL_MAX;
	barrier_var(n);
	if (n > CONTROL_MAX || feed_read(f, f->control, n)) {
		f->fault = 1;
		return 1;
	}
	f->control_len = n;
	f->control_bad = f->control_done = 0;
	f->control_dir = *w->d;
	control_bytes(w->s);
	*w->d = f->control_dir;
	if (f->control_bad) {
		conn_resync(w->c, f->now, STAT_BAD_FRAMING);
		return 1;
	}
	if (f->control_done)
		message_end(w);
	return 0;
}

/* Passes over body bytes without reading them. */
static __always_inline void body_step(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;
	__u64 n = f->len - f->pos;

	if (d->state == H1_UNTIL_CLOSE) {
		d->body += n;
		f->pos = f->len;
		return;
	}
	if (n > d->remain)
		n = d->remain;
	f->pos += n;
	d->remain -= n;
	d->body += n;
	if (d->remain)
		return;
	if (d->state == H1_CHUNK_DATA)
		d->state = H1_CHUNK_END;
	else
		message_end(w);
}

static __always_inline bool in_body(const struct dir *d)
{
	return d->state == H1_BODY || d->state == H1_CHUNK_DATA || d->state == H1_UNTIL_CLOSE;
}

/* Bytes that have to be read. */
static __always_inline long read_step(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;

	switch (d->state) {
	case H1_SYNC:
	case H1_IDLE:
		f->from_sync = d->state == H1_SYNC;
		f->rescan = 0;
		head_reset(f);
		d->state = H1_HEAD;
		d->head_len = 0;
		d->scan = 0;
		d->body = 0;
		d->first_ns = f->now;
		d->first_seq = f->seq + f->pos;
		return head_step(w);
	case H1_HEAD:
		return head_step(w);
	default:
		return control_step(w);
	}
}

/* A head, or what frames a body; and the body behind it. */
static long feed_step(__u32 i, struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;

	if (f->pos >= f->len || w->c->proto != PROTO_HTTP1)
		return 1;
	if (!in_body(d)) {
		if (d->state == H1_SYNC && (f->pos || f->is_rsp))
			return 1; /* only the start of a feed can be the start of a request */
		if (!seg_find(w->s)) {
			f->fault = 1;
			return 1;
		}
		if (read_step(w) || f->pos >= f->len || w->c->proto != PROTO_HTTP1)
			return 1;
	}
	if (in_body(d))
		body_step(w);
	return f->pos >= f->len;
}

/*
 * `f->len` bytes of one direction went by; where is in f->src. Leaves the parser behind the
 * last byte, or the connection given up.
 */
__separately int http1_feed(struct scratch *s, struct sk_ctx *c)
{
	struct walk w = {.s = s, .c = c};
	struct dir *d;
	struct feed *f;
	__u32 had = 0;

	if (!s || !c)
		return 0;
	f = &s->f;
	d = f->is_rsp ? &c->rsp : &c->req;
	w.d = d;
	f->from_sync = 0;
	f->rescan = 0;
	f->stopped = 0;
	f->half_end = 0;
	if (d->state == H1_HEAD && d->head_len) {
		had = d->head_len;
		if (!head_restore(s, c)) {
			conn_resync(c, f->now, STAT_LOST_SYNC);
			return 0;
		}
		head_reset(f);
		f->rescan = 1;
		f->line = f->scan = d->scan;
	}
	f->again = f->early & f->rescan;
	bpf_loop(STEPS_MAX, feed_step, &w, 0);
	if (c->proto != PROTO_HTTP1)
		return 0;
	if (f->fault) {
		conn_resync(c, f->now, f->src.kind == SRC_NONE ? STAT_LOST_SYNC : STAT_UNREADABLE);
		return 0;
	}
	if (d->state == H1_HEAD && d->head_len) {
		if (f->from_sync) { /* too thin to trust: the whole head must be in one piece */
			d->state = H1_SYNC;
			d->head_len = 0;
			return 0;
		}
		d->scan = f->line;
		if (!f->early && !head_save(s, c, had))
			conn_resync(c, f->now, STAT_HEADS_FULL);
	} else if (f->pos < f->len && d->state != H1_SYNC && !f->stopped) {
		conn_resync(c, f->now, STAT_LOST_SYNC); /* more steps than one feed may take */
	}
	return 0;
}

#endif
