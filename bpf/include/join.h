/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __JOIN_H
#define __JOIN_H

#include "feed.h"
#include "slots.h"

/* The two ends of a connection on this host: the client's leaves its request where the server's
 * looks. */

/* The name under which the two ends of a connection on this host know one request. */
static __always_inline void join_key(const struct sk_ctx *c, __u64 unix_client, __u32 seq,
				     bool client, struct join_key *k)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->seq = seq;
	if (c->flags & SK_UNIX) {
		*(__u64 *)k->addr = unix_client;
		k->is_unix = 1;
	} else {
		__builtin_memcpy(k->addr, client ? c->laddr : c->raddr, 16);
		k->port = client ? c->lport : c->rport;
		k->server_seq = c->server_seq;
	}
}

/* TCP sequence of the first byte that the server sends: the rest may be alike in two namespaces. */
static __always_inline void note_server_seq(struct sk_ctx *c, __u64 sk, bool client)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	if (c->server_seq || c->flags & SK_UNIX)
		return;
	if (client)
		c->server_seq = BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, bytes_received);
	else
		c->server_seq = BPF_CORE_READ(tp, snd_una) - BPF_CORE_READ(tp, bytes_acked);
}

/* Number of the socket at the other end of a unix connection; 0 if it has none. */
static __always_inline __u64 unix_peer_number(struct sock *sk)
{
	struct sock *peer = BPF_CORE_READ((struct unix_sock *)sk, peer);
	struct sk_ctx *c;

	if (CONNS_IN_HASH) {
		c = conn_hashed((__u64)peer);
		return c ? c->cookie : 0;
	}
	return peer ? BPF_CORE_READ(peer, __sk_common.skc_cookie.counter) : 0;
}

/* Is there any request whose server is still to be met? */
static __always_inline bool may_be_joined(const struct scratch *s)
{
	return cfg.join && s->f.can_join && joins_live;
}

/* The client's end of the connection, if it is on this host and known: its request. */
__separately int joined(struct scratch *s, struct sk_ctx *c)
{
	struct join_key jk;
	struct join *j;
	__u64 peer;

	if (!s || !c)
		return 0;
	peer = c->flags & SK_UNIX ? unix_peer_number((struct sock *)s->f.sk) : 0;
	note_server_seq(c, s->f.sk, false);
	join_key(c, peer, c->flags & SK_UNIX ? s->f.stream : s->f.first_seq, false, &jk);
	j = bpf_map_lookup_elem(&joins, &jk);
	if (!j)
		return 0;
	s->join = *j;
	return 1;
}

/* Lets the server at the other end find this request. */
__separately int joinable(struct scratch *s, struct sk_ctx *c, struct open_req *r)
{
	struct join_key jk;
	struct join j;

	if (!s || !c || !r || !cfg.join || !s->f.can_join)
		return 0;
	r->join_seq = c->flags & SK_UNIX ? s->f.stream : s->f.first_seq;
	note_server_seq(c, s->f.sk, true);
	join_key(c, c->cookie, r->join_seq, true, &jk);
	j.trace_flags = r->ev.trace_flags;
	j.pad = 0;
	__builtin_memcpy(&j.ctx, r->ev.trace_id, sizeof(j.ctx));
	if (!bpf_map_update_elem(&joins, &jk, &j, BPF_NOEXIST)) {
		r->flags |= REQ_JOINABLE;
		__sync_fetch_and_add(&joins_live, 1);
	}
	return 0;
}

static __always_inline void join_forget(struct sk_ctx *c, __u32 seq)
{
	struct join_key jk;

	join_key(c, c->cookie, seq, true, &jk);
	bpf_map_delete_elem(&joins, &jk);
	__sync_fetch_and_add(&joins_live, -1);
}

/* A client may give requests up before the server has read them: the last of them are kept. */
static __always_inline void join_orphaned(struct sk_ctx *c, __u32 seq)
{
	__u32 at = c->orphans % ORPHANS;

	if (c->orphans++ >= ORPHANS)
		join_forget(c, c->orphan_seqs[at]);
	c->orphan_seqs[at] = seq;
}

static __always_inline void join_forget_orphans(struct sk_ctx *c)
{
	for (int i = 0; i < ORPHANS; i++) {
		if (i < c->orphans)
			join_forget(c, c->orphan_seqs[i]);
	}
	c->orphans = 0;
}

#endif
