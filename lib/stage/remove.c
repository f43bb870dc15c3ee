#include "files.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RESOLVE_NO_XDEV: a mount point is not entered, EXDEV, also where the same file system is bound to it. */
static int open_same_mount(int parent, const char *name, int flags) {
    struct open_how how = {
        .flags = (unsigned)(flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    };
    int fd;
    do fd = kernel_openat2(parent, name, &how);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* As an ordinary user, what one owns can still be closed to oneself. */
static int open_for_removal(int parent, const char *name) {
    int fd = open_same_mount(parent, name, O_PATH);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return fd;
    if (geteuid() && st.st_uid == geteuid() && (st.st_mode & S_IRWXU) != S_IRWXU) set_mode(fd, (st.st_mode & 07777) | S_IRWXU);
    close(fd);
    return open_same_mount(parent, name, O_RDONLY);
}

struct removal {
    struct trail trail;
    struct level {
        char *names, *next; /* of the directories that are left to enter */
        const char *name;   /* of this directory, in the list of the one above */
    } *levels;
    bool all;
};

static void stays(struct removal *removal, const char *name) {
    int error = errno;
    char path[PATH_MAX];
    size_t length = 0;
    for (size_t i = 0; i < removal->trail.depth && length < sizeof path; i++)
        length += (size_t)snprintf(path + length, sizeof path - length, "%s/", removal->levels[i].name);
    if (length < sizeof path) snprintf(path + length, sizeof path - length, "%s", name);
    bool mounted = error == EXDEV || error == EBUSY;
    if (error == ESTALE) say("%s stays: it is another directory by now", path);
    else say("%s stays: %s", path, mounted ? "something is mounted there" : strerror(error));
    removal->all = false;
}

/* Removes what is no directory, and reduces the list to what is. */
static void remove_files(struct removal *removal, char *names) {
    char *kept = names;
    for (char *name = names, *next; *name; name = next) {
        next = name + strlen(name) + 1;
        interrupted();
        if (!unlinkat(trail_here(&removal->trail), name, 0) || errno == ENOENT) continue;
        if (errno == EISDIR) {
            memmove(kept, name, (size_t)(next - name));
            kept += next - name;
        } else {
            stays(removal, name);
        }
    }
    *kept = 0;
}

static bool is_same(int fd, const struct stat *expected) {
    struct stat st;
    bool same = !expected || (!fstat(fd, &st) && st.st_ino == expected->st_ino && st.st_dev == expected->st_dev);
    if (!same) errno = ESTALE;
    return same;
}

static void enter(struct removal *removal, int parent, const char *name, const struct stat *expected) {
    int fd = open_for_removal(parent, name);
    char *names = fd < 0 || !is_same(fd, expected) ? NULL : names_in(fd);
    if (!names) {
        if (errno != ENOENT) stays(removal, name);
        if (fd >= 0) close(fd);
        return;
    }
    trail_enter(&removal->trail, fd);
    size_t depth = removal->trail.depth;
    removal->levels = reallocarray(removal->levels, depth, sizeof *removal->levels);
    if (!removal->levels) fail(ENOMEM, "cannot go deeper");
    removal->levels[depth - 1] = (struct level){names, names, name};
    remove_files(removal, names);
}

/* The directory is empty, or what is left in it has been told of. */
static void leave(struct removal *removal, int parent) {
    struct level done = removal->levels[removal->trail.depth - 1];
    free(done.names);
    close(trail_leave(&removal->trail));
    int above = removal->trail.depth ? trail_here(&removal->trail) : parent;
    if (above < 0 || (unlinkat(above, done.name, AT_REMOVEDIR) && errno != ENOENT && (errno != ENOTEMPTY || removal->all)))
        stays(removal, done.name);
}

static bool remove_directory(int parent, const char *top, const struct stat *expected) {
    struct removal removal = {.all = true};
    enter(&removal, parent, top, expected);
    while (removal.trail.depth > 0) {
        struct level *level = &removal.levels[removal.trail.depth - 1];
        /* Moved away under our hands: what is above has been lost, not what is beside. */
        bool lost = trail_here(&removal.trail) < 0;
        if (lost || !*level->next) {
            leave(&removal, parent);
            continue;
        }
        const char *below = level->next;
        level->next += strlen(below) + 1;
        enter(&removal, trail_here(&removal.trail), below, NULL);
    }
    free(removal.levels);
    trail_end(&removal.trail);
    return removal.all;
}

bool remove_tree_at(int parent, const char *name) {
    if (!unlinkat(parent, name, 0) || errno == ENOENT) return true;
    if (errno == EISDIR) return remove_directory(parent, name, NULL);
    say("%s stays: %s", name, strerror(errno));
    return false;
}

bool remove_tree(const char *path, dev_t dev, ino_t ino) {
    char parent_path[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = (size_t)(name - path);
    if (length + 2 > sizeof parent_path || !*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        say("%s stays: it is no name of a directory", path);
        return false;
    }
    memcpy(parent_path, path, length);
    strcpy(parent_path + length, length ? "" : ".");
    int parent = open(parent_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat expected = {.st_dev = dev, .st_ino = ino};
    bool gone = parent < 0 && errno == ENOENT;
    if (parent < 0 && !gone) say("%s stays: %s", path, strerror(errno));
    if (parent >= 0) {
        gone = remove_directory(parent, name, &expected);
        close(parent);
    }
    return gone;
}
