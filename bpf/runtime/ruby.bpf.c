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
static __always_inline int looked_at(int fd, int level, int option)
{
	struct req_ref ref = {};
	struct open_req *r;
	struct sock *sk;
	__u64 who, cookie;

	if (level != IPPROTO_TCP || option != TCP_INFO_)
		return 0;
	who = current_selected();
	if (!(who >> 32 & SELECT_THREADS))
		return 0;
	sk = socket_of(bpf_get_current_task_btf(), fd);
	cookie = sk ? cookie_of(sk) : 0;
	if (!cookie)
		return 0;
	r = req_placed(cookie, &ref);
	if (!r)
		return 0;
	if (takes_over(&ref))
		__sync_fetch_and_or(&r->flags, REQ_HELD);
	return 0;
}

/* int getsockopt(int fd, int level, int option, void *value, socklen_t *length) */
SEC("uprobe")
int BPF_UPROBE(up_getsockopt, int fd, int level, int option)
{
	return looked_at(fd, level, option);
}

/* The same without perf_event_open(), which distributions forbid to users. */
SEC("uprobe.multi")
int BPF_UPROBE(um_getsockopt, int fd, int level, int option)
{
	return looked_at(fd, level, option);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
