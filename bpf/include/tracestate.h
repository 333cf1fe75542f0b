/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __TRACESTATE_H
#define __TRACESTATE_H

#include "feed.h"

/*
 * The tracestate that a server request came with, for the calls that it causes (W3C Trace Context
 * 3.3): the lines in their order as one list, without empty members and the white space around
 * them. A list that breaks the grammar counts for nothing, all of it. A key may begin with a digit,
 * as level 2 has it; the part behind an @ is read as level 1 has it.
 */

#define TS_MEMBERS 32
#define TS_KEY	   256
#define TS_TENANT  241
#define TS_SYSTEM  14
#define TS_VALUE   256

enum ts_where {
	TS_BETWEEN, /* members */
	TS_NAME,    /* a key, or what is before its @ */
	TS_VENDOR,  /* behind the @ */
	TS_TEXT,    /* a value */
};

enum ts_kind {
	TS_LETTER = 1, /* lower case */
	TS_DIGIT = 2,
	TS_MARK = 4,  /* _ - * / */
	TS_PRINT = 8, /* 0x21 to 0x7e without , and = */
};

/* A table, as every branch in a loop over bytes multiplies the verifier's work. */
static const __u8 ts_table[256] = {
    [0x21 ... 0x29] = TS_PRINT,
    ['*'] = TS_PRINT | TS_MARK,
    ['+'] = TS_PRINT,
    ['-'] = TS_PRINT | TS_MARK,
    ['.'] = TS_PRINT,
    ['/'] = TS_PRINT | TS_MARK,
    ['0' ... '9'] = TS_PRINT | TS_DIGIT,
    [0x3a ... 0x3c] = TS_PRINT,
    [0x3e ... 0x5e] = TS_PRINT,
    ['_'] = TS_PRINT | TS_MARK,
    ['`'] = TS_PRINT,
    ['a' ... 'z'] = TS_PRINT | TS_LETTER,
    [0x7b ... 0x7e] = TS_PRINT,
};

struct ts_pair {
	struct scratch *s;
	struct tracestate *out;
};

static __always_inline void ts_put(struct ts_walk *w, struct tracestate *out, __u8 c)
{
	__u32 at = w->len;

	barrier_var(at);
	if (at >= TS_MAX) {
		w->full = 1;
		return;
	}
	out->text[at] = c;
	w->len = at + 1;
}

static __always_inline long ts_bad(struct ts_walk *w)
{
	w->bad = 1;
	return 1;
}

static __always_inline long ts_member_ends(struct ts_walk *w)
{
	if (w->state == TS_BETWEEN)
		return 0;
	if (w->state != TS_TEXT || !w->some || ++w->members > TS_MEMBERS)
		return ts_bad(w);
	w->state = TS_BETWEEN;
	if (!w->full) /* what does not fit is left out, from the end on */
		w->whole = w->len = w->solid;
	return 0;
}

/* One character, or the end of the line. */
static long ts_step(__u32 i, struct ts_pair *p)
{
	struct ts_walk *w = &p->s->ts;
	bool blank, tab;
	__u32 is;
	__u8 c;

	if (w->at >= w->to) {
		ts_member_ends(w);
		return 1;
	}
	c = ld1(p->s, w->at++);
	is = ts_table[c];
	tab = c == '\t';
	blank = tab || c == ' ';
	if (c == ',')
		return ts_member_ends(w);
	switch (w->state) {
	case TS_BETWEEN:
		if (blank)
			return 0;
		if (!(is & (TS_LETTER | TS_DIGIT)))
			return ts_bad(w);
		if (w->members)
			ts_put(w, p->out, ',');
		w->state = TS_NAME;
		w->part = 1;
		ts_put(w, p->out, c);
		return 0;
	case TS_NAME:
		if (c == '=') {
			if (w->part > TS_KEY)
				return ts_bad(w);
			goto value;
		}
		if (c == '@') {
			if (w->part > TS_TENANT)
				return ts_bad(w);
			w->state = TS_VENDOR;
			w->part = 0;
			ts_put(w, p->out, c);
			return 0;
		}
		if (!(is & (TS_LETTER | TS_DIGIT | TS_MARK)))
			return ts_bad(w);
		w->part++;
		ts_put(w, p->out, c);
		return 0;
	case TS_VENDOR:
		if (c == '=') {
			if (!w->part || w->part > TS_SYSTEM)
				return ts_bad(w);
			goto value;
		}
		if (!(is & (w->part ? TS_LETTER | TS_DIGIT | TS_MARK : TS_LETTER)))
			return ts_bad(w);
		w->part++;
		ts_put(w, p->out, c);
		return 0;
	case TS_TEXT:
		if (tab) {
			w->tab = 1;
			return 0;
		}
		if (!blank && (w->tab || !(is & TS_PRINT)))
			return ts_bad(w);
		if (w->tab)
			return 0;
		w->part++;
		ts_put(w, p->out, c);
		if (!blank) {
			/* blanks are part of a value that goes on behind them */
			if (w->part > TS_VALUE)
				return ts_bad(w);
			w->some = 1;
			w->solid = w->len;
		}
		return 0;
	}
	return ts_bad(w);
value:
	w->state = TS_TEXT;
	w->part = 0;
	w->tab = w->some = 0;
	ts_put(w, p->out, c);
	return 0;
}

/* Reads the lines that the head scan found. Leaves `out` empty where there is no valid list. */
__separately int tracestate_collect(struct scratch *s, struct tracestate *out)
{
	struct ts_pair p = {.s = s, .out = out};
	__u32 lines;

	if (!s || !out)
		return 0;
	lines = s->f.head.ts_count;
	__builtin_memset(&s->ts, 0, sizeof(s->ts));
	out->len = 0;
	if (lines > TS_LINES)
		return 0;
	for (__u32 i = 0; i < TS_LINES; i++) {
		if (i >= lines)
			break;
		s->ts.at = s->f.head.ts_from[i];
		s->ts.to = s->f.head.ts_to[i];
		bpf_loop(HEAD_MAX, ts_step, &p, 0);
	}
	if (!s->ts.bad)
		out->len = s->ts.whole;
	return 0;
}

#endif
