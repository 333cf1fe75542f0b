/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __HPACK_H
#define __HPACK_H

#include "head.h"

/*
 * Header blocks (RFC 7541). User space decodes them; here a block is walked for the few fields that
 * decide something: traceparent, tracestate, :status, CONNECT. The table itself is not kept. Every
 * insertion has a number, counted from the connection's start, and those that matter are noted
 * under it; a reference names a number, as the sender may not refer to what it has evicted.
 */

#define STATIC_MAX  61
#define FIELDS_MAX  4096
#define NAME_STATIC 27 /* the longest name of the static table */
#define BOTH_STATIC 48 /* ... name and value together, at most */
#define NEW_NAME    0
#define ENTRY_SPARE 32 /* what an entry counts beside its bytes (RFC 7541 4.1) */
#define TAIL_MAX    (HEAD_ROOM - 16)

/* Steps by nibble through the Huffman code; made by src/proto/http2/huffman.rs. */
extern const volatile __u32 huffman[4096];

#define HUFF_EMITS 0x10000
#define HUFF_FAILS 0x20000
#define HUFF_ENDS  0x40000

enum field_kind {
	FIELD_OTHER = NOTE_NONE,
	FIELD_TRACEPARENT = NOTE_TRACEPARENT,
	FIELD_TRACESTATE = NOTE_TRACESTATE,
	FIELD_STATUS = NOTE_STATUS,
	FIELD_METHOD = NOTE_CONNECT,
	FIELD_PSEUDO, /* another one */
	FIELD_UNKNOWN,
};

/* Does the block begin as its direction's blocks do? Fields that are not known do not tell. */
enum pseudo_seen {
	PSEUDO_OPEN = 0,
	PSEUDO_YES,
	PSEUDO_NO,
};

/* An integer (5.1) of which the first byte holds `bits` bits. */
__separately int hp_int(struct scratch *s, __u32 bits)
{
	__u32 max = (1U << (bits & 7)) - 1, v;
	struct block *b;

	if (!s)
		return 0;
	b = &s->f.block;
	v = ld1(s, b->at++) & max;
	if (v < max)
		return v;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u8 c = ld1(s, b->at++);

		v += (__u32)(c & 127) << (7 * i);
		if (!(c & 128))
			return v & 0x7fffffff;
	}
	b->bad = 1;
	return 0;
}

/* Steps over a string (5.2) and notes where it is. */
__separately int hp_string(struct scratch *s)
{
	struct block *b;
	__u32 len;

	if (!s)
		return 0;
	b = &s->f.block;
	b->huffman = ld1(s, b->at) >> 7;
	len = hp_int(s, 7);
	b->from = b->at;
	b->len = len;
	if (len > b->end - b->at || b->at > b->end) {
		b->bad = 1;
		return 0;
	}
	b->at += len;
	/* no code is shorter than five bits */
	b->list += b->huffman ? len * 8 / 5 + 1 : len;
	return 0;
}

struct huff {
	struct scratch *s;
	__u32 at;
	__u32 end;
	__u32 to;
	__u32 state;
};

static __always_inline __u32 huff_nibble(struct huff *h, __u32 nibble)
{
	__u64 at = h->state * 16 + nibble;
	__u32 step, to = h->to;

	barrier_var(at);
	step = huffman[at & 4095];
	h->state = step & 0xff;
	if (step & HUFF_EMITS) {
		barrier_var(to);
		if (to >= TAIL_MAX)
			return HUFF_FAILS;
		h->s->buf[to] = step >> 8;
		h->to = to + 1;
	}
	return step;
}

static long huff_step(__u32 i, struct huff *h)
{
	__u32 last;
	__u8 c;

	if (h->at >= h->end)
		return 1;
	c = ld1(h->s, h->at++);
	last = huff_nibble(h, c >> 4);
	if (last & HUFF_FAILS)
		goto bad;
	last = huff_nibble(h, c & 15);
	if (last & HUFF_FAILS || (h->at == h->end && !(last & HUFF_ENDS)))
		goto bad;
	return 0;
bad:
	h->s->f.block.bad = 1;
	return 1;
}

/* The string just stepped over, in plain text: where it lies, or behind the block if it was coded.
 */
__separately int hp_plain(struct scratch *s)
{
	struct huff h = {.s = s};
	struct block *b;

	if (!s)
		return 0;
	b = &s->f.block;
	if (!b->huffman)
		return 0;
	h.at = b->from;
	h.end = b->from + b->len;
	h.to = b->tail;
	bpf_loop(HEAD_MAX, huff_step, &h, 0);
	b->from = b->tail;
	b->len = h.to - b->tail;
	b->tail = h.to;
	return 0;
}

static __always_inline struct note *note_at(struct h2_conn *h, __u32 is_rsp, __u32 number)
{
	__u64 at = (number & (NOTES - 1)) + (is_rsp ? NOTES : 0);

	barrier_var(at); /* 6.1 loses the bound over what compilers make of that */
	return &h->notes[at & (2 * NOTES - 1)];
}

/* What is noted about an entry that is referred to; NULL: nothing. */
static __always_inline struct note *note_of(struct scratch *s, struct h2_conn *h, __u32 index)
{
	struct block *b = &s->f.block;
	__u32 number = b->inserts - (index - STATIC_MAX);
	struct note *n;

	if ((__s32)(number - b->unknown) < 0) {
		b->unproved = 1;
		return NULL;
	}
	n = note_at(h, s->f.is_rsp, number);
	return n->number == number && n->kind ? n : NULL;
}

static __always_inline __u32 name_indexed(struct scratch *s, struct h2_conn *h, __u32 index)
{
	struct block *b = &s->f.block;
	struct note *n;

	if (index > STATIC_MAX) {
		if ((__s32)(b->inserts - (index - STATIC_MAX) - b->unknown) < 0) {
			b->unproved = 1;
			return FIELD_UNKNOWN;
		}
		n = note_of(s, h, index);
		return n ? n->kind : FIELD_OTHER;
	}
	if (index >= 8 && index <= 14)
		return FIELD_STATUS;
	if (index == 2 || index == 3)
		return FIELD_METHOD;
	return index <= 7 ? FIELD_PSEUDO : FIELD_OTHER;
}

/* The name that was stepped over. Names are in lower case (RFC 9113 8.2). */
static __always_inline __u32 name_literal(struct scratch *s)
{
	struct block *b = &s->f.block;
	__u64 word = ld8(s, b->from);

	if (b->huffman) {
		if (b->len == 8 && word == WORD(0x4d, 0x83, 0x21, 0x6b, 0x1d, 0x85, 0xa9, 0x3f))
			return FIELD_TRACEPARENT;
		if (b->len == 7 && word << 8 == WORD(0, 0x4d, 0x83, 0x21, 0x50, 0x91, 0xa4, 0xbf))
			return FIELD_TRACESTATE;
		return FIELD_OTHER;
	}
	if (b->len == 11 && word == WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r') &&
	    ld8(s, b->from + 3) == WORD('c', 'e', 'p', 'a', 'r', 'e', 'n', 't'))
		return FIELD_TRACEPARENT;
	if (b->len == 10 && word == WORD('t', 'r', 'a', 'c', 'e', 's', 't', 'a') &&
	    ld8(s, b->from + 2) == WORD('a', 'c', 'e', 's', 't', 'a', 't', 'e'))
		return FIELD_TRACESTATE;
	return (__u8)word == ':' ? FIELD_PSEUDO : FIELD_OTHER;
}

static __always_inline void saw_traceparent(struct scratch *s, const struct trace_ctx *ctx,
					    __u32 flags, bool bad)
{
	struct head_info *h = &s->f.head;

	/* a second one makes both worthless */
	if (h->tp_count++ || bad) {
		h->tp_count = 2;
		return;
	}
	h->tp.ctx = *ctx;
	h->tp.flags = flags;
}

/* A field of which the whole is in the table. */
__separately int field_indexed(struct scratch *s, struct h2_conn *h, __u32 index)
{
	const __u64 codes = WORD(200 - 200, 204 - 200, 206 - 200, 304 - 200, 0, 0, 0, 0);
	struct block *b;
	struct note *n;
	__u32 kind;

	if (!s || !h)
		return 0;
	b = &s->f.block;
	kind = name_indexed(s, h, index);
	if (index <= STATIC_MAX) {
		if (kind == FIELD_STATUS)
			b->status = index < 12	  ? 200 + (__u8)(codes >> (index - 8) * 8)
				    : index == 12 ? 400
				    : index == 13 ? 404
						  : 500;
		return kind;
	}
	n = note_of(s, h, index);
	if (!n)
		return kind;
	if (n->kind == NOTE_STATUS)
		b->status = n->value;
	else if (n->kind == NOTE_CONNECT)
		b->connect = 1;
	else if (n->kind == NOTE_TRACESTATE)
		s->f.head.ts_count = TS_LINES + 1; /* only its name is noted */
	else if (n->kind == NOTE_TRACEPARENT)
		saw_traceparent(s, &n->ctx, n->value, n->bad);
	return kind;
}

/* A number for the entry that a literal becomes; notes it if it matters. */
static __always_inline struct note *insertion(struct scratch *s, struct h2_conn *h, __u32 kind)
{
	struct block *b = &s->f.block;
	__u32 number = b->inserts++;
	struct note *n;

	b->changes = 1;
	if (kind == FIELD_OTHER || kind > FIELD_METHOD)
		return NULL;
	n = note_at(h, s->f.is_rsp, number);
	/* what has to make room here may still be referred to */
	if (n->kind && n->number != number && (__s32)(n->number + 1 - b->unknown) > 0)
		b->unknown = n->number + 1;
	n->number = number;
	n->kind = NOTE_NONE;
	n->bad = 0;
	return n;
}

/* The string just stepped over, as a traceparent. Returns 0 if it is none. */
__separately int hp_traceparent(struct scratch *s)
{
	struct block *b;
	__u32 from;

	if (!s)
		return 0;
	b = &s->f.block;
	from = b->from;
	barrier_var(from);
	return from <= HEAD_MAX + WINDOW && traceparent_parse(s->buf + from, b->len, &b->tp);
}

static __always_inline void literal_traceparent(struct scratch *s, struct note *n)
{
	struct traceparent *tp = &s->f.block.tp;
	bool bad;

	hp_plain(s);
	bad = !hp_traceparent(s);
	saw_traceparent(s, &tp->ctx, tp->flags, bad);
	if (!n)
		return;
	n->kind = NOTE_TRACEPARENT;
	n->value = tp->flags;
	n->bad = bad;
	n->ctx = tp->ctx;
}

/* The value of a literal, which has just been stepped over. */
__separately int literal(struct scratch *s, struct h2_conn *h, __u32 kind, __u32 insert)
{
	struct block *b;
	struct note *n;
	__u64 word;

	if (!s || !h)
		return 0;
	b = &s->f.block;
	n = insert ? insertion(s, h, kind) : NULL;
	if (kind == FIELD_TRACEPARENT) {
		literal_traceparent(s, n);
	} else if (kind == FIELD_TRACESTATE) {
		hp_plain(s);
		tracestate_header(&s->f.head, b->from, b->from + b->len);
		if (n)
			n->kind = NOTE_TRACESTATE;
	} else if (kind == FIELD_STATUS) {
		hp_plain(s);
		word = ld8(s, b->from);
		b->status =
		    b->len == 3 ? (word & 15) * 100 + (word >> 8 & 15) * 10 + (word >> 16 & 15) : 0;
		if (n) {
			n->kind = NOTE_STATUS;
			n->value = b->status;
		}
	} else if (kind == FIELD_METHOD && b->len <= 7) {
		hp_plain(s);
		word = ld8(s, b->from);
		if (b->len == 7 && word << 8 == WORD(0, 'C', 'O', 'N', 'N', 'E', 'C', 'T')) {
			b->connect = 1;
			if (n)
				n->kind = NOTE_CONNECT;
		}
	}
	return 0;
}

static long field_step(__u32 i, struct walk *w)
{
	struct scratch *s = w->s;
	struct block *b = &s->f.block;
	struct h2_conn *h = w->h;
	__u32 kind, index, name, before = b->list;
	__u8 first;

	if (b->at >= b->end || b->bad)
		return 1;
	first = ld1(s, b->at);
	if ((first & 0xe0) == 0x20) { /* the size of the table */
		hp_int(s, 5);
		b->changes = 1;
		return 0;
	}
	b->list += ENTRY_SPARE;
	if (first & 0x80) {
		index = hp_int(s, 7);
		if (!index)
			b->bad = 1;
		b->list += index > STATIC_MAX ? h->biggest[s->f.is_rsp & 1] : BOTH_STATIC;
		kind = field_indexed(s, h, index);
	} else {
		index = hp_int(s, first & 0x40 ? 6 : 4);
		if (index == NEW_NAME) {
			hp_string(s);
			kind = name_literal(s);
			name = b->list - before - ENTRY_SPARE;
			if (name > h->longest[s->f.is_rsp & 1])
				h->longest[s->f.is_rsp & 1] = name;
		} else {
			b->list += index > STATIC_MAX ? h->longest[s->f.is_rsp & 1] : NAME_STATIC;
			kind = name_indexed(s, h, index);
		}
		hp_string(s);
		if (b->bad)
			return 1;
		literal(s, h, kind, first & 0x40);
		if (first & 0x40 && b->list - before > h->biggest[s->f.is_rsp & 1])
			h->biggest[s->f.is_rsp & 1] = b->list - before;
	}
	b->fields++;
	if (b->pseudo == PSEUDO_OPEN && kind != FIELD_UNKNOWN)
		b->pseudo = (s->f.is_rsp ? kind == FIELD_STATUS
					 : kind == FIELD_METHOD || kind == FIELD_PSEUDO)
				? PSEUDO_YES
				: PSEUDO_NO;
	return 0;
}

/*
 * Walks the block in the scratch buffer, `b->end` bytes. `b->inserts` and `b->unknown` are those of
 * its direction, and are brought up to date.
 */
__separately int hpack_walk(struct scratch *s, struct h2_conn *h)
{
	struct walk w = {.s = s, .h = h};
	struct block *b;

	if (!s || !h)
		return 0;
	b = &s->f.block;
	__builtin_memset(&s->f.head, 0, sizeof(s->f.head));
	b->at = 0;
	b->list = 0;
	b->fields = 0;
	b->tail = HEAD_MAX;
	b->status = 0;
	b->bad = b->unproved = b->connect = b->changes = 0;
	b->pseudo = PSEUDO_OPEN;
	bpf_loop(FIELDS_MAX, field_step, &w, 0);
	if (b->at != b->end)
		b->bad = 1;
	return 0;
}

#endif
