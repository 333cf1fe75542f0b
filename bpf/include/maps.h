/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __MAPS_H
#define __MAPS_H

#include "state.h"

/*
 * Maps are shared by all objects of the unit, hence __weak: the linker folds the copies.
 * None but two are LRUs: an eviction would lose a request or a reason not to link.
 */

#define MAX_TGID 4194304

/* enum select_bit for each host tgid. User space sets and clears, fork copies. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_TGID / 16);
	__type(key, __u32);
	__type(value, __u64);
} selected SEC(".maps") __weak;

/* tgid -> since when it is selected. User space writes it; forks are too young to be in it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} watched SEC(".maps") __weak;

#define PROCS	    16384
#define CONNS	    65536
#define PROC_PROBES 8

/*
 * Processes and their open requests, found by tgid near tgid % PROCS. An array, as a lookup in
 * it is two instructions; taken on first use, free again at exit.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROCS);
	__type(key, __u32);
	__type(value, struct proc);
} procs SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sk_ctx);
} sk_ctxs SEC(".maps") __weak;

/* The same by address of the socket, where that is out of reach: one entry elsewhere. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONNS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct sk_ctx);
} conns SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_ctx);
} task_ctxs SEC(".maps") __weak;

/*
 * Threads that were seen to wait for new connections in poll() or select(), while they had nothing
 * to do. Only user space writes it, where no hook is on such waits.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} pollers SEC(".maps") __weak;

/*
 * Open requests. An array for the same reason; a slot is taken by writing its tag. User space reads
 * it as memory: while a lookup of its is preempted, the kernel runs no kprobe program on that CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct open_req);
} slots SEC(".maps") __weak;

#define FREED_MAX 64

/* Slots that this CPU freed last: taken again first, while they are in its cache. */
struct freed {
	__u32 count;
	__u32 slots[FREED_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct freed);
} freed_slots SEC(".maps") __weak;

/* Entries in `joins`: while there are none, servers need not look. */
extern __s64 joins_live;

/*
 * Outgoing requests under way, for the server at the other end. The client's side deletes.
 * Preallocated, as every client request makes and deletes one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, struct join_key);
	__type(value, struct join);
} joins SEC(".maps") __weak;

/*
 * By tag: streams that are about to be written, where a runtime probe tells who began the call.
 * Deleted when the stream is; it may never be, so this forgets by itself too. A call that it forgot
 * has no parent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct begun_call);
} begun_calls SEC(".maps") __weak;

/* Received traceparent -> the open request that carried it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct by_parent_key);
	__type(value, struct by_parent);
} by_parent SEC(".maps") __weak;

/* By tag of the server request that it came with, where something may be passed on. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct tracestate);
} tracestates SEC(".maps") __weak;

/* Destinations called by background work. User space deletes those of dead processes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct dest);
	__type(value, __u32);
} dests SEC(".maps") __weak;

/* Ports that are or were listened on; sticky, as connections outlive their listener. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct listen_port);
	__type(value, __u32);
} listeners SEC(".maps") __weak;

/* By cookie, for connections that turned out to be HTTP/2. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct h2_conn);
} h2_conns SEC(".maps") __weak;

/*
 * The same for unix sockets, whose end no tier but B sees: it forgets by itself. A connection that
 * it forgot is left alone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct h2_conn);
} h2_unix_conns SEC(".maps") __weak;

struct head_key {
	__u64 conn;
	__u32 response;
	__u32 pad;
};

#define HEAD_PIECE 4096 /* copied at a time, and the room it needs behind the end */

struct head {
	__u8 bytes[HEAD_MAX + HEAD_PIECE];
};

/*
 * Heads that did not arrive in one piece. Preallocated: an entry is too large for the atomic
 * allocator of a hot path, and their number bounds what a slow sender can make us hold.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct head_key);
	__type(value, struct head);
} heads SEC(".maps") __weak;

/* What a new entry of `heads` is made from: before v6.7 an update takes map memory only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct head);
} no_head SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} rb_data SEC(".maps") __weak;

/* Process events have a ring of their own: a flood of requests must not hide an exec. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} rb_ctl SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} spanwire_stats SEC(".maps") __weak;

static __always_inline void stat_inc(__u32 which)
{
	__u64 *slot = bpf_map_lookup_elem(&spanwire_stats, &which);

	if (slot)
		*slot += 1;
}

#endif
