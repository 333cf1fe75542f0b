/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __HEAD_H
#define __HEAD_H

#include "feed.h"

/*
 * Scanning of an HTTP/1 head (RFC 9112) in the scratch buffer: where it ends, how its body is
 * framed, and the traceparent. Eight bytes at a time; only lines that begin like a header we
 * want are looked at more closely. Everything else is read in user space.
 */

#define LOWER 0x2020202020202020ULL
#define ONES  0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

#define HTTP_11	   WORD('H', 'T', 'T', 'P', '/', '1', '.', '1')
#define HTTP_10	   WORD('H', 'T', 'T', 'P', '/', '1', '.', '0')
#define SCAN_MAX   9000 /* lines and steps of SCAN_WORDS of the longest head */
#define SCAN_WORDS 8	/* words of eight bytes, and ends of lines, that a step looks at */

/* Offset of the first newline byte in a word, 8 if there is none. */
static __always_inline __u32 newline_in(__u64 word)
{
	__u64 x = word ^ (ONES * '\n');
	__u64 zero = (x - ONES) & ~x & HIGHS;

	if (!zero)
		return 8;
	return (((((zero & -zero) - 1) & ONES) * ONES) >> 56) - 1;
}

static __always_inline bool is_tchar(__u8 c)
{
	/* RFC 9110 5.6.2, a bit for each of 128 characters */
	const __u64 low = 0x03ff6cfa00000000ULL, high = 0x57ffffffc7fffffeULL;

	if (c >= 128)
		return false;
	return (c < 64 ? low >> c : high >> (c - 64)) & 1;
}

#define METHOD_MAX 32 /* with the space behind it */

/* Of those that nearly all are, whose method need not be looked at letter by letter. */
static __always_inline bool request_is_common(struct scratch *s, __u32 n)
{
	__u64 word = *(__u64 *)s->buf;

	return n >= 8 && ((__u32)word == (__u32)WORD('G', 'E', 'T', ' ', 0, 0, 0, 0) ||
			  (word & 0xffffffffffULL) == WORD('P', 'O', 'S', 'T', ' ', 0, 0, 0));
}

static __always_inline bool response_start(struct scratch *s, __u32 n)
{
	const __u64 want = HTTP_11 & ~(0xffULL << 56);
	__u64 mask = n >= 7 ? ~(0xffULL << 56) : (1ULL << (n * 8)) - 1;

	return (*(__u64 *)s->buf & mask) == (want & mask);
}

/*
 * Is there one between the method and the version? Unrolled, as 6.1 refuses a loop whose way back
 * is no jump, and apart, as its room on the stack is full.
 */
__separately int has_target(struct scratch *s, __u32 len)
{
	if (!s)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < METHOD_MAX; i++) {
		if (s->buf[i] == ' ')
			return i + 1 < len - 9;
	}
	return false;
}

static __always_inline void request_line(struct scratch *s, __u32 start, __u32 len)
{
	struct head_info *h = &s->f.head;
	__u64 version, method;

	if (len < 12 || ld1(s, start + len - 9) != ' ') {
		h->not_http = 1;
		return;
	}
	version = ld8(s, start + len - 8);
	if (version != HTTP_11 && version != HTTP_10) {
		h->not_http = 1;
		return;
	}
	/* between requests nothing else begins; in the middle of what was lost anything may */
	if (s->f.from_sync && !has_target(s, len)) {
		h->not_http = 1;
		return;
	}
	method = ld8(s, start);
	h->is_head = (method & 0xffffffffffULL) == WORD('H', 'E', 'A', 'D', ' ', 0, 0, 0);
	h->is_connect = method == WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ');
}

static __always_inline void status_line(struct scratch *s, __u32 start, __u32 len)
{
	struct head_info *h = &s->f.head;
	__u64 version = ld8(s, start), code = ld8(s, start + 8);
	__u8 a = (code >> 8) - '0', b = (code >> 16) - '0', c = (code >> 24) - '0';

	if (len < 12 || (version != HTTP_11 && version != HTTP_10) || (__u8)code != ' ' || a > 9 ||
	    b > 9 || c > 9 || a == 0) {
		h->not_http = 1;
		return;
	}
	h->status = a * 100 + b * 10 + c;
}

/* The value of a header under examination: [from, to) of the head. */
struct value {
	struct scratch *s;
	__u64 number;
	__u32 from;
	__u32 to;
	__u32 bad;
	__u32 pad;
};

static __always_inline bool is_ows(__u8 c)
{
	return c == ' ' || c == '\t';
}

static long trim_front(__u32 i, struct value *v)
{
	if (v->from >= v->to || !is_ows(ld1(v->s, v->from)))
		return 1;
	v->from++;
	return 0;
}

static long trim_back(__u32 i, struct value *v)
{
	if (v->from >= v->to || !is_ows(ld1(v->s, v->to - 1)))
		return 1;
	v->to--;
	return 0;
}

/* Takes the white space around a value away. False if nothing is left. */
static __always_inline bool trim(struct value *v)
{
	bpf_loop(HEAD_MAX, trim_front, v, 0);
	bpf_loop(HEAD_MAX, trim_back, v, 0);
	return v->from < v->to;
}

static long digit_step(__u32 i, struct value *v)
{
	__u8 c;

	if (v->from + i >= v->to)
		return 1;
	c = ld1(v->s, v->from + i) - '0';
	if (c > 9)
		v->bad = 1;
	v->number = v->number * 10 + c;
	return 0;
}

static __always_inline void length_is(struct head_info *h, __u64 length)
{
	/* RFC 9112 6.3: repeated and different is an attack or an accident */
	if (h->has_length && h->length != length)
		h->bad = 1;
	h->has_length = 1;
	h->length = length;
}

/* One space and up to seven digits, as nearly all are. */
static __always_inline bool length_is_plain(struct scratch *s, __u32 from, __u32 to)
{
	const __u64 pairs = 0x000000ff000000ffULL;
	__u32 n = to - from - 1;
	__u64 x;

	if (n - 1 > 6 || ld1(s, from) != ' ')
		return false;
	/* behind zeros; the first digit is in the lowest byte */
	x = ld8(s, from + 1) << (64 - n * 8) | (ONES * '0') >> n * 8;
	if ((x & ONES * 0xf0) != ONES * '0' || ((x + ONES * 6) & ONES * 0xf0) != ONES * '0')
		return false;
	x -= ONES * '0';
	x = x * 10 + (x >> 8);
	x = ((x & pairs) * (100 + (1000000ULL << 32)) +
	     (x >> 16 & pairs) * (1 + (10000ULL << 32))) >>
	    32;
	length_is(&s->f.head, x);
	return true;
}

__separately int length_header(struct scratch *s, __u32 from, __u32 to)
{
	struct value v = {.s = s, .from = from, .to = to};
	struct head_info *h;

	if (!s)
		return 0;
	h = &s->f.head;
	if (!trim(&v) || v.to - v.from > 18) {
		h->bad = 1;
		return 0;
	}
	bpf_loop(18, digit_step, &v, 0);
	h->bad |= !!v.bad;
	length_is(h, v.number);
	return 0;
}

__separately int encoding_header(struct scratch *s, __u32 from, __u32 to)
{
	const __u64 mask = ~(0xffULL << 56);
	struct value v = {.s = s, .from = from, .to = to};
	struct head_info *h;
	__u8 before;

	if (!s)
		return 0;
	h = &s->f.head;
	h->last = HDR_FRAMING;
	h->te = 1;
	h->chunked = 0;
	if (!trim(&v) || v.to - v.from < 7)
		return 0;
	/* the last coding decides */
	before = ld1(s, v.to - 8);
	if (((ld8(s, v.to - 7) | LOWER) & mask) ==
	    (WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0) & mask))
		h->chunked = v.to - v.from == 7 || before == ',' || is_ows(before);
	return 0;
}

__separately int traceparent_header(struct scratch *s, __u32 from, __u32 to)
{
	struct value v = {.s = s, .from = from, .to = to};
	struct head_info *h;

	if (!s)
		return 0;
	h = &s->f.head;
	h->last = HDR_TRACEPARENT;
	trim(&v);
	from = v.from;
	barrier_var(from);
	/* a second one makes both worthless */
	if (h->tp_count++ || from > HEAD_MAX || v.to < from ||
	    !traceparent_parse(s->buf + from, v.to - from, &h->tp))
		h->tp_count = 2;
	return 0;
}

/* To HTTP/2 over TCP (RFC 7540 3.2)? */
__separately int upgrade_header(struct scratch *s, __u32 from, __u32 to)
{
	struct value v = {.s = s, .from = from, .to = to};

	if (!s)
		return 0;
	s->f.head.is_h2c = trim(&v) && v.to - v.from == 3 &&
			   ((__u32)ld8(s, v.from) & 0xffffff) == ('h' | '2' << 8 | 'c' << 16);
	return 0;
}

static __always_inline void tracestate_header(struct head_info *h, __u32 from, __u32 to)
{
	__u32 line = h->ts_count++;

	h->last = HDR_TRACESTATE;
	barrier_var(line);
	if (line < TS_LINES) {
		h->ts_from[line] = from;
		h->ts_to[line] = to;
	}
}

static __always_inline void header_line(struct scratch *s, __u32 start, __u32 len)
{
	struct head_info *h = &s->f.head;
	__u64 word = ld8(s, start);
	__u8 first = word;

	if (first == ' ' || first == '\t') { /* obs-fold: part of the line before */
		if (h->last == HDR_TRACEPARENT)
			h->tp_count = 2;
		else if (h->last == HDR_FRAMING)
			h->bad = 1;
		else if (h->last == HDR_TRACESTATE)
			h->ts_count = TS_LINES + 1;
		return;
	}
	h->last = HDR_OTHER;
	word |= LOWER;
	if ((first | 0x20) == 'c') {
		if (len >= 15 && word == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
		    (ld8(s, start + 7) | LOWER) == WORD('-', 'l', 'e', 'n', 'g', 't', 'h', ':')) {
			h->last = HDR_FRAMING;
			if (!length_is_plain(s, start + 15, start + len))
				length_header(s, start + 15, start + len);
		}
	} else if ((first | 0x20) == 'u') {
		if (len >= 8 && word == WORD('u', 'p', 'g', 'r', 'a', 'd', 'e', ':')) {
			h->is_upgrade = 1;
			upgrade_header(s, start + 8, start + len);
		}
	} else if ((first | 0x20) == 't') {
		if (len >= 12 && word == WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r') &&
		    (ld8(s, start + 4) | LOWER) == WORD('e', 'p', 'a', 'r', 'e', 'n', 't', ':'))
			traceparent_header(s, start + 12, start + len);
		else if (len >= 11 && word == WORD('t', 'r', 'a', 'c', 'e', 's', 't', 'a') &&
			 (ld8(s, start + 3) | LOWER) ==
			     WORD('c', 'e', 's', 't', 'a', 't', 'e', ':'))
			tracestate_header(h, start + 11, start + len);
		else if (len >= 18 && word == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') &&
			 (ld8(s, start + 8) | LOWER) ==
			     WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
			 (ld1(s, start + 16) | 0x20) == 'g' && ld1(s, start + 17) == ':')
			encoding_header(s, start + 18, start + len);
	}
}

/*
 * Is there nothing in the line from here on for header_line()? What counts is never dull, nor is
 * the empty line; others may be taken for something.
 */
static __always_inline bool is_dull(struct scratch *s, __u32 line)
{
	/* white space, ends of lines, c, t, u; a bit for 64 characters each, as 'I' for a tab */
	const __u64 first = 0x0030000900302608ULL;
	__u64 word = ld8(s, line);
	__u8 second = (word >> 8) | 0x20;

	if (!(first >> (word & 63) & 1))
		return true;
	switch ((__u8)word | 0x20) {
	case 'c': /* content-length */
		return (ld1(s, line + 8) | 0x20) != 'l';
	case 't': /* traceparent, tracestate, transfer-encoding */
		return second != 'r';
	case 'u': /* upgrade */
		return second != 'p';
	}
	return false;
}

/* In a head. Verifiers are told that all ways through a step are alike from here on. */
#define OFFSET(at) ((at)&0xffff)

/* Passes over dull lines, and looks at one that is not. */
static long scan_step(__u32 i, struct walk *w)
{
	struct scratch *s = w->s;
	struct feed *f = &s->f;
	__u32 at = OFFSET(f->scan), line = OFFSET(f->line), end = f->end, len;
	bool found = false;

#pragma unroll
	for (int k = 0; k < SCAN_WORDS; k++) {
		__u32 off;

		if (at >= end)
			break;
		off = newline_in(ld8(s, at));
		at = OFFSET(at + off);
		if (off == 8)
			continue;
		if (at >= end)
			break;
		if (!f->head.lines || !is_dull(s, line)) {
			found = true;
			break;
		}
		f->head.last = HDR_OTHER;
		f->head.bare |= ld1(s, at - 1) != '\r';
		line = at = OFFSET(at + 1);
	}
	f->line = line;
	if (!found) {
		f->scan = at < end ? at : end;
		return at >= end;
	}
	len = at - line;
	f->line = f->scan = at + 1;
	if (len && ld1(s, at - 1) == '\r')
		len--;
	else
		f->head.bare = 1;
	if (!len) {
		f->head.done = 1;
		return 1;
	}
	if (f->rescan && line) /* once it is complete, all of it comes again */
		return 0;
	if (f->head.lines++)
		header_line(s, line, len);
	else if (f->is_rsp)
		status_line(s, line, len);
	else
		request_line(s, line, len);
	return !!f->head.not_http;
}

static __always_inline void head_reset(struct feed *f)
{
	__builtin_memset(&f->head, 0, sizeof(f->head));
	f->line = 0;
	f->scan = 0;
}

/* Goes on with the head in the buffer, up to its end or the end of what is there. */
__separately int head_scan(struct scratch *s)
{
	struct walk w = {.s = s};

	if (s)
		bpf_loop(SCAN_MAX, scan_step, &w, 0);
	return 0;
}

/* One character of a method, and the space behind it. */
static long method_step(__u32 i, struct value *v)
{
	__u8 c = ld1(v->s, i);

	if (i >= v->to || (c == ' ' && i))
		v->bad = 0;
	return !v->bad || !is_tchar(c);
}

/* Could these first `n` bytes be the beginning of a request? */
__separately int head_plausible(struct scratch *s, __u32 n)
{
	struct value v = {.s = s, .to = n, .bad = 1};

	if (!s)
		return 0;
	bpf_loop(METHOD_MAX, method_step, &v, 0);
	return !v.bad;
}

#endif
