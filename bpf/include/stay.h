/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __STAY_H
#define __STAY_H

#include "common.h"

/*
 * While a task is in a program, the kernel runs that program for no other task on the CPU: whoever
 * preempts us goes unseen. So we stay, where that is allowed around our functions (since v6.15),
 * and needed: trampolines never forbade preemption, tracepoints do not any more.
 */
extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;
extern void bpf_local_irq_save(unsigned long *flags) __ksym __weak;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym __weak;

static __always_inline void stay(void)
{
	if (cfg.stay)
		bpf_preempt_disable();
}

/*
 * Who was to preempt us meanwhile would do so right here, still inside the program, if interrupts
 * were on: so it is at the kernel's next chance. Apart, for its own room on the stack.
 */
static __noinline int go_on(void)
{
	unsigned long flags;

	bpf_local_irq_save(&flags);
	bpf_preempt_enable();
	bpf_local_irq_restore(&flags);
	return 0;
}

static __always_inline void go(void)
{
	if (cfg.stay)
		go_on();
}

#endif
