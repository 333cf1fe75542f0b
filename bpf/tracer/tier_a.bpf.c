// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "core.h"
#include "iter.h"

/*
 * Tier A: trampolines. The entry sees the iterator before it advances, the exit what became of
 * it; task storage carries it from one to the other, as a task is in one call at a time.
 */

static __always_inline struct task_ctx *call_begins(__u64 who, struct msghdr *msg)
{
	struct task_ctx *t;

	if (!who)
		return NULL;
	t = task_get();
	if (!t)
		return NULL;
	src_from_iter(&msg->msg_iter, &t->src);
	return t;
}

/* int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size) */
SEC("fentry/tcp_sendmsg")
int BPF_PROG(fe_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	__u64 who = current_selected();
	struct task_ctx *t = call_begins(who, msg);

	if (!t)
		return 0;
	if (t->src.kind == SRC_BUF)
		t->src.len = size;
	on_send_early(sk, &t->src, who, size);
	return 0;
}

static __always_inline int sent(struct sock *sk, int ret)
{
	__u64 who = current_selected();
	struct task_ctx *t;

	if (!who)
		return 0;
	t = task_find();
	if (!t)
		return 0;
	on_send(sk, &t->src, who, ret);
	return 0;
}

static __always_inline int received(struct sock *sk, int ret, int flags)
{
	__u64 who = current_selected();
	struct task_ctx *t;

	if (!who)
		return 0;
	t = task_find();
	if (!t)
		return 0;
	on_recv(sk, &t->src, who, ret, flags);
	return 0;
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(fx_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size, int ret)
{
	return sent(sk, ret);
}

/*
 * int tcp_bpf_sendmsg(struct sock *sk, struct msghdr *msg, size_t size): sends of sockets in a
 * sockhash. The sk_msg program runs inside, where it may not see the task.
 */
SEC("fentry/tcp_bpf_sendmsg")
int BPF_PROG(fe_tcp_bpf_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	struct task_ctx *t = call_begins(current_selected(), msg);
	struct sk_ctx *c;

	if (!t)
		return 0;
	if (t->src.kind == SRC_BUF)
		t->src.len = size;
	if (cfg.task_storage)
		return 0;
	c = bpf_sk_storage_get(&sk_ctxs, sk, 0, 0);
	if (c) {
		c->work = t->work;
		c->sender = bpf_get_current_pid_tgid();
	}
	return 0;
}

SEC("fexit/tcp_bpf_sendmsg")
int BPF_PROG(fx_tcp_bpf_sendmsg, struct sock *sk, struct msghdr *msg, size_t size, int ret)
{
	struct sk_ctx *c;

	sent(sk, ret);
	if (cfg.task_storage)
		return 0;
	c = bpf_sk_storage_get(&sk_ctxs, sk, 0, 0);
	if (c)
		c->sender = 0;
	return 0;
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
	call_begins(current_selected(), msg);
	return 0;
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(fx_tcp_recvmsg4, struct sock *sk, struct msghdr *msg, size_t len, int flags, int ret)
{
	return received(sk, ret, flags);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(fx_tcp_recvmsg5, struct sock *sk, struct msghdr *msg, size_t len, int flags,
	     int *addr_len, int ret)
{
	return received(sk, ret, flags);
}

/* int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) */
SEC("fentry/unix_stream_sendmsg")
int BPF_PROG(fe_unix_sendmsg, struct socket *sock, struct msghdr *msg)
{
	call_begins(current_selected(), msg);
	return 0;
}

SEC("fexit/unix_stream_sendmsg")
int BPF_PROG(fx_unix_sendmsg, struct socket *sock, struct msghdr *msg, size_t len, int ret)
{
	return sent(sock->sk, ret);
}

/* int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags) */
SEC("fentry/unix_stream_recvmsg")
int BPF_PROG(fe_unix_recvmsg, struct socket *sock, struct msghdr *msg)
{
	call_begins(current_selected(), msg);
	return 0;
}

SEC("fexit/unix_stream_recvmsg")
int BPF_PROG(fx_unix_recvmsg, struct socket *sock, struct msghdr *msg, size_t size, int flags,
	     int ret)
{
	return received(sock->sk, ret, flags);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
