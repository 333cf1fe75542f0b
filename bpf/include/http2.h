/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __HTTP2_H
#define __HTTP2_H

#include "h2_conn.h"

/*
 * HTTP/2 frames (RFC 9113) as a state machine over one direction of a connection. Requests are
 * streams: the number of one is its stream identifier halved, so that stream 1 of an upgraded
 * connection is request 0 of HTTP/1. A request lasts from its header block to the end of the
 * response's stream; whatever comes for a stream without an open request is passed over.
 */

/* The block in the scratch buffer goes to user space, whose table it may change. */
__separately int h2_block_tell(struct scratch *s, struct sk_ctx *c, struct h2_conn *h, __u32 number,
			       __u32 kind)
{
	struct ev_head *ev;
	__u32 cap, total;

	if (!s || !c || !h)
		return 0;
	ev = &s->ev;
	cap = s->f.block.end;
	if (cap > HEAD_CAPTURE)
		cap = HEAD_CAPTURE;
	ev->hdr.ts = s->f.now;
	ev->hdr.kind = kind;
	ev->hdr.tgid = s->f.tgid;
	ev->conn = c->cookie;
	ev->stream = number;
	ev->captured = cap;
	ev->unix_len = 0;
	ev->first = s->f.block.first;
	barrier_var(cap);
	if (cap > HEAD_CAPTURE)
		return 0;
	if (c->flags & SK_UNIX && !s->f.is_rsp)
		ev->unix_len = unix_path((struct sock *)s->f.sk, c->role, s->buf + cap);
	total = sizeof(*ev) + cap + (c->flags & SK_UNIX ? UNIX_PATH_MAX : 0);
	barrier_var(total);
	if (total > sizeof(*ev) + HEAD_CAPTURE + UNIX_PATH_MAX)
		return 0;
	h->told = 1;
	if (bpf_ringbuf_output(&rb_data, ev, total, data_wakeup(total)))
		stat_inc(STAT_RING_FULL_BLOCK);
	return 0;
}

/* A header block of the client is complete: a request, or the trailers of one. */
static __always_inline void h2_request_block(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;
	struct sk_ctx *c = w->c;
	__u32 stream = d->h2.block_stream, slot;
	struct block *b = &f->block;
	struct open_req *r = NULL;

	if (stream & 1 && stream > d->h2.high) {
		d->h2.high = stream;
		f->stream = h2_number(stream);
		f->first_ns = d->first_ns;
		f->first_seq = d->first_seq;
		f->can_join = c->flags & SK_UNIX ? 1 : d->seq_valid;
		if (h2_is_strange(&c->rsp) && c->streams > H2_SUSPECTS) {
			h2_leave(c, f->now, STAT_H2_BAD);
			return;
		}
		f->stopped = f->one_head;
		if (begun_before(c, f->stream))
			return; /* all of it was told */
		request_begin(w->s, c);
		r = h2_request(c, stream, &slot);
		if (r && b->connect)
			r->flags |= REQ_CONNECT;
		if (r && h2_is_strange(&c->rsp))
			r->flags |= REQ_DOUBT;
	}
	/* nothing in trailers is of interest */
	if (r && !(r->flags & REQ_SAMPLED))
		r = NULL;
	if (!r &&
	    (!b->changes || (b->inserts != b->first && (__s32)(b->inserts - w->h->told_to) <= 0)))
		return;
	w->h->told_to = b->inserts;
	h2_block_tell(w->s, c, w->h, r ? h2_number(stream) : H2_NOBODY, EV_REQUEST_BLOCK);
}

/* The request of a stream is over, if there is one. `slot`: 0 if it is not known. `how`: see
 * DROP_HOW. */
__separately int h2_ends(struct scratch *s, struct sk_ctx *c, __u32 slot, __u32 stream, __u32 how)
{
	struct ending e = {};

	if (!s || !c)
		return 0;
	if (!slot && !h2_request(c, stream, &slot))
		return 0;
	e.now = s->f.now;
	e.slot = slot;
	e.stream = h2_number(stream);
	e.error = how;
	e.reason = how >> 16;
	return request_end(c, &e);
}

/* A header block of the server: interim, final, or trailers. */
static __always_inline void h2_response_block(struct walk *w)
{
	struct block *b = &w->s->f.block;
	__u32 stream = w->d->h2.block_stream, slot;
	struct open_req *r = h2_request(w->c, stream, &slot);

	if (w->d->h2.block_type == H2_PUSH_PROMISE)
		r = NULL;
	/*
	 * What begins an answer holds nothing for user space if its status is known; of what it
	 * inserts only trailers would want to know, and they refer to one another.
	 */
	if (r && r->flags & REQ_SAMPLED &&
	    (w->d->h2.block_flags & H2_END_STREAM || r->ev.status || !b->status))
		h2_block_tell(w->s, w->c, w->h, h2_number(stream),
			      r->ev.status ? EV_TRAILER_BLOCK : EV_RESPONSE_BLOCK);
	if (!r || (b->status && b->status < 200))
		return;
	if (!r->ev.status)
		r->ev.status = b->status;
	if (r->flags & REQ_CONNECT && b->status < 300)
		h2_ends(w->s, w->c, slot, stream, DROP_HOW(END_UPGRADED, 0));
	else if (w->d->h2.block_flags & H2_END_STREAM)
		h2_ends(w->s, w->c, slot, stream, DROP_HOW(END_COMPLETE, 0));
}

/* All fragments of a block are there. Returns 1 if the feed is over. */
static __always_inline long h2_block_done(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct block *b = &f->block;
	struct dir *d = w->d;
	__u32 slot;

	b->end = d->head_len;
	b->first = b->inserts = d->h2.inserts;
	b->unknown = d->h2.unknown;
	if (d->h2.too_long) {
		/* what it inserted is not known */
		stat_inc(STAT_H2_BLOCK_TOO_LONG);
		__builtin_memset(&f->head, 0, sizeof(f->head));
		b->end = 0;
		b->inserts = b->unknown = b->first + H2_NUMBER_GAP;
		b->first = b->inserts;
		b->status = 0;
		b->bad = b->connect = b->changes = 0;
		b->unproved = 1;
		b->pseudo = PSEUDO_OPEN;
	} else {
		hpack_walk(w->s, w->h);
	}
	if (b->bad || (d->h2.met == H2_STRANGER && b->pseudo != PSEUDO_YES))
		return h2_mistaken(w);
	if (f->rescan && !f->again)
		heads_forget(w->c, f->is_rsp);
	f->rescan = 0;
	d->h2.inserts = b->inserts;
	d->h2.unknown = b->unknown;
	if (d->h2.met == H2_STRANGER) {
		/* an answer to a request that was seen is proof for both */
		if (f->is_rsp && !h2_request(w->c, d->h2.block_stream, &slot))
			return h2_mistaken(w);
		if (f->is_rsp)
			w->h->sure = 1;
		d->h2.met = H2_SURE;
		w->c->req.tries = 0;
	}
	d->head_len = 0;
	if (f->is_rsp)
		h2_response_block(w);
	else
		h2_request_block(w);
	d->h2.block_type = 0;
	f->stopped |= f->again;
	return f->again;
}

/* The payload of the frame has passed. */
static __always_inline long h2_frame_done(struct walk *w)
{
	struct dir *d = w->d;

	d->state = H2_FRAME;
	d->h2.small_len = 0;
	d->h2.small_want = H2_FRAME_HEAD;
	if (d->h2.type == H2_DATA && d->h2.flags & H2_END_STREAM && w->s->f.is_rsp)
		h2_ends(w->s, w->c, 0, d->h2.stream, DROP_HOW(END_COMPLETE, 0));
	return 0;
}

/* `n` bytes that nobody looks at are the rest of the frame. */
static __always_inline long h2_skip(struct walk *w, __u32 n)
{
	w->d->remain = n;
	w->d->state = H2_PAYLOAD;
	return n ? 0 : h2_frame_done(w);
}

/* The fragment of the frame begins here, or, if it is empty, the frame ends. */
static __always_inline long h2_fragment(struct walk *w)
{
	struct dir *d = w->d;

	if (d->h2.left < d->h2.padding)
		return h2_mistaken(w);
	d->h2.left -= d->h2.padding;
	d->state = H2_BLOCK;
	return 0;
}

static __always_inline void h2_data(struct walk *w, __u32 n)
{
	struct feed *f = &w->s->f;
	__u32 slot, end = f->seq + f->pos + n;
	struct open_req *r = h2_request(w->c, w->d->h2.stream, &slot);

	if (!r)
		return;
	if (f->is_rsp) {
		r->ev.response_body += n;
	} else if (!w->d->seq_valid) {
		r->ev.request_body += n;
	} else if ((__s32)(end - r->body_seq) > 0) {
		/* a send that was cut short is seen twice */
		r->ev.request_body += n;
		r->body_seq = end;
	}
}

/* A frame's nine bytes are there. Returns 1 if the feed is over. */
static __always_inline long h2_frame_begins(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;
	struct h2_dir *h = &d->h2;
	__u8 *b = h->small;
	__u32 length = (__u32)b[0] << 16 | (__u32)b[1] << 8 | b[2];
	__u8 type = b[3], flags = b[4];
	__u32 stream = (__u32)b[5] << 24 | (__u32)b[6] << 16 | (__u32)b[7] << 8 | b[8];
	__u32 small = 0;

	if (f->stopped && (type == H2_HEADERS || type == H2_CONTINUATION)) {
		/* a header is written into one block at a time */
		f->pos -= H2_FRAME_HEAD;
		h->small_len = 0;
		return 1;
	}
	if (h->met == H2_STRANGER &&
	    (type != H2_HEADERS || !(flags & H2_END_HEADERS) || flags & ~0x2d || !(stream & 1) ||
	     stream >> 31 || length < 1 || length > H2_FRAME_MAX))
		return h2_mistaken(w);
	if (h->met == H2_FIRST && (type != H2_SETTINGS || flags & H2_ACK || stream))
		return h2_mistaken(w);
	h->met = h->met == H2_FIRST ? H2_SURE : h->met;
	stream &= 0x7fffffff;
	if ((type == H2_CONTINUATION) != (h->block_type != 0) ||
	    (h->block_type && stream != h->block_stream))
		return h2_mistaken(w);
	h->stream = stream;
	h->type = type;
	h->flags = flags;
	h->padding = 0;
	h->small_len = 0;
	switch (type) {
	case H2_DATA:
		if (!stream)
			return h2_mistaken(w);
		small = flags & H2_PADDED ? 1 : 0;
		if (!small) {
			h2_data(w, length);
			return h2_skip(w, length);
		}
		break;
	case H2_PUSH_PROMISE:
	case H2_HEADERS:
		if (!stream)
			return h2_mistaken(w);
		small = flags & H2_PADDED ? 1 : 0;
		if (type == H2_PUSH_PROMISE)
			small += 4;
		else if (flags & H2_HAS_PRIORITY)
			small += 5;
		h->block_type = type;
		h->block_flags = flags;
		h->block_stream = stream;
		h->too_long = 0;
		d->head_len = 0;
		break;
	case H2_CONTINUATION:
		h->block_flags |= flags & H2_END_HEADERS;
		break;
	case H2_RST_STREAM:
		small = 4;
		break;
	case H2_SETTINGS:
		small = length ? 6 : 0;
		if (length % 6 || stream)
			return h2_mistaken(w);
		break;
	case H2_GOAWAY:
		small = 8;
		break;
	default:
		return h2_skip(w, length);
	}
	if (length < small)
		return h2_mistaken(w);
	h->left = length - small;
	h->small_want = small;
	if (small) {
		d->state = H2_SMALL;
		return 0;
	}
	return type == H2_SETTINGS ? h2_skip(w, 0) : h2_fragment(w);
}

static __always_inline void h2_setting(struct walk *w)
{
	__u8 *b = w->d->h2.small;
	__u32 value = (__u32)b[2] << 24 | (__u32)b[3] << 16 | (__u32)b[4] << 8 | b[5];

	if (!w->s->f.is_rsp || b[0])
		return;
	if (b[1] == 5)
		w->h->max_frame = value;
	else if (b[1] == 6)
		w->h->max_list = value;
}

static __always_inline void h2_reset(struct walk *w)
{
	__u8 *b = w->d->h2.small;
	__u32 code = (__u32)b[0] << 24 | (__u32)b[1] << 16 | (__u32)b[2] << 8 | b[3];

	h2_ends(w->s, w->c, 0, w->d->h2.stream, DROP_HOW(END_RESET, code > 0xffff ? 0xffff : code));
}

/* The server says which streams it has not looked at, and will not. */
static __always_inline void h2_goaway(struct walk *w)
{
	__u8 *b = w->d->h2.small;
	__u32 last = (__u32)(b[0] & 0x7f) << 24 | (__u32)b[1] << 16 | (__u32)b[2] << 8 | b[3];

	if (w->s->f.is_rsp && last < w->c->req.h2.high)
		h2_drop_from(w->c, w->s->f.now, h2_number(last) + (last & 1),
			     DROP_HOW(END_RESET, H2_REFUSED));
}

/* What a frame begins with, or is, was read into `small`. */
static __always_inline long h2_small_done(struct walk *w)
{
	struct dir *d = w->d;
	struct h2_dir *h = &d->h2;
	__u32 padding;

	h->small_len = 0;
	switch (h->type) {
	case H2_DATA:
		padding = h->small[0];
		if (padding > h->left)
			return h2_mistaken(w);
		h2_data(w, h->left - padding);
		return h2_skip(w, h->left);
	case H2_PUSH_PROMISE:
	case H2_HEADERS:
		h->padding = h->flags & H2_PADDED ? h->small[0] : 0;
		return h2_fragment(w);
	case H2_RST_STREAM:
		h2_reset(w);
		break;
	case H2_SETTINGS:
		h2_setting(w);
		if (!h->left)
			break;
		h->left -= 6;
		return 0;
	case H2_GOAWAY:
		h2_goaway(w);
		break;
	}
	return h2_skip(w, h->left);
}

/* 40 bytes, as constants of 32 get a section that BTF does not know of. */
static const __u8 h2_preface[40] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* Some bytes of the client's preface. */
static __always_inline long h2_preface_done(struct walk *w)
{
	struct h2_dir *h = &w->d->h2;
	__u32 at = h->preface;

	for (int i = 0; i < 8; i++) {
		if (i < h->small_want && h->small[i] != h2_preface[(at + i) & 31]) {
			h2_leave(w->c, w->s->f.now, STAT_NOT_HTTP);
			return 1;
		}
	}
	at += h->small_want;
	h->preface = at;
	h->small_len = 0;
	if (at < H2_PREFACE_LEN) {
		h->small_want = h2_preface_want(at);
		return 0;
	}
	w->d->state = H2_FRAME;
	h->small_want = H2_FRAME_HEAD;
	h->met = H2_FIRST;
	return 0;
}

static __always_inline __u32 run_left(const struct feed *f)
{
	__u32 n = f->seg_start + f->seg_len - f->pos;

	return n > f->len - f->pos ? f->len - f->pos : n;
}

/*
 * Reads the beginning of a frame together with what follows, for one copy from the user is dearer
 * than its bytes. What follows lies where a block's first fragment belongs; the beginning before
 * that, where the record of a block is only made when the block is complete.
 */
static __always_inline bool frame_ahead(struct scratch *s, struct h2_dir *h, __u32 n)
{
	__u8 *to = (__u8 *)s + offsetof(struct scratch, buf) - H2_FRAME_HEAD;

	s->f.ahead = 0;
	if (n > H2_FRAME_HEAD + AHEAD)
		n = H2_FRAME_HEAD + AHEAD;
	barrier_var(n);
	if (n < H2_FRAME_HEAD || n > H2_FRAME_HEAD + AHEAD || feed_read(&s->f, to, n))
		return false;
	*(__u64 *)h->small = *(__u64 *)to;
	h->small[8] = to[8];
	s->f.ahead = n - H2_FRAME_HEAD;
	return true;
}

/* Bytes of the frame's head, of the preface or of a small payload. */
static __always_inline long h2_small_step(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;
	struct h2_dir *h = &d->h2;
	__u32 n = run_left(f), had = h->small_len;

	if (d->state == H2_FRAME && !had) {
		d->first_ns = f->now;
		d->first_seq = f->seq + f->pos;
		f->frame_at = f->pos;
	}
	if (d->state == H2_FRAME && !had && !d->head_len && frame_ahead(w->s, h, n)) {
		n = H2_FRAME_HEAD;
	} else {
		if (n > h->small_want - had)
			n = h->small_want - had;
		barrier_var(n);
		barrier_var(had);
		if (n > 16 || had > 16)
			return 1;
		if (feed_read(f, h->small + had, n)) {
			f->fault = 1;
			return 1;
		}
	}
	f->pos += n;
	h->small_len = had + n;
	if (h->small_len < h->small_want)
		return 0;
	if (d->state == H2_FRAME)
		return h2_frame_begins(w);
	return d->state == H2_PREFACE ? h2_preface_done(w) : h2_small_done(w);
}

/* One window of a header block's fragment. */
static __always_inline long h2_block_step(struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;
	__u32 had = d->head_len, n = 0;

	if (d->h2.left) {
		n = run_left(f);
		if (n > WINDOW)
			n = WINDOW;
		if (n > d->h2.left)
			n = d->h2.left;
		if (had + n > HEAD_MAX)
			d->h2.too_long = 1;
		barrier_var(n);
		barrier_var(had);
		if (n > WINDOW)
			return 1;
		if (!d->h2.too_long && had < HEAD_MAX) {
			/* nothing but the frame's beginning was passed since they were fetched */
			if ((had || n > f->ahead || f->pos != f->frame_at + H2_FRAME_HEAD) &&
			    feed_read(f, w->s->buf + had, n)) {
				f->fault = 1;
				return 1;
			}
			d->head_len = had + n;
		}
		f->pos += n;
		d->h2.left -= n;
		if (d->h2.left)
			return 0;
	}
	if (d->h2.block_flags & H2_END_HEADERS) {
		f->insert_at = f->pos;
		f->patch_at = f->frame_at;
		if (h2_block_done(w))
			return 1;
	}
	d->h2.type = H2_HEADERS;
	return h2_skip(w, d->h2.padding);
}

static long h2_step(__u32 i, struct walk *w)
{
	struct feed *f = &w->s->f;
	struct dir *d = w->d;
	__u64 n;

	/* a fragment of no bytes is complete, whatever follows */
	if (w->c->proto != PROTO_HTTP2)
		return 1;
	if (f->pos >= f->len && (d->state != H2_BLOCK || d->h2.left))
		return 1;
	if (d->state == H2_PAYLOAD) {
		n = f->len - f->pos;
		if (n > d->remain)
			n = d->remain;
		f->pos += n;
		d->remain -= n;
		return d->remain ? 0 : h2_frame_done(w);
	}
	if (d->state == H2_SYNC) {
		if (f->pos)
			return 1; /* only the start of a feed can be the start of a frame */
		d->state = H2_FRAME;
		d->h2.small_len = 0;
		d->h2.small_want = H2_FRAME_HEAD;
	}
	if (f->pos < f->len && !seg_find(w->s)) {
		f->fault = 1;
		return 1;
	}
	return d->state == H2_BLOCK ? h2_block_step(w) : h2_small_step(w);
}

/* Goes on with a feed of an HTTP/2 connection, from f->pos on. */
__separately int h2_feed(struct scratch *s, struct sk_ctx *c)
{
	struct walk w = {.s = s, .c = c};
	struct feed *f;
	__u32 had = 0;

	if (!s || !c)
		return 0;
	f = &s->f;
	w.d = f->is_rsp ? &c->rsp : &c->req;
	w.h = h2_conn_of(c);
	if (!w.h) {
		h2_leave(c, f->now, STAT_LOST_SYNC);
		return 0;
	}
	if (w.d->state < H2_PREFACE)
		h2_dir_begins(c, f->is_rsp, f->early);
	f->rescan = 0;
	f->stopped = 0;
	f->frame_at = ~0U;
	f->ahead = 0;
	if (w.d->h2.block_type && w.d->head_len) {
		had = w.d->head_len;
		f->rescan = 1;
		if (!head_restore(s, c)) {
			h2_resync(c, f->now, STAT_LOST_SYNC);
			return 0;
		}
	}
	f->again = f->early & f->rescan;
	bpf_loop(STEPS_MAX, h2_step, &w, 0);
	if (c->proto != PROTO_HTTP2)
		return 0;
	if (f->fault) {
		h2_resync(c, f->now, f->src.kind == SRC_NONE ? STAT_LOST_SYNC : STAT_UNREADABLE);
		return 0;
	}
	if (w.d->h2.block_type && w.d->head_len && !f->early && !head_save(s, c, had))
		h2_resync(c, f->now, STAT_HEADS_FULL);
	else if (f->pos < f->len && w.d->state != H2_SYNC && !f->stopped)
		h2_resync(c, f->now, STAT_LOST_SYNC); /* more steps than one feed may take */
	return 0;
}

#endif
