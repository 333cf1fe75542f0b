/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __SYSCALLS_H
#define __SYSCALLS_H

/* Numbers of the system calls that move socket bytes, for the native ABI of the architecture. */
#if defined(__TARGET_ARCH_x86)
#define NR_read		  0
#define NR_write	  1
#define NR_readv	  19
#define NR_writev	  20
#define NR_sendfile	  40
#define NR_sendto	  44
#define NR_recvfrom	  45
#define NR_sendmsg	  46
#define NR_recvmsg	  47
#define NR_splice	  275
#define NR_recvmmsg	  299
#define NR_sendmmsg	  307
#define NR_preadv2	  327
#define NR_pwritev2	  328
#define NR_io_uring_enter 426
#elif defined(__TARGET_ARCH_arm64)
#define NR_read		  63
#define NR_write	  64
#define NR_readv	  65
#define NR_writev	  66
#define NR_sendfile	  71
#define NR_splice	  76
#define NR_sendto	  206
#define NR_recvfrom	  207
#define NR_sendmsg	  211
#define NR_recvmsg	  212
#define NR_recvmmsg	  243
#define NR_sendmmsg	  269
#define NR_preadv2	  286
#define NR_pwritev2	  287
#define NR_io_uring_enter 426
#else
#error "no system call numbers for this architecture"
#endif

#endif
