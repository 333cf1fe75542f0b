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

/* Keeps the bytes of an incomplete head until the next feed. False: there is no room. */
static __always_inline bool head_save(struct walk *w, __u32 had)
{
	struct head_key k = {.conn = w->c->cookie, .response = w->s->f.is_rsp};
	struct head *kept = bpf_map_lookup_elem(&heads, &k);
	__u32 len = w->d->head_len, zero = 0;

	if (!kept) {
		struct head *none = bpf_map_lookup_elem(&no_head, &zero);

		if (none)
			bpf_map_update_elem(&heads, &k, none, BPF_NOEXIST);
		kept = bpf_map_lookup_elem(&heads, &k);
		if (!kept)
			return false;
		had = 0;
	}
	for (int i = 0; i < HEAD_MAX / HEAD_PIECE && had < len; i++) {
		__u32 n = len - had;

		if (n > HEAD_PIECE)
			n = HEAD_PIECE;
		barrier_var(n);
		barrier_var(had);
		if (had >= HEAD_MAX || n > HEAD_PIECE)
			return true;
		bpf_probe_read_kernel(kept->bytes + had, n, w->s->buf + had);
		had += n;
	}
	return true;
}

/* False: it is not there. */
static __always_inline bool head_restore(struct walk *w)
{
	struct head_key k = {.conn = w->c->cookie, .response = w->s->f.is_rsp};
	struct head *kept = bpf_map_lookup_elem(&heads, &k);
	__u32 len = w->d->head_len;

	barrier_var(len);
	if (!kept || len > HEAD_MAX)
		return false;
	bpf_probe_read_kernel(w->s->buf, len, kept->bytes);
	return true;
}

#endif
