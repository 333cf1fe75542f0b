/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __NATIVE_BPF_HELPERS_H
#define __NATIVE_BPF_HELPERS_H

/* What libbpf's header of this name gives the kernel side, for a process: see ../kernel.c. */

#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __noinline	 __attribute__((noinline))
#define __weak		 __attribute__((weak))
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define barrier()	 asm volatile("" ::: "memory")
#define barrier_var(var) asm volatile("" : "+r"(var))

/* libbpf, where it is linked too, has system calls of these names. */
#define bpf_map_lookup_elem parser_map_lookup_elem
#define bpf_map_update_elem parser_map_update_elem
#define bpf_map_delete_elem parser_map_delete_elem

void *bpf_map_lookup_elem(const void *map, const void *key);
long bpf_map_update_elem(const void *map, const void *key, const void *value, __u64 flags);
long bpf_map_delete_elem(const void *map, const void *key);
void *bpf_sk_storage_get(const void *map, const void *sk, const void *value, __u64 flags);
void *bpf_task_storage_get(const void *map, const void *task, const void *value, __u64 flags);
long bpf_ringbuf_output(const void *ring, const void *data, __u64 size, __u64 flags);
void *bpf_ringbuf_reserve(const void *ring, __u64 size, __u64 flags);
void bpf_ringbuf_submit(const void *data, __u64 flags);
__u64 bpf_ringbuf_query(const void *ring, __u64 flags);
long bpf_probe_read_user(void *to, __u32 size, const void *from);
long bpf_probe_read_kernel(void *to, __u32 size, const void *from);
__u64 bpf_ktime_get_ns(void);
__u32 bpf_get_prandom_u32(void);
__u64 bpf_get_current_pid_tgid(void);
struct task_struct *bpf_get_current_task_btf(void);
struct tcp_sock *bpf_skc_to_tcp_sock(void *sk);
__u64 bpf_get_socket_cookie(const void *sk);

/* Callbacks differ in the type of what they are given, which is a pointer in all. */
#define bpf_loop(most, step, context, flags)                                                       \
	({                                                                                         \
		__u32 turn = 0;                                                                    \
		while (turn < (__u32)(most) && !(step)(turn, context))                             \
			turn++;                                                                    \
		(long)turn;                                                                        \
	})

#endif
