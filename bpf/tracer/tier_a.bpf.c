// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "core.h"
#include "iter.h"
#include "stay.h"

/*
 * Tier A: trampolines. The entry sees the iterator before it advances, the exit what became of
 * it; task storage carries it from one to the other, as a task is in one call at a time.
 */

static __always_inline struct task_ctx *call_begins(struct sock *sk, struct msghdr *msg)
{
	struct task_ctx *t = task_get();

	if (!t)
		return NULL;
	src_from_iter(&msg->msg_iter, &t->src);
	t->call_sk = (__u64)sk;
	return t;
}

/* The beginning of a call of which nothing is known yet but where its bytes will be. */
static __always_inline int call_noted(struct sock *sk, struct msghdr *msg)
{
	if (!current_selected())
		return 0;
	stay();
	call_begins(sk, msg);
	go();
	return 0;
}

/*
 * What the entry noted; if it went unseen, what the iterator still says, unless the function may
 * leave that further on than it returns.
 */
static __always_inline void call_ends(struct task_ctx *t, struct sock *sk, struct msghdr *msg,
				      int ret, struct src *src)
{
	if (t->call_sk == (__u64)sk)
		*src = t->src;
	else if (msg)
		src_behind_iter(&msg->msg_iter, ret, src);
	t->call_sk = 0;
}

/* int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size) */
SEC("fentry/tcp_sendmsg")
int BPF_PROG(fe_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	__u64 who = current_selected();
	struct task_ctx *t;

	if (!who)
		return 0;
	stay();
	t = call_begins(sk, msg);
	if (t) {
		if (t->src.kind == SRC_BUF)
			t->src.len = size;
		on_send_early(sk, &t->src, who, size);
	}
	go();
	return 0;
}

static __always_inline int sent(struct sock *sk, struct msghdr *msg, int ret)
{
	__u64 who = current_selected();
	struct src src = {};
	struct task_ctx *t;

	if (!who)
		return 0;
	stay();
	t = task_get();
	if (t) {
		call_ends(t, sk, msg, ret, &src);
		on_send(sk, &src, who, ret, 0);
	}
	go();
	return 0;
}

static __always_inline int received(struct sock *sk, struct msghdr *msg, int ret, int flags)
{
	__u64 who = current_selected();
	struct src src = {};
	struct task_ctx *t;

	if (!who)
		return 0;
	stay();
	t = task_get();
	if (t) {
		call_ends(t, sk, msg, ret, &src);
		on_recv(sk, &src, who, ret, flags, 0);
	}
	go();
	return 0;
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(fx_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size, int ret)
{
	return sent(sk, msg, ret);
}

/*
 * int tcp_bpf_sendmsg(struct sock *sk, struct msghdr *msg, size_t size): sends of sockets in a
 * sockhash. The sk_msg program runs inside, where it may not see the task.
 */
SEC("fentry/tcp_bpf_sendmsg")
int BPF_PROG(fe_tcp_bpf_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	struct task_ctx *t;

	if (!current_selected())
		return 0;
	stay();
	t = call_begins(sk, msg);
	if (t && t->src.kind == SRC_BUF)
		t->src.len = size;
	if (t)
		work_lend(sk, t);
	go();
	return 0;
}

SEC("fexit/tcp_bpf_sendmsg")
int BPF_PROG(fx_tcp_bpf_sendmsg, struct sock *sk, struct msghdr *msg, size_t size, int ret)
{
	struct task_ctx *t = current_selected() ? task_find() : NULL;

	if (t)
		work_return(sk, t);
	return sent(sk, NULL, ret);
}

/*
 * tcp_recvmsg() lost an argument twice: (sk, msg, len, nonblock, flags, addr_len) up to v5.18,
 * (sk, msg, len, flags, addr_len) since ec095263a965 ("net: remove noblock parameter from
 * recvmsg() entities"), (sk, msg, len, flags) in v7.2. The entry needs the first two only; of
 * the exits, user space loads the one whose arity BTF gives.
 */
SEC("fentry/tcp_recvmsg")
int BPF_PROG(fe_tcp_recvmsg, struct sock *sk, struct msghdr *msg)
{
	return call_noted(sk, msg);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(fx_tcp_recvmsg4, struct sock *sk, struct msghdr *msg, size_t len, int flags, int ret)
{
	return received(sk, msg, ret, flags);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(fx_tcp_recvmsg6, struct sock *sk, struct msghdr *msg, size_t len, int nonblock,
	     int flags, int *addr_len, int ret)
{
	return received(sk, msg, ret, flags);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(fx_tcp_recvmsg5, struct sock *sk, struct msghdr *msg, size_t len, int flags,
	     int *addr_len, int ret)
{
	return received(sk, msg, ret, flags);
}

/* int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) */
SEC("fentry/unix_stream_sendmsg")
int BPF_PROG(fe_unix_sendmsg, struct socket *sock, struct msghdr *msg)
{
	return call_noted(sock->sk, msg);
}

SEC("fexit/unix_stream_sendmsg")
int BPF_PROG(fx_unix_sendmsg, struct socket *sock, struct msghdr *msg, size_t len, int ret)
{
	return sent(sock->sk, msg, ret);
}

/* int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags) */
SEC("fentry/unix_stream_recvmsg")
int BPF_PROG(fe_unix_recvmsg, struct socket *sock, struct msghdr *msg)
{
	return call_noted(sock->sk, msg);
}

SEC("fexit/unix_stream_recvmsg")
int BPF_PROG(fx_unix_recvmsg, struct socket *sock, struct msghdr *msg, size_t size, int flags,
	     int ret)
{
	return received(sock->sk, msg, ret, flags);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
