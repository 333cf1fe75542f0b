/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __INJECT_H
#define __INJECT_H

#include "common.h"
#include "w3c.h"

/* "traceparent: 00-", 32 digits, '-', 16 digits, '-', 2 digits, end of line */
#define TP_LINE 70
#define TS_LINE 12 /* "tracestate: " */

/* The same as literals of HPACK; of the second the length may take two bytes more. */
#define TP_LITERAL 69
#define TS_LITERAL 13

static __always_inline __u8 hex_char(__u8 nibble)
{
	return nibble + '0' + (nibble > 9) * ('a' - '0' - 10);
}

static __always_inline void hex_write(__u8 *to, const __u8 *from, int n)
{
	for (int i = 0; i < n; i++) {
		to[2 * i] = hex_char(from[i] >> 4);
		to[2 * i + 1] = hex_char(from[i] & 15);
	}
}

/* Ids and flags, from the first digit on. */
static __always_inline void tp_digits(__u8 *t, const __u8 *trace_id, const __u8 *span_id,
				      __u8 flags)
{
	hex_write(t, trace_id, 16);
	t[32] = '-';
	hex_write(t + 33, span_id, 8);
	t[49] = '-';
	hex_write(t + 50, &flags, 1);
}

static __always_inline void fields_http1(struct fields *f, const __u8 *trace_id,
					 const __u8 *span_id, __u8 flags, __u32 state_len)
{
	__builtin_memcpy(f->tp, "traceparent: 00-", 16);
	tp_digits(f->tp + 16, trace_id, span_id, flags);
	f->tp[68] = '\r';
	f->tp[69] = '\n';
	f->tp_len = TP_LINE;
	__builtin_memcpy(f->ts, "tracestate: ", 12);
	f->ts_len = state_len ? TS_LINE : 0;
	f->end_len = state_len ? 2 : 0;
}

static __always_inline void fields_http2(struct fields *f, const __u8 *trace_id,
					 const __u8 *span_id, __u8 flags, __u32 state_len)
{
	__u32 rest = state_len - 127;

	f->tp[0] = 0;
	f->tp[1] = 11;
	__builtin_memcpy(f->tp + 2, "traceparent", 11);
	f->tp[13] = TRACEPARENT_LEN;
	__builtin_memcpy(f->tp + 14, "00-", 3);
	tp_digits(f->tp + 17, trace_id, span_id, flags);
	f->tp_len = TP_LITERAL;
	f->ts[0] = 0;
	f->ts[1] = 10;
	__builtin_memcpy(f->ts + 2, "tracestate", 10);
	f->end_len = 0;
	if (!state_len) {
		f->ts_len = 0;
	} else if (state_len < 127) {
		f->ts[12] = state_len;
		f->ts_len = TS_LITERAL;
	} else if (rest < 128) {
		f->ts[12] = 127;
		f->ts[13] = rest;
		f->ts_len = TS_LITERAL + 1;
	} else {
		f->ts[12] = 127;
		f->ts[13] = rest | 128;
		f->ts[14] = rest >> 7;
		f->ts_len = TS_LITERAL + 2;
	}
}

/* Key of `denied`: longest match over port, then address. Port 0 is every port. */
struct net_prefix {
	__u32 bits;
	__u16 port; /* network order */
	__u8 addr[16];
	__u16 pad;
};

#endif
