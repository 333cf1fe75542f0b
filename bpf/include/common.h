/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __COMMON_H
#define __COMMON_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

#include "config.h"
#include "maps.h"

#ifndef AF_UNIX
#define AF_UNIX	 1
#define AF_INET	 2
#define AF_INET6 10
#endif

#define PF_KTHREAD_ 0x00200000

/* A field of a kernel object. What a kprobe is given are numbers to it, not objects. */
#ifdef BY_KPROBE
#define FIELD(object, field) BPF_CORE_READ(object, field)
#else
#define FIELD(object, field) ((object)->field)
#endif

/*
 * Functions that are verified by themselves, once, whoever calls them. Without them the paths
 * through the parser multiply with those of its callers, past what a verifier will look at.
 * __weak, as every object that includes them has a copy.
 */
#define __separately __weak __noinline

/* Eight bytes of text, as they are read at once. */
#define WORD(a, b, c, d, e, f, g, h)                                                               \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

/* enum select_bit of a process; 0: not ours. */
static __always_inline __u32 tgid_selected(__u32 tgid)
{
	__u32 word = tgid / 16;
	__u64 *bits = bpf_map_lookup_elem(&selected, &word);

	return bits ? *bits >> (tgid % 16 * 4) & 15 : 0;
}

static __always_inline void tgid_select(__u32 tgid, __u32 bits)
{
	__u32 word = tgid / 16;
	__u64 *all = bpf_map_lookup_elem(&selected, &word);

	if (!all)
		return;
	__sync_fetch_and_and(all, ~(15ULL << (tgid % 16 * 4)));
	if (bits)
		__sync_fetch_and_or(all, (__u64)bits << (tgid % 16 * 4));
}

static __always_inline __u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* Selection bits of a process above its tgid; 0: not ours. The first look of a hook. */
static __always_inline __u64 who_is(__u32 tgid)
{
	__u64 bits = tgid_selected(tgid);

	return bits ? bits << 32 | tgid : 0;
}

static __always_inline __u64 current_selected(void)
{
	return who_is(current_tgid());
}

static __always_inline bool is_zero16(const __u8 *bytes)
{
	const __u64 *words = (const __u64 *)bytes;

	return !(words[0] | words[1]);
}

static __always_inline bool is_zero8(const __u8 *bytes)
{
	return !*(const __u64 *)bytes;
}

/* The events of process life go to rb_ctl and wake the reader at once. */
static __always_inline void emit_proc(__u32 kind, __u32 tgid, __u32 other, __u32 flags)
{
	struct ev_proc *ev = bpf_ringbuf_reserve(&rb_ctl, sizeof(*ev), 0);

	if (!ev) {
		stat_inc(STAT_RING_FULL_CTL);
		return;
	}
	ev->hdr.ts = bpf_ktime_get_ns();
	ev->hdr.kind = kind;
	ev->hdr.tgid = tgid;
	ev->other = other;
	ev->flags = flags;
	bpf_ringbuf_submit(ev, BPF_RB_FORCE_WAKEUP);
}

/*
 * Wake the reader by volume; its own clock fetches the rest. Asked before the record is made: at
 * each multiple of a power of two, as a wake-up for every record is dear while the reader has not
 * run yet, and one at the first alone could be missed by two that write at once.
 */
static __always_inline __u64 data_wakeup(__u32 size)
{
	__u64 before = bpf_ringbuf_query(&rb_data, BPF_RB_AVAIL_DATA);
	__u64 behind = before + ((size + BPF_RINGBUF_HDR_SZ + 7) & ~7U);

	return (before ^ behind) >= cfg.wakeup_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

#endif
