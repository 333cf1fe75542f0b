/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __STATE_H
#define __STATE_H

#include "abi.h"

/*
 * State of the kernel side. It hangs on the object it describes: the socket, the task, the
 * process, the request. None of it is visible to user space.
 */

/*
 * Names an open request. The tag is made of the connection's cookie and the number of the
 * request on it, neither of which is ever used again; the slot says where to look.
 */
struct req_ref {
	__u64 tag; /* 0: none */
	__u32 slot;
	__u32 pad;
};

enum work_flag {
	WORK_MULTIPLEX = 1,	 /* an event loop, or took a request up while another was open */
	WORK_INHERITED = 2,	 /* cur was copied at fork, as a thread */
	WORK_INHERITED_PROC = 4, /* ... as a process */
	WORK_HANDED = 8,	 /* another thread read the request */
	WORK_POOL = 16,		 /* a thread of a JVM's pool read it, of which another one polls */
	WORK_BLOCKS = 32,	 /* it was read from a socket that blocks */
	WORK_CALLED = 64,	 /* call_sk was sent a request, not only connected */
};

/* The server request that a task works for. */
struct work {
	struct req_ref cur;
	__u32 flags; /* enum work_flag */
	__u32 sent;  /* TCP: what the socket had sent when the request was read */
	__u64 sk; /* that socket, if the task read the request itself; it is there as long as that
		     is open */
	__u64 call_sk;	   /* TCP: what the task called or connected last; it may be gone, */
	__u64 call_cookie; /* and is another one if it has another cookie */
	__u32 call_read;   /* what it had read from there by then */
	__u32 pad;
};

/* Aligned, as else it is copied byte by byte, over the stack. */
struct trace_ctx {
	__u8 trace_id[16];
	__u8 span_id[8];
} __attribute__((aligned(8)));

/* A call whose stream may be written by another thread than the one that began it. */
struct begun_call {
	__u64 tag; /* of the stream's request */
	struct work work;
};

/* What a call inherits from an open server request. */
struct parent {
	struct trace_ctx ctx;
	__u64 tag;
	__u32 tgid;
	__u8 trace_flags;
	__u8 link;
	__u8 found;
	__u8 pad;
};

enum req_flag {
	REQ_SAMPLED = 1,     /* a span is owed */
	REQ_COUNTED = 2,     /* part of proc.open */
	REQ_BY_PARENT = 4,   /* has an entry in by_parent */
	REQ_JOINABLE = 8,    /* has an entry in joins, under join_seq */
	REQ_HELD = 16,	     /* a task holds it in cur */
	REQ_STATE = 32,	     /* has an entry in tracestates */
	REQ_CONNECT = 64,    /* HTTP/2: a 2xx hands the stream off */
	REQ_STREAM = 128,    /* part of sk_ctx.streams */
	REQ_DOUBT = 256,     /* HTTP/2: begun before it was sure that an answer would be seen */
	REQ_ANSWERED = 1024, /* the head of its answer was seen; only of those that are held */
	REQ_PLACED =
	    512, /* begun while no other was open on its connection, whose cookie leads to it */
};

enum h1_state {
	H1_IDLE = 0, /* between messages */
	H1_HEAD,     /* inside a head; its bytes so far are in `heads` */
	H1_BODY,     /* `remain` bytes to go */
	H1_CHUNK_SIZE,
	H1_CHUNK_EXT,
	H1_CHUNK_DATA, /* `remain` bytes to go */
	H1_CHUNK_END,
	H1_TRAILER, /* at the start of a line */
	H1_TRAILER_LINE,
	H1_UNTIL_CLOSE,
	H1_SYNC, /* joined mid-stream: waits for a start line at the start of a send or recv */

	H2_PREFACE, /* `remain` bytes of the client's preface to go */
	H2_FRAME,   /* in the nine bytes that a frame begins with */
	H2_SMALL,   /* in a payload, or what stands before a block, that is read piece by piece */
	H2_BLOCK,   /* in a fragment of a header block; the block so far is in `heads` */
	H2_PAYLOAD, /* `remain` bytes that nobody looks at, the last of their frame */
	H2_SYNC,    /* joined mid-stream: waits for HEADERS at the start of a send or recv */
};

/* The frames of one direction, and what its header blocks have put into its HPACK table. */
struct h2_dir {
	__u8 small[32]; /* bytes of a frame's beginning that came so far, and room behind them */
	__u32 stream;	/* of the frame */
	__u32 left;	/* of the payload, behind what `small` is to hold */
	__u32 padding;	/* ... and of that, behind the fragment */
	__u32 block_stream;
	__u32 high;    /* client: highest stream of a request */
	__u32 inserts; /* number of the next insertion */
	__u32 unknown; /* of insertions below nothing is known */
	__u8 small_len;
	__u8 small_want;
	__u8 type; /* of the frame */
	__u8 flags;
	__u8 block_type; /* of the frame that began the block in progress; 0: none is */
	__u8 block_flags;
	__u8 too_long; /* the block is over HEAD_MAX */
	__u8 met;      /* enum h2_met */
	__u8 preface;  /* bytes of it that have passed */
	__u8 pad[7];
};

enum h2_met {
	H2_STRANGER = 0, /* mid-stream: it only looks like frames */
	H2_FIRST,	 /* the next frame must be SETTINGS */
	H2_SURE,
};

/* One direction of a connection. */
struct dir {
	__u64 remain;
	__u64 body;	 /* body bytes of this message so far */
	__u64 first_ns;	 /* when its first byte was seen */
	__u32 first_seq; /* TCP sequence of that byte */
	__u32 next_seq;	 /* TCP sequence we expect next */
	__u32 head_len;
	__u32 scan; /* start of the last line of the incomplete head */
	__u8 state;
	__u8 digits; /* of the chunk size */
	__u8 tries;  /* start lines looked for in vain */
	__u8 seq_valid;
	struct h2_dir h2;
};

enum conn_proto {
	PROTO_HTTP1 = 0, /* or not known yet */
	PROTO_HTTP2,
	PROTO_NONE, /* not HTTP, or handed off after an upgrade: look away */
};

enum src_kind {
	SRC_NONE = 0, /* bytes that cannot be read: splice, io_uring */
	SRC_BUF,
	SRC_UIOV, /* struct iovec array in user memory */
	SRC_KIOV, /* the same, copied in by the kernel */
	SRC_KBUF, /* bytes in kernel memory */
};

/* Where the bytes of a send or recv lie in user memory. */
struct src {
	__u64 ptr;
	__u64 len;  /* SRC_BUF: bytes; else: elements */
	__u32 skip; /* SRC_KIOV: offset into the first element */
	__u32 kind;
};

/* What the sk_msg program has to do with the socket. */
enum inject_flag {
	INJECT_FED = 1,	    /* it saw the send in progress: the hook behind has less to do */
	INJECT_TRUSTED = 2, /* where a request begins is certain */
	INJECT_BRIEFLY = 4, /* claimed for one request */
	INJECT_READY = 8,   /* ... which is complete */
	INJECT_LEFT = 16,   /* user space was told to let go of it */
	INJECT_TIGHT = 32,  /* the send buffer is too full to look at what may be cut short */
};

enum sk_flag {
	SK_FROM_START = 1, /* no byte of the connection was missed */
	SK_UNIX = 2,
	SK_CONNECTING = 8,
	SK_EVENTS = 16, /* polled with epoll, or HTTP/2: its thread is no request's own */
};

/* Two tasks may see the first bytes of both directions at once: one of them makes the state. */
enum conn_made {
	CONN_NEW = 0,
	CONN_BEING_MADE,
	CONN_MADE,
};

#define ORPHANS 4

struct sk_ctx {
	__u64 cookie;
	__u64 connect_ns;
	__u32 tgid;
	__u32 netns;
	__u8 laddr[16];
	__u8 raddr[16];
	__u16 lport;
	__u16 rport;
	__u8 role;
	__u8 proto;
	__u8 flags;
	__u8 connect_link;
	__u32 req_next; /* number of the next request head */
	__u32 req_high; /* highest number ever given out, for undone speculation */
	__u32 rsp_next; /* number of the request that the next response answers */
	__u32 was_head; /* by number modulo 32: the method was HEAD */
	__u32 was_connect;
	__u16 status; /* of the response in progress */
	__u8 connect_flags;
	__u8 inject; /* enum inject_flag */
	struct dir req;
	struct dir rsp;
	struct trace_ctx connect_ctx; /* parent at connect time */
	__u64 sender;	  /* pid_tgid of a send in progress, where its storage is out of reach */
	struct work work; /* ... and what it works for */
	__u32 proc;	  /* index in procs, plus one */
	__u32 inode;	  /* tier B: of the socket; 0: none was to be seen */
	__u32 server_seq; /* see join_key; 0: not asked for yet */
	__u32 streams;	  /* HTTP/2: open ones */
	__u32 orphans;	  /* given up, but still in `joins`: the server may yet read them */
	__u32 orphan_seqs[ORPHANS];
	__u32 begun; /* the next number that was never given out, not even by undone speculation */
	__u32 made;  /* enum conn_made */
	__u32 pad;
	__u64 offered_by;   /* tier C: the task whose send is in progress; 0: none was looked at */
	struct src offered; /* ... what it is to send */
	__u32 offered_len;
	__u32 offered_left;	   /* ... at the last look */
	__u32 slots[PIPELINE_MAX]; /* of the open requests, plus one, by number modulo 32 */
};

enum note_kind {
	NOTE_NONE = 0,
	NOTE_TRACEPARENT,
	NOTE_TRACESTATE, /* the name alone */
	NOTE_STATUS,
	NOTE_CONNECT, /* the method */
};

/* An insertion into an HPACK table that later blocks may refer to, and that matters here. */
struct note {
	__u32 number;
	__u16 value; /* status, or trace flags */
	__u8 kind;
	__u8 bad; /* a traceparent that is none */
	struct trace_ctx ctx;
};

#define NOTES 64

/* What a connection needs only for HTTP/2. */
struct h2_conn {
	__u32 max_list;	  /* of the server: SETTINGS_MAX_HEADER_LIST_SIZE */
	__u32 max_frame;  /* ... SETTINGS_MAX_FRAME_SIZE */
	__u32 biggest[2]; /* insertion of each direction, at most, by RFC 7541 4.1 */
	__u32 longest[2]; /* ... name of one */
	__u32 told;	  /* user space has blocks of it */
	__u32 told_to;	  /* ... and what the client inserted before this number */
	__u32 sure;	  /* that it is HTTP/2 */
	__u32 pad;
	struct note notes[2 * NOTES]; /* client's, server's; by number modulo NOTES */
};

enum task_flag {
	TASK_SPECULATED = 1, /* spec_* describe the send in progress */
	TASK_SENDS = 2,	     /* tier B: the call in progress is a send */
	TASK_RETURNS = 4,    /* ... whose end is seen when it returns */
};

struct task_ctx {
	struct work work;  /* first: a pointer to it may be NULL */
	struct src src;	   /* tiers A and B: of the call in progress */
	__u64 call_sk;	   /* ... and its socket; 0: none is */
	__u64 call_number; /* tier B: of the system call */
	__u32 call_seq;	   /* ... TCP sequence at its start */
	__u32 call_len;	   /* ... bytes offered or asked for */
	__u32 call_done;   /* ... of these, fed so far */
	__u32 call_flags;
	__u64 spec_conn;
	struct dir spec_dir; /* the parser before the send in progress */
	__u64 mmsg_at;	     /* tier C: the vector of sendmmsg() or recvmmsg() in progress */
	__u32 spec_seq;
	__u32 spec_len;
	__u32 spec_req_next;
	__u32 flags;
	__u32 mmsg_next; /* its next message */
	__u32 spec_proto;
};

enum proc_flag {
	PROC_LOOPS = 1,	  /* user space was told of its first request through an epoll */
	PROC_HANDS = 2,	  /* its threads hand requests over: these are placed by cookie */
	PROC_WORKERS = 4, /* WATCH_WORKERS */
	PROC_FORGETS = 8, /* a destination could not be kept */
	PROC_CORE = 16,	  /* gRPC's core tells who begins a call: see `begun_calls` */
};

/* A selected process, as the kernel side sees it. */
struct proc {
	__u64 idle_from; /* watched without an open request from this time on; ~0: one is open, 0:
			    not known */
	__u64 idle;	 /* ... and before, for so long in all */
	__u64 opened;	 /* open server requests: how many, above the sum of their slots */
	__u32 joined_clones; /* threads started in a request that ended before it */
	__u32 pooled;	     /* a thread started in a request outlived it */
	__u32 tgid;	     /* 0: free */
	__u32 flags;	     /* enum proc_flag */
	__s32 kept;	     /* requests in a row whose answer who read them began; below 0: not
				long ago it was another */
	__u32 lost;	     /* how often that ended it */
};

/* A destination of a process. */
struct dest {
	__u8 addr[16];
	__u32 tgid;
	__u32 port;
};

enum dest_flag {
	DEST_CALLED_IDLE = 1,	 /* a request was sent there while none was open */
	DEST_CONNECTED_IDLE = 2, /* a connect was made */
};

/* Names one outgoing request to the other end of its connection on this host. */
struct join_key {
	__u8 addr[16]; /* TCP: address of the client; unix: its socket cookie */
	__u32 seq;     /* TCP: sequence of the first byte; unix: number of the request */
	__u16 port;    /* of the client; unix: 0 */
	__u16 is_unix;
	__u32 server_seq; /* TCP: where the bytes of the server began */
	__u32 pad;
};

struct join {
	struct trace_ctx ctx;
	__u32 trace_flags;
	__u32 pad;
};

#define TS_MAX 1024 /* W3C asks for 512 at least */

struct tracestate {
	__u32 len;
	__u8 text[TS_MAX];
};

struct by_parent_key {
	struct trace_ctx ctx; /* as received */
	__u32 tgid;
	__u32 pad;
};

struct by_parent {
	struct req_ref ref;
	__u32 shared; /* several requests carry the same header */
	__u32 pad;
};

#endif
