/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __CONNS_H
#define __CONNS_H

#include "common.h"

/*
 * The state of a socket lies in the socket's own storage. Kprobes may not reach that: where they
 * feed the core it lies in a hash, from the first call on the socket until it is destroyed, under
 * its address. The number of its inode, which the next socket at the address does not have, tells
 * whether it is still the same.
 */

#ifdef BY_KPROBE
#define CONNS_IN_HASH 1
#else
#define CONNS_IN_HASH (cfg.conns_in_hash)
#endif

/* Numbers of our own for sockets that nobody has asked the cookie of; above all cookies. */
#define OWN_NUMBER (1ULL << 43)

extern __u64 own_numbers;

/* 0 where no descriptor leads to it, as after its close. */
static __always_inline __u32 conn_inode(struct sock *sk)
{
	struct socket *socket = BPF_CORE_READ(sk, sk_socket);

	return socket ? BPF_CORE_READ((struct socket_alloc *)socket, vfs_inode.i_ino) : 0;
}

static __always_inline struct sk_ctx *conn_hashed(__u64 sk)
{
	return bpf_map_lookup_elem(&conns, &sk);
}

static __always_inline struct sk_ctx *conn_find(struct sock *sk)
{
	struct sk_ctx *c;
	__u32 inode;

	if (!CONNS_IN_HASH)
		return bpf_sk_storage_get(&sk_ctxs, sk, 0, 0);
	c = conn_hashed((__u64)sk);
	inode = c ? conn_inode(sk) : 0;
	return inode && c->inode && inode != c->inode ? NULL : c;
}

/* Its state, zeroed if it has none yet. */
static __always_inline struct sk_ctx *conn_take(struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct sk_ctx *c;
	struct head *none;
	__u32 zero = 0;

	if (!CONNS_IN_HASH) {
		c = bpf_sk_storage_get(&sk_ctxs, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		/* none, too, if another task has just made it */
		return c ?: conn_find(sk);
	}
	c = conn_find(sk);
	if (c)
		return c;
	none = bpf_map_lookup_elem(&no_head, &zero);
	if (!none)
		return NULL;
	/* what is there is another socket's, or was made just now */
	if (bpf_map_update_elem(&conns, &key, none, BPF_NOEXIST)) {
		c = conn_find(sk);
		if (c || bpf_map_update_elem(&conns, &key, none, BPF_ANY))
			return c;
	}
	c = conn_hashed(key);
	if (c)
		c->inode = conn_inode(sk);
	return c;
}

static __always_inline __u64 conn_number(struct sock *sk)
{
#ifdef BY_KPROBE
	__u64 cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);

	return cookie ?: OWN_NUMBER | __sync_fetch_and_add(&own_numbers, 1);
#else
	return bpf_get_socket_cookie(sk);
#endif
}

#endif
