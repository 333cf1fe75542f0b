// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "request.h"
#include "files.h"
#include "stay.h"

/*
 * Tiers A and B: a thread that waits for a new connection while it works for a request serves
 * several at once: an event loop. That a request came through an epoll is mostly seen at the socket
 * itself; but some are read before they are polled for, or when they no longer are. A thread with
 * no open request is done after two lookups.
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

/*
 * State of the current thread, if it is thought to work for one request. What a probe has told of
 * it holds whatever it waits for: gRPC's core waits on any thread for all there is.
 */
static __always_inline struct task_ctx *works_for_one(void)
{
	struct task_ctx *t;

	if (!(current_selected() >> 32 & SELECT_THREADS))
		return NULL;
	t = task_find();
	if (!t || t->work.flags & (WORK_MULTIPLEX | WORK_HANDED) || !req_is_open(&t->work.cur))
		return NULL;
	return t;
}

static __always_inline bool listens(struct sock *sk)
{
	return sk && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN;
}

static __always_inline long looked_at(struct wait *w, __u32 fd)
{
	if (!listens(socket_of(w->task, fd)))
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

/* Each edge of the tree is walked down and up again. */
#define EPOLL_STEPS (3 * WAIT_FDS)

enum walk_from {
	WALK_DOWN,
	WALK_LEFT_DONE,
	WALK_RIGHT_DONE,
};

/* The walk through the files of an epoll: a red-black tree, which may change meanwhile. */
struct epoll_walk {
	struct rb_node *at;
	enum walk_from way;
	__u32 found;
};

static long epoll_step(__u32 i, struct epoll_walk *w)
{
	struct rb_node *node = w->at, *next = NULL;
	struct epitem *item;

	if (!node)
		return 1;
	if (w->way == WALK_DOWN) {
		item = (void *)node - bpf_core_field_offset(struct epitem, rbn);
		w->found = listens(socket_behind(BPF_CORE_READ(item, ffd.file)));
		if (w->found)
			return 1;
		next = BPF_CORE_READ(node, rb_left);
	}
	if (!next && w->way != WALK_RIGHT_DONE)
		next = BPF_CORE_READ(node, rb_right);
	if (next) {
		w->at = next;
		w->way = WALK_DOWN;
		return 0;
	}
	/* the colour is in the lowest bit */
	next = (struct rb_node *)(BPF_CORE_READ(node, __rb_parent_color) & ~3UL);
	w->at = next;
	w->way = next && BPF_CORE_READ(next, rb_left) == node ? WALK_LEFT_DONE : WALK_RIGHT_DONE;
	return 0;
}

static __always_inline bool epoll_listens(__u32 epfd)
{
	struct file *file = file_of(bpf_get_current_task_btf(), epfd);
	struct eventpoll *ep = file ? BPF_CORE_READ(file, private_data) : NULL;
	struct epoll_walk w = {};

	w.at = BPF_CORE_READ(ep, rbr.rb_root.rb_node);
	bpf_loop(EPOLL_STEPS, epoll_step, &w, 0);
	return w.found;
}

/*
 * static int do_epoll_wait(int epfd, struct epoll_event __user *events, int maxevents,
 * struct timespec64 *to): a worker that polls has left its request to others. Who reads from what
 * blocks may run a loop for the request itself.
 */
static __always_inline int epolls(__u32 epfd)
{
	struct task_ctx *t = works_for_one();

	if (!t)
		return 0;
	if (t->work.flags & WORK_POOL) {
		work_leaves(&t->work);
		stat_inc(STAT_LOOPS);
	} else if (!(t->work.flags & WORK_BLOCKS) && epoll_listens(epfd)) {
		turns_between(&t->work);
	}
	return 0;
}

SEC("fentry/do_epoll_wait")
int BPF_PROG(fe_epoll, int epfd)
{
	if (!current_selected())
		return 0;
	stay();
	epolls(epfd);
	go();
	return 0;
}

SEC("kprobe/do_epoll_wait")
int BPF_KPROBE(kp_epoll, int epfd)
{
	return epolls(epfd);
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
