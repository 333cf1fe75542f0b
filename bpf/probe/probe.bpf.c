// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/*
 * Loaded one at a time: whether the kernel allows what BTF and version numbers do not tell.
 * Lockdown forbids the first; the second came with v6.18. Both are attached to nothing.
 */

SEC("uprobe")
int write_memory(struct pt_regs *ctx)
{
	__u64 zero = 0;

	bpf_probe_write_user((void *)PT_REGS_SP(ctx), &zero, sizeof(zero));
	return 0;
}

SEC("uprobe")
int write_register(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	ctx->di = 0;
#else
	((struct user_pt_regs *)ctx)->regs[0] = 0;
#endif
	return 0;
}

SEC("uprobe")
int look(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe.multi")
int look_multi(struct pt_regs *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
