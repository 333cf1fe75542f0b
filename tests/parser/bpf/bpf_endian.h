/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#define bpf_ntohs(x)	   __builtin_bswap16(x)
#define bpf_htons(x)	   __builtin_bswap16(x)
#define bpf_be64_to_cpu(x) __builtin_bswap64(x)
