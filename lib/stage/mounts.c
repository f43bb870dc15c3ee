#include "container.h"
#include "files.h"

#include "kernel.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/*
 * Every mount is made detached, as a descriptor, and then moved onto another descriptor
 * that openat2(2) resolved beneath the root: no path of a hostile root is ever handed
 * to mount(2), which would follow its links into the host (CVE-2019-16884, CVE-2021-30465).
 */

/* ---- mount points ---- */

/* The root below our mount of it: writable also when that is not, and without what we mounted in it. */
static int under_fd = -1;

/* The supervisor removes it again if the container does not come to be: we could not, as long as something is
 * mounted there. What was made in a mount goes with the mount. */
static void made(int parent, const char *path, const char *name, bool directory) {
    struct stat ours, there;
    int fd = open_below(under_fd, path, O_PATH | O_DIRECTORY, 0);
    if (fd < 0) return;
    if (!fstat(parent, &ours) && !fstat(fd, &there) && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
        tell(directory ? LINE_DIRECTORY : LINE_FILE, fd, name);
    close(fd);
}

enum { MAX_LINKS = 40 };

/* Its path when it is a link that leads nowhere yet: inside the root something can be made there, as
 * /etc/resolv.conf -> ../run/... needs it. */
static bool dangling(int parent, const char *name, const char *path, char *target) {
    char link[PATH_MAX];
    ssize_t length = readlinkat(parent, name, link, sizeof link - 1);
    if (length < 0) return false;
    link[length] = 0;
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') end--;
    while (end > 0 && path[end - 1] != '/') end--;
    return snprintf(target, PATH_MAX, "%.*s%s", *link == '/' ? 0 : (int)end, path, link) < PATH_MAX;
}

/* An O_PATH descriptor of what is at `path` beneath the root; it is made, with its parents, if there is nothing. */
static int mount_point(const char *path, bool directory, int links) {
    int fd = open_beneath(path, O_PATH, 0);
    if (fd >= 0 || errno != ENOENT || links > MAX_LINKS) return fd;

    char above[PATH_MAX], target[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof above) return -1;
    while (length > 0 && path[length - 1] == '/') length--;
    while (length > 0 && path[length - 1] != '/') length--;
    if (length > 0) {
        snprintf(above, sizeof above, "%.*s", (int)length, path);
        int parent = mount_point(above, true, links);
        if (parent < 0) return -1;
        close(parent);
    }
    const char *name;
    int parent = parent_beneath(path, &name);
    if (parent < 0) return -1;
    mode_t mask = umask(022);
    int new = directory ? mkdirat(parent, name, 0755)
                        : openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    umask(mask);
    if (new >= 0) {
        made(parent, length ? above : "/", name, directory);
        if (!directory) close(new);
        fd = open_beneath(path, O_PATH, 0);
    } else if (errno == EEXIST && dangling(parent, name, path, target)) {
        fd = mount_point(target, directory, links + 1);
    }
    int error = errno;
    close(parent);
    errno = error;
    return fd;
}

static int mount_point_of(const char *path, bool directory) {
    int fd = mount_point(path, directory, 0);
    if (fd < 0) fail(errno, "cannot make the mount point %s", path);
    return fd;
}

static bool is_directory(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- options ---- */

struct options {
    struct mount_attr attributes; /* set and cleared on this mount */
    struct mount_attr recursive;  /* on those below it as well */
    bool bind, bind_recursive, remount;
};

static const struct {
    const char *name;
    unsigned long set, clear;
} attribute_words[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

static const struct {
    const char *name;
    unsigned long type;
} propagation_words[] = {
    {"private", MS_PRIVATE}, {"shared", MS_SHARED}, {"slave", MS_SLAVE}, {"unbindable", MS_UNBINDABLE}};

/* What mount(8) and fstab(5) say to themselves. */
static const char *const empty_words[] = {
    "defaults", "auto", "noauto", "nofail", "_netdev", "async", "atime", "norelatime", "nostrictatime", "loud", "silent"};

static unsigned long propagation_of(const char *name) {
    for (size_t i = 0; i < sizeof propagation_words / sizeof *propagation_words; i++)
        if (!strcmp(propagation_words[i].name, name)) return propagation_words[i].type;
    return 0;
}

/* Takes effect over the words before it. */
static bool attribute_word(struct mount_attr *attributes, const char *name) {
    for (size_t i = 0; i < sizeof attribute_words / sizeof *attribute_words; i++) {
        if (strcmp(attribute_words[i].name, name)) continue;
        attributes->attr_set = (attributes->attr_set & ~attribute_words[i].clear) | attribute_words[i].set;
        /* The atime setting is one of several, and must be cleared to be set. Other bits a bind mount keeps: in
         * a user namespace what its source has is locked (EPERM), elsewhere it is there for a reason. */
        attributes->attr_clr |= attribute_words[i].clear & MOUNT_ATTR__ATIME;
        return true;
    }
    attributes->propagation = propagation_of(name) ?: attributes->propagation;
    return propagation_of(name) != 0;
}

/* True if the word says how to mount; what is left is for the file system. */
static bool option_word(struct options *options, const char *name) {
    for (size_t i = 0; i < sizeof empty_words / sizeof *empty_words; i++)
        if (!strcmp(name, empty_words[i])) return true;
    if (!strncmp(name, "x-", 2)) return true;
    if (!strcmp(name, "bind")) return options->bind = true;
    if (!strcmp(name, "rbind")) return options->bind = options->bind_recursive = true;
    if (!strcmp(name, "remount")) return options->remount = true;
    if (attribute_word(&options->attributes, name)) return true;
    return *name == 'r' && attribute_word(&options->recursive, name + 1);
}

enum { MAX_DATA = 64 };

/* The text is cut at its commas; what is for the file system goes to `data`, and a null behind it. */
static void read_options(struct options *options, char *text, const char *data[MAX_DATA + 1]) {
    size_t count = 0;
    for (char *name; (name = strsep(&text, ","));) {
        if (!*name || option_word(options, name)) continue;
        if (count == MAX_DATA) refuse(E2BIG, "a mount has more than %d options", MAX_DATA);
        data[count++] = name;
    }
    data[count] = NULL;
    if (options->bind_recursive) { /* a read-only bind mount with writable mounts in it would be none */
        options->recursive.attr_set |= options->attributes.attr_set;
        options->recursive.attr_clr |= options->attributes.attr_clr;
    }
}

static bool says_something(const struct mount_attr *attributes) {
    return attributes->attr_set || attributes->attr_clr || attributes->propagation;
}

static int apply(int fd, struct options *options) {
    if (says_something(&options->recursive) && kernel_mount_setattr(fd, AT_RECURSIVE, &options->recursive)) return -1;
    if (says_something(&options->attributes) && kernel_mount_setattr(fd, 0, &options->attributes)) return -1;
    return 0;
}

/* ---- a file system, a bind mount ---- */

/* What the file system itself says about an error, in its own words: "e tmpfs: Bad value for 'size'". */
static _Noreturn void fail_to_mount(int error, int context, const char *type, const char *path) {
    char text[512];
    for (ssize_t n; (n = read(context, text, sizeof text - 1)) > 0;) {
        text[n] = 0;
        if (*text != 'e' || n < 3) continue;
        fail(error, "cannot mount %s on %s (%.*s)", type, path, (int)strcspn(text + 2, "\n"), text + 2);
    }
    fail(error, "cannot mount %s on %s", type, path);
}

/* `data` ends with a null. */
static int new_filesystem(const char *type, const char *source, const char *path, uint64_t attributes,
                          const char *const *data) {
    int context = kernel_fsopen(type);
    if (context < 0) fail(errno, "cannot mount %s on %s", type, path);
    int refused = kernel_fsconfig(context, FSCONFIG_SET_STRING, "source", source);
    /* A device that is only mounted read-only would still be written to: its journal. */
    if (!refused && *source == '/' && attributes & MOUNT_ATTR_RDONLY)
        refused = kernel_fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL);
    for (; *data && !refused; data++) {
        char key[128];
        const char *value = strchr(*data, '=');
        snprintf(key, sizeof key, "%.*s", (int)strcspn(*data, "="), *data);
        refused = value ? kernel_fsconfig(context, FSCONFIG_SET_STRING, key, value + 1)
                        : kernel_fsconfig(context, FSCONFIG_SET_FLAG, key, NULL);
    }
    if (refused || kernel_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL)) fail_to_mount(errno, context, type, path);
    /* In a user namespace a read-only /sys of the machine's lets no other one be made, not for a moment. */
    int fd = kernel_fsmount(context, (unsigned)attributes & (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    if (fd < 0) fail_to_mount(errno, context, type, path);
    close(context);
    return fd;
}

/* Onto what is there, or is made: a directory for a directory, else a file. */
static void attach(int fd, const char *what, const char *path) {
    int target = mount_point_of(path, is_directory(fd));
    if (kernel_move_mount(fd, target)) {
        int error = errno;
        if (is_directory(fd) != is_directory(target))
            refuse(error, "cannot mount %s on %s (one is a directory, the other is not)", what, path);
        fail(error, "cannot mount %s on %s", what, path);
    }
    close(target);
    close(fd);
}

static void remount(struct options *options, const char *path) {
    int fd = open_beneath(path, O_PATH, 0);
    if (fd < 0 || apply(fd, options)) fail(errno, "cannot change the mount %s", path);
    close(fd);
}

static void step_mount(void) {
    const char *type = word_kept(), *source = word_kept(), *path = word_kept();
    const char *data[MAX_DATA + 1];
    struct options options = {0};
    read_options(&options, word_kept(), data);
    if (options.remount) {
        remount(&options, path);
        return;
    }
    int fd;
    if (options.bind) {
        fd = kernel_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | (options.bind_recursive ? AT_RECURSIVE : 0));
        if (fd < 0) fail(errno, "cannot bind %s to %s", source, path);
        if (*data) refuse(EINVAL, "cannot bind %s to %s with the option %s", source, path, data[0]);
    } else {
        fd = new_filesystem(type, source, path, options.attributes.attr_set, data);
    }
    if (apply(fd, &options)) fail(errno, "cannot set the options of %s on %s", options.bind ? source : type, path);
    attach(fd, options.bind ? source : type, path);
}

/* ---- devices ---- */

/* The host's own: in a user namespace mknod(2) is refused, and what it made elsewhere cannot be opened. */
static int host_device(const char *path, dev_t expected) {
    struct stat st;
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC};
    int fd = kernel_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        refuse(errno, "this machine has no %s that could appear in the container: 'mount -t devtmpfs devtmpfs /dev' first; "
                      "'hew enter --by-hand' needs none",
               path);
    if (fd < 0) fail(errno, "cannot bind %s", path);
    /* Someone may have put another file there, which would then be writable for the container: CVE-2025-31133. */
    if (fstat(fd, &st) || !S_ISCHR(st.st_mode) || (expected && st.st_rdev != expected))
        refuse(ENODEV, "%s is not the device it should be", path);
    if (kernel_mount_setattr(fd, 0, &attributes)) fail(errno, "cannot set the options of %s", path);
    return fd;
}

static void step_device(void) {
    char path[PATH_MAX];
    const char *name = word();
    if (strstr(name, "..") || snprintf(path, sizeof path, "/dev/%s", name) >= (int)sizeof path)
        refuse(EINVAL, "no device is called '%s'", name);
    attach(host_device(path, 0), path, path);
}

static void step_console(void) {
    if (terminal.fd < 0) return;
    if (terminal.relayed) {
        int fd = kernel_open_tree(terminal.fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
        if (fd < 0) fail(errno, "cannot bind the terminal");
        attach(fd, "the terminal", "/dev/console");
        return;
    }
    char path[64], link[64];
    unsigned major_number = major(terminal.device);
    if (major_number >= 136 && major_number <= 143) {
        snprintf(path, sizeof path, "/dev/pts/%u", (major_number - 136) << 20 | minor(terminal.device));
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", terminal.fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length < 0) fail(errno, "cannot find the terminal's device");
        path[length] = 0;
    }
    attach(host_device(path, terminal.device), path, "/dev/console");
}

/* ---- hiding ---- */

/* ENOENT: what is not there needs no hiding. */
static int open_if_there(const char *path) {
    int fd = open_beneath(path, O_PATH, 0);
    if (fd < 0 && errno != ENOENT && errno != ENOTDIR) fail(errno, "cannot open %s", path);
    return fd;
}

/* The same tmpfs for all directories: each more would be made, and taken down at the container's end. */
static int empty_directory(const char *path) {
    static const uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    static int first = -1;
    if (first >= 0) return kernel_open_tree(first, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    first = new_filesystem("tmpfs", "tmpfs", path, attributes, (const char *const[]){NULL});
    return fcntl(first, F_DUPFD_CLOEXEC, 0);
}

static void step_mask(void) {
    const char *path = word_kept();
    int target = open_if_there(path);
    if (target < 0) return;
    int fd = is_directory(target) ? empty_directory(path) : host_device("/dev/null", makedev(1, 3));
    if (fd < 0 || kernel_move_mount(fd, target)) fail(errno, "cannot hide %s", path);
    close(fd);
    close(target);
}

static void step_read_only(void) {
    const char *path = word_kept();
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    int target = open_if_there(path);
    if (target < 0) return;
    int fd = kernel_open_tree(target, "", OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH);
    if (fd < 0 || kernel_mount_setattr(fd, AT_RECURSIVE, &attributes) || kernel_move_mount(fd, target))
        fail(errno, "cannot make %s read-only", path);
    close(fd);
    close(target);
}

/* ---- the root ---- */

static void step_private(void) {
    const char *name = word();
    unsigned long type = propagation_of(name), recursive = 0;
    if (!type && *name == 'r') type = propagation_of(name + 1), recursive = MS_REC;
    if (!type) refuse(EINVAL, "no propagation is called '%s'", name);
    if (kernel_mount_propagation("/", type | recursive)) fail(errno, "cannot make the mounts %s", name);
}

/* The root must be a mount: pivot_root(2) wants one, and its options are then ours alone. */
static void step_container_root(void) {
    struct stat expected, found;
    struct options options = {0};
    const char *data[MAX_DATA + 1];
    read_options(&options, word_kept(), data);
    if (*data) refuse(EINVAL, "a root has the option %s", *data);
    if (root_fd < 0) fail(0, "a step needs a root, and none was opened");

    /* It may have been opened before the clone, and is then part of the mount namespace before. */
    int here = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (here < 0 || fstat(root_fd, &expected) || fstat(here, &found)) fail(errno, "cannot open the root %s", root_path);
    if (expected.st_dev != found.st_dev || expected.st_ino != found.st_ino)
        fail(ESTALE, "cannot open the root %s", root_path);

    int fd = kernel_open_tree(here, "", OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH);
    if (fd < 0) fail(errno, "cannot bind the root %s to itself", root_path);
    options.recursive.propagation = MS_PRIVATE;
    if (apply(fd, &options)) fail(errno, "cannot set the options of the root %s", root_path);
    if (kernel_move_mount(fd, here)) fail(errno, "cannot mount the root %s on itself", root_path);
    under_fd = here;
    close(root_fd);
    root_fd = fd; /* the mount itself, not what it covers */
}

static void step_read_only_root(void) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    if (kernel_mount_setattr(root_fd, 0, &attributes)) fail(errno, "cannot make the root %s read-only", root_path);
}

static uint64_t mount_id(int directory, const char *path) {
    struct statx st;
    if (kernel_statx(directory, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &st) || !(st.stx_mask & STATX_MNT_ID))
        fail(errno, "cannot look at the mount of %s", path);
    return st.stx_mnt_id;
}

static void step_pivot(void) {
    uint64_t ours = mount_id(root_fd, "");
    if (fchdir(root_fd)) fail(errno, "cannot enter the root %s", root_path);
    /* The old root comes to lie on top of the new one, and needs no directory there: pivot_root(2), NOTES. */
    if (kernel_pivot_root(".", ".")) fail(errno, "cannot make %s the root (pivot_root)", root_path);
    if (kernel_umount(".", MNT_DETACH)) fail(errno, "cannot detach the old root");
    if (chdir("/")) fail(errno, "cannot enter the new root");
    /* ".." of a root is the root, unless something still lies on top of it. */
    if (mount_id(AT_FDCWD, "/") != ours || mount_id(AT_FDCWD, "..") != ours || mount_id(AT_FDCWD, "/..") != ours)
        fail(EBUSY, "the old root can still be reached");
}

/* Not a wall: whoever is root in it can leave it (chroot(2), NOTES). For --by-hand. */
static void step_chroot(void) {
    if (fchdir(root_fd) || chroot(".") || chdir("/")) fail(errno, "cannot change the root to %s", root_path);
}

const struct step mount_steps[] = {
    {"private", step_private},               /* rprivate|rslave|...: how far mounts are seen, for all there are */
    {"container-root", step_container_root}, /* OPTIONS: the root of `root` becomes a mount of its own */
    {"mount", step_mount},                   /* TYPE SOURCE DEST OPTIONS, as mount(8) and OCI spell them; DEST is made if need be */
    {"device", step_device},                 /* NAME: the host's /dev/NAME */
    {"console", step_console},               /* the terminal of `pty`, else of `terminal`, if there is one, as /dev/console */
    {"mask", step_mask},                     /* PATH: nothing can be read there, if it is there at all */
    {"read-only", step_read_only},           /* PATH: with everything mounted below it */
    {"read-only-root", step_read_only_root}, /* but not what is mounted in it */
    {"pivot", step_pivot},                   /* into the root; the old one is gone */
    {"chroot", step_chroot},
    {NULL, NULL},
};
