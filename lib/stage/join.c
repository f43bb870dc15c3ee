/*
 * The way into namespaces that are there already: `enter -t`. Three processes, as in runc: the caller's, which becomes the
 * supervisor and stays outside; its child, which joins; and the child's child, since only who is born after setns(2) is in a
 * PID namespace. CLONE_PARENT makes that one the supervisor's child, too.
 */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A process, and what of it is to be joined: opened first, all of it, since it may be gone at any moment. */
struct target {
    const char *pid;
    int pidfd, root, cwd;
    unsigned long kinds;           /* its namespaces that are not ours */
    int namespaces[NAMESPACE_KINDS]; /* opened; -1 where it is ours */
};

static int open_of(const struct target *target, const char *file, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/%s", target->pid, file);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) refuse(ESRCH, "the process %s is gone", target->pid);
    if (fd < 0) fail(errno, "cannot join the process %s", target->pid);
    return fd;
}

static bool is_ours(int namespace, const char *file) {
    char path[64];
    struct stat one, other;
    snprintf(path, sizeof path, "/proc/self/%s", file);
    return !fstat(namespace, &one) && !stat(path, &other) && one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

static struct target open_target(const char *pid, unsigned long long start) {
    struct target target = {.pid = pid};
    target.pidfd = (int)syscall(SYS_pidfd_open, (pid_t)atoi(pid), 0);
    for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
        char file[16];
        snprintf(file, sizeof file, "ns/%s", namespace_kinds[i].name);
        target.namespaces[i] = -1;
        if (access("/proc/self/ns/time", F_OK) && namespace_kinds[i].flag == CLONE_NEWTIME) continue; /* before Linux 5.6 */
        int fd = open_of(&target, file, O_RDONLY);
        if (is_ours(fd, file)) {
            close(fd);
            continue;
        }
        target.namespaces[i] = fd;
        target.kinds |= namespace_kinds[i].flag;
    }
    target.root = open_of(&target, "root", O_PATH | O_DIRECTORY);
    target.cwd = open_of(&target, "cwd", O_PATH | O_DIRECTORY);
    /* It is still the one that was meant, so it was all the time. */
    if (start_time(pid) != start) refuse(ESRCH, "the process %s is gone", pid);
    return target;
}

static bool join_one(const struct target *target, size_t i) {
    return target->namespaces[i] < 0 || !setns(target->namespaces[i], (int)namespace_kinds[i].flag);
}

/* Before Linux 5.8, one by one: first what is ours to join as we are, then the user namespace, then what that one owns. */
static void join_each(const struct target *target) {
    bool joined[NAMESPACE_KINDS];
    for (size_t i = 0; i < NAMESPACE_KINDS; i++) joined[i] = namespace_kinds[i].flag != CLONE_NEWUSER && join_one(target, i);
    for (int rest = 0; rest < 2; rest++)
        for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
            if (joined[i] || (namespace_kinds[i].flag == CLONE_NEWUSER) == rest) continue;
            joined[i] = join_one(target, i);
            if (!joined[i]) fail(errno, "cannot join the %s namespace of the process %s", namespace_kinds[i].name, target->pid);
        }
}

static void join_namespaces(const struct target *target) {
    if (!target->kinds) return;
    if (target->pidfd >= 0 && !setns(target->pidfd, (int)target->kinds)) return;
    if (target->pidfd >= 0 && errno != EINVAL) fail(errno, "cannot join the namespaces of the process %s", target->pid);
    join_each(target);
}

/* What it calls / is not the root of its mount namespace, if somebody has called chroot(2) for it. */
static void enter_root(const struct target *target, bool cwd) {
    struct stat wanted, there;
    if (fstat(target->root, &wanted) || stat("/", &there)) fail(errno, "cannot find the root of the process %s", target->pid);
    bool same = wanted.st_dev == there.st_dev && wanted.st_ino == there.st_ino;
    if (!same && (fchdir(target->root) || chroot("."))) fail(errno, "cannot enter the root of the process %s", target->pid);
    /* A directory outside of the root has no path in it: CVE-2024-21626. */
    char inside[PATH_MAX];
    if (!cwd || fchdir(target->cwd) || syscall(SYS_getcwd, inside, sizeof inside) < 0 || *inside != '/')
        if (chdir("/")) fail(errno, "cannot enter the root of the process %s", target->pid);
    root_fd = target->root;
    close(target->cwd);
}

static void become_user_0(void) {
    if (setgroups(0, NULL) && errno != EPERM) fail(errno, "cannot drop the supplementary groups");
    if (setresgid(0, 0, 0) && errno != EINVAL) fail(errno, "cannot become group 0 of the user namespace");
    if (setresuid(0, 0, 0) && errno != EINVAL) fail(errno, "cannot become user 0 of the user namespace");
}

/*
 * Stage 2, "hew:join": outside yet, in the sealed copy. Our job: join, let the supervisor know who was born inside, and end.
 */
static void step_join_process(void) {
    const char *pid = word_kept();
    unsigned long long start = word_number(10);
    bool cwd = !strcmp(word(), "cwd");
    prctl(PR_SET_NAME, "hew:join");
    /* Processes in there will see us, and must not get at what we hold (CVE-2016-9962). An exec gives it back. */
    prctl(PR_SET_DUMPABLE, 0);
    struct target target = open_target(pid, start);
    join_namespaces(&target);
    struct clone_args args = {.flags = CLONE_PARENT}; /* and its exit_signal: ours */
    long born = kernel_clone3(&args);
    if (born < 0) fail(errno, "cannot make a process in the namespaces of the process %s", pid);
    if (born > 0) {
        char number[16];
        int length = snprintf(number, sizeof number, "%ld", born);
        _exit(send(line_fd, number, (size_t)length, MSG_NOSIGNAL) < 0 ? EXIT_HEW : 0);
    }
    char go;
    if (recv(line_fd, &go, 1, 0) != 1) _exit(EXIT_HEW); /* the supervisor gave up, and has said why */
    setsid();
    if (target.kinds & CLONE_NEWUSER) become_user_0();
    die_with_supervisor();
    enter_root(&target, cwd);
    if (target.pidfd >= 0) close(target.pidfd);
    for (size_t i = 0; i < NAMESPACE_KINDS; i++)
        if (target.namespaces[i] >= 0) close(target.namespaces[i]);
}

/* The one who joins has ended; who was born inside is ours. */
static _Noreturn void supervise_joined(pid_t joiner, int line) {
    static char number[16];
    prctl(PR_SET_NAME, "hew:supervisor");
    ssize_t length = recv(line, number, sizeof number - 1, 0);
    int status;
    while (waitpid(joiner, &status, 0) < 0 && errno == EINTR) continue;
    if (length <= 0) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_HEW);
    number[length] = 0;
    struct container container = {.pid = atoi(number), .line = line, .number = number};
    container.pidfd = (int)syscall(SYS_pidfd_open, container.pid, 0); /* not waited for: it cannot be another's */
    if (!join_cgroups(container.pid, false)) give_up(&container);
    (void)!send(line, "", 1, MSG_NOSIGNAL);
    supervise(&container);
}

static void step_clone_into(void) {
    const char *const words[] = {"join-process", word_kept(), word_kept(), word_kept(), NULL};
    words_before(words);
    hints_become_words();
    int ends[2], copy = sealed_copy();
    prepare_clone(ends);
    pid_t pid = fork();
    if (pid < 0) fail(errno, "cannot make a process");
    if (pid > 0) {
        close(ends[1]);
        if (copy >= 0) close(copy);
        supervise_joined(pid, ends[0]);
    }
    close(ends[0]);
    line_fd = ends[1];
    in_container();
    go_on_sealed(copy);
}

const struct step join_steps[] = {
    {"clone-into", step_clone_into},     /* PID START root|cwd: what follows is in the namespaces of that process */
    {"join-process", step_join_process}, /* the same, as the first step of who joins */
    {NULL, NULL},
};
