// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * bpf/include/core.h, compiled for this machine: what it calls of the kernel is here, as small as
 * the parser needs it. The connection's two ends, its bytes and how they are cut come from the
 * caller; sequences, sockets and maps are made to agree with them, as the kernel would.
 */
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include "core.h"
#include "parser.h"

void *calloc(unsigned long n, unsigned long size);
void *realloc(void *old, unsigned long size);
void abort(void);

const volatile struct tracer_config cfg = {.join = 1, .parent_based = 1, .wakeup_bytes = 1 << 16};
__s64 joins_live;
__u64 own_numbers;

#define SERVER_PORT 80
#define CLIENT_PORT 40000
#define TGID	    77
#define MOST	    64 /* entries of a hash that one connection can want */

struct entry {
	bool used;
	__u8 key[64];
	__u8 *value;
};

struct map {
	const void *map;
	__u32 key_size, value_size, entries;
	bool hash;
	bool lasts; /* entries outlive connections by design */
	__u8 *values;
	struct entry *hashed;
};

#define ENTRIES(m) (sizeof(*(m).max_entries) / sizeof(int))
#define ARRAY(m)   {.map = &m, .value_size = sizeof(*m.value), .entries = ENTRIES(m)}
#define HASH(m, l) {.map = &m, .key_size = sizeof(*m.key), .value_size = sizeof(*m.value), .entries = ENTRIES(m), .hash = true, .lasts = l}

static struct map maps[] = {
	ARRAY(selected), ARRAY(procs), ARRAY(slots), ARRAY(freed_slots), ARRAY(no_head),
	ARRAY(scratches), ARRAY(spanwire_stats),
	HASH(watched, true), HASH(listeners, true), HASH(dests, true),
	HASH(joins, false), HASH(by_parent, false), HASH(tracestates, false),
	HASH(heads, false), HASH(h2_conns, false), HASH(h2_unix_conns, false), HASH(conns, false),
};

static struct map *map_of(const void *map)
{
	for (u32 i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		struct map *m = &maps[i];

		if (m->map != map)
			continue;
		if (!m->hash && !m->values)
			m->values = calloc(m->entries, m->value_size);
		if (m->hash && !m->hashed)
			m->hashed = calloc(MOST, sizeof(struct entry));
		return m;
	}
	abort();
}

static struct entry *entry_of(struct map *m, const void *key, bool free)
{
	struct entry *unused = NULL;

	for (u32 i = 0; i < MOST && i < m->entries; i++) {
		struct entry *e = &m->hashed[i];

		if (e->used && !__builtin_memcmp(e->key, key, m->key_size))
			return e;
		if (!e->used && !unused)
			unused = e;
	}
	return free ? unused : NULL;
}

void *bpf_map_lookup_elem(const void *map, const void *key)
{
	struct map *m = map_of(map);
	struct entry *e;
	__u32 at;

	if (m->hash) {
		e = entry_of(m, key, false);
		return e ? e->value : NULL;
	}
	at = *(__u32 *)key;
	return at < m->entries ? m->values + (unsigned long)at * m->value_size : NULL;
}

long bpf_map_update_elem(const void *map, const void *key, const void *value, __u64 flags)
{
	struct map *m = map_of(map);
	struct entry *e = entry_of(m, key, true);

	if (!m->hash)
		abort();
	if (!e)
		return -7;
	if (e->used && flags == BPF_NOEXIST)
		return -17;
	if (!e->value)
		e->value = calloc(1, m->value_size);
	e->used = true;
	__builtin_memcpy(e->key, key, m->key_size);
	__builtin_memcpy(e->value, value, m->value_size);
	return 0;
}

long bpf_map_delete_elem(const void *map, const void *key)
{
	struct map *m = map_of(map);
	struct entry *e = entry_of(m, key, false);

	if (!e)
		return -2;
	e->used = false;
	return 0;
}

static struct net net = {.ns.inum = 1};
static struct socket socket;
static struct tcp_sock tcp;
static struct task_struct task;
static struct sk_ctx sk_ctx;
static bool sk_ctx_made;
static struct task_ctx task_ctx;
static bool task_ctx_made;
static __u64 cookie, now;
static __u32 prandom = 1;

static struct sock *sock(void)
{
	return (struct sock *)&tcp;
}

void *bpf_sk_storage_get(const void *map, const void *sk, const void *value, __u64 flags)
{
	if (!sk_ctx_made && !(flags & BPF_SK_STORAGE_GET_F_CREATE))
		return NULL;
	sk_ctx_made = true;
	return &sk_ctx;
}

void *bpf_task_storage_get(const void *map, const void *t, const void *value, __u64 flags)
{
	if (!task_ctx_made && !(flags & BPF_LOCAL_STORAGE_GET_F_CREATE))
		return NULL;
	task_ctx_made = true;
	return &task_ctx;
}

static __u8 *records;
static __u32 records_len, records_room;

static __u8 *record(__u32 size)
{
	__u32 want = records_len + 4 + size;
	__u8 *at;

	if (want > records_room) {
		records_room = want * 2;
		records = realloc(records, records_room);
	}
	at = records + records_len;
	__builtin_memcpy(at, &size, 4);
	records_len = want;
	return at + 4;
}

long bpf_ringbuf_output(const void *ring, const void *data, __u64 size, __u64 flags)
{
	__builtin_memcpy(record(size), data, size);
	return 0;
}

void *bpf_ringbuf_reserve(const void *ring, __u64 size, __u64 flags)
{
	static __u64 told[8]; /* of the one process that there is here */

	return ring == &rb_ctl ? told : record(size);
}

void bpf_ringbuf_submit(const void *data, __u64 flags)
{
}

__u64 bpf_ringbuf_query(const void *ring, __u64 flags)
{
	return 0;
}

long bpf_probe_read_user(void *to, __u32 size, const void *from)
{
	__builtin_memcpy(to, from, size);
	return 0;
}

long bpf_probe_read_kernel(void *to, __u32 size, const void *from)
{
	__builtin_memcpy(to, from, size);
	return 0;
}

__u64 bpf_ktime_get_ns(void)
{
	return ++now;
}

__u32 bpf_get_prandom_u32(void)
{
	prandom = prandom * 1664525 + 1013904223;
	return prandom;
}

__u64 bpf_get_current_pid_tgid(void)
{
	return (__u64)TGID << 32 | TGID;
}

struct task_struct *bpf_get_current_task_btf(void)
{
	return &task;
}

struct tcp_sock *bpf_skc_to_tcp_sock(void *sk)
{
	return sk;
}

__u64 bpf_get_socket_cookie(const void *sk)
{
	return cookie;
}

/* Where each direction stands: its first byte has number one. */
static __u32 received, sent;

void parser_open(u32 end)
{
	struct listen_port l = {.netns = 1, .port = SERVER_PORT};
	__u32 one = 1;

	bpf_map_update_elem(&listeners, &l, &one, BPF_ANY);
	tgid_select(TGID, SELECT_ON | SELECT_THREADS);
	__builtin_memset(&tcp, 0, sizeof(tcp));
	__builtin_memset(&sk_ctx, 0, sizeof(sk_ctx));
	__builtin_memset(&task_ctx, 0, sizeof(task_ctx));
	sk_ctx_made = task_ctx_made = false;
	sock()->__sk_common.skc_family = AF_INET;
	sock()->__sk_common.skc_net.net = &net;
	sock()->__sk_common.skc_num = end == PARSER_SERVER ? SERVER_PORT : CLIENT_PORT;
	sock()->__sk_common.skc_dport =
		bpf_htons(end == PARSER_SERVER ? CLIENT_PORT : SERVER_PORT);
	sock()->sk_protocol = IPPROTO_TCP;
	sock()->sk_socket = &socket;
	cookie++;
	received = sent = 0;
	tcp.copied_seq = tcp.rcv_nxt = 1;
	tcp.write_seq = tcp.snd_una = 1;
	records_len = 0;
}

#define PIECES 65536

static struct uvec pieces[PIECES];

static void src_of(const u8 *bytes, u32 len, u32 piece, struct src *src)
{
	__u32 n = 0;

	__builtin_memset(src, 0, sizeof(*src));
	src->kind = SRC_BUF;
	src->ptr = (__u64)bytes;
	src->len = len;
	if (!piece || len / piece >= IOV_MAX)
		return;
	for (__u32 at = 0; at < len; at += piece) {
		pieces[n].base = (__u64)(bytes + at);
		pieces[n++].len = len - at < piece ? len - at : piece;
	}
	src->kind = SRC_UIOV;
	src->ptr = (__u64)pieces;
	src->len = n;
}

void parser_recv(const u8 *bytes, u32 len, u32 piece)
{
	struct src src;

	src_of(bytes, len, piece, &src);
	received += len;
	tcp.bytes_received = received;
	tcp.rcv_nxt = tcp.copied_seq = 1 + received;
	on_recv(sock(), &src, (__u64)(SELECT_ON | SELECT_THREADS) << 32 | TGID, len, 0, 0);
}

void parser_send(const u8 *bytes, u32 len, u32 piece, u32 taken)
{
	__u64 who = (__u64)(SELECT_ON | SELECT_THREADS) << 32 | TGID;
	struct src src;

	src_of(bytes, len, piece, &src);
	on_send_early(sock(), &src, who, len);
	sent += taken;
	tcp.write_seq = 1 + sent;
	on_send(sock(), &src, who, taken, 0);
}

void parser_close(void)
{
	if (sk_ctx_made)
		on_shutdown(sock(), &sk_ctx, true);
}

u32 parser_records(const u8 **out)
{
	*out = records;
	return records_len;
}

u32 parser_lost(void)
{
	return sk_ctx_made && !(sk_ctx.flags & SK_FROM_START);
}

/* Clears it too, so that the next connection is told of its own. */
#define TAKE(left, field) ((left) += (field) != 0, (field) = 0)

u32 parser_left(void)
{
	u32 left = 0;

	TAKE(left, joins_live);
	for (u32 i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		for (u32 k = 0; maps[i].hashed && !maps[i].lasts && k < MOST; k++)
			TAKE(left, maps[i].hashed[k].used);
	}
	for (u32 i = 0; i < SLOTS; i++)
		TAKE(left, slot_at(i)->tag);
	for (u32 i = 0; i < SCRATCHES; i++)
		TAKE(left, ((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy);
	TAKE(left, proc_at(TGID % PROCS)->opened);
	return left;
}
