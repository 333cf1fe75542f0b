/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __INJECT_H
#define __INJECT_H

#include "common.h"

/* "traceparent: 00-", 32 digits, '-', 16 digits, '-', 2 digits, end of line */
#define TP_LINE	    70
#define TS_NAME_LEN 12 /* "tracestate: " */

struct tp_line {
	__u8 text[72];
};

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

static __always_inline void tp_line_write(struct tp_line *line, const __u8 *trace_id,
					  const __u8 *span_id, __u8 flags)
{
	__u8 *t = line->text;

	__builtin_memcpy(t, "traceparent: 00-", 16);
	hex_write(t + 16, trace_id, 16);
	t[48] = '-';
	hex_write(t + 49, span_id, 8);
	t[65] = '-';
	hex_write(t + 66, &flags, 1);
	t[68] = '\r';
	t[69] = '\n';
	t[70] = t[71] = 0;
}

/* Key of `denied`: longest match over port, then address. Port 0 is every port. */
struct net_prefix {
	__u32 bits;
	__u16 port; /* network order */
	__u8 addr[16];
	__u16 pad;
};

#endif
