// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "core.h"
#include "stay.h"

static __always_inline void state_is(struct sock *sk, int new)
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
		return;
	}
	if (new == TCP_SYN_SENT) {
		tgid = current_tgid();
		if (tgid_selected(tgid) && tgid != cfg.self_tgid)
			on_connect(sk);
		return;
	}
	c = conn_find(sk);
	if (c)
		on_shutdown(sk, c, new == TCP_CLOSE);
}

/*
 * States of TCP connections, the same on every tier. Listen and connect run in the context of
 * the program, the rest in any.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tp_sock_state, struct sock *sk, int old, int new)
{
	if (new != TCP_LISTEN &&new != TCP_SYN_SENT &&new != TCP_CLOSE &&new !=
	    TCP_FIN_WAIT1 &&new != TCP_LAST_ACK)
		return 0;
	stay();
	state_is(sk, new);
	go();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
