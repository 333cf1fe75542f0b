/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef __PARSER_H
#define __PARSER_H

/* The kernel side's parser as a library of a process: one connection at a time. */

typedef unsigned int u32;
typedef unsigned char u8;

enum parser_end {
	PARSER_SERVER = 0,
	PARSER_CLIENT = 1,
};

void parser_table(const u32 *huffman);
void parser_open(u32 end);
/* `piece`: bytes of each element of the vector they lie in; 0: in one run. */
void parser_recv(const u8 *bytes, u32 len, u32 piece);
/* The socket takes the first `taken` of the bytes. */
void parser_send(const u8 *bytes, u32 len, u32 piece, u32 taken);
void parser_close(void);
/* Records since the open: length, then the record, for each. */
u32 parser_records(const u8 **out);
/* Its place in the stream was lost: it goes on at the beginning of some later call. */
u32 parser_lost(void);
/* State that nothing will free any more: none after a close. */
u32 parser_left(void);

#endif
