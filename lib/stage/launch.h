/* launch.c: the start of Node from inside this very file. */
#ifndef LAUNCH_H
#define LAUNCH_H

#include <stdint.h>

/*
 * The table of contents, the last bytes of the file. lib/build/pack.ts writes it.
 * The parts are in the order below; offsets are multiples of the page size.
 */
enum { TOC_VERSION = 2, TOC_PARTS_MAX = 16, PART_NODE = 0, PART_LOADER = 1, PART_LIBRARIES = 2 };

struct part {
    char name[32];
    uint64_t offset, size;
    uint64_t head; /* of a library: so many bytes from its start are read before it is relocated */
};

struct toc {
    struct part parts[TOC_PARTS_MAX];
    uint64_t seed; /* where in Node's part the digits of --random-seed are */
    uint32_t count, version;
    char magic[8]; /* "\177hewtoc\n" */
};

_Noreturn void launch(int argc, char **argv, char **envp);

#endif
