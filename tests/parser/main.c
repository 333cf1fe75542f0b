// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Connections from standard input through the parser, what came of each to standard output.
 *
 * In: the Huffman table once; then for each connection its length, its end (enum parser_end) and its
 * calls: what (enum call), bytes, bytes of a piece of the vector, bytes taken, and the bytes.
 * Out: length of the records, what was left, whether its place was lost, then the records as parser_records() has them.
 * All numbers are 32 bits of this machine.
 */
#include <stdio.h>
#include <stdlib.h>

#include "parser.h"

enum call { CALL_RECV, CALL_SEND, CALL_CLOSE };

static int get(void *to, size_t n)
{
	return fread(to, 1, n, stdin) == n;
}

static void connection(const u8 *at, const u8 *end)
{
	const u32 *n = (const u32 *)at;

	parser_open(*n);
	at += 4;
	while (end - at >= 16) {
		n = (const u32 *)at;
		at += 16;
		if (n[1] > end - at)
			abort();
		if (n[0] == CALL_RECV)
			parser_recv(at, n[1], n[2]);
		else if (n[0] == CALL_SEND)
			parser_send(at, n[1], n[2], n[3]);
		else
			parser_close();
		at += (n[1] + 3) & ~3U;
	}
}

int main(void)
{
	static u32 table[4096];
	const u8 *records;
	u8 *bytes = NULL;
	u32 out[3], len;

	if (!get(table, sizeof(table)))
		return 1;
	parser_table(table);
	while (get(&len, 4)) {
		bytes = realloc(bytes, len);
		if (!bytes || len < 4 || !get(bytes, len))
			return 1;
		connection(bytes, bytes + len);
		out[0] = parser_records(&records);
		out[1] = parser_left();
		out[2] = parser_lost();
		fwrite(out, 1, sizeof(out), stdout);
		fwrite(records, 1, out[0], stdout);
		fflush(stdout);
	}
	return 0;
}
