#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct terminal terminal = {.fd = -1};
struct leftover leftover = {.user_namespace = -1};

/* ---- the caller's terminal ---- */

/* Ours again, with the settings it had. What runs in the foreground meanwhile, if it is neither
 * ours nor the container's, keeps it: `hew enter ... &` has no business there. */
static void terminal_give_back(const struct container *container) {
    if (terminal.fd < 0 || !terminal.foreground) return;
    pid_t now = tcgetpgrp(terminal.fd);
    if (now != getpgrp()) {
        bool left = now > 0 && kill(-now, 0) && errno == ESRCH;
        if (!left && now != container->pid) return;
        tcsetpgrp(terminal.fd, getpgrp()); /* SIGTTOU is blocked */
    }
    tcsetattr(terminal.fd, TCSADRAIN, &terminal.settings);
}

/* ---- what the container tells ---- */

static struct {
    bool executes, ended; /* ended: nobody is left who could tell */
    struct made {
        int directory;
        char name[NAME_MAX + 1];
        bool is_directory;
        struct made *before;
    } *made; /* newest first */
} told;

static void remember(int directory, const char *name, bool is_directory) {
    struct made *made = malloc(sizeof *made);
    if (!made) return;
    *made = (struct made){.directory = directory, .is_directory = is_directory, .before = told.made};
    snprintf(made->name, sizeof made->name, "%s", name);
    told.made = made;
}

static void forget(bool remove) {
    for (struct made *made; (made = told.made);) {
        if (remove) unlinkat(made->directory, made->name, made->is_directory ? AT_REMOVEDIR : 0);
        close(made->directory);
        told.made = made->before;
        free(made);
    }
}

static void listen_to(const struct container *container) {
    char text[NAME_MAX + 2], control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {text, sizeof text - 1};
    ssize_t length;
    for (;;) {
        struct msghdr message = {NULL, 0, &part, 1, control, sizeof control, 0};
        length = recvmsg(container->line, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (length <= 0) break;
        text[length] = 0;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int directory;
        if (header) {
            memcpy(&directory, CMSG_DATA(header), sizeof directory);
            remember(directory, text + 1, *text == LINE_DIRECTORY);
        } else {
            told.executes = *text == LINE_EXECUTES;
        }
    }
    if (length == 0) told.ended = true;
}

/* ---- the end ---- */

/*
 * user_namespaces(7): whoever joins a user namespace of its own making has every capability there, and they
 * hold for files whose owner and group are mapped in it. Its ids towards the kernel stay what they were, so the
 * parent directory is still the caller's to change. A child, because nobody comes back out.
 */
static void remove_inside(int user_namespace) {
    pid_t pid = fork();
    if (pid == 0) {
        /* Without a PID namespace, some of the container may live on, and trace who joins it (CVE-2016-9962). */
        prctl(PR_SET_DUMPABLE, 0);
        /* What has to stay is told once, by who comes after us. */
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (null < 0 || dup2(null, STDERR_FILENO) < 0) close(STDERR_FILENO);
        if (!setns(user_namespace, CLONE_NEWUSER)) remove_tree(leftover.path, leftover.dev, leftover.ino);
        _exit(0);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

static bool remove_leftover(void) {
    if (leftover.user_namespace >= 0) remove_inside(leftover.user_namespace);
    return remove_tree(leftover.path, leftover.dev, leftover.ino);
}

static _Noreturn void finish(const struct container *container, int status, int signal) {
    terminal_give_back(container);
    settle_cgroups(status, signal);
    if (leftover.path && !remove_leftover() && status == 0) status = EXIT_HEW;
    listen_to(container);
    forget(!told.executes);
    if (!told.executes) journal_undo();
    _exit(status);
}

void give_up(const struct container *container) {
    kernel_pidfd_send_signal(container->pidfd, SIGKILL);
    waitpid(container->pid, NULL, 0);
    finish(container, EXIT_HEW, 0);
}

/* ---- signals ---- */

enum handling { BLOCKED, IGNORED, CAUGHT, NOT_HANDLED, UNKNOWN };

static enum handling how_it_handles(const struct container *container, int number) {
    char path[64], text[4096];
    if (!*container->number) return UNKNOWN;
    snprintf(path, sizeof path, "/proc/%s/status", container->number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return UNKNOWN;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return UNKNOWN;
    text[length] = 0;
    static const char *const keys[] = {"\nSigBlk:\t", "\nSigIgn:\t", "\nSigCgt:\t"};
    for (enum handling handling = BLOCKED; handling <= CAUGHT; handling++) {
        const char *value = strstr(text, keys[handling]);
        if (value && strtoull(value + strlen(keys[handling]), NULL, 16) >> (number - 1) & 1) return handling;
    }
    return NOT_HANDLED;
}

/* Still setting up: signals are blocked there, and those without a handler would be lost when it executes. */
static bool setting_up(const struct container *container) {
    listen_to(container);
    return !told.executes && !told.ended;
}

/* The terminal sends to the whole foreground process group; whoever is in ours has its signal already. */
static bool has_it_already(const struct container *container, const siginfo_t *info) {
    return info->si_code == SI_KERNEL && getpgid(container->pid) == getpgrp();
}

/* By SIGTSTP, not SIGSTOP: the kernel ignores it where no shell is there to continue us. False then. */
static bool stop_ourselves(void) {
    sigset_t stop, pending;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, NULL); /* here we stand still until SIGCONT */
    sigprocmask(SIG_BLOCK, &stop, NULL);
    return !sigpending(&pending) && sigismember(&pending, SIGCONT);
}

/* As a shell's job would: the container stops, then we do, and the shell takes the terminal. */
static void suspend(const struct container *container, const siginfo_t *info) {
    struct termios inner;
    pid_t inner_group = terminal.fd < 0 ? -1 : tcgetpgrp(terminal.fd);
    bool had_terminal = inner_group > 0 && !tcgetattr(terminal.fd, &inner), stopped = info->si_signo == SIGCHLD;

    /* A reaping init blocks all signals: it passes this one on. Anyone else is stopped from
     * outside, because PID 1 cannot be stopped by what it does not handle. */
    bool passes = how_it_handles(container, info->si_signo) == BLOCKED;
    if (!stopped && !(passes && has_it_already(container, info)))
        kernel_pidfd_send_signal(container->pidfd, passes ? info->si_signo : SIGSTOP);
    terminal_give_back(container);
    bool continued = stop_ourselves();

    if (had_terminal && terminal.foreground && tcgetpgrp(terminal.fd) == getpgrp()) {
        tcsetattr(terminal.fd, TCSADRAIN, &inner);
        if (inner_group != getpgrp()) tcsetpgrp(terminal.fd, inner_group);
    }
    if (continued || !stopped) kernel_pidfd_send_signal(container->pidfd, SIGCONT);
}

/* The status to end with when the signal was its end, else 0. */
static int pass_on(const struct container *container, const siginfo_t *info) {
    int number = info->si_signo;
    if (ends_by_default(number)) {
        /* PID 1 of a namespace is not ended by signals it does not handle (pid_namespaces(7)), but
         * who types `hew enter sleep 100` and Ctrl-C means just that. */
        bool deaf = container->pid_namespace && how_it_handles(container, number) == NOT_HANDLED;
        if (deaf || setting_up(container)) {
            kernel_pidfd_send_signal(container->pidfd, SIGKILL);
            return 128 + number;
        }
    }
    if (!has_it_already(container, info)) kernel_pidfd_send_signal(container->pidfd, number);
    return 0;
}

/* ---- the wait ---- */

/* What we opened ourselves closes on exec; what does not was given to us, for the container's steps at most. */
static void close_inherited(void) {
    struct {
        uint64_t inode, offset;
        uint16_t length;
        uint8_t type;
        char name[];
    } *entry; /* getdents64(2): opendir() would keep 32 KiB as long as the container lives */
    _Alignas(8) char entries[1024];
    int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;
    for (long size; (size = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0;)
        for (char *at = entries; at < entries + size; at += entry->length) {
            entry = (void *)at;
            int fd = atoi(entry->name); /* "." and "..": 0 */
            if (fd > 2 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC)) close(fd);
        }
    close(directory);
}

/* The program has done most of its work: its pages go, and come back from the file if one is needed. */
static void forget_program(void) {
    extern const char __executable_start[];
    const ElfW(Phdr) *part = (const void *)getauxval(AT_PHDR);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    for (size_t left = getauxval(AT_PHNUM); left > 0; left--, part++) {
        uintptr_t begin = (uintptr_t)__executable_start + part->p_vaddr, end = begin + part->p_memsz;
        if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
            madvise((void *)(begin & ~page), ((end + page) & ~page) - (begin & ~page), MADV_DONTNEED);
    }
}

/* Nothing of what we hold may outlive the container's use of it: the next command of a
 * pipe waits for the end of our stdout. stderr stays, for messages. */
static void let_go(void) {
    close_inherited();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 2; fd++)
        if (null < 0 || dup2(null, fd) < 0) close(fd);
    if (null > 1) close(null);
    if (root_fd >= 0) close(root_fd);
    root_fd = -1;
    (void)!chdir("/"); /* or our directory stays busy, no more */
    forget_program();
}

void supervise(const struct container *container) {
    sigset_t all;
    sigfillset(&all);
    int ended_by = 0;
    let_go();
    for (;;) {
        siginfo_t info, child = {0};
        int number = sigwaitinfo(&all, &info);
        if (number < 0) continue; /* EINTR: we were stopped */
        if (number == SIGCHLD) {
            if (waitid(P_PID, (id_t)container->pid, &child, WEXITED | WSTOPPED | WNOHANG) || !child.si_pid) continue;
            if (child.si_code == CLD_STOPPED) {
                /* Where nobody sees us stop, nobody continues us. */
                if (terminal.foreground) suspend(container, &child);
            } else if (child.si_code == CLD_EXITED) {
                finish(container, child.si_status, 0);
            } else {
                finish(container, ended_by ? ended_by : 128 + child.si_status, child.si_status);
            }
        } else if (stops_by_default(number)) {
            suspend(container, &info);
        } else {
            int status = pass_on(container, &info);
            if (status) ended_by = status;
        }
    }
}
