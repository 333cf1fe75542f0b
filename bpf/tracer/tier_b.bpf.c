// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#define BY_KPROBE
#include "core.h"
#include "iter.h"
#include "syscalls.h"

/*
 * Tier B: kprobes, for kernels without trampolines (arm64 before v6.4). A kretprobe has room for
 * some twenty calls of the whole host, and one that waits for bytes keeps its place: none is on a
 * function that waits, but on claimed and unix sockets' sends. How far a call on TCP has come is
 * told where it lets go of the socket, at its end or to wait, by the sequence.
 */

/* The system call in progress: what is noted of one is not taken for another's. */
static __always_inline __u64 call_now(void)
{
	return call_number((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()));
}

static __always_inline struct task_ctx *call_begins(struct sock *sk, struct msghdr *msg, __u32 len,
						    __u32 kind)
{
	struct task_ctx *t = task_get();

	if (!t)
		return NULL;
	if (t->call_sk && t->flags & TASK_RETURNS) {
		/* its return went unseen, and how far it came: nothing on a unix socket tells */
		struct sk_ctx *c = conn_hashed(t->call_sk);

		if (c && c->flags & SK_UNIX)
			conn_lost(c, STAT_LOST_SYNC);
	}
	src_from_iter(&msg->msg_iter, &t->src);
	if (t->src.kind == SRC_BUF)
		t->src.len = len;
	t->flags = (t->flags & ~(TASK_SENDS | TASK_RETURNS)) | kind;
	t->call_sk = (__u64)sk;
	t->call_number = call_now();
	t->call_len = len;
	t->call_done = 0;
	t->call_flags = 0;
	return t;
}

/* The note of a call on `sk` that is in progress. */
static __always_inline struct task_ctx *call_of(struct sock *sk, __u32 kind)
{
	struct task_ctx *t = task_find();

	if (!t || t->call_sk != (__u64)sk || (t->flags & (TASK_SENDS | TASK_RETURNS)) != kind ||
	    t->call_number != call_now())
		return NULL;
	return t;
}

/* int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size) */
SEC("kprobe/tcp_sendmsg")
int BPF_KPROBE(kp_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	__u64 who = current_selected();
	struct task_ctx *t;

	if (!who)
		return 0;
	t = call_begins(sk, msg, size, TASK_SENDS);
	if (!t)
		return 0;
	t->call_seq = FIELD((struct tcp_sock *)sk, write_seq);
	on_send_early(sk, &t->src, who, size);
	return 0;
}

/* int tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, ..., int flags, ...) */
SEC("kprobe/tcp_recvmsg")
int BPF_KPROBE(kp_tcp_recvmsg, struct sock *sk, struct msghdr *msg, size_t len, __u64 fourth,
	       __u64 fifth)
{
	struct task_ctx *t;

	if (!current_selected())
		return 0;
	t = call_begins(sk, msg, len, 0);
	if (!t)
		return 0;
	t->call_seq = FIELD((struct tcp_sock *)sk, copied_seq);
	t->call_flags = cfg.recv_flags_at == 5 ? fifth : fourth;
	return 0;
}

/*
 * void release_sock(struct sock *sk): the caller still has the socket. Bytes that no call of ours
 * moved, as those of sendfile(), make no difference: they are more than the call was to move, or
 * not its own.
 */
SEC("kprobe/release_sock")
int BPF_KPROBE(kp_release, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	__u64 who = current_selected();
	struct task_ctx *t;
	bool fin = false;
	__u32 moved;

	if (!who)
		return 0;
	t = call_of(sk, TASK_SENDS);
	if (t) {
		moved = FIELD(tp, write_seq) - t->call_seq;
		if (moved > t->call_len)
			return 0;
		/* none is an end too: what was thought to go is taken back */
		on_send(sk, &t->src, who, moved, t->call_done);
		t->call_done = moved;
		return 0;
	}
	t = call_of(sk, 0);
	if (!t)
		return 0;
	moved = read_seq(tp, &fin) - t->call_seq;
	if (fin && moved + 1 == 0)
		moved = 0; /* read before the call */
	if (moved > t->call_len)
		return 0;
	if (moved > t->call_done)
		on_recv(sk, &t->src, who, moved, t->call_flags, t->call_done);
	else if (fin)
		on_recv(sk, &t->src, who, 0, t->call_flags, 0);
	t->call_done = moved;
	return 0;
}

/* int tcp_bpf_sendmsg(struct sock *sk, struct msghdr *msg, size_t size): see tier A */
SEC("kprobe/tcp_bpf_sendmsg")
int BPF_KPROBE(kp_tcp_bpf_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	struct task_ctx *t;

	if (!current_selected())
		return 0;
	t = call_begins(sk, msg, size, TASK_SENDS | TASK_RETURNS);
	if (t)
		work_lend(sk, t);
	return 0;
}

/* The send that returns, if it is not one that another function took over. */
static __always_inline int sent(int ret)
{
	__u64 who = current_selected();
	struct task_ctx *t = who ? task_find() : NULL;
	struct sock *sk;

	if (!t || !t->call_sk || !(t->flags & TASK_RETURNS) || t->call_number != call_now())
		return 0;
	sk = (struct sock *)t->call_sk;
	t->call_sk = 0;
	work_return(sk, t);
	on_send(sk, &t->src, who, ret, 0);
	return 0;
}

SEC("kretprobe/tcp_bpf_sendmsg")
int BPF_KRETPROBE(kr_tcp_bpf_sendmsg, int ret)
{
	return sent(ret);
}

/* int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) */
SEC("kprobe/unix_stream_sendmsg")
int BPF_KPROBE(kp_unix_sendmsg, struct socket *sock, struct msghdr *msg, size_t len)
{
	if (current_selected())
		call_begins(FIELD(sock, sk), msg, len, TASK_SENDS | TASK_RETURNS);
	return 0;
}

SEC("kretprobe/unix_stream_sendmsg")
int BPF_KRETPROBE(kr_unix_sendmsg, int ret)
{
	sent(ret);
	return 0;
}

/* int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags) */
SEC("kprobe/unix_stream_recvmsg")
int BPF_KPROBE(kp_unix_recvmsg, struct socket *sock, struct msghdr *msg, size_t size, int flags)
{
	struct task_ctx *t;

	if (!current_selected())
		return 0;
	t = call_begins(FIELD(sock, sk), msg, size, 0);
	if (t)
		t->call_flags = flags;
	return 0;
}

/*
 * static int unix_stream_read_actor(struct sk_buff *skb, int skip, int chunk, ...): copies one
 * piece and waits for nothing. Returns what it copied.
 */
SEC("kretprobe/unix_stream_read_actor")
int BPF_KRETPROBE(kr_unix_read, int ret)
{
	__u64 who = current_selected();
	struct task_ctx *t;
	struct sock *sk;
	__u32 moved;

	if (!who || ret <= 0)
		return 0;
	t = task_find();
	sk = t ? (struct sock *)t->call_sk : NULL;
	if (!sk || !call_of(sk, 0))
		return 0;
	moved = t->call_done + ret;
	if (moved > t->call_len)
		return 0;
	on_recv(sk, &t->src, who, moved, t->call_flags, t->call_done);
	t->call_done = moved;
	return 0;
}

/* static int unix_release(struct socket *sock): nothing else tells the end of a unix socket */
SEC("kprobe/unix_release")
int BPF_KPROBE(kp_unix_release, struct socket *sock)
{
	__u64 key = (__u64)FIELD(sock, sk);
	struct sk_ctx *c = conn_hashed(key);

	if (!c)
		return 0;
	on_shutdown((struct sock *)key, c, true);
	bpf_map_delete_elem(&conns, &key);
	return 0;
}

/* No call is on a socket that is destroyed. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tp_destroy, struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&conns, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
