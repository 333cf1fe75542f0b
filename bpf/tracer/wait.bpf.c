// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "request.h"
#include "files.h"
#include "stay.h"

/*
 * Tiers A and B: a thread that waits for a new connection while it works for a request serves
 * several at once: an event loop on poll() or select(). An epoll is seen at the socket itself; its
 * waits only matter where one thread polls for others. A thread with no open request is done after
 * two lookups.
 */

#define WAIT_FDS     64
#define SELECT_WORDS 16 /* 1024 descriptors */

struct wait {
	struct task_struct *task;
	struct task_ctx *t;
	__u64 bits[SELECT_WORDS];
	__u64 fds; /* struct pollfd of user memory */
	__u32 count;
	__u32 word;
};

/* State of the current thread, if it is thought to work for one request. */
static __always_inline struct task_ctx *works_for_one(void)
{
	struct task_ctx *t;

	if (!(current_selected() >> 32 & SELECT_THREADS))
		return NULL;
	t = task_find();
	if (!t || t->work.flags & WORK_MULTIPLEX || !req_is_open(&t->work.cur))
		return NULL;
	return t;
}

static __always_inline bool listens(struct task_struct *task, __u32 fd)
{
	struct sock *sk = socket_of(task, fd);

	return sk && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN;
}

static __always_inline long looked_at(struct wait *w, __u32 fd)
{
	if (!listens(w->task, fd))
		return 0;
	turns_between(&w->t->work);
	return 1;
}

static long poll_step(__u32 i, struct wait *w)
{
	struct pollfd one;

	if (i >= w->count ||
	    bpf_probe_read_user(&one, sizeof(one), (void *)(w->fds + i * sizeof(one))))
		return 1;
	return looked_at(w, one.fd);
}

/* Number of the lowest bit that is set; clang 14 has no end with its builtin for it. */
static __always_inline __u32 lowest_bit(__u64 bits)
{
	__u32 at = 0;

#pragma unroll
	for (__u32 half = 32; half; half /= 2) {
		if (!(bits << (64 - half))) {
			bits >>= half;
			at += half;
		}
	}
	return at;
}

static long select_step(__u32 i, struct wait *w)
{
	__u32 word = w->word;
	__u64 bits;

	barrier_var(word);
	if (word >= SELECT_WORDS)
		return 1;
	bits = w->bits[word];
	if (!bits) {
		w->word++;
		return 0;
	}
	w->bits[word] = bits & (bits - 1);
	return looked_at(w, word * 64 + lowest_bit(bits));
}

static __always_inline int polls(struct pollfd *fds, unsigned int count)
{
	struct wait w = {.t = works_for_one()};

	if (!w.t)
		return 0;
	w.task = bpf_get_current_task_btf();
	w.fds = (__u64)fds;
	w.count = count;
	bpf_loop(WAIT_FDS, poll_step, &w, 0);
	return 0;
}

static __always_inline int selects(int count, void *in)
{
	struct wait w = {.t = works_for_one()};
	__u32 bytes;

	if (!w.t || count <= 0 || !in)
		return 0;
	w.task = bpf_get_current_task_btf();
	bytes = ((__u32)count + 63) / 64 * 8;
	if (bytes > sizeof(w.bits))
		bytes = sizeof(w.bits);
	barrier_var(bytes);
	if (bytes > sizeof(w.bits) || bpf_probe_read_user(w.bits, bytes, in))
		return 0;
	bpf_loop(WAIT_FDS + SELECT_WORDS, select_step, &w, 0);
	return 0;
}

/*
 * static int do_epoll_wait(int epfd, struct epoll_event __user *events, int maxevents,
 * struct timespec64 *to): a worker that polls has left its request to others.
 */
static __always_inline int epolls(void)
{
	struct task_ctx *t = works_for_one();

	if (t && t->work.flags & WORK_POOL) {
		work_leaves(&t->work);
		stat_inc(STAT_LOOPS);
	}
	return 0;
}

SEC("fentry/do_epoll_wait")
int BPF_PROG(fe_epoll)
{
	if (!current_selected())
		return 0;
	stay();
	epolls();
	go();
	return 0;
}

SEC("kprobe/do_epoll_wait")
int BPF_KPROBE(kp_epoll)
{
	return epolls();
}

/* static int do_sys_poll(struct pollfd __user *ufds, unsigned int nfds, struct timespec64
 * *end_time) */
SEC("fentry/do_sys_poll")
int BPF_PROG(fe_poll, struct pollfd *fds, unsigned int count)
{
	if (!current_selected())
		return 0;
	stay();
	polls(fds, count);
	go();
	return 0;
}

SEC("kprobe/do_sys_poll")
int BPF_KPROBE(kp_poll, struct pollfd *fds, unsigned int count)
{
	return polls(fds, count);
}

/* int core_sys_select(int n, fd_set __user *inp, fd_set __user *outp, fd_set __user *exp, ...) */
SEC("fentry/core_sys_select")
int BPF_PROG(fe_select, int count, void *in)
{
	if (!current_selected())
		return 0;
	stay();
	selects(count, in);
	go();
	return 0;
}

SEC("kprobe/core_sys_select")
int BPF_KPROBE(kp_select, int count, void *in)
{
	return selects(count, in);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
