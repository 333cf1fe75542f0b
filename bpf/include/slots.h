/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __SLOTS_H
#define __SLOTS_H

#include "procs.h"

/* The table of open requests: how one is named, where it is, and who takes a place in it. */

static __always_inline __u64 req_tag(__u64 cookie, __u32 stream)
{
	return cookie << 20 | (stream & 0xfffff);
}

static __always_inline struct open_req *slot_at(__u32 slot)
{
	return bpf_map_lookup_elem(&slots, &slot);
}

/* What was noted here may be taken or noted twice by now: a hint, which the tag decides about. */
static __always_inline void slot_note(__u32 slot)
{
	__u32 zero = 0, at;
	struct freed *f = bpf_map_lookup_elem(&freed_slots, &zero);

	if (!f)
		return;
	at = f->count;
	if (at >= FREED_MAX)
		return;
	f->slots[at] = slot;
	f->count = at + 1;
}

static __always_inline __u32 slot_noted(void)
{
	__u32 zero = 0, at;
	struct freed *f = bpf_map_lookup_elem(&freed_slots, &zero);

	if (!f)
		return SLOTS;
	at = f->count - 1;
	if (at >= FREED_MAX)
		return SLOTS;
	f->count = at;
	return f->slots[at];
}

#define SLOT_PROBES 8

static __always_inline __u32 slot_probe(__u64 key, __u32 i)
{
	return ((__u32)(key * 0x9e3779b97f4a7c15ULL >> 50) + i * 977) % SLOTS;
}

/* Takes a free slot that `key` leads to. Returns its index plus one, 0 if none of them was free. */
__separately int slot_take_at(__u64 key, __u64 tag)
{
	/* unrolled: 6.1 refuses a loop whose way back is no jump */
#pragma unroll
	for (int i = 0; i < SLOT_PROBES; i++) {
		__u32 at = slot_probe(key, i);
		struct open_req *r = slot_at(at);

		if (r && __sync_val_compare_and_swap(&r->tag, 0, tag) == 0)
			return at + 1;
	}
	return 0;
}

/* The same by tag, so that those of requests that begin together lie apart. */
static __always_inline __u32 slot_take_by_tag(__u64 tag)
{
	__u32 slot = slot_take_at(tag, tag);

	if (!slot)
		stat_inc(STAT_REQUESTS_FULL);
	return slot;
}

/* The slot that was taken so, plus one; 0: none has the tag. */
__separately int slot_find(__u64 tag)
{
#pragma unroll
	for (int i = 0; i < SLOT_PROBES; i++) {
		__u32 at = slot_probe(tag, i);
		struct open_req *r = slot_at(at);

		if (r && r->tag == tag)
			return at + 1;
	}
	return 0;
}

/* Takes any free slot: the one this CPU freed last, if there is one. */
static __always_inline __u32 slot_take(__u64 tag)
{
	__u32 noted = slot_noted();
	struct open_req *hot = slot_at(noted);

	if (hot && __sync_val_compare_and_swap(&hot->tag, 0, tag) == 0)
		return noted + 1;
	return slot_take_by_tag(tag);
}

/*
 * The slot of an open request of a connection, plus one; 0: there is none. The connection keeps 32
 * of them, by number: for HTTP/1 these are all there can be, of HTTP/2 the others are found by tag.
 */
static __always_inline __u32 slot_of(struct sk_ctx *c, __u32 number)
{
	__u64 tag = req_tag(c->cookie, number);
	__u32 slot = c->slots[number % PIPELINE_MAX];
	struct open_req *r = slot ? slot_at(slot - 1) : NULL;

	if (r && r->tag == tag)
		return slot;
	return c->proto == PROTO_HTTP2 ? slot_find(tag) : 0;
}

#endif
