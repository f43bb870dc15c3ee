#include "files.h"

#include "kernel.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* Linux 6.6, newer than the headers may be: what else changes the mode of an O_PATH descriptor is /proc. */
enum { SYS_FCHMODAT2 = 452 };

/* ---- contents ---- */

void write_all(int fd, const void *bytes, size_t size, const char *path) {
    for (const char *at = bytes; size > 0;) {
        ssize_t n = write(fd, at, size);
        if (n < 0) fail(errno, "cannot write %s", in_root(path));
        at += n;
        size -= (size_t)n;
    }
}

/* A signal waits for one chunk at most. */
enum { CHUNK = 8 << 20 };

/* False when the rest has to be read and written, which says why. */
static bool copy_range(int in, off_t *at, off_t end, int out) {
    while (*at < end) {
        interrupted();
        off_t to = *at;
        ssize_t n = copy_file_range(in, at, out, &to, end - *at < CHUNK ? (size_t)(end - *at) : CHUNK, 0);
        if (n <= 0) return false;
    }
    return true;
}

static char buffer[2][1 << 17];

/* False at the end of the file. */
static bool read_and_write(int in, off_t *at, off_t end, int out, const char *source, const char *path) {
    if (lseek(out, *at, SEEK_SET) < 0) fail(errno, "cannot write %s", in_root(path));
    while (*at < end) {
        interrupted();
        size_t size = end - *at < (off_t)sizeof *buffer ? (size_t)(end - *at) : sizeof *buffer;
        ssize_t n = pread(in, buffer[0], size, *at);
        if (n < 0) fail(errno, "cannot read %s", source);
        if (n == 0) return false;
        write_all(out, buffer[0], (size_t)n, path);
        *at += n;
    }
    return true;
}

/* The next stretch of data at or behind `at`; false when only a hole is left. */
static bool next_data(int in, const struct stat *st, off_t *at, off_t *end) {
    *end = st->st_size;
    /* Most files have no holes, and need no asking. */
    if (st->st_blocks >= st->st_size / 512) return *at < *end;
    off_t data = lseek(in, *at, SEEK_DATA);
    if (data < 0) return errno != ENXIO && *at < *end;
    *at = data;
    off_t hole = lseek(in, data, SEEK_HOLE);
    if (hole > 0 && hole < *end) *end = hole;
    return *at < *end;
}

void copy_contents(int in, const struct stat *st, int out, const char *source, const char *path) {
    off_t at = 0, end;
    /* Files of /proc and /sys have contents and no size. */
    if (st->st_size == 0) {
        read_and_write(in, &at, INT64_MAX, out, source, path);
        return;
    }
    if (!ioctl(out, FICLONE, in)) return;
    off_t size = st->st_size;
    while (at < size && next_data(in, st, &at, &end)) {
        if (copy_range(in, &at, end, out) || read_and_write(in, &at, end, out, source, path)) continue;
        size = at; /* it became shorter meanwhile */
    }
    if (at < size && ftruncate(out, size)) fail(errno, "cannot write %s", in_root(path));
}

static ssize_t read_block(int fd, char *to, off_t at) {
    size_t have = 0;
    while (have < sizeof *buffer) {
        ssize_t n = pread(fd, to + have, sizeof *buffer - have, at + (off_t)have);
        if (n < 0) return -1;
        if (n == 0) break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

bool same_contents(int in, int other) {
    for (off_t at = 0;; at += sizeof *buffer) {
        interrupted();
        ssize_t n = read_block(in, buffer[0], at);
        if (n < 0 || n != read_block(other, buffer[1], at) || memcmp(buffer[0], buffer[1], (size_t)n)) return false;
        if (n < (ssize_t)sizeof *buffer) return true;
    }
}

/* ---- attributes ---- */

int set_xattr(int fd, const char *name, const void *value, size_t size, const char *path) {
    if (!fsetxattr(fd, name, value, size, 0)) return 0;
    if (errno == EBADF) { /* O_PATH: fsetxattr does not take it */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (!setxattr(link, name, value, size, 0)) return 0;
    }
    if (errno == ENOSPC || errno == EDQUOT) return errno;
    if (!strcmp(name, "security.capability"))
        say("%s is without its file capabilities: %s", in_root(path), error_text(errno));
    return 0;
}

void copy_xattrs(int in, int out, const char *path) {
    static char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
    ssize_t length = flistxattr(in, names, sizeof names);
    for (char *name = names; name < names + length; name += strlen(name) + 1) {
        ssize_t size = fgetxattr(in, name, value, sizeof value);
        int error = size < 0 ? 0 : set_xattr(out, name, value, (size_t)size, path);
        if (error) fail(error, "cannot write the attribute %s of %s", name, in_root(path));
    }
}

bool set_owner(int fd, struct owner owner, const char *path) {
    if (!fchownat(fd, "", owner.uid, owner.gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) return true;
    /* EINVAL: an id that the user namespace does not map. */
    if (errno != EPERM && errno != EINVAL) fail(errno, "cannot change the owner of %s", in_root(path));
    struct stat st;
    return !fstat(fd, &st) && st.st_uid == owner.uid && st.st_gid == owner.gid;
}

bool set_mode(int fd, mode_t mode) {
    if (!fchmod(fd, mode)) return true;
    if (errno != EBADF) return false;
    if (!syscall(SYS_FCHMODAT2, fd, "", mode, AT_EMPTY_PATH)) return true;
    if (errno != ENOSYS) return false;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return !chmod(link, mode);
}

const char *kind(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return "a file";
    case S_IFDIR: return "a directory";
    case S_IFLNK: return "a link";
    case S_IFIFO: return "a pipe";
    case S_IFSOCK: return "a socket";
    default: return "a device";
    }
}

void device_left_out(int error, const char *path) {
    static bool told;
    if (!told) say("devices are left out, %s is the first: %s", in_root(path), error_text(error));
    told = true;
}

/* ---- under a temporary name first: nobody ever sees half a file under its own name ---- */

void temporary_name(char name[TEMPORARY]) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[6];
    if (getrandom(random, sizeof random, 0) != sizeof random) fail(errno, "cannot get a random name");
    strcpy(name, ".hew-");
    for (size_t i = 0; i < sizeof random; i++) name[5 + i] = letters[random[i] % (sizeof letters - 1)];
    name[TEMPORARY - 1] = 0;
}

int temporary_file(int parent, char name[TEMPORARY], const char *path) {
    int fd;
    do {
        temporary_name(name);
        fd = openat(parent, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EEXIST);
    if (fd < 0) fail(errno, "cannot create %s", in_root(path));
    journal_created(parent, name);
    return fd;
}

int make_node(int parent, const char *name, const struct node *node) {
    if (S_ISLNK(node->mode)) return symlinkat(node->target, parent, name);
    mode_t umask_before = umask(0);
    int result = mknodat(parent, name, node->mode, node->device);
    umask(umask_before);
    return result;
}

bool temporary_node(int parent, char name[TEMPORARY], const struct node *node) {
    int failed;
    do {
        temporary_name(name);
        failed = make_node(parent, name, node);
    } while (failed && errno == EEXIST);
    if (!failed) journal_created(parent, name);
    return !failed;
}

int finish_node(int parent, const char *name, const struct node *node, struct owner owner, const struct timespec times[2], const char *path) {
    struct stat st;
    int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) fail(errno, "cannot look at %s", in_root(path));
    if ((st.st_mode & S_IFMT) != (node->mode & S_IFMT)) fail(ESTALE, "cannot create %s", in_root(path)); /* swapped */
    set_owner(fd, owner, path);
    if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW)) fail(errno, "cannot set the times of %s", in_root(path));
    return fd;
}

/* Where renameat2 has no flags (some network file systems), link(2) does not replace either. */
static int rename_to_free(int parent, const char *from, const char *to) {
    if (!kernel_renameat2(parent, from, parent, to, RENAME_NOREPLACE)) return 0;
    if (errno != EINVAL) return -1;
    return linkat(parent, from, parent, to, 0) ? -1 : unlinkat(parent, from, 0);
}

bool settle(int parent, const char *temporary, const char *name, bool replace, const char *path) {
    if (!rename_to_free(parent, temporary, name)) {
        journal_renamed(name);
        return true;
    }
    if (errno == EEXIST && !replace) return false;
    if (errno == EEXIST && !kernel_renameat2(parent, temporary, parent, name, RENAME_EXCHANGE)) journal_exchanged(name);
    else if (errno == EINVAL && !renameat(parent, temporary, parent, name)) journal_renamed(name);
    else fail(errno, "cannot create %s", in_root(path));
    return true;
}

/* ---- hard links ---- */

static struct inodes links; /* inodes with more than one name, and where they were copied to */
static struct copied {
    int place;
    char *name;
} *copies;
static int copy_count;

bool link_again(const struct stat *st, int parent, const char *name) {
    int number = st->st_nlink > 1 ? inodes_find(&links, st) : -1;
    if (number < 0) return false;
    struct stat first, there;
    int fd = place_open(copies[number].place, O_PATH);
    bool done = fd >= 0 && !linkat(fd, copies[number].name, parent, name, 0);
    if (done) journal_created(parent, name);
    else if (fd >= 0 && errno == EEXIST)
        done = !fstatat(fd, copies[number].name, &first, AT_SYMLINK_NOFOLLOW) && !fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) &&
               first.st_ino == there.st_ino && first.st_dev == there.st_dev;
    if (fd >= 0) close(fd);
    return done;
}

void remember_link(const struct stat *st, int parent, const char *name) {
    if (st->st_nlink < 2) return;
    copies = reallocarray(copies, (size_t)copy_count + 1, sizeof *copies);
    char *kept = strdup(name);
    if (!copies || !kept) fail(ENOMEM, "cannot remember so many links");
    copies[copy_count] = (struct copied){place_of(parent), kept};
    inodes_put(&links, st, copy_count++);
}

/* The descriptor's own file, whatever its path leads to by now. */
static int link_descriptor(int in, int parent, const char *name) {
    if (!linkat(in, "", parent, name, AT_EMPTY_PATH)) return 0;
    if (errno != ENOENT) return -1; /* that takes CAP_DAC_READ_SEARCH, open(2) on O_TMPFILE */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", in);
    return linkat(AT_FDCWD, link, parent, name, AT_SYMLINK_FOLLOW);
}

/* Bits of the mode that must not be had are the file's own: it has to be copied. */
static bool may_be_link(const struct copy *copy, const struct stat *st) { return !(st->st_mode & 07777 & ~copy->keep); }

/* False where it has to be copied. */
static bool temporary_link(const struct copy *copy, int in, const struct stat *st, int parent, char name[TEMPORARY]) {
    static bool told;
    if (!may_be_link(copy, st)) return false;
    int failed;
    do {
        temporary_name(name);
        failed = link_descriptor(in, parent, name);
    } while (failed && errno == EEXIST);
    if (!failed) journal_created(parent, name);
    else if (!told) {
        say("what cannot be linked is copied, %s is the first: %s", copy->source, error_text(errno));
        told = true;
    }
    return !failed;
}

/* ---- a file, a link ---- */

static bool same_attributes(const struct copy *copy, const struct stat *st, const struct stat *there) {
    return S_ISREG(there->st_mode) && there->st_size == st->st_size && (there->st_mode & 07777) == (st->st_mode & copy->keep);
}

static bool same_time(const struct stat *st, const struct stat *there) {
    return there->st_mtim.tv_sec == st->st_mtim.tv_sec && there->st_mtim.tv_nsec == st->st_mtim.tv_nsec;
}

bool is_there(const struct copy *copy, struct stat *st, int parent, const char *name) {
    struct stat there;
    return !fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) && !stat(copy->source, st) && S_ISREG(st->st_mode) &&
           same_attributes(copy, st, &there) && same_time(st, &there);
}

/* False: the same file is there already. A different one is the end, unless it is to be replaced. */
static bool differs(const struct copy *copy, int in, const struct stat *st, int parent, const char *name) {
    struct stat there;
    if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT) return true;
        fail(errno, "cannot look at %s", in_root(copy->path));
    }
    const char *path = in_root(copy->path);
    if (S_ISDIR(there.st_mode)) refuse(EISDIR, "%s is a directory already, and %s is a file", path, copy->source);
    mode_t mode = st->st_mode & copy->keep, old = there.st_mode & 07777;
    bool file = S_ISREG(there.st_mode);
    if (same_attributes(copy, st, &there)) {
        if (same_time(st, &there)) return false;
        int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        bool same = fd >= 0 && same_contents(in, fd);
        if (fd >= 0) close(fd);
        if (same) return false;
    }
    if (copy->force) return true;
    if (!file) refuse(EEXIST, "%s is %s already, and %s is a file", path, kind(there.st_mode), copy->source);
    if (there.st_size != st->st_size)
        refuse(EEXIST, "%s exists and differs from %s (size %jd, %jd)", path, copy->source, (intmax_t)there.st_size, (intmax_t)st->st_size);
    if (old != mode) refuse(EEXIST, "%s exists and differs from %s (mode %04o, %04o)", path, copy->source, old, mode);
    refuse(EEXIST, "%s exists and differs from %s (same size, other content)", path, copy->source);
}

static void temporary_copy(const struct copy *copy, int in, const struct stat *st, int parent, char name[TEMPORARY]) {
    int out = temporary_file(parent, name, copy->path);
    copy_contents(in, st, out, copy->source, copy->path);
    /* In this order: a change of owner takes the setuid bits and the capabilities away. */
    mode_t mode = st->st_mode & copy->keep;
    if (!set_owner(out, owner_of(st), copy->path)) mode &= ~(mode_t)(S_ISUID | S_ISGID);
    copy_xattrs(in, out, copy->path);
    if (!set_mode(out, mode)) fail(errno, "cannot change the mode of %s", in_root(copy->path));
    if (futimens(out, (struct timespec[]){st->st_atim, st->st_mtim})) fail(errno, "cannot set the times of %s", in_root(copy->path));
    close(out);
}

void copy_file(const struct copy *copy, int in, const struct stat *st, int parent, const char *name) {
    if (copy->link && may_be_link(copy, st) && !link_descriptor(in, parent, name)) {
        journal_created(parent, name);
        return;
    }
    if (!differs(copy, in, st, parent, name)) return;
    char temporary[TEMPORARY];
    if (!copy->link || !temporary_link(copy, in, st, parent, temporary)) temporary_copy(copy, in, st, parent, temporary);
    if (settle(parent, temporary, name, copy->force, copy->path)) return;
    /* Another hew was faster: what it made is either the same, or the end. */
    if (differs(copy, in, st, parent, name)) refuse(EEXIST, "%s comes and goes", in_root(copy->path));
    unlinkat(parent, temporary, 0);
}

static bool is_link_to(int parent, const char *name, const char *target) {
    char there[PATH_MAX];
    ssize_t length = readlinkat(parent, name, there, sizeof there);
    return length >= 0 && (size_t)length == strlen(target) && !memcmp(there, target, (size_t)length);
}

void copy_symlink(const char *target, const struct stat *st, int parent, const char *name, const char *path) {
    /* Looking takes less time than not being able to. */
    if (is_link_to(parent, name, target)) return;
    if (symlinkat(target, parent, name)) {
        if (errno != EEXIST) fail(errno, "cannot create %s", in_root(path));
        if (is_link_to(parent, name, target)) return; /* another hew was faster */
        refuse(EEXIST, "%s is there already, and is no link to %s", in_root(path), target);
    }
    journal_created(parent, name);
    struct node node = {.mode = S_IFLNK};
    if (st) close(finish_node(parent, name, &node, owner_of(st), (struct timespec[]){st->st_atim, st->st_mtim}, path));
}

void replace_by_symlink(const char *target, int parent, const char *name, const char *path) {
    struct stat there;
    if (is_link_to(parent, name, target)) return;
    if (!fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) && S_ISDIR(there.st_mode))
        refuse(EISDIR, "%s is a directory there, and is not replaced by a link to %s", in_root(path), target);
    char temporary[TEMPORARY];
    temporary_name(temporary);
    if (symlinkat(target, parent, temporary)) fail(errno, "cannot create %s", in_root(path));
    journal_created(parent, temporary);
    settle(parent, temporary, name, true, path);
}
