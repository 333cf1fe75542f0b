// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "common.h"

/* The one definition of the configuration, and the types that only ring records use: they are
 * in BTF, and so in the skeleton, because something here names them.
 */
const volatile struct tracer_config cfg = {};
const volatile __u32 huffman[4096] = {};
__s64 joins_live SEC(".data.shared") = 0;
__u64 own_numbers SEC(".data.shared") = 0;

const struct ev_head *btf_anchor_head __attribute__((unused));
const struct ev_span *btf_anchor_span __attribute__((unused));
enum span_flag btf_anchor_span_flag __attribute__((unused));
enum select_bit btf_anchor_select __attribute__((unused));
enum watch_flag btf_anchor_watch __attribute__((unused));
const struct ev_conn_end *btf_anchor_conn_end __attribute__((unused));
const struct ev_connect *btf_anchor_connect __attribute__((unused));
const struct ev_proc *btf_anchor_proc __attribute__((unused));
enum ev_kind btf_anchor_kind __attribute__((unused));
enum role btf_anchor_role __attribute__((unused));
enum link btf_anchor_link __attribute__((unused));
enum end_reason btf_anchor_reason __attribute__((unused));
enum counter btf_anchor_stat __attribute__((unused));
enum abi_limits btf_anchor_limits __attribute__((unused));
enum ev_exec_flag btf_anchor_exec __attribute__((unused));
enum sampler_kind btf_anchor_sampler __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
