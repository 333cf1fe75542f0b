/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __ABI_H
#define __ABI_H

/*
 * Everything that crosses to user space. Only fixed-width integers and arrays of them, no
 * implicit padding: the build fails on a hole, src/bpf/abi.rs asserts the sizes again.
 */

enum abi_limits {
	HEAD_MAX = 16384,    /* a longer request or response head is not followed */
	HEAD_CAPTURE = 4096, /* bytes of a request head that reach user space */
	HEAD_INLINE = 336,   /* bytes of it that travel in the span's record */
	SLOTS = 16384,	     /* open requests of the host */
	UNIX_PATH_MAX = 108,
	PIPELINE_MAX = 32, /* open requests of one HTTP/1 connection */
};

enum ev_kind {
	EV_HEAD = 1,	       /* rb_data: a head too long for the span's record, sent ahead */
	EV_SPAN = 2,	       /* rb_data: a sampled request is over */
	EV_CONNECT = 3,	       /* rb_data: a connect failed */
	EV_EXEC = 4,	       /* rb_ctl */
	EV_FORK = 5,	       /* rb_ctl: a new process, not a thread */
	EV_EXIT = 6,	       /* rb_ctl: the last thread is gone */
	EV_LISTEN = 7,	       /* rb_ctl */
	EV_REQUEST_BLOCK = 8,  /* rb_data: a header block that a client sent, like a head ahead */
	EV_RESPONSE_BLOCK = 9, /* ... that a server sent, and that ends the stream */
	EV_CONN_END = 10,      /* rb_data: no more blocks of this connection */
	EV_TRAILER_BLOCK = 11, /* rb_data: ... behind an answer */
	EV_LOOP = 12, /* rb_ctl: the first request of a process that came through an epoll */
};

enum role {
	ROLE_UNKNOWN = 0,
	ROLE_SERVER = 1,
	ROLE_CLIENT = 2,
};

/* How a parent is known; the order is no ranking. */
enum link {
	LINK_ROOT = 0,
	LINK_HEADER = 1,    /* incoming traceparent */
	LINK_JOINED = 2,    /* the client's end of the connection is on this host */
	LINK_THREAD = 3,    /* the thread serves this request alone */
	LINK_INHERITED = 4, /* the task was started by the one that serves the request */
	LINK_EXCLUSIVE = 5, /* the only open request of the process */
	LINK_FORWARDED = 6, /* the program passed the incoming traceparent on unchanged */
	LINK_PROGRAM = 7,   /* the program wrote a traceparent of its own */
	LINK_HANDED = 8,    /* the thread took the request over from the one that read it */
};

enum end_reason {
	END_COMPLETE = 0,
	END_CLOSED = 1,	  /* the connection went away first */
	END_UPGRADED = 2, /* 101, or 2xx to CONNECT: other bytes follow */
	END_DISCARD = 3,  /* not HTTP after all, or the stream was lost: make no span */
	END_RESET = 4,	  /* RST_STREAM or GOAWAY; `error` is its code */
};

enum ev_exec_flag {
	EXEC_SERVING = 1, /* a request that the task inherited is open */
};

/* Indices of `stats`; the names are exported as they are, in lower case. */
enum counter {
	STAT_RING_FULL_SPAN,
	STAT_RING_FULL_HEAD,
	STAT_RING_FULL_BLOCK,
	STAT_RING_FULL_CONNECT,
	STAT_RING_FULL_CTL,
	STAT_REQUESTS_FULL, /* the table of open requests */
	STAT_PROCS_FULL,
	STAT_HEADS_FULL, /* the table of split heads */
	STAT_SCRATCH_BUSY,
	STAT_SOCKET_STATE, /* no memory for a socket's state */
	STAT_TASK_STATE,
	STAT_HEAD_TOO_LONG,
	STAT_BAD_FRAMING,
	STAT_PIPELINE_TOO_DEEP,
	STAT_LOST_SYNC,	 /* bytes went by unseen where they mattered */
	STAT_UNREADABLE, /* user memory was not present */
	STAT_NOT_HTTP,
	STAT_UNEXPECTED_RESPONSE,
	STAT_H2_CONNECTIONS,
	STAT_H2_FULL, /* no room for the state of another HTTP/2 connection */
	STAT_H2_BAD,  /* frames or header blocks that break the rules */
	STAT_H2_BLOCK_TOO_LONG,
	STAT_UNSAMPLED,
	STAT_REFUSED_AMBIGUOUS,	  /* parent: several open requests, none on this thread */
	STAT_REFUSED_BACKGROUND,  /* parent: the destination is also called without a request */
	STAT_REFUSED_ANSWERED,	  /* parent: the request of this thread is over */
	STAT_REFUSED_EARLY,	  /* parent: the process was not seen idle for long enough */
	STAT_REFUSED_POOL,	  /* parent: started in a request, but seen to outlive requests */
	STAT_REFUSED_UNKEPT,	  /* parent: other threads answer than those that read */
	STAT_REFUSED_EVENTS,	  /* parent: the call's own socket is polled with epoll */
	STAT_REFUSED_TRACEPARENT, /* incoming header invalid or repeated */
	STAT_JOINS,
	STAT_SPECULATION_UNDONE,
	STAT_LOOPS,  /* threads found to be event loops */
	STAT_HANDED, /* requests that a runtime probe saw change threads */
	/* requests of injecting processes: what became of the header */
	STAT_INJECT_DONE,
	STAT_INJECT_OWN,       /* the program wrote one */
	STAT_INJECT_UNCLAIMED, /* the socket is not, or no longer, in the sockhash */
	STAT_INJECT_UNSYNCED,  /* joined mid-stream: no proof yet that this is no body */
	STAT_INJECT_UPGRADE,   /* upgrades and CONNECT are left alone */
	STAT_INJECT_FRAMING,   /* bare newlines, or a length that cannot be trusted */
	STAT_INJECT_NO_ROOM,   /* the send buffer might cut the request short */
	STAT_INJECT_FAILED,    /* the kernel had no memory */
	STAT_INJECT_UNKNOWN,   /* the request has no identity: tables full */
	STAT_INJECT_UNPROVED, /* HTTP/2: the table may hold one of the program's that we did not see
			       */
	STAT_INJECT_SPLIT,    /* HTTP/2: the beginning of the frame has left already */
	STAT_INJECT_TOO_LARGE, /* HTTP/2: more than the server takes */
	STAT_INJECT_CUT,       /* the socket took less than was looked at: left alone since */
	STAT_CLAIMED,
	STAT_CLAIM_DENIED,
	STAT_CLAIM_HELD,    /* by another BPF program */
	STAT_CLAIM_REFUSED, /* by the kernel */
	STAT_MAX,
};

struct ev_hdr {
	__u64 ts; /* CLOCK_MONOTONIC */
	__u32 kind;
	__u32 tgid;
};

/* Followed by `captured` bytes of head, then `unix_len` bytes of the server's socket path. */
struct ev_head {
	struct ev_hdr hdr;
	__u64 conn;
	__u32 stream;
	__u32 captured;
	__u32 unix_len;
	__u32 first; /* blocks: number of the first insertion that it makes */
};

/* Followed by `captured` bytes of head, none if it came ahead. */
struct ev_span {
	struct ev_hdr hdr; /* ts: first byte of the request */
	__u64 end_ts;	   /* last byte of the response, or the close */
	__u64 conn;	   /* socket cookie */
	__u64 request_body;
	__u64 response_body;
	__u32 stream; /* number of the request on the connection */
	__u32 netns;
	__u8 trace_id[16];
	__u8 span_id[8];
	__u8 parent_id[8]; /* all zero: none */
	__u8 laddr[16];	   /* IPv4 as ::ffff:a.b.c.d */
	__u8 raddr[16];
	__u16 lport;
	__u16 rport;
	__u8 role;
	__u8 link;
	__u8 trace_flags;
	__u8 flags;   /* enum span_flag */
	__u16 status; /* 0: no response */
	__u16 error;  /* errno of the socket when it broke */
	__u16 captured;
	__u8 reason;
	__u8 pad;
};

enum span_flag {
	SPAN_UNIX = 1,
	SPAN_HEAD_AHEAD = 2, /* EV_HEAD was sent */
	SPAN_HEAD_LOST = 4,  /* it was not: the ring was full */
	SPAN_HTTP2 = 8,	     /* its head came as EV_REQUEST_BLOCK */
};

/*
 * An open request, from the end of its head to the end of its response. Kept in a table of
 * slots and named by slot and tag; user space reads the table to find what never ends.
 */
struct open_req {
	__u64 tag;	   /* cookie << 20 | number; 0: free, 1: being reported */
	__u8 header_id[8]; /* server: of the traceparent received, key in by_parent */
	__u32 join_seq;
	__u32 proc;	/* index in procs, plus one */
	__u32 flags;	/* enum req_flag */
	__u32 body_seq; /* HTTP/2: request_body counts up to this TCP sequence */
	__u64 caller;	/* client: tag of the server request that it is made for */
	struct ev_span ev;
	__u8 head[HEAD_INLINE];
};

/* HTTP/2: the tables of a connection are of no use any more. */
struct ev_conn_end {
	struct ev_hdr hdr;
	__u64 conn;
};

struct ev_connect {
	struct ev_hdr hdr; /* ts: the failure */
	__u64 start;
	__u8 trace_id[16];
	__u8 span_id[8];
	__u8 parent_id[8];
	__u8 laddr[16];
	__u8 raddr[16];
	__u16 lport;
	__u16 rport;
	__u16 error;
	__u8 link;
	__u8 trace_flags;
};

struct ev_proc {
	struct ev_hdr hdr;
	__u32 other; /* EV_FORK: the child; EV_LISTEN: the port */
	__u32 flags; /* EV_EXEC: enum ev_exec_flag; EV_LISTEN: netns inode */
};

/* rb_claim: a socket that is no business of ours should leave the sockhash. */
struct ev_claim {
	__u64 cookie;
	__u32 tgid;
	__u32 pad;
};

/* Key of `listeners`: a port that is, or was, listened on. */
struct listen_port {
	__u32 netns;
	__u32 port;
};

/* The lowest bit of what `watched` says of a process, a time in nanoseconds. */
enum watch_flag {
	WATCH_WORKERS = 1, /* one thread polls, and what another reads is that one's to serve */
};

/* Four bits a process in `selected`. */
enum select_bit {
	SELECT_ON = 1,
	SELECT_THREADS = 2, /* a thread can hold a request: neither goroutines nor the like */
	SELECT_INJECT = 4,  /* its requests are given a traceparent */
	SELECT_BRIEFLY = 8, /* its sockets may be claimed for one request at a time only */
};

_Static_assert(sizeof(struct ev_hdr) == 16, "abi");
_Static_assert(sizeof(struct ev_head) == 40, "abi");
_Static_assert(sizeof(struct ev_span) == 136, "abi");
_Static_assert(sizeof(struct open_req) == 512, "abi");
_Static_assert(sizeof(struct ev_conn_end) == 24, "abi");
_Static_assert(sizeof(struct ev_connect) == 96, "abi");
_Static_assert(sizeof(struct ev_proc) == 24, "abi");
_Static_assert(sizeof(struct ev_claim) == 16, "abi");

#endif
