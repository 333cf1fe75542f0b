/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __SYSCALLS_H
#define __SYSCALLS_H

/* Numbers of the system calls that move socket bytes, for the native ABI of the architecture. */
#if defined(__TARGET_ARCH_x86)
#define NR_read	    0
#define NR_write    1
#define NR_readv    19
#define NR_writev   20
#define NR_sendto   44
#define NR_recvfrom 45
#define NR_sendmsg  46
#define NR_recvmsg  47
#define NR_recvmmsg 299
#define NR_sendmmsg 307
#define NR_preadv2  327
#define NR_pwritev2 328
#elif defined(__TARGET_ARCH_arm64)
#define NR_read	    63
#define NR_write    64
#define NR_readv    65
#define NR_writev   66
#define NR_sendto   206
#define NR_recvfrom 207
#define NR_sendmsg  211
#define NR_recvmsg  212
#define NR_recvmmsg 243
#define NR_sendmmsg 269
#define NR_preadv2  286
#define NR_pwritev2 287
#else
#error "no system call numbers for this architecture"
#endif

#define PF_IO_WORKER_ 0x00000010

#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT_ 0x2

static __always_inline long call_number(struct pt_regs *regs)
{
	return regs->orig_ax;
}

static __always_inline __u64 call_second(struct pt_regs *regs)
{
	return regs->si;
}

static __always_inline __u64 call_third(struct pt_regs *regs)
{
	return regs->dx;
}

static __always_inline bool call_is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT_;
}
#else
#define TIF_32BIT_ 22

static __always_inline long call_number(struct pt_regs *regs)
{
	return regs->syscallno;
}

static __always_inline __u64 call_second(struct pt_regs *regs)
{
	return regs->regs[1];
}

static __always_inline __u64 call_third(struct pt_regs *regs)
{
	return regs->regs[2];
}

static __always_inline bool call_is_compat(struct task_struct *task)
{
	return task->thread_info.flags >> TIF_32BIT_ & 1;
}
#endif

#endif
