#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

static struct level {
    char *names, *next;
    size_t path_length; /* of the directory's path in `path` */
    struct stat st;
    bool finish; /* its attributes are ours to set */
} *levels;
static struct trail from, to;

/* Where we are in the tree, for messages: "usr/lib/x". */
static char *path;
static size_t path_room;
static const char *source_path;

static void path_is(size_t length, const char *name) {
    size_t size = strlen(name) + 2;
    if (length + size > path_room) {
        path_room = 2 * (length + size);
        path = realloc(path, path_room);
        if (!path) fail(ENOMEM, "cannot go deeper");
    }
    if (length) path[length++] = '/';
    strcpy(path + length, name);
}

/* What the kernel makes up has no contents to keep; some of it has no end. */
static bool is_made_up(int fd) {
    static const unsigned types[] = {PROC_SUPER_MAGIC,  SYSFS_MAGIC,       CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC,
                                     DEBUGFS_MAGIC,     TRACEFS_MAGIC,     SECURITYFS_MAGIC,   BPF_FS_MAGIC,        PSTOREFS_MAGIC,
                                     EFIVARFS_MAGIC,    SELINUX_MAGIC,     SMACK_MAGIC,        BINFMTFS_MAGIC,      AUTOFS_SUPER_MAGIC,
                                     NSFS_MAGIC,        0x62656570u /* configfs */,            0x19800202u /* mqueue */};
    struct statfs fs;
    if (fstatfs(fd, &fs)) return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((unsigned)fs.f_type == types[i]) return true;
    return false;
}

static void enter(int in, int out, const struct stat *st, bool finish) {
    bool mount = from.depth > 0 && st->st_dev != levels[from.depth - 1].st.st_dev;
    trail_enter(&from, in);
    trail_enter(&to, out);
    levels = reallocarray(levels, from.depth, sizeof *levels);
    if (!levels) fail(ENOMEM, "cannot go deeper");
    char *names = mount && is_made_up(in) ? calloc(1, 1) : names_in(in);
    if (!names) fail(errno, "cannot read %s/%s", source_path, path);
    levels[from.depth - 1] = (struct level){names, names, strlen(path), *st, finish};
}

static void enter_directory(const char *name) {
    int in = openat(trail_here(&from), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (in < 0 && errno == ENOENT) return; /* gone meanwhile */
    if (in < 0 || fstat(in, &st)) fail(errno, "cannot read %s/%s", source_path, path);
    int parent = trail_here(&to);
    bool made = make_directory(parent, name, S_IRWXU);
    if (!made && errno != EEXIST) fail(errno, "cannot create %s", in_root(path));
    int out = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (out >= 0) {
        place_known(out, parent, name);
    } else if (errno == ELOOP || errno == ENOTDIR) {
        /* A link to a directory does as well, as long as that is in the root. */
        out = open_beneath(path, O_RDONLY | O_DIRECTORY, 0);
        trail_pin(&to);
    }
    if (out < 0) refuse(EEXIST, "%s is there already, and is no directory", in_root(path));
    enter(in, out, &st, made);
}

static void finish(int in, int out, const struct stat *st) {
    mode_t mode = st->st_mode & 07777;
    if (!set_owner(out, owner_of(st), path)) mode &= ~(mode_t)(S_ISUID | S_ISGID);
    copy_xattrs(in, out, path);
    if (!set_mode(out, mode) || futimens(out, (struct timespec[]){st->st_atim, st->st_mtim}))
        fail(errno, "cannot change the attributes of %s", in_root(path));
}

static void leave_directory(void) {
    struct level level = levels[from.depth - 1];
    free(level.names);
    path[level.path_length] = 0;
    int in = trail_leave(&from), out = trail_leave(&to);
    if (from.depth > 0 && (trail_here(&from) < 0 || trail_here(&to) < 0)) fail(ESTALE, "cannot go on behind %s", in_root(path));
    /* Afterwards the way up may be closed, and what was put into it has changed its time. */
    if (level.finish) finish(in, out, &level.st);
    close(in);
    close(out);
}

static void copy_regular(const char *name) {
    struct stat st;
    int in = openat(trail_here(&from), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (in < 0 && errno == ENOENT) return;
    if (in < 0 || fstat(in, &st)) fail(errno, "cannot read %s/%s", source_path, path);
    if (!S_ISREG(st.st_mode)) refuse(EINVAL, "%s/%s was replaced while it was copied", source_path, path);
    char *source;
    if (asprintf(&source, "%s/%s", source_path, path) < 0) fail(ENOMEM, "cannot copy %s", path);
    copy_file(&(struct copy){.source = source, .path = path, .keep = 07777}, in, &st, trail_here(&to), name);
    free(source);
    close(in);
}

static void copy_link(const char *name, const struct stat *st) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(trail_here(&from), name, target, sizeof target - 1);
    if (length < 0) fail(errno, "cannot read %s/%s", source_path, path);
    target[length] = 0;
    copy_symlink(target, st, trail_here(&to), name, path);
}

static void copy_node(const char *name, const struct stat *st) {
    struct node node = {.mode = st->st_mode, .device = S_ISFIFO(st->st_mode) ? 0 : st->st_rdev};
    struct stat there;
    int parent = trail_here(&to);
    if (!make_node(parent, name, &node)) {
        journal_created(parent, name);
        close(finish_node(parent, name, &node, owner_of(st), (struct timespec[]){st->st_atim, st->st_mtim}, path));
    } else if (errno == EPERM && !S_ISFIFO(st->st_mode)) {
        device_left_out(errno, path);
    } else if (errno != EEXIST) {
        fail(errno, "cannot create %s", in_root(path));
    } else if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) || there.st_mode != st->st_mode || there.st_rdev != st->st_rdev) {
        refuse(EEXIST, "%s is there already", in_root(path));
    }
}

static void copy_entry(const char *name, const struct stat *root) {
    struct stat st;
    if (fstatat(trail_here(&from), name, &st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT) return;
        fail(errno, "cannot read %s/%s", source_path, path);
    }
    if (S_ISDIR(st.st_mode)) {
        /* The root may lie in the directory that is copied into it. */
        if (st.st_ino != root->st_ino || st.st_dev != root->st_dev) enter_directory(name);
        return;
    }
    if (S_ISSOCK(st.st_mode) || link_again(&st, trail_here(&to), name)) return;
    switch (st.st_mode & S_IFMT) {
    case S_IFREG: copy_regular(name); break;
    case S_IFLNK: copy_link(name, &st); break;
    default: copy_node(name, &st);
    }
    remember_link(&st, trail_here(&to), name);
}

void step_copy_tree(void) {
    parent_forget();
    source_path = word_kept();
    struct stat st, root;
    int in = open(source_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), out = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (in < 0 || fstat(in, &st)) no_directory(errno, source_path);
    if (out < 0 || fstat(out, &root)) fail(errno, "cannot open %s", root_path);
    if (st.st_ino == root.st_ino && st.st_dev == root.st_dev) refuse(EINVAL, "%s cannot be copied into itself", source_path);
    if (!faccessat(in, MARKER, F_OK, AT_SYMLINK_NOFOLLOW)) refuse(EEXIST, "%s is unfinished itself", source_path);
    path_is(0, "");
    enter(in, out, &st, root_is_new);
    while (from.depth > 0) {
        struct level *level = &levels[from.depth - 1];
        if (!*level->next) {
            leave_directory();
            continue;
        }
        interrupted();
        const char *name = level->next;
        level->next += strlen(name) + 1;
        path_is(level->path_length, name);
        copy_entry(name, &root);
    }
    trail_end(&from);
    trail_end(&to);
}
