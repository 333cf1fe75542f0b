/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __FILES_H
#define __FILES_H

#include "common.h"

/* Descriptors of a process. */

#define S_IFMT_	  0170000
#define S_IFSOCK_ 0140000

/* What a descriptor stands for; NULL: it is closed. */
static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), files + fd))
		return NULL;
	return file;
}

/* The socket behind a file; NULL: it is none. */
static __always_inline struct sock *socket_behind(struct file *file)
{
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT_) != S_IFSOCK_)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline struct sock *socket_of(struct task_struct *task, __u32 fd)
{
	return socket_behind(file_of(task, fd));
}

#endif
