/* What libelf's build wants of glibc's argp, which musl lacks. Its files that use argp are compiled and never linked. */
#ifndef SPANWIRE_ARGP_H
#define SPANWIRE_ARGP_H

#include <stdio.h>

typedef int error_t;

struct argp_state {
	const char *name;
};

struct argp_option {
	const char *name;
	int key;
	const char *arg;
	int flags;
	const char *doc;
	int group;
};

struct argp {
	const struct argp_option *options;
	error_t (*parser)(int key, char *arg, struct argp_state *state);
	const char *args_doc;
	const char *doc;
	const void *children;
	char *(*help_filter)(int key, const char *text, void *input);
	const char *domain;
};

#define OPTION_ARG_OPTIONAL 1
#define ARGP_ERR_UNKNOWN 7
#define ARGP_HELP_SEE 4

void argp_help(const struct argp *argp, FILE *stream, unsigned int flags, char *name);

#endif
