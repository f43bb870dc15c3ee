/*
 * The entries of an archive that TypeScript reads. Nothing here looks at names: wherever they
 * lead, with links that earlier entries made and "..", it is inside the root (RESOLVE_IN_ROOT).
 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static struct entry {
    mode_t mode;
    struct owner owner;
    struct timespec times[2];
} entry;

/* For the next entry. */
static struct attribute {
    char name[XATTR_NAME_MAX + 1];
    unsigned char *value;
    size_t size;
} *attributes;
static size_t attribute_count;

/* Nanoseconds since 1970; they may be negative. */
static struct timespec time_word(void) {
    char *text = word(), *end;
    errno = 0;
    long long ns = strtoll(text, &end, 10), second = 1000000000;
    if (errno || end == text || *end) fail(EINVAL, "a step has '%s' for a time", text);
    long long rest = (ns % second + second) % second;
    return (struct timespec){.tv_sec = (ns - rest) / second, .tv_nsec = rest};
}

static void read_owner(void) {
    entry.owner.uid = (uid_t)word_number(10);
    entry.owner.gid = (gid_t)word_number(10);
    entry.times[0].tv_nsec = UTIME_OMIT;
    entry.times[1] = time_word();
}

static void read_mode(void) {
    entry.mode = (mode_t)word_number(8) & 07777;
    read_owner();
}

static void set_attributes(int fd, const char *path) {
    for (size_t i = 0; i < attribute_count; i++) {
        struct attribute *at = &attributes[i];
        int error = set_xattr(fd, at->name, at->value, at->size, path);
        if (error) fail(error, "cannot write the attribute %s of %s", at->name, in_root(path));
    }
}

static void forget_attributes(void) {
    for (size_t i = 0; i < attribute_count; i++) free(attributes[i].value);
    attribute_count = 0;
}

/* ---- where an entry goes ---- */

/* A directory without an entry, so far: later entries may find it ours to change. */
static void made(int parent, const char *name) {
    int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return;
    finish_later(fd, 0755, (struct timespec[]){{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}});
    close(fd);
}

static void make_parents(const char *path) {
    char prefix[PATH_MAX];
    strcpy(prefix, path); /* a path_word() */
    for (char *slash = prefix; (slash = strchr(slash + 1, '/'));) {
        const char *name;
        *slash = 0;
        int parent = parent_beneath(prefix, &name);
        if (parent < 0 && errno != EINVAL) fail(errno, "cannot create %s", in_root(path));
        if (parent >= 0) {
            if (make_directory(parent, name, 0755)) made(parent, name);
            else if (errno != EEXIST) fail(errno, "cannot create %s", in_root(prefix));
            close(parent);
        }
        *slash = '/';
    }
}

static int entry_parent(const char *path, const char **name) {
    parent_forget();
    int parent = parent_beneath(path, name);
    if (parent < 0 && errno == ENOENT) {
        make_parents(path);
        parent = parent_beneath(path, name);
    }
    if (parent < 0) fail(errno, "cannot create %s", in_root(path));
    struct stat st, root;
    if (!strcmp(*name, MARKER) && !fstat(parent, &st) && !fstat(root_fd, &root) && st.st_ino == root.st_ino)
        refuse(EEXIST, "the archive has a " MARKER ": it is unfinished itself");
    return parent;
}

static int open_directory(int parent, const char *name) {
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* As tar does it: what an entry finds under its name goes, a directory only when it is empty. */
static void put(int parent, const char *temporary, const char *name, const char *path) {
    int there = open_directory(parent, name);
    if (there >= 0) {
        char *names = names_in(there);
        if (!names || *names) fail(names ? ENOTEMPTY : errno, "cannot replace the directory %s by %s", in_root(path), kind(entry.mode));
        free(names);
        close(there);
    }
    settle(parent, temporary, name, true, path);
    close(parent);
    forget_attributes();
}

/* ---- entries ---- */

static void step_entry_file(void) {
    static char block[1 << 18];
    read_mode();
    unsigned long long size = word_number(10);
    const char *path = path_word(), *name;
    char temporary[TEMPORARY];
    int parent = entry_parent(path, &name);
    int fd = temporary_file(parent, temporary, path);
    for (size_t part; size > 0; size -= part) {
        interrupted();
        part = size < sizeof block ? (size_t)size : sizeof block;
        raw_bytes(block, part);
        write_all(fd, block, part, path);
    }
    if (!set_owner(fd, entry.owner, path)) entry.mode &= ~(mode_t)(S_ISUID | S_ISGID);
    set_attributes(fd, path);
    if (!set_mode(fd, entry.mode) || futimens(fd, entry.times)) fail(errno, "cannot change the attributes of %s", in_root(path));
    close(fd);
    entry.mode |= S_IFREG;
    put(parent, temporary, name, path);
}

/* Something else has the name. A link to a directory stays, as in a merged /usr; anything else goes. */
static int replaced_by_directory(int parent, const char *name, const char *path) {
    int there = open_beneath(path, O_PATH | O_DIRECTORY, 0);
    if (there >= 0) {
        close(there);
        return -1;
    }
    char temporary[TEMPORARY];
    temporary_name(temporary);
    if (!make_directory(parent, temporary, S_IRWXU)) fail(errno, "cannot create %s", in_root(path));
    settle(parent, temporary, name, true, path);
    there = open_directory(parent, name);
    if (there >= 0) place_known(there, parent, name);
    return there;
}

static void step_entry_dir(void) {
    read_mode();
    const char *path = path_word(), *name;
    int parent = entry_parent(path, &name);
    bool ours = make_directory(parent, name, S_IRWXU);
    if (!ours && errno != EEXIST) fail(errno, "cannot create %s", in_root(path));
    int fd = open_directory(parent, name);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
        fd = replaced_by_directory(parent, name, path);
        ours = fd >= 0;
    } else if (fd < 0) {
        fail(errno, "cannot open %s", in_root(path));
    }
    /* One that was there before all of this keeps its own attributes. */
    if (ours || (fd >= 0 && (finish_expected(fd) || (root_is_new && !strcmp(name, "."))))) {
        if (!set_owner(fd, entry.owner, path)) entry.mode &= ~(mode_t)(S_ISUID | S_ISGID);
        set_attributes(fd, path);
        finish_later(fd, entry.mode, entry.times);
    }
    if (fd >= 0) close(fd);
    close(parent);
    forget_attributes();
}

static void entry_node(struct node node, const char *path) {
    const char *name;
    char temporary[TEMPORARY];
    int parent = entry_parent(path, &name);
    entry.mode = node.mode;
    if (!temporary_node(parent, temporary, &node)) {
        if (errno != EPERM || !node.device) fail(errno, "cannot create %s", in_root(path));
        device_left_out(errno, path);
        close(parent);
        forget_attributes();
        return;
    }
    int fd = finish_node(parent, temporary, &node, entry.owner, entry.times, path);
    set_attributes(fd, path);
    close(fd);
    put(parent, temporary, name, path);
}

static void step_entry_symlink(void) {
    read_owner();
    const char *target = path_word();
    entry_node((struct node){.mode = S_IFLNK | 0777, .target = target}, path_word());
}

static void step_entry_device(void) {
    read_mode();
    mode_t type = *word() == 'b' ? S_IFBLK : S_IFCHR;
    unsigned major = (unsigned)word_number(10), minor = (unsigned)word_number(10);
    entry_node((struct node){.mode = type | entry.mode, .device = makedev(major, minor)}, path_word());
}

static void step_entry_fifo(void) {
    read_mode();
    entry_node((struct node){.mode = S_IFIFO | entry.mode}, path_word());
}

static void step_entry_link(void) {
    char temporary[TEMPORARY];
    const char *target = path_word(), *path = path_word(), *name, *target_name;
    int parent = entry_parent(path, &name), target_parent = parent_beneath(target, &target_name);
    struct stat first, there;
    if (target_parent < 0 || fstatat(target_parent, target_name, &first, AT_SYMLINK_NOFOLLOW))
        fail(errno, "cannot link %s to %s", in_root(path), in_root(target));
    bool same = !fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) && there.st_ino == first.st_ino && there.st_dev == first.st_dev;
    if (same) {
        close(parent);
    } else {
        temporary_name(temporary);
        if (linkat(target_parent, target_name, parent, temporary, 0)) fail(errno, "cannot link %s to %s", in_root(path), in_root(target));
        journal_created(parent, temporary);
        entry.mode = first.st_mode;
        put(parent, temporary, name, path);
    }
    close(target_parent);
    forget_attributes();
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

static void step_entry_xattr(void) {
    attributes = reallocarray(attributes, attribute_count + 1, sizeof *attributes);
    if (!attributes) fail(ENOMEM, "cannot keep an attribute");
    struct attribute *at = &attributes[attribute_count];
    snprintf(at->name, sizeof at->name, "%s", word());
    const char *hex = word();
    at->size = strlen(hex) / 2;
    if (at->size > XATTR_SIZE_MAX) fail(E2BIG, "cannot write the attribute %s", at->name);
    at->value = malloc(at->size + 1);
    if (!at->value) fail(ENOMEM, "cannot keep an attribute");
    for (size_t i = 0; i < at->size; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) fail(EINVAL, "the attribute %s is not in hexadecimal", at->name);
        at->value[i] = (unsigned char)(high << 4 | low);
    }
    attribute_count++;
}

const struct step archive_steps[] = {
    {"entry-file", step_entry_file},       /* MODE UID GID NANOSECONDS SIZE PATH, and then SIZE bytes */
    {"entry-dir", step_entry_dir},         /* MODE UID GID NANOSECONDS PATH */
    {"entry-symlink", step_entry_symlink}, /* UID GID NANOSECONDS TARGET PATH */
    {"entry-link", step_entry_link},       /* TARGET PATH: a hard link */
    {"entry-device", step_entry_device},   /* MODE UID GID NANOSECONDS c|b MAJOR MINOR PATH */
    {"entry-fifo", step_entry_fifo},       /* MODE UID GID NANOSECONDS PATH */
    {"entry-xattr", step_entry_xattr},     /* NAME HEX: of the next entry */
    {"entries-end", finish_directories},   /* directories get their modes and times */
    {"copy-tree", step_copy_tree},         /* SOURCE (the machine's): all that is in it */
    {NULL, NULL},
};
