/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __W3C_H
#define __W3C_H

/*
 * The value of a traceparent header, by the W3C recommendation (Trace Context level 2, 3.2):
 *
 *	00-<32 hex trace id>-<16 hex parent id>-<2 hex flags>
 *
 * Lower-case hex only; ids of all zeros and version ff are invalid; version 00 has exactly this
 * length, a later one may go on after another dash.
 */
#define TRACEPARENT_LEN 55

/*
 * Value of a hex digit plus one, 0 for anything else. A table, as every branch in a loop over
 * bytes multiplies the verifier's work.
 */
static const __u8 hex_table[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static __always_inline int hex_digit(__u8 c)
{
	return hex_table[c] - 1;
}

static __always_inline bool hex_bytes(const __u8 *text, __u8 *out, int n)
{
	int bad = 0;

	for (int i = 0; i < n; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		bad |= high | low;
		out[i] = (__u32)high << 4 | (__u32)low;
	}
	return bad >= 0;
}

struct traceparent {
	struct trace_ctx ctx;
	__u32 flags;
	__u32 pad;
};

/* `text` has TRACEPARENT_LEN + 1 readable bytes, `len` is the length of the header's value. */
static __always_inline bool traceparent_parse(const __u8 *text, __u32 len, struct traceparent *out)
{
	__u8 version, flags;

	if (len < TRACEPARENT_LEN)
		return false;
	if (!hex_bytes(text, &version, 1) || version == 0xff)
		return false;
	if (len > TRACEPARENT_LEN && (version == 0 || text[TRACEPARENT_LEN] != '-'))
		return false;
	if (text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (!hex_bytes(text + 3, out->ctx.trace_id, 16) || is_zero16(out->ctx.trace_id))
		return false;
	if (!hex_bytes(text + 36, out->ctx.span_id, 8) || is_zero8(out->ctx.span_id))
		return false;
	if (!hex_bytes(text + 53, &flags, 1))
		return false;
	/* sampled and random are defined; the rest must not be passed on */
	out->flags = flags & 3;
	return true;
}

#endif
