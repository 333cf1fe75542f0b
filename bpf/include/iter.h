/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __ITER_H
#define __ITER_H

#include "common.h"

/* v6.4: de4f5fed3f23 ("iov_iter: add iter_iovec() helper") renamed the member */
struct iov_iter___v6_3 {
	const struct iovec *iov;
} __attribute__((preserve_access_index));

/* v6.0: fcb14cb1bdac ("new iov_iter flavour - ITER_UBUF") */
enum iter_type___v6_0 {
	ITER_UBUF___v6_0 = 1,
};

/* User bytes behind a kernel iterator that has not advanced yet. */
static __always_inline void src_from_iter(const struct iov_iter *it, struct src *out)
{
	__u8 type = FIELD(it, iter_type);

	out->kind = SRC_NONE;
	out->ptr = out->len = 0;
	out->skip = 0;
	if (bpf_core_enum_value_exists(enum iter_type___v6_0, ITER_UBUF___v6_0) &&
	    type == bpf_core_enum_value(enum iter_type___v6_0, ITER_UBUF___v6_0)) {
		out->kind = SRC_BUF;
		out->ptr = (__u64)BPF_CORE_READ(it, ubuf) + FIELD(it, iov_offset);
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		out->kind = SRC_KIOV;
		if (bpf_core_field_exists(it->__iov))
			out->ptr = (__u64)FIELD(it, __iov);
		else
			out->ptr = (__u64)FIELD((struct iov_iter___v6_3 *)it, iov);
		out->len = FIELD(it, nr_segs);
		out->skip = FIELD(it, iov_offset);
	}
}

/* The same behind one that has advanced by `ret`, where it does not go from element to element. */
static __always_inline void src_behind_iter(const struct iov_iter *it, int ret, struct src *out)
{
	if (ret > 0 && bpf_core_enum_value_exists(enum iter_type___v6_0, ITER_UBUF___v6_0) &&
	    FIELD(it, iter_type) == bpf_core_enum_value(enum iter_type___v6_0, ITER_UBUF___v6_0)) {
		out->kind = SRC_BUF;
		out->ptr = (__u64)BPF_CORE_READ(it, ubuf) + FIELD(it, iov_offset) - ret;
		out->len = ret;
	}
}

#endif
