// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "runtime.h"

#define TCP_INFO_ 11

/* The request that is open on a connection, in what was placed by its cookie. */
static __always_inline struct open_req *req_placed(__u64 cookie, struct req_ref *ref)
{
#pragma unroll
	for (int i = 0; i < SLOT_PROBES; i++) {
		struct open_req *r;

		ref->slot = slot_probe(cookie, i);
		r = slot_at(ref->slot);
		if (!r)
			continue;
		ref->tag = r->tag;
		if (ref->tag >> 20 == cookie && r->flags & REQ_PLACED && r->ev.role == ROLE_SERVER)
			return r;
	}
	return NULL;
}

/*
 * puma reads requests on one thread and serves them on others. A worker asks for the state of the
 * connection before it calls the application, to leave out clients that have gone (5.0 and newer,
 * Puma::Request#handle_request): from then on it works for what is open there.
 */
static __always_inline void looked_at(struct sock *sk)
{
	struct req_ref ref = {};
	struct open_req *r;
	__u64 cookie = cookie_of(sk);

	if (!cookie)
		return;
	r = req_placed(cookie, &ref);
	if (r && takes_over(&ref))
		__sync_fetch_and_or(&r->flags, REQ_HELD);
}

/* int getsockopt(int fd, int level, int option, void *value, socklen_t *length) */
static __always_inline int getsockopt_called(struct pt_regs *ctx)
{
	if ((int)PT_REGS_PARM2(ctx) != IPPROTO_TCP || (int)PT_REGS_PARM3(ctx) != TCP_INFO_)
		return 0;
	stay();
	if (current_selected() >> 32 & SELECT_THREADS)
		looked_at(socket_of(bpf_get_current_task_btf(), PT_REGS_PARM1(ctx)));
	go();
	return 0;
}

SEC("uprobe")
int up_getsockopt(struct pt_regs *ctx)
{
	return getsockopt_called(ctx);
}

/* The same without perf_event_open(), which distributions forbid to users. */
SEC("uprobe.multi")
int um_getsockopt(struct pt_regs *ctx)
{
	return getsockopt_called(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
