// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "parser.h"

/* To the kernel side it is constant, and set before the load. */
u32 huffman[4096];

void parser_table(const u32 *table)
{
	for (u32 i = 0; i < 4096; i++)
		huffman[i] = table[i];
}
