#include "files.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RESOLVE_NO_XDEV: a mount point is not entered, EXDEV, also where the same file system is bound to it. */
static int find_on_same_mount(int parent, const char *name) {
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    };
    int fd;
    do fd = kernel_openat2(parent, name, &how);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int open_for_removal(int parent, const char *name, const struct stat *expected) {
    int found = find_on_same_mount(parent, name), fd = -1;
    struct stat st;
    if (found < 0) return -1;
    if (fstat(found, &st) || (expected && (st.st_ino != expected->st_ino || st.st_dev != expected->st_dev))) {
        errno = ESTALE;
    } else {
        /* As an ordinary user, what one owns can still be closed to oneself. */
        if (geteuid() && st.st_uid == geteuid() && (st.st_mode & S_IRWXU) != S_IRWXU) set_mode(found, (st.st_mode & 07777) | S_IRWXU);
        fd = openat(found, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    int error = errno;
    close(found);
    errno = error;
    return fd;
}

struct removal {
    const char *above; /* the path of the directory that the tree is in, for messages */
    struct trail trail;
    struct level {
        char *names, *next; /* of the directories that are left to enter */
        const char *name;   /* of this directory, in the list of the one above */
    } *levels;
    bool all;
};

static void stays(struct removal *removal, const char *name) {
    int error = errno;
    char path[2 * PATH_MAX];
    size_t length = strlen(removal->above);
    bool slash = length > 0 && removal->above[length - 1] != '/';
    length = (size_t)snprintf(path, sizeof path, "%s%s", removal->above, slash ? "/" : "");
    for (size_t i = 0; i < removal->trail.depth && length < sizeof path; i++)
        length += (size_t)snprintf(path + length, sizeof path - length, "%s/", removal->levels[i].name);
    if (length < sizeof path) snprintf(path + length, sizeof path - length, "%s", name);
    bool mounted = error == EXDEV || error == EBUSY;
    if (error == ESTALE) say("%s stays: it is another directory by now", path);
    else say("%s stays: %s", path, mounted ? "something is mounted there" : error_text(error));
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

static void enter(struct removal *removal, int parent, const char *name, const struct stat *expected) {
    int fd = open_for_removal(parent, name, expected);
    char *names = fd < 0 ? NULL : names_in(fd);
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

static bool remove_directory(int parent, const char *above, const char *top, const struct stat *expected) {
    struct removal removal = {.above = above, .all = true};
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

bool remove_tree_at(int parent, const char *above, const char *name) {
    if (!unlinkat(parent, name, 0) || errno == ENOENT) return true;
    if (errno == EISDIR) return remove_directory(parent, above, name, NULL);
    stays(&(struct removal){.above = above}, name);
    return false;
}

bool remove_tree(const char *path, dev_t dev, ino_t ino) {
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = (size_t)(name - path);
    if (length + 1 > sizeof above || !*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        say("%s stays: it is no name of a directory", path);
        return false;
    }
    memcpy(above, path, length);
    above[length] = 0;
    int parent = open(*above ? above : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat expected = {.st_dev = dev, .st_ino = ino};
    bool gone = parent < 0 && errno == ENOENT;
    if (parent < 0 && !gone) say("%s stays: %s", path, error_text(errno));
    if (parent >= 0) {
        gone = remove_directory(parent, above, name, &expected);
        close(parent);
    }
    return gone;
}
