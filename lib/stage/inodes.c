#include "files.h"

#include <errno.h>
#include <stdlib.h>

static struct inode *slot(const struct inodes *set, dev_t dev, ino_t ino) {
    size_t at = ((size_t)ino * 0x9E3779B97F4A7C15u ^ (size_t)dev) >> 7;
    for (;; at++) {
        struct inode *here = &set->slots[at & (set->room - 1)];
        if (!here->number || (here->ino == ino && here->dev == dev)) return here;
    }
}

static void grow(struct inodes *set) {
    struct inodes larger = {.room = set->room ? 2 * set->room : 256, .used = set->used};
    larger.slots = calloc(larger.room, sizeof *larger.slots);
    if (!larger.slots) fail(ENOMEM, "cannot remember so many files");
    for (size_t i = 0; i < set->room; i++)
        if (set->slots[i].number) *slot(&larger, set->slots[i].dev, set->slots[i].ino) = set->slots[i];
    free(set->slots);
    *set = larger;
}

int inodes_find(const struct inodes *set, const struct stat *st) {
    return set->room ? slot(set, st->st_dev, st->st_ino)->number - 1 : -1;
}

void inodes_put(struct inodes *set, const struct stat *st, int number) {
    if (4 * (set->used + 1) > 3 * set->room) grow(set);
    struct inode *here = slot(set, st->st_dev, st->st_ino);
    if (!here->number) set->used++;
    *here = (struct inode){st->st_dev, st->st_ino, number + 1};
}
