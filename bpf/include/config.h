/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __CONFIG_H
#define __CONFIG_H

enum sampler_kind {
	SAMPLE_ON = 0,
	SAMPLE_OFF = 1,
	SAMPLE_RATIO = 2,
};

#define WORKER_NAMES 8

/* Set once by user space before the load; the verifier drops what a value makes dead. */
struct tracer_config {
	__u64 sample_bound;	  /* SAMPLE_RATIO: sampled if the low 63 random bits are below */
	__u64 exclusive_after_ns; /* a process must be known idle for so long before rule 5 holds */
	__u32 self_tgid;	  /* never looked at */
	__u32 wakeup_bytes;	  /* wake the reader when so much is waiting in rb_data */
	__u8 sampler; /* enum sampler_kind, for roots; for every span when !parent_based */
	__u8 parent_based;
	__u8 join;	    /* same-host joining */
	__u8 task_storage;  /* sk_msg programs may use it: since v6.18 */
	__u8 random_flag;   /* set in the trace flags of roots */
	__u8 stay;	    /* no preemption inside the hooks */
	__u8 conns_in_hash; /* tier B: kprobes have no socket storage */
	__u8 recv_flags_at; /* ... and count arguments: where tcp_recvmsg() has its flags */
	__u8 waits_unseen;  /* no hook is on poll() and select(): see `pollers` */
	__u8 pad[7];
	/* comm of the threads that serve what they read, where others poll: beginnings, and their
	 * bits */
	__u64 worker_names[WORKER_NAMES][2];
	__u64 worker_masks[WORKER_NAMES][2];
};

extern const volatile struct tracer_config cfg;

#endif
