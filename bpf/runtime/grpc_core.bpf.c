// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "runtime.h"

/*
 * gRPC's core reads and writes the streams of a connection on whatever thread is there, and hands
 * calls over in memory. An arena is what a call and its stream have in common, from its making on;
 * the transport leads to the socket. All are addresses that are used again, so each is noted anew
 * when its object is made, and forgotten when it has told what it was noted for.
 *
 * Layouts and functions of core 29 (gRPC 1.51), LP64: src/core/lib/surface/call.cc,
 * src/core/ext/transport/chttp2/transport/{internal.h,chttp2_transport.cc,stream_map.cc}.
 */

#define TRANSPORT_ENDPOINT 0x18
#define ENDPOINT_FD	   0x10
#define CALL_ARENA	   0x10

struct core_call {
	__u64 arena;
	__u64 others[3];
	__u8 is_client;
	__u8 pad[7];
};

/* grpc_op; what it carries is of no interest */
#define OP_SIZE			 80
#define OPS_MAX			 8
#define OP_SEND_INITIAL_METADATA 0
#define OP_SEND_STATUS		 3

struct object_key {
	__u64 at;
	__u32 tgid;
	__u32 pad;
};

/*
 * An arena, or a client's stream that has no number yet. `at` comes first and is looked at last: in
 * between the entry may have become another's.
 */
struct object {
	__u64 at;
	__u64 cookie; /* stream: of its connection */
	__u32 served; /* arena: `work.cur` is the request that the call is, else what it is for */
	__u32 pad;
	struct work work;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct object_key);
	__type(value, struct object);
} core_objects SEC(".maps");

/* Two programs of a function, which is given the process and arguments of what is probed. */
#define PROBE(function, arguments...)                                                              \
	static __always_inline int function##_at(struct pt_regs *ctx)                              \
	{                                                                                          \
		__u64 who;                                                                         \
                                                                                                   \
		stay();                                                                            \
		who = current_selected();                                                          \
		if (who >> 32 & SELECT_THREADS)                                                    \
			function(who, arguments);                                                  \
		go();                                                                              \
		return 0;                                                                          \
	}                                                                                          \
	SEC("uprobe")                                                                              \
	int up_##function(struct pt_regs *ctx)                                                     \
	{                                                                                          \
		return function##_at(ctx);                                                         \
	}                                                                                          \
	SEC("uprobe.multi")                                                                        \
	int um_##function(struct pt_regs *ctx)                                                     \
	{                                                                                          \
		return function##_at(ctx);                                                         \
	}

static __always_inline bool object_read(const struct object_key *key, struct object *out)
{
	struct object *o = bpf_map_lookup_elem(&core_objects, key);

	if (!o)
		return false;
	*out = *o;
	barrier();
	return o->at == key->at;
}

static __always_inline void object_note(const struct object_key *key, struct object *new)
{
	new->at = key->at;
	bpf_map_update_elem(&core_objects, key, new, BPF_ANY);
}

static __always_inline void object_forget(const struct object_key *key)
{
	bpf_map_delete_elem(&core_objects, key);
}

static __always_inline __u64 cookie_of_transport(__u64 transport)
{
	__u64 endpoint = 0;
	int fd = -1;

	if (bpf_probe_read_user(&endpoint, sizeof(endpoint),
				(void *)(transport + TRANSPORT_ENDPOINT)) ||
	    bpf_probe_read_user(&fd, sizeof(fd), (void *)(endpoint + ENDPOINT_FD)))
		return 0;
	return cookie_of(socket_of(bpf_get_current_task_btf(), fd));
}

static __always_inline void stream_made(__u32 tgid, __u64 stream, __u64 transport, __u64 number,
					__u64 arena)
{
	struct object_key of_arena = {.at = arena, .tgid = tgid};
	struct object_key of_stream = {.at = stream, .tgid = tgid};
	struct object o = {};
	__u64 cookie;

	object_forget(&of_stream);
	cookie = cookie_of_transport(transport);
	if (!number) {
		if (cookie && object_read(&of_arena, &o) && !o.served) {
			o.cookie = cookie;
			object_note(&of_stream, &o);
		}
		object_forget(&of_arena);
		return;
	}
	/* no more is known of its request: its frame begins, the block may be on its way */
	o.served = 1;
	o.work.cur.tag = req_tag(cookie, (__u32)number >> 1);
	if (cookie)
		object_note(&of_arena, &o);
	else
		object_forget(&of_arena);
}

static __always_inline void stream_numbered(__u32 tgid, __u32 number, __u64 stream)
{
	struct object_key of_stream = {.at = stream, .tgid = tgid};
	struct begun_call begun = {};
	struct object o;

	if (!object_read(&of_stream, &o))
		return;
	object_forget(&of_stream);
	begun.tag = req_tag(o.cookie, number >> 1);
	begun.work = o.work;
	bpf_map_update_elem(&begun_calls, &begun.tag, &begun, BPF_ANY);
}

static __always_inline void call_begins(const struct object_key *of_arena)
{
	struct task_ctx *t = task_find();
	struct object o = {};

	if (t) {
		o.work.cur = t->work.cur;
		o.work.flags = t->work.flags;
		o.work.sk = t->work.sk;
		o.work.sent = t->work.sent;
	}
	object_note(of_arena, &o);
}

static __always_inline void batch_starts(__u32 tgid, __u64 at, __u64 ops, __u64 count)
{
	struct object_key of_arena = {.tgid = tgid};
	struct core_call call;
	__u32 kinds = 0, kind;
	struct object o;

	if (bpf_probe_read_user(&call, sizeof(call), (void *)(at + CALL_ARENA)))
		return;
#pragma unroll
	for (int i = 0; i < OPS_MAX; i++) {
		if (i < count &&
		    !bpf_probe_read_user(&kind, sizeof(kind), (void *)(ops + i * OP_SIZE)))
			kinds |= 1U << (kind & 31);
	}
	of_arena.at = call.arena;
	if (call.is_client) {
		/* the first one, of its caller; others may follow from elsewhere */
		if (kinds & 1U << OP_SEND_INITIAL_METADATA)
			call_begins(&of_arena);
		return;
	}
	if (!object_read(&of_arena, &o) || !o.served)
		return;
	o.work.cur.slot = slot_find(o.work.cur.tag);
	if (o.work.cur.slot--)
		takes_over(&o.work.cur);
	if (kinds & 1U << OP_SEND_STATUS)
		object_forget(&of_arena);
}

/*
 * grpc_chttp2_stream(transport, refcount, number, arena): `number` is zero for the stream of a
 * call that is made here. The thread is the one that parses what was read, or that starts the call.
 */
PROBE(stream_made, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM4(ctx), PT_REGS_PARM5(ctx))

/* grpc_chttp2_stream_map_add(map, number, stream), before the headers are written */
PROBE(stream_numbered, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx))

/*
 * grpc_call_start_batch(call, ops, count, tag, reserved). A server's handler takes its message
 * before it does anything else, and gives its answer: who does that serves the call.
 */
PROBE(batch_starts, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx))

char LICENSE[] SEC("license") = "Dual BSD/GPL";
