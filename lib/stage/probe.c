/*
 * What the kernel lets us do, found out by doing it.
 *
 * Each probe is a child of its own, so whatever it makes (namespaces, mounts, a user with every capability) is
 * gone with it. It ends with the errno of what failed, 0 when nothing did. What that means is TypeScript's to say
 * (lib/check).
 */
#include "container.h"

#include "kernel.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct probe {
    const char *name;
    int (*try)(const struct probe *); /* in the child; 0 or an errno */
    const char *kinds;                /* namespaces that it is tried in */
    const char *type;                 /* of a file system */
    unsigned attributes;              /* of its mount, as `enter` has them: some are locked by the machine's own */
};

/* ---- a child, and how it ended ---- */

enum { PATIENCE_SECONDS = 10 };

/* Its errno, or the number of the signal that ended it, negative: a seccomp filter may answer with SIGSYS. */
static int outcome_of(pid_t pid) {
    int status;
    if (pid < 0) return errno;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return errno;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int in_child(int (*try)(const struct probe *), const struct probe *probe) {
    pid_t parent = getpid(), pid = fork();
    if (pid) return outcome_of(pid);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent && getppid() != 0) _exit(ESRCH); /* 0: in a PID namespace of its own */
    alarm(PATIENCE_SECONDS);
    _exit(try(probe));
}

/* ---- system calls ---- */

static int try_clone3(const struct probe *probe) {
    (void)probe;
    struct clone_args args = {.exit_signal = SIGCHLD};
    pid_t pid = (pid_t)kernel_clone3(&args);
    if (pid == 0) _exit(0);
    return outcome_of(pid);
}

/* Without the right to any cgroup: a kernel that knows the flag looks at the descriptor, which is none. */
static int try_clone_into_cgroup(const struct probe *probe) {
    (void)probe;
    struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = INT32_MAX};
    pid_t pid = (pid_t)kernel_clone3(&args);
    if (pid == 0) _exit(0);
    return pid < 0 && errno == EBADF ? 0 : outcome_of(pid);
}

static int try_pidfd(const struct probe *probe) {
    (void)probe;
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    return fd < 0 || kernel_pidfd_send_signal(fd, 0, NULL) ? errno : 0;
}

static int try_openat2(const struct probe *probe) {
    (void)probe;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return kernel_openat2(AT_FDCWD, ".", &how) < 0 ? errno : 0;
}

/* The smallest program there is: exit(0). */
static const struct {
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    unsigned char code[8];
} smallest = {
    .header =
        {
            .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
            .e_type = ET_EXEC,
            .e_machine = EM_X86_64,
            .e_version = EV_CURRENT,
            .e_entry = 0x400000 + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
            .e_phoff = sizeof(Elf64_Ehdr),
            .e_ehsize = sizeof(Elf64_Ehdr),
            .e_phentsize = sizeof(Elf64_Phdr),
            .e_phnum = 1,
        },
    .segment =
        {
            .p_type = PT_LOAD,
            .p_flags = PF_R | PF_X,
            .p_vaddr = 0x400000,
            .p_filesz = sizeof smallest,
            .p_memsz = sizeof smallest,
            .p_align = 4096,
        },
    .code = {0x31, 0xff, 0x6a, SYS_exit, 0x58, 0x0f, 0x05}, /* xor edi, edi; push 60; pop rax; syscall */
};

static int try_memfd(const struct probe *probe) {
    char *const words[] = {(char *)probe->name, NULL}, *const nothing[] = {NULL};
    int fd = memfd_create(probe->name, MFD_CLOEXEC);
    if (fd < 0 || write(fd, &smallest, sizeof smallest) < 0) return errno;
    fexecve(fd, words, nothing);
    return errno;
}

/* ---- namespaces ---- */

/* As `enter` does it: a user namespace, in which we are root, and the others belong to it. */
static int enter_as_root(const char *kinds) {
    char text[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare((int)(CLONE_NEWUSER | namespace_flags(kinds)))) return errno;
    if (!write_proc("self", "setgroups", "deny") && errno != ENOENT) return errno;
    snprintf(text, sizeof text, "0 %u 1\n", uid);
    if (!write_proc("self", "uid_map", text)) return errno;
    snprintf(text, sizeof text, "0 %u 1\n", gid);
    return write_proc("self", "gid_map", text) ? 0 : errno;
}

/* A new PID namespace is its maker's children's. */
static int try_nothing(const struct probe *probe) {
    (void)probe;
    return 0;
}

static int try_namespaces(const struct probe *probe) {
    return unshare((int)(CLONE_NEWUSER | namespace_flags(probe->kinds))) ? errno : in_child(try_nothing, probe);
}

static int try_map(const struct probe *probe) { return enter_as_root(probe->kinds); }

/* In a chroot these are to be had, but there "/" is no mount, and no root can take its place. */
static int try_namespaces_of_the_machine(const struct probe *probe) {
    bool failed = unshare((int)namespace_flags(probe->kinds)) || kernel_mount_propagation("/", MS_REC | MS_PRIVATE);
    return failed ? errno : in_child(try_nothing, probe);
}

/* ---- file systems ---- */

/* A detached mount of it, with these pairs of keys and values; -1 and errno. */
static int mounted(const char *type, const char *const *options, unsigned attributes) {
    int context = kernel_fsopen(type);
    if (context < 0 || kernel_fsconfig(context, FSCONFIG_SET_STRING, "source", type)) return -1;
    for (; *options; options += 2)
        if (kernel_fsconfig(context, FSCONFIG_SET_STRING, options[0], options[1])) return -1;
    return kernel_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL) ? -1 : kernel_fsmount(context, attributes);
}

static int mount_it(const struct probe *probe) {
    static const char *const no_options[] = {NULL};
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID};
    int fd = mounted(probe->type, no_options, probe->attributes);
    return fd < 0 || kernel_mount_setattr(fd, 0, &attributes) ? errno : 0;
}

static int try_mount(const struct probe *probe) {
    /* In a child: proc shows a PID namespace that has a process. */
    return enter_as_root(probe->kinds) ?: in_child(mount_it, probe);
}

/* It takes two directories that can be written, and that are in our mount namespace. */
static int try_overlay(const struct probe *probe) {
    static const char *const no_options[] = {NULL};
    static const char *const layers[] = {"lowerdir", "lower", "upperdir", "upper", "workdir", "work", NULL};
    int error = enter_as_root(probe->kinds);
    if (error) return error;
    if (kernel_mount_propagation("/", MS_REC | MS_PRIVATE) && errno != EINVAL) return errno; /* EINVAL: in a chroot */
    int memory = mounted("tmpfs", no_options, 0), here = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (memory < 0 || kernel_move_mount(memory, here) || fchdir(memory)) return errno;
    for (size_t i = 1; layers[i]; i += 2)
        if (mkdir(layers[i], 0700)) return errno;
    return mounted(probe->type, layers, 0) < 0 ? errno : 0;
}

static int sleep_in_user_namespace(int ready) {
    int error = enter_as_root("-");
    if (error || write(ready, "", 1) != 1) return error ?: errno;
    for (;;) pause();
}

/* The ids of a user namespace, that of a child, seen through a mount of the machine's root. */
static int try_idmap(const struct probe *probe) {
    (void)probe;
    int ready[2];
    char path[64];
    if (pipe(ready)) return errno;
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        _exit(sleep_in_user_namespace(ready[1]));
    }
    close(ready[1]);
    if (read(ready[0], path, 1) != 1) return outcome_of(pid);
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    int user = open(path, O_RDONLY | O_CLOEXEC);
    int tree = user < 0 ? -1 : kernel_open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user};
    int error = user < 0 || tree < 0 || kernel_mount_setattr(tree, 0, &attributes) ? errno : 0;
    kill(pid, SIGKILL);
    outcome_of(pid);
    return error;
}

/* ---- the table, and the step ---- */

enum { QUIET = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };

static const struct probe probes[] = {
    {.name = "clone3", .try = try_clone3},
    {.name = "clone-into-cgroup", .try = try_clone_into_cgroup},
    {.name = "pidfd", .try = try_pidfd},
    {.name = "openat2", .try = try_openat2},
    {.name = "memfd", .try = try_memfd},
    {.name = "user", .try = try_namespaces, .kinds = "-"},
    {.name = "map", .try = try_map, .kinds = "-"},
    {.name = "mnt", .try = try_namespaces, .kinds = "mnt"},
    {.name = "uts", .try = try_namespaces, .kinds = "uts"},
    {.name = "ipc", .try = try_namespaces, .kinds = "ipc"},
    {.name = "net", .try = try_namespaces, .kinds = "net"},
    {.name = "pid", .try = try_namespaces, .kinds = "pid"},
    {.name = "cgroup", .try = try_namespaces, .kinds = "cgroup"},
    {.name = "time", .try = try_namespaces, .kinds = "time"},
    {.name = "machine", .try = try_namespaces_of_the_machine, .kinds = "mnt,uts,ipc,net,pid,cgroup"},
    {.name = "tmpfs", .try = try_mount, .kinds = "mnt", .type = "tmpfs"},
    {.name = "devpts", .try = try_mount, .kinds = "mnt", .type = "devpts", .attributes = MOUNT_ATTR_NOEXEC},
    {.name = "proc", .try = try_mount, .kinds = "mnt,pid", .type = "proc", .attributes = QUIET},
    {.name = "sysfs", .try = try_mount, .kinds = "mnt,net", .type = "sysfs", .attributes = QUIET | MOUNT_ATTR_RDONLY},
    {.name = "mqueue", .try = try_mount, .kinds = "mnt,ipc", .type = "mqueue", .attributes = QUIET},
    {.name = "cgroup2", .try = try_mount, .kinds = "mnt,cgroup", .type = "cgroup2", .attributes = QUIET},
    {.name = "overlay", .try = try_overlay, .kinds = "mnt", .type = "overlay"},
    {.name = "idmap", .try = try_idmap},
};

static const struct probe *find_probe(const char *name) {
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
        if (!strcmp(probes[i].name, name)) return &probes[i];
    refuse(EINVAL, "no probe is called '%s'", name);
}

static void step_probe(void) {
    const struct probe *probe = find_probe(word());
    dprintf(STDOUT_FILENO, "%s %d\n", probe->name, in_child(probe->try, probe));
}

const struct step probe_steps[] = {
    {"probe", step_probe}, /* NAME: prints NAME ERRNO, or NAME -SIGNAL */
    {NULL, NULL},
};
