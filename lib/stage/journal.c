/*
 * What was created, in order, as directory and name.
 *
 * A descriptor per directory would run into RLIMIT_NOFILE with a large tree, and a path can be
 * longer than PATH_MAX and lead elsewhere by the time it is needed. So a directory is a *place*: its
 * device and inode, and where it is, below another place by its name, or below the root by its
 * path. Never by the path of an archive's entry: that goes through links which later entries replace.
 * It is reopened there when it is needed, and is used only if it is the same inode still.
 * Only directories outside every root (the parents of a new one) keep a descriptor.
 */
#include "files.h"

#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct place {
    dev_t dev;
    ino_t ino;
    int fd;     /* or -1, and then: */
    int via;    /* the place from where */
    char *name; /* this leads to it */
} *places;
static size_t place_count, place_room;
static struct inodes places_by_inode;

static struct entry {
    int place;
    char *name;
    char *exchanged; /* what was `name` before is called this */
} *entries;
static size_t entry_count, entry_room;

static void *more(void *list, size_t count, size_t *room, size_t size) {
    if (count < *room) return list;
    *room = *room ? 2 * *room : 64;
    list = reallocarray(list, *room, size);
    if (!list) fail(ENOMEM, "cannot remember what was created");
    return list;
}

static char *copied(const char *text) {
    char *copy = strdup(text);
    if (!copy) fail(ENOMEM, "cannot remember what was created");
    return copy;
}

static int place_new(const struct stat *st) {
    places = more(places, place_count, &place_room, sizeof *places);
    places[place_count] = (struct place){st->st_dev, st->st_ino, -1, -1, NULL};
    inodes_put(&places_by_inode, st, (int)place_count);
    return (int)place_count++;
}

static int pinned(int fd, const struct stat *st) {
    int place = inodes_find(&places_by_inode, st);
    if (place < 0) place = place_new(st);
    if (places[place].fd < 0) places[place].fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (places[place].fd < 0) fail(errno, "cannot remember a directory");
    return place;
}

static int located(const struct stat *st, int via, const char *name) {
    int place = inodes_find(&places_by_inode, st);
    if (place < 0) place = place_new(st);
    if (places[place].fd >= 0 || place == via) return place;
    /* An inode number can be another directory's by now: the last name counts. */
    if (!places[place].name || strcmp(places[place].name, name)) {
        free(places[place].name);
        places[place].name = copied(name);
    }
    places[place].via = via;
    return place;
}

static bool path_of_descriptor(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = fd < 0 ? -1 : readlink(link, path, PATH_MAX);
    if (length < 0 || length == PATH_MAX) return false;
    path[length] = 0;
    return true;
}

/* The path in the root of a directory that was in it before, without links. */
static const char *path_below_root(int fd) {
    static char path[PATH_MAX];
    char root[PATH_MAX];
    if (!path_of_descriptor(root_fd, root) || !path_of_descriptor(fd, path)) return NULL;
    size_t length = strcmp(root, "/") ? strlen(root) : 0;
    return !strncmp(path, root, length) && path[length] == '/' ? path + length : NULL;
}

static struct stat stat_of(int fd) {
    struct stat st;
    if (fstat(fd, &st)) fail(errno, "cannot look at a directory");
    return st;
}

int place_of(int fd) {
    struct stat st = stat_of(fd);
    int place = inodes_find(&places_by_inode, &st);
    if (place >= 0) return place;
    const char *path = path_below_root(fd);
    if (!path) return pinned(fd, &st);
    struct stat root = stat_of(root_fd);
    return located(&st, pinned(root_fd, &root), path);
}

void place_known(int fd, int parent, const char *name) {
    struct stat st = stat_of(fd);
    located(&st, place_of(parent), name);
}

static bool is_place(int fd, int place) {
    struct stat st;
    return !fstat(fd, &st) && st.st_ino == places[place].ino && st.st_dev == places[place].dev;
}

static bool undoing;

/* What was made can be closed to an ordinary user by the time it is taken back. */
static bool open_up(int directory) {
    struct stat st;
    return undoing && errno == EACCES && !fstat(directory, &st) && set_mode(directory, (st.st_mode & 07777) | S_IRWXU);
}

/* fd is used up; what comes back is `place`, or -1. */
static int step_to(int fd, const char *name, int flags, int place) {
    int next = open_below(fd, name, flags | O_DIRECTORY, 0);
    if (next < 0 && open_up(fd)) next = open_below(fd, name, flags | O_DIRECTORY, 0);
    int error = errno;
    close(fd);
    if (next >= 0 && !is_place(next, place)) {
        close(next);
        next = -1;
        error = ESTALE;
    }
    errno = error;
    return next;
}

int place_open(int place, int flags) {
    size_t depth = 0;
    for (int at = place; places[at].fd < 0; at = places[at].via)
        if (++depth > place_count) { /* a loop: the directories were moved into each other */
            errno = ESTALE;
            return -1;
        }
    int *way = calloc(depth + 1, sizeof *way);
    if (!way) return -1;
    for (size_t i = depth + 1, at = (size_t)place; i-- > 0; at = (size_t)places[at].via) way[i] = (int)at;
    int fd = openat(places[way[0]].fd, ".", (depth ? O_PATH : flags) | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 1; i <= depth && fd >= 0; i++)
        fd = step_to(fd, places[way[i]].name, i < depth ? O_PATH : flags, way[i]);
    free(way);
    return fd;
}

void journal_created(int parent, const char *name) {
    int place = place_of(parent);
    entries = more(entries, entry_count, &entry_room, sizeof *entries);
    entries[entry_count++] = (struct entry){place, copied(name), NULL};
}

void journal_renamed(const char *name) {
    struct entry *newest = &entries[entry_count - 1];
    free(newest->name);
    newest->name = copied(name);
}

void journal_exchanged(const char *name) {
    struct entry *newest = &entries[entry_count - 1];
    newest->exchanged = newest->name;
    newest->name = copied(name);
}

/* For a message: "a/b/c", or the end of it. */
static const char *path_of(const struct entry *entry) {
    static char text[1024];
    const char *name = entry->name;
    size_t start = sizeof text - 1;
    for (int place = entry->place;; place = places[place].via) {
        size_t length = strlen(name);
        if (length + 1 > start) break;
        start -= length;
        memcpy(text + start, name, length);
        if (places[place].fd >= 0) break;
        if (*(name = places[place].name) == '/') name++; /* the path of a parent: "/usr/lib/" */
        size_t end = strlen(name);
        if (end > 0 && name[end - 1] != '/') text[--start] = '/';
    }
    return text + start;
}

/* Goes through the list, newest first, with the directory of each entry open (or -1). */
static void take(bool (*act)(int directory, const struct entry *entry)) {
    int here = -1, fd = -1;
    size_t left = 0;
    char first[1024] = "";
    while (entry_count > 0) {
        struct entry *entry = &entries[--entry_count];
        if (entry->place != here) {
            /* Up is where the next one is most often; from the root, a deep tree would take quadratic time. */
            bool up = fd >= 0 && places[here].via == entry->place;
            here = entry->place;
            int above = up ? openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
            if (fd >= 0) close(fd);
            if (above >= 0 && !is_place(above, here)) {
                close(above);
                above = -1;
            }
            fd = above >= 0 ? above : place_open(here, O_PATH);
        }
        if (!act(fd, entry) && left++ == 0) snprintf(first, sizeof first, "%s", path_of(entry));
        free(entry->name);
        free(entry->exchanged);
    }
    if (fd >= 0) close(fd);
    if (left == 1) say("%s could not be removed", first);
    if (left > 1) say("%s could not be removed, and %zu more", first, left - 1);
}

static bool unlink_any(int directory, const char *name) {
    if (!unlinkat(directory, name, 0) || errno == ENOENT) return true;
    return errno == EISDIR && !unlinkat(directory, name, AT_REMOVEDIR);
}

static bool take_back_in(int directory, const struct entry *entry) {
    if (!entry->exchanged) return unlink_any(directory, entry->name);
    /* Not a plain rename: one of the two can be a directory. */
    if (kernel_renameat2(directory, entry->exchanged, directory, entry->name, RENAME_EXCHANGE)) return false;
    return unlink_any(directory, entry->exchanged);
}

static bool take_back(int directory, const struct entry *entry) {
    if (directory < 0) return false;
    if (take_back_in(directory, entry)) return true;
    /* Somebody else has put something into the directory, another hew perhaps: it is not ours alone any more. */
    if (errno == ENOTEMPTY || errno == EEXIST) return true;
    return open_up(directory) && take_back_in(directory, entry);
}

void journal_undo(void) {
    undoing = true;
    take(take_back);
}

static bool leave(int directory, const struct entry *entry) {
    return directory >= 0 && unlink_any(directory, entry->exchanged);
}

void journal_keep(void) {
    size_t exchanged = 0;
    for (size_t i = 0; i < entry_count; i++) {
        if (entries[i].exchanged) entries[exchanged++] = entries[i];
        else free(entries[i].name);
    }
    entry_count = exchanged;
    take(leave);
}
