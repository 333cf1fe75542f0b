// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "core.h"
#include "iter.h"
#include "stay.h"
#include "syscalls.h"

/*
 * Tier C: neither trampolines nor kprobes. sock_send_length and sock_recv_length (v6.3:
 * 6e6eda44b939, "sock: add tracepoint for send recv length") carry the socket in process
 * context, but not the bytes. Those are where the system call that is in progress says: its
 * arguments are still in the registers that the task entered the kernel with. So no hook on
 * system calls is needed, which would put every task of the host on the slow path.
 */

struct umsghdr {
	__u64 name;
	__u64 namelen;
	__u64 iov;
	__u64 iovlen;
	__u64 control;
	__u64 controllen;
	__u64 flags;
};

static __always_inline void src_of_msg(__u64 at, struct src *src)
{
	struct umsghdr msg;

	if (bpf_probe_read_user(&msg, sizeof(msg), (void *)at))
		return;
	src->kind = SRC_UIOV;
	src->ptr = msg.iov;
	src->len = msg.iovlen;
}

/*
 * Each message of sendmmsg() and recvmmsg() fires once. The vector goes on while every message
 * went through whole: anything else ends the call, and the next begins at its start again.
 */
static __always_inline void src_of_mmsg(__u64 vector, __u64 vlen, int ret, struct src *src)
{
	struct task_ctx *t = task_get();
	__u32 at;

	if (!t)
		return;
	if (t->mmsg_at != vector || t->mmsg_next >= vlen)
		t->mmsg_next = 0;
	at = t->mmsg_next++;
	t->mmsg_at = ret > 0 ? vector : 0;
	src_of_msg(vector + (__u64)at * (sizeof(struct umsghdr) + 8), src);
}

static __always_inline void src_of_call(struct task_struct *task, int ret, struct src *src)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 second, third;

	/* an io_uring worker has no call of its own; a 32-bit one has other numbers */
	if (task->flags & PF_IO_WORKER_ || call_is_compat(task))
		return;
	second = call_second(regs);
	third = call_third(regs);
	switch (call_number(regs)) {
	case NR_read:
	case NR_write:
	case NR_sendto:
	case NR_recvfrom:
		src->kind = SRC_BUF;
		src->ptr = second;
		src->len = third;
		break;
	case NR_readv:
	case NR_writev:
	case NR_preadv2:
	case NR_pwritev2:
		src->kind = SRC_UIOV;
		src->ptr = second;
		src->len = third;
		break;
	case NR_sendmsg:
	case NR_recvmsg:
		src_of_msg(second, src);
		break;
	case NR_sendmmsg:
	case NR_recvmmsg:
		src_of_mmsg(second, third, ret, src);
		break;
	}
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(tp_sock_recv, struct sock *sk, int ret, int flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 who = who_is(task->tgid);
	struct src src = {};

	if (!who)
		return 0;
	stay();
	src_of_call(task, ret, &src);
	on_recv(sk, &src, who, ret, flags, 0);
	go();
	return 0;
}

/*
 * What a send is offered, before it takes any: its end needs no look at the call then, which it may
 * not have, as with io_uring, and a vector is where the kernel has it until then. The hook comes
 * for each segment. Another task may send as soon as this one has, and before that is seen to end.
 */
static __always_inline void send_offers(struct sk_ctx *c, struct task_struct *task,
					struct msghdr *msg)
{
	__u32 left = msg->msg_iter.count;

	if (c->offered_by != (__u64)task || c->offered_left < left) {
		src_from_iter(&msg->msg_iter, &c->offered);
		if (c->offered.kind == SRC_BUF)
			c->offered.len = left;
		c->offered_len = left;
		c->offered_by = (__u64)task;
	}
	c->offered_left = left;
}

static __always_inline void send_offered(struct sk_ctx *c, struct task_struct *task, int ret,
					 struct src *src)
{
	if (c->offered_by != (__u64)task)
		return;
	if (ret <= (int)c->offered_len)
		*src = c->offered;
	barrier();
	if (c->offered_by == (__u64)task)
		c->offered_by = 0;
	else
		src->kind = SRC_NONE;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(tp_sock_send, struct sock *sk, int ret, int flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 who = who_is(task->tgid);
	struct src src = {};
	struct sk_ctx *c;

	if (!who)
		return 0;
	stay();
	c = conn_sent(sk, who, ret);
	if (c) {
		send_offered(c, task, ret, &src);
		if (src.kind == SRC_NONE)
			src_of_call(task, ret, &src);
		send_over(sk, c, &src, who, ret, 0);
	}
	go();
	return 0;
}

/* v6.16: 0f08335ade71 ("trace: tcp: Add tracepoint for tcp_sendmsg_locked()") */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(tp_tcp_send, struct sock *sk, struct msghdr *msg, struct sk_buff *skb, int size_goal)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 who = who_is(task->tgid);
	struct sk_ctx *c;
	struct src src;

	if (!who)
		return 0;
	c = conn_find(sk);
	if (c && c->proto == PROTO_NONE)
		return 0;
	stay();
	if (c)
		send_offers(c, task, msg);
	if (!c || c->role == ROLE_CLIENT) {
		src_from_iter(&msg->msg_iter, &src);
		if (src.kind == SRC_BUF)
			src.len = msg->msg_iter.count;
		on_send_early(sk, &src, who, msg->msg_iter.count);
	}
	go();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
