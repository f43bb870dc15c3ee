#include "files.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int root_fd = -1;
const char *root_path;

/* The parent that was asked for last: programs come by the hundred in one directory. */
static int kept = -1;
static char kept_path[PATH_MAX];

void parent_forget(void) {
    if (kept >= 0) close(kept);
    kept = -1;
}

void root_set(int fd, const char *path) {
    parent_forget();
    if (root_fd >= 0) close(root_fd);
    root_fd = fd;
    root_path = path;
}

const char *in_root(const char *path) {
    static char texts[4][2 * PATH_MAX];
    static int next;
    char *text = texts[next++ % 4];
    const char *root = root_path ? root_path : "";
    size_t length = strlen(root);
    while (length > 0 && root[length - 1] == '/') length--;
    while (path[0] == '/') path++;
    snprintf(text, sizeof *texts, "%.*s%s%s", (int)length, root, *path || !length ? "/" : "", path);
    return text;
}

int open_below(int base, const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    /* EAGAIN: somewhere something was renamed while ".." was resolved, openat2(2). A storm of
     * renames can be somebody's intent: not for ever. */
    for (int tries = 0; tries < 1000; tries++) {
        int fd = kernel_openat2(base, path, &how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return fd;
    }
    return -1;
}

int open_beneath(const char *path, int flags, mode_t mode) {
    if (root_fd < 0) fail(0, "a step needs a root, and none was opened");
    return open_below(root_fd, path, flags, mode);
}

/* The last component, without slashes behind it. "." is the root itself. */
static const char *last_component(const char *path, const char **end_of_parent) {
    static char names[2][NAME_MAX + 1];
    static int next;
    const char *end = path + strlen(path);
    while (end > path && end[-1] == '/') end--;
    const char *start = end;
    while (start > path && start[-1] != '/') start--;
    *end_of_parent = start;
    size_t length = (size_t)(end - start);
    if (length > NAME_MAX) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    if (length == 0 || (length == 1 && start[0] == '.' && start == path)) return ".";
    if ((length == 1 && start[0] == '.') || (length == 2 && start[0] == '.' && start[1] == '.')) {
        errno = EINVAL;
        return NULL;
    }
    char *name = names[next++ % 2];
    memcpy(name, start, length);
    name[length] = 0;
    return name;
}

/* The name, and in `parent` the path of the directory that it is in. */
static bool split(const char *path, const char **name, char parent[PATH_MAX]) {
    const char *end;
    *name = last_component(path, &end);
    if (!*name) return false;
    size_t length = (size_t)(end - path);
    if (length + 2 > PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(parent, path, length);
    strcpy(parent + length, length ? "" : "/");
    return true;
}

int parent_beneath(const char *path, const char **name) {
    char parent[PATH_MAX];
    return split(path, name, parent) ? open_beneath(parent, O_PATH | O_DIRECTORY, 0) : -1;
}

int parent_of(const char *path, const char **name) {
    char parent[PATH_MAX];
    bool valid = split(path, name, parent);
    if (valid && kept >= 0 && !strcmp(parent, kept_path)) return kept;
    parent_forget();
    if (valid) kept = open_beneath(parent, O_PATH | O_DIRECTORY, 0);
    if (kept < 0) fail(errno, "cannot open the directory of %s", in_root(path));
    strcpy(kept_path, parent);
    return kept;
}
