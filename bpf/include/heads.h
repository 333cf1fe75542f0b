/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __HEADS_H
#define __HEADS_H

#include "head.h"

/* Heads, and header blocks, that come in pieces: the bytes so far wait in `heads`. */

static __always_inline void heads_forget(const struct sk_ctx *c, bool response)
{
	struct head_key k = {.conn = c->cookie, .response = response};

	bpf_map_delete_elem(&heads, &k);
}

static __always_inline void dir_forget(struct sk_ctx *c, struct dir *d, bool response)
{
	if (d->head_len)
		heads_forget(c, response);
	d->head_len = 0;
}

/* Keeps the bytes of an incomplete head until the next feed. 0: there is no room. */
__separately int head_save(struct scratch *s, struct sk_ctx *c, __u32 had)
{
	struct head_key k = {};
	struct head *kept, *none;
	__u32 len, zero = 0;

	if (!s || !c)
		return 0;
	k.conn = c->cookie;
	k.response = s->f.is_rsp;
	len = s->f.is_rsp ? c->rsp.head_len : c->req.head_len;
	kept = bpf_map_lookup_elem(&heads, &k);
	if (!kept) {
		none = bpf_map_lookup_elem(&no_head, &zero);
		if (none)
			bpf_map_update_elem(&heads, &k, none, BPF_NOEXIST);
		kept = bpf_map_lookup_elem(&heads, &k);
		if (!kept)
			return 0;
		had = 0;
	}
	for (int i = 0; i < HEAD_MAX / HEAD_PIECE && had < len; i++) {
		__u32 n = len - had;

		if (n > HEAD_PIECE)
			n = HEAD_PIECE;
		barrier_var(n);
		barrier_var(had);
		if (had >= HEAD_MAX || n > HEAD_PIECE)
			return 1;
		bpf_probe_read_kernel(kept->bytes + had, n, s->buf + had);
		had += n;
	}
	return 1;
}

/* 0: they are not there. */
__separately int head_restore(struct scratch *s, struct sk_ctx *c)
{
	struct head_key k = {};
	struct head *kept;
	__u32 len;

	if (!s || !c)
		return 0;
	k.conn = c->cookie;
	k.response = s->f.is_rsp;
	kept = bpf_map_lookup_elem(&heads, &k);
	len = s->f.is_rsp ? c->rsp.head_len : c->req.head_len;
	barrier_var(len);
	if (!kept || len > HEAD_MAX)
		return 0;
	bpf_probe_read_kernel(s->buf, len, kept->bytes);
	return 1;
}

#endif
