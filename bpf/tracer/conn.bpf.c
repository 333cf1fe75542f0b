// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "core.h"

/*
 * States of TCP connections, the same on every tier. Listen and connect run in the context of
 * the program, the rest in any.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tp_sock_state, struct sock *sk, int old, int new)
{
	struct sk_ctx *c;
	__u32 tgid;

	if (new == TCP_LISTEN) {
		struct listen_port l = {
		    .netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum),
		    .port = sk->__sk_common.skc_num,
		};
		__u32 one = 1;

		bpf_map_update_elem(&listeners, &l, &one, BPF_ANY);
		emit_proc(EV_LISTEN, current_tgid(), l.port, l.netns);
		return 0;
	}
	if (new == TCP_SYN_SENT) {
		tgid = current_tgid();
		if (tgid_selected(tgid) && tgid != cfg.self_tgid)
			on_connect(sk);
		return 0;
	}
	if (new != TCP_CLOSE &&new != TCP_FIN_WAIT1 &&new != TCP_LAST_ACK)
		return 0;
	c = conn_find(sk);
	if (c)
		on_shutdown(sk, c, new == TCP_CLOSE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
