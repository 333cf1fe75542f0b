// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "runtime.h"

/*
 * An object of its own, on the maps of the tracer: what a runtime does with a request in its own
 * memory, seen where it enters a library.
 */
const volatile struct tracer_config cfg = {};

/* Attached nowhere: user space runs it, with a tgid and what a probe in it needs of the tracer. */
SEC("raw_tp")
int rt_mark(struct bpf_raw_tracepoint_args *ctx)
{
	struct proc *p = proc_at(proc_find(ctx->args[0]) - 1);

	if (p)
		__sync_fetch_and_or(&p->flags, ctx->args[1] & (PROC_HANDS | PROC_CORE));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
