/* System calls that the C library has no function for. linux/mount.h and sys/mount.h, linux/stat.h and
 * sys/stat.h define the same names: include this file before the others. */
#ifndef KERNEL_H
#define KERNEL_H

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif

/* Without the C library, its thread and its errno: it gives back a negated errno. */
static inline long raw_syscall(long number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f) {
    register uintptr_t r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}

/* sigfillset(3) leaves out those that the C library keeps to itself. */
static inline void every_signal(sigset_t *set) { memset(set, 0xff, sizeof *set); }
static inline long kernel_clone3(struct clone_args *args) { return syscall(SYS_clone3, args, sizeof *args); }
/* Without `info` as kill(2) does. */
static inline int kernel_pidfd_send_signal(int pidfd, int number, siginfo_t *info) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, info, 0);
}

static inline int kernel_renameat2(int from, const char *name, int to, const char *as, unsigned flags) {
    return (int)syscall(SYS_renameat2, from, name, to, as, flags);
}
static inline int kernel_statx(int directory, const char *path, int flags, unsigned wanted, struct statx *st) {
    return (int)syscall(SYS_statx, directory, path, flags, wanted, st);
}
static inline int kernel_close_range(unsigned first, unsigned last, unsigned flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}
static inline int kernel_openat2(int directory, const char *path, struct open_how *how) {
    return (int)syscall(SYS_openat2, directory, path, how, sizeof *how);
}
static inline int kernel_fsopen(const char *type) { return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC); }
static inline int kernel_fsconfig(int fd, unsigned command, const char *key, const char *value) {
    return (int)syscall(SYS_fsconfig, fd, command, key, value, 0);
}
static inline int kernel_fsmount(int fd, unsigned attributes) {
    return (int)syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes);
}
static inline int kernel_open_tree(int directory, const char *path, unsigned flags) {
    return (int)syscall(SYS_open_tree, directory, path, flags | OPEN_TREE_CLOEXEC);
}
static inline int kernel_move_mount(int from, int to) {
    return (int)syscall(SYS_move_mount, from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}
static inline int kernel_mount_setattr(int fd, unsigned flags, struct mount_attr *attributes) {
    return (int)syscall(SYS_mount_setattr, fd, "", flags | AT_EMPTY_PATH, attributes, sizeof *attributes);
}
static inline int kernel_mount_propagation(const char *path, unsigned long flags) {
    return (int)syscall(SYS_mount, NULL, path, NULL, flags, NULL);
}
static inline int kernel_umount(const char *path, int flags) { return (int)syscall(SYS_umount2, path, flags); }
static inline int kernel_pivot_root(const char *to, const char *old) {
    return (int)syscall(SYS_pivot_root, to, old);
}

#endif
