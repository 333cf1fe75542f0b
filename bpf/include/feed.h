/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __FEED_H
#define __FEED_H

#include "common.h"
#include "w3c.h"

/*
 * A feed is one send or recv on its way through the parser: where its bytes lie in user memory,
 * how far we are, and the head under assembly. It lives in per-CPU scratch, taken with a flag:
 * fentry programs can be preempted, and the next task on this CPU must not find our bytes.
 */

#define WINDOW	    1024 /* user bytes fetched at a time */
#define HEAD_ROOM   (HEAD_MAX + HEAD_PIECE)
#define IOV_MAX	    1024
#define VECS	    8	/* elements of a vector fetched at a time */
#define AHEAD	    256 /* bytes fetched with the beginning of a frame */
#define CONTROL_MAX 32
#define SCRATCHES   3
#define TS_LINES    8
#define STEPS_MAX   32768 /* of one feed */

struct head_info {
	__u64 length; /* Content-Length */
	struct traceparent tp;
	__u32 tp_count;
	__u32 lines;
	__u32 ts_count; /* lines of tracestate, and where their values are */
	__u32 ts_from[TS_LINES];
	__u32 ts_to[TS_LINES];
	__u32 pad2;
	__u16 status;
	__u8 has_length;
	__u8 bad; /* framing cannot be trusted */
	__u8 not_http;
	__u8 te;
	__u8 chunked;
	__u8 is_head;
	__u8 is_connect;
	__u8 last; /* which known header the last line was, for folded lines */
	__u8 done;
	__u8 is_upgrade;
	__u8 bare; /* ends in a newline alone */
	__u8 is_h2c;
	__u8 pad[2];
};

/* The walk through a header block, see hpack.h. */
struct block {
	struct traceparent tp;
	__u32 at;
	__u32 end;
	__u32 inserts; /* number of the next insertion */
	__u32 unknown; /* below which nothing is known */
	__u32 list;    /* its size by RFC 9113 6.5.2, at most */
	__u32 fields;
	__u32 from; /* of the last string */
	__u32 len;
	__u32 tail;  /* end of what was decoded behind the block */
	__u32 first; /* insertions before it */
	__u16 status;
	__u8 huffman; /* the last string is coded */
	__u8 bad;
	__u8 unproved; /* refers to what is not known */
	__u8 connect;
	__u8 changes; /* the table */
	__u8 pseudo;  /* enum pseudo_seen */
};

enum known_header {
	HDR_OTHER,
	HDR_TRACEPARENT,
	HDR_TRACESTATE,
	HDR_FRAMING,
};

struct uvec {
	__u64 base;
	__u64 len;
};

struct feed {
	struct src src;
	__u64 sk; /* address, for reads only */
	__u64 now;
	__u64 first_ns;	 /* of the head that is complete */
	__u64 seg_addr;	 /* current run of contiguous user bytes */
	__u32 seg_start; /* its offset in this feed */
	__u32 seg_len;
	__u32 seg_next; /* next element of the vector */
	__u32 pos;
	__u32 len;
	__u32 seq; /* TCP sequence of offset 0 */
	__u32 tgid;
	__u32 line; /* start of the line being scanned, in the head */
	__u32 scan; /* no newline before this */
	__u32 end;  /* head bytes available */
	__u32 first_seq;
	__u32 stream;
	__u32 select;

	__u8 is_rsp;
	__u8 from_sync;
	__u8 rescan; /* part of the head came in an earlier feed */
	__u8 has_seq;
	__u8 fault;
	__u8 control_bad;
	__u8 control_done;
	__u8 can_join;
	__u8 one_head; /* stop behind the first request head that is complete */
	__u8 stopped;
	__u8 half_end; /* ... or whose last newline is still to come */
	__u8 early;    /* the socket has not taken them yet: what `heads` keeps stays as it is */
	__u8 again;    /* ... and the feed behind begins in the middle of the same head */
	__u8 pad[3];
	__u32 control_len;
	struct dir control_dir;
	__u8 control[CONTROL_MAX];
	struct head_info head;
	struct block block;
	__u32 frame_at;	 /* where the frame in progress began; ~0: in an earlier feed */
	__u32 patch_at;	 /* ... the last one of the block that is complete */
	__u32 insert_at; /* ... and where its fragment ended */
	__u32 ahead;	 /* bytes behind its beginning that are in the buffer already */
	struct uvec vecs[VECS];
	__u32 vecs_at; /* which element the first of them is */
	__u32 vecs_have;
};

/* How far a tracestate was read; see tracestate.h. */
struct ts_walk {
	__u32 at;
	__u32 to;
	__u32 len;   /* written */
	__u32 solid; /* ... up to the last character that is no space */
	__u32 whole; /* ... up to the end of the last member that is complete */
	__u32 part;  /* characters of the key or value so far */
	__u32 members;
	__u8 state;
	__u8 tab;  /* only white space may follow, to the end of the member */
	__u8 some; /* of the value is no blank */
	__u8 bad;
	__u8 full;
	__u8 pad[7];
};

/*
 * What is written into a head. HTTP/2: literal fields without indexing, with new names (RFC 7541
 * 6.2.2), which leave the tables of both ends as they are.
 */
struct fields {
	__u8 tp[72];
	__u8 ts[16]; /* what stands before the tracestate */
	__u32 tp_len;
	__u32 ts_len;  /* 0: there is none */
	__u32 end_len; /* of what follows it */
	__u32 pad;
};

struct scratch {
	__u32 busy;
	__u32 pad;
	__u64 random[2]; /* state of id_word() */
	struct feed f;
	struct ts_walk ts;
	struct fields fields;
	struct parent parent;
	struct join join;
	struct ev_head ev; /* directly followed by the head: one record, one copy */
	__u8 buf[HEAD_ROOM + UNIX_PATH_MAX + 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps") __weak;

/* What the callbacks of bpf_loop() are given; pointers, so it stays on the stack. */
struct walk {
	struct scratch *s;
	struct sk_ctx *c;
	struct dir *d;
	struct h2_conn *h;
};

static __always_inline struct scratch *scratch_take(void)
{
	for (__u32 i = 0; i < SCRATCHES; i++) {
		__u32 slot = i;
		struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);

		if (s && __sync_val_compare_and_swap(&s->busy, 0, 1) == 0)
			return s;
	}
	stat_inc(STAT_SCRATCH_BUSY);
	return NULL;
}

static __always_inline void scratch_put(struct scratch *s)
{
	s->busy = 0;
}

/* Loads from the head under assembly. The bound is for the verifier; no caller exceeds it. */
static __always_inline __u64 ld8(struct scratch *s, __u32 off)
{
	barrier_var(off);
	if (off > HEAD_ROOM - 8)
		return 0;
	return *(__u64 *)(s->buf + off);
}

static __always_inline __u8 ld1(struct scratch *s, __u32 off)
{
	barrier_var(off);
	if (off > HEAD_ROOM - 8)
		return 0;
	return s->buf[off];
}

static __always_inline long vecs_fetch(struct feed *f)
{
	void *from = (void *)(f->src.ptr + f->seg_next * sizeof(struct uvec));
	__u64 n = f->src.len - f->seg_next;

	if (n > VECS)
		n = VECS;
	f->vecs_at = f->seg_next;
	f->vecs_have = n;
	n *= sizeof(struct uvec);
	barrier_var(n);
	if (n > sizeof(f->vecs))
		return 1;
	if (f->src.kind == SRC_KIOV)
		return bpf_probe_read_kernel(f->vecs, n, from);
	return bpf_probe_read_user(f->vecs, n, from);
}

/* Steps to the vector element that holds offset `pos`. */
static long seg_step(__u32 i, struct walk *w)
{
	struct feed *f = &w->s->f;
	struct uvec v;
	__u32 start, at;

	if (f->seg_next >= f->src.len)
		goto fault;
	at = f->seg_next - f->vecs_at;
	if (at >= f->vecs_have) {
		if (vecs_fetch(f))
			goto fault;
		at = 0;
	}
	barrier_var(at);
	v = f->vecs[at % VECS];
	start = f->seg_start + f->seg_len;
	if (f->seg_next == 0 && f->src.skip) {
		__u64 skip = f->src.skip < v.len ? f->src.skip : v.len;

		v.base += skip;
		v.len -= skip;
	}
	f->seg_next++;
	f->seg_addr = v.base;
	f->seg_start = start;
	f->seg_len = v.len > 0x7fffffff ? 0x7fffffff : v.len;
	return f->pos - start < f->seg_len;
fault:
	f->fault = 1;
	return 1;
}

__separately int seg_walk(struct scratch *s)
{
	struct walk w = {.s = s};

	/* nearly always it is the next one */
	if (s && !seg_step(0, &w))
		bpf_loop(IOV_MAX, seg_step, &w, 0);
	return 0;
}

/* Finds the user address of offset `pos`; false if it cannot be read. */
static __always_inline bool seg_find(struct scratch *s)
{
	struct feed *f = &s->f;

	if (f->src.kind == SRC_NONE)
		return false;
	if (f->pos - f->seg_start < f->seg_len)
		return true;
	if (f->src.kind == SRC_BUF || f->src.kind == SRC_KBUF || f->fault)
		return false;
	seg_walk(s);
	return !f->fault;
}

static __always_inline long feed_read(struct feed *f, void *to, __u32 n)
{
	void *from = (void *)(f->seg_addr + (f->pos - f->seg_start));

	if (f->src.kind == SRC_KBUF)
		return bpf_probe_read_kernel(to, n, from);
	return bpf_probe_read_user(to, n, from);
}

/* Bytes that went by unseen. Not on the stack: 512 bytes of it have to do for all calls. */
static const struct src no_bytes = {};

static __always_inline void feed_init(struct feed *f, const struct src *src, __u32 len)
{
	f->src = *src;
	f->pos = 0;
	f->len = len;
	f->fault = 0;
	f->seg_start = 0;
	f->seg_next = 0;
	f->seg_len = 0;
	f->seg_addr = 0;
	f->vecs_at = 0;
	f->vecs_have = 0;
	if (src->kind == SRC_BUF || src->kind == SRC_KBUF) {
		f->seg_addr = src->ptr;
		f->seg_len = len;
	}
}

#endif
