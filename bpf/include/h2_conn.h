/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __H2_CONN_H
#define __H2_CONN_H

#include "heads.h"
#include "hpack.h"
#include "request.h"

/* HTTP/2 connections: their state, how they begin, are lost, and end. */

#define H2_FRAME_HEAD 9
#define H2_FRAME_MAX  16384 /* everyone takes so much (RFC 9113 4.2) */
#define H2_TRIES      200   /* looks for the middle of frames */
#define H2_SUSPECTS   64    /* requests that wait for the first answer */
#define H2_NOBODY     ~0U   /* a block for the table's sake alone */
#define H2_NUMBER_GAP 65536 /* insertions that may have gone by unseen */

enum h2_type {
	H2_DATA = 0,
	H2_HEADERS = 1,
	H2_PRIORITY = 2,
	H2_RST_STREAM = 3,
	H2_SETTINGS = 4,
	H2_PUSH_PROMISE = 5,
	H2_PING = 6,
	H2_GOAWAY = 7,
	H2_WINDOW_UPDATE = 8,
	H2_CONTINUATION = 9,
};

enum h2_flag {
	H2_ACK = 1, /* SETTINGS */
	H2_END_STREAM = 1,
	H2_END_HEADERS = 4,
	H2_PADDED = 8,
	H2_HAS_PRIORITY = 0x20,
};

#define H2_PREFACE_LEN	24
#define H2_PREFACE_LINE 16 /* of these, what looks like the first line of a head */

#define H2_NO_ERROR 0
#define H2_REFUSED  7 /* REFUSED_STREAM: what GOAWAY says of streams that it leaves out */

static __always_inline struct h2_conn *h2_conn_of(const struct sk_ctx *c)
{
	__u64 key = c->cookie; /* on the stack, as 6.1 wants keys */

	if (c->flags & SK_UNIX)
		return bpf_map_lookup_elem(&h2_unix_conns, &key);
	return bpf_map_lookup_elem(&h2_conns, &key);
}

static __always_inline __u32 h2_number(__u32 stream)
{
	return stream >> 1;
}

/* The open request of a stream; NULL: there is none, or none that is known. */
static __always_inline struct open_req *h2_request(struct sk_ctx *c, __u32 stream, __u32 *slot)
{
	/* streams of even numbers are pushed */
	*slot = stream & 1 ? slot_of(c, h2_number(stream)) : 0;
	return slot_at(*slot - 1);
}

static __always_inline void h2_dir_starts(struct dir *d, __u8 state, __u8 met)
{
	d->state = state;
	d->remain = 0;
	d->head_len = 0;
	__builtin_memset(&d->h2, 0, sizeof(d->h2));
	d->h2.met = met;
	d->h2.small_want = state == H2_PREFACE ? 8 : H2_FRAME_HEAD;
	if (met == H2_STRANGER)
		d->h2.inserts = d->h2.unknown = H2_NUMBER_GAP;
}

/* How many bytes of the preface to look at next: steps of one, two and eight lead to its end. */
static __always_inline __u8 h2_preface_want(__u32 at)
{
	return at & 1 ? 1 : at & 7 ? 2 : 8;
}

/*
 * A direction of what is HTTP/2 from its beginning. Each begins in a feed of its own, whichever of
 * them told what it is: they may be fed at the same time. Of the preface, a part may have been
 * taken for the beginning of a head; `kept`: and is not to be forgotten yet.
 */
__separately int h2_dir_begins(struct sk_ctx *c, __u8 is_rsp, __u8 kept)
{
	__u32 passed;
	struct dir *d;

	if (!c)
		return 0;
	d = is_rsp ? &c->rsp : &c->req;
	if (d->state == H1_SYNC) {
		/* the beginning of this one has passed */
		h2_dir_starts(d, H2_SYNC, H2_STRANGER);
		return 0;
	}
	passed = d->state == H1_HEAD ? d->head_len : 0;
	if (d->head_len && !kept)
		heads_forget(c, is_rsp);
	h2_dir_starts(d, is_rsp ? H2_FRAME : H2_PREFACE, H2_FIRST);
	if (is_rsp)
		return 0;
	/* of a connection that was upgraded */
	d->h2.high = c->streams ? 1 : 0;
	d->h2.preface = passed < H2_PREFACE_LINE ? passed : 0;
	d->h2.small_want = h2_preface_want(d->h2.preface);
	return 0;
}

/* It only looks like frames. The direction may not have begun yet. */
static __always_inline bool h2_is_strange(const struct dir *d)
{
	return d->state >= H2_PREFACE && d->h2.met == H2_STRANGER;
}

/* From here on the connection is taken for HTTP/2. 0: there is no room for its state. */
__separately int h2_starts(struct sk_ctx *c, __u8 is_rsp, __u8 met)
{
	__u64 key;
	struct head *none;
	struct h2_conn *h;
	__u32 zero = 0;
	long error;

	if (!c)
		return 0;
	key = c->cookie;
	none = bpf_map_lookup_elem(&no_head, &zero);
	if (!none)
		return 0;
	error = c->flags & SK_UNIX ? bpf_map_update_elem(&h2_unix_conns, &key, none, BPF_NOEXIST)
				   : bpf_map_update_elem(&h2_conns, &key, none, BPF_NOEXIST);
	h = h2_conn_of(c);
	if (!h) {
		stat_inc(STAT_H2_FULL);
		return 0;
	}
	/* else the other direction was first */
	if (!error) {
		h->sure = met != H2_STRANGER;
		h->max_frame = H2_FRAME_MAX;
		h->max_list = ~0U;
		h->biggest[0] = h->biggest[1] = met == H2_STRANGER ? 4096 : 0;
		h->longest[0] = h->longest[1] = met == H2_STRANGER ? 4096 : NAME_STATIC;
		if (met != H2_STRANGER)
			stat_inc(STAT_H2_CONNECTIONS);
	}
	c->proto = PROTO_HTTP2;
	if (met == H2_STRANGER) {
		h2_dir_starts(&c->req, H2_SYNC, met);
		h2_dir_starts(&c->rsp, H2_SYNC, met);
	} else {
		h2_dir_begins(c, is_rsp, true);
	}
	return 1;
}

struct h2_drop {
	struct sk_ctx *c;
	__u64 now;
	__u32 above; /* requests up to this number stay */
	__u16 error;
	__u8 reason;
	__u8 pad;
};

static long h2_drop_step(__u32 i, struct h2_drop *x)
{
	struct open_req *r = slot_at(i);
	struct ending e = {};
	__u64 tag;

	if (!r || !x->c->streams)
		return 1;
	tag = r->tag;
	if (tag >> 20 != (x->c->cookie & (~0ULL >> 20)) ||
	    (__s32)(((__u32)tag & 0xfffff) - x->above) < 0)
		return 0;
	e.now = x->now;
	e.slot = i + 1;
	e.stream = tag & 0xfffff;
	e.error = x->error;
	e.reason = r->flags & REQ_DOUBT && x->reason == END_CLOSED ? END_DISCARD : x->reason;
	request_end(x->c, &e);
	return 0;
}

/*
 * Ends the open requests of the connection from a number on. Their slots are looked for in the
 * whole table: it happens once in a connection's life at most, and only if it has any.
 */
__separately int h2_drop_from(struct sk_ctx *c, __u64 now, __u32 above, __u32 how)
{
	struct h2_drop x = {.c = c, .now = now, .above = above, .error = how, .reason = how >> 16};

	if (c && c->streams)
		bpf_loop(SLOTS, h2_drop_step, &x, 0);
	return 0;
}

#define DROP_HOW(reason, error) ((__u32)(reason) << 16 | (__u16)(error))

/* User space need not keep what it knows of the connection's tables. */
static __always_inline void h2_forget(struct sk_ctx *c, __u64 now)
{
	struct h2_conn *h = h2_conn_of(c);
	__u64 key = c->cookie;
	struct ev_conn_end *ev;

	if (!h)
		return;
	if (h->told) {
		ev = bpf_ringbuf_reserve(&rb_data, sizeof(*ev), 0);
		if (ev) {
			ev->hdr.ts = now;
			ev->hdr.kind = EV_CONN_END;
			ev->hdr.tgid = c->tgid;
			ev->conn = c->cookie;
			bpf_ringbuf_submit(ev, BPF_RB_NO_WAKEUP);
		} else {
			stat_inc(STAT_RING_FULL_BLOCK);
		}
	}
	if (c->flags & SK_UNIX)
		bpf_map_delete_elem(&h2_unix_conns, &key);
	else
		bpf_map_delete_elem(&h2_conns, &key);
}

/* No byte can come any more. */
__separately int h2_over(struct sk_ctx *c, __u64 now)
{
	if (!c)
		return 0;
	h2_drop_from(c, now, 0, DROP_HOW(END_CLOSED, 0));
	h2_forget(c, now);
	c->proto = PROTO_NONE;
	return 0;
}

/* Not HTTP/2 after all, or frames that break the rules: nothing of it is looked at any more. */
__separately int h2_leave(struct sk_ctx *c, __u64 now, __u32 why)
{
	if (!c)
		return 0;
	stat_inc(why);
	h2_drop_from(c, now, 0, DROP_HOW(END_DISCARD, 0));
	dir_forget(c, &c->req, false);
	dir_forget(c, &c->rsp, true);
	h2_forget(c, now);
	c->proto = PROTO_NONE;
	return 0;
}

/*
 * Bytes of a direction went by unseen. It waits for HEADERS at the start of a send or recv, and
 * knows nothing of the insertions before.
 */
__separately int h2_resync(struct sk_ctx *c, __u64 now, __u32 why)
{
	if (!c)
		return 0;
	stat_inc(why);
	h2_drop_from(c, now, 0, DROP_HOW(END_DISCARD, 0));
	dir_forget(c, &c->req, false);
	dir_forget(c, &c->rsp, true);
	c->flags &= ~SK_FROM_START;
	c->inject &= ~INJECT_TRUSTED;
	c->req.state = c->rsp.state = H2_SYNC;
	c->req.h2.inserts += H2_NUMBER_GAP;
	c->rsp.h2.inserts += H2_NUMBER_GAP;
	c->req.h2.unknown = c->req.h2.inserts;
	c->rsp.h2.unknown = c->rsp.h2.inserts;
	c->req.h2.met = c->rsp.h2.met = H2_STRANGER;
	c->req.h2.block_type = c->rsp.h2.block_type = 0;
	if (++c->req.tries > H2_TRIES) {
		h2_forget(c, now);
		c->proto = PROTO_NONE;
	}
	return 0;
}

/* What looked like frames is none: back to where the connection was before. */
__separately int h2_back(struct scratch *s, struct sk_ctx *c)
{
	struct h2_conn *h;
	struct dir *d;

	if (!s || !c)
		return 0;
	d = s->f.is_rsp ? &c->rsp : &c->req;
	if (d->h2.met != H2_STRANGER) {
		h2_leave(c, s->f.now, STAT_H2_BAD);
		return 0;
	}
	dir_forget(c, d, s->f.is_rsp);
	d->h2.block_type = 0;
	if (++c->req.tries > H2_TRIES) {
		h2_leave(c, s->f.now, STAT_H2_BAD);
		return 0;
	}
	d->state = H2_SYNC;
	h = h2_conn_of(c);
	if (h && !h->sure && !s->f.is_rsp) { /* as likely it is HTTP/1 */
		h2_drop_from(c, s->f.now, 0, DROP_HOW(END_DISCARD, 0));
		h2_forget(c, s->f.now);
		c->proto = PROTO_HTTP1;
		c->begun = c->req_next;
		c->req.state = c->rsp.state = H1_SYNC;
	}
	return 0;
}

/* The same. Returns 1, which a verifier believes of itself only: the feed is over. */
static __always_inline long h2_mistaken(struct walk *w)
{
	h2_back(w->s, w->c);
	return 1;
}

#endif
