// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "core.h"
#include "iter.h"
#include "syscalls.h"

/*
 * Tier C: neither trampolines nor kprobes. sock_send_length and sock_recv_length (v6.3:
 * 6e6eda44b939, "sock: add tracepoint for send recv length") carry the socket in process
 * context, but not the bytes; sys_enter remembers where a selected task's call has them.
 */

static __always_inline __u32 src_of_call(struct pt_regs *regs, long nr, struct src *src)
{
	__u64 a1 = PT_REGS_PARM2_CORE_SYSCALL(regs), a2 = PT_REGS_PARM3_CORE_SYSCALL(regs);

	switch (nr) {
	case NR_read:
	case NR_write:
	case NR_sendto:
	case NR_recvfrom:
		src->kind = SRC_BUF;
		break;
	case NR_readv:
	case NR_writev:
	case NR_preadv2:
	case NR_pwritev2:
		src->kind = SRC_UIOV;
		break;
	case NR_sendmsg:
	case NR_recvmsg:
		src->kind = SRC_MSG;
		break;
	case NR_sendmmsg:
	case NR_recvmmsg:
		src->kind = SRC_MMSG;
		break;
	default:
		src->kind = SRC_NONE;
	}
	src->ptr = a1;
	src->len = a2;
	src->skip = 0;
	return 0;
}

static __always_inline bool moves_bytes(long nr)
{
#if defined(__TARGET_ARCH_x86)
	if (nr < 64)
		return (1ULL << NR_read | 1ULL << NR_write | 1ULL << NR_readv | 1ULL << NR_writev |
			1ULL << NR_sendfile | 1ULL << NR_sendto | 1ULL << NR_recvfrom |
			1ULL << NR_sendmsg | 1ULL << NR_recvmsg) >> nr & 1;
#else
	if ((nr >= NR_read && nr <= NR_writev) || nr == NR_sendfile || nr == NR_sendto ||
	    nr == NR_recvfrom || nr == NR_sendmsg || nr == NR_recvmsg)
		return true;
#endif
	return nr == NR_splice || nr == NR_recvmmsg || nr == NR_sendmmsg || nr == NR_preadv2 ||
	       nr == NR_pwritev2 || nr == NR_io_uring_enter;
}

/* Runs for every system call of the host: the number is the filter, then the process. */
SEC("tp_btf/sys_enter")
int BPF_PROG(tp_sys_enter, struct pt_regs *regs, long nr)
{
	struct task_ctx *t;

	if (!moves_bytes(nr) || !tgid_selected(current_tgid()))
		return 0;
	t = task_get();
	if (!t) {
		stat_inc(STAT_TASK_STATE);
		return 0;
	}
	src_of_call(regs, nr, &t->src);
	t->mmsg = 0;
	return 0;
}

struct umsghdr {
	__u64 name;
	__u64 namelen;
	__u64 iov;
	__u64 iovlen;
	__u64 control;
	__u64 controllen;
	__u64 flags;
};

/* The call's bytes as far as one message goes; each message of sendmmsg() fires once. */
static __always_inline void src_of_task(struct task_ctx *t, struct src *out)
{
	struct umsghdr msg;
	__u64 at = t->src.ptr;

	*out = t->src;
	if (t->src.kind != SRC_MSG && t->src.kind != SRC_MMSG)
		return;
	if (t->src.kind == SRC_MMSG)
		at += (__u64)t->mmsg++ * (sizeof(msg) + 8);
	out->kind = SRC_NONE;
	if (bpf_probe_read_user(&msg, sizeof(msg), (void *)at))
		return;
	out->kind = SRC_UIOV;
	out->ptr = msg.iov;
	out->len = msg.iovlen;
}

static __always_inline struct task_ctx *task_find(void)
{
	return bpf_task_storage_get(&task_ctxs, bpf_get_current_task_btf(), 0, 0);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(tp_sock_recv, struct sock *sk, int ret, int flags)
{
	__u64 who = current_selected();
	struct src src = {};
	struct task_ctx *t;

	if (!who)
		return 0;
	t = task_find();
	if (t)
		src_of_task(t, &src);
	on_recv(sk, &src, t, who, ret, flags);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(tp_sock_send, struct sock *sk, int ret, int flags)
{
	__u64 who = current_selected();
	struct src src = {};
	struct task_ctx *t;

	if (!who)
		return 0;
	t = task_find();
	if (t)
		src_of_task(t, &src);
	on_send(sk, &src, t, who, ret);
	return 0;
}

/* v6.16: 0f08335ade71 ("trace: tcp: Add tracepoint for tcp_sendmsg_locked()") */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(tp_tcp_send, struct sock *sk, struct msghdr *msg, struct sk_buff *skb, int size_goal)
{
	__u64 who = current_selected();
	struct sk_ctx *c;
	struct src src;

	if (!who)
		return 0;
	c = bpf_sk_storage_get(&sk_ctxs, sk, 0, 0);
	if (c && (c->role != ROLE_CLIENT || c->proto != PROTO_HTTP1))
		return 0;
	src_from_iter(&msg->msg_iter, &src);
	if (src.kind == SRC_BUF)
		src.len = msg->msg_iter.count;
	on_send_early(sk, &src, task_find(), who, msg->msg_iter.count);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
