/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __NATIVE_BPF_CORE_READ_H
#define __NATIVE_BPF_CORE_READ_H

/* The objects are our own, laid out as vmlinux.h says: nothing to relocate. */

#define READ_1(o, a)	   ((o)->a)
#define READ_2(o, a, b)	   ((o)->a->b)
#define READ_3(o, a, b, c) ((o)->a->b->c)
#define READ_PICK(o, a, b, c, name, ...) name
#define BPF_CORE_READ(o, ...)                                                                      \
	READ_PICK(o, __VA_ARGS__, READ_3, READ_2, READ_1)(o, __VA_ARGS__)
#define BPF_CORE_READ_INTO(to, o, member)                                                          \
	__builtin_memcpy((to), &(o)->member, sizeof(*(to)))

#define bpf_core_enum_value(type, value)	value
#define bpf_core_enum_value_exists(type, value) 1
#define bpf_core_field_exists(field)		1
#define bpf_core_field_offset(type, member)	__builtin_offsetof(type, member)

#define bpf_core_read(to, size, from) bpf_probe_read_kernel(to, size, from)

#endif
