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
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct leftover leftover = {.user_namespace = -1};
static int signals = -1;
static bool hurry; /* a signal that ends things came from outside */

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
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        length = recvmsg(container->line, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (length <= 0) break;
        text[length] = 0;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int fd;
        if (header) {
            memcpy(&fd, CMSG_DATA(header), sizeof fd);
            if (*text == LINE_TERMINAL) relay_start(fd);
            else remember(fd, text + 1, *text == LINE_DIRECTORY);
        } else {
            told.executes = *text == LINE_EXECUTES;
        }
    }
    if (length != 0 || told.ended) return;
    told.ended = true;
    if (told.executes) state_running();
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
    listen_to(container);
    relay_finish(signals, status - 128, hurry);
    log_finish();
    state_take_back();
    struct text verdict = settle_cgroups(status, signal);
    if (leftover.path && !remove_leftover() && status == 0) status = EXIT_HEW;
    forget(!told.executes);
    if (!told.executes) journal_undo();
    state_ended(told.executes, &verdict);
    _exit(status);
}

void give_up(const struct container *container) {
    kernel_pidfd_send_signal(container->pidfd, SIGKILL, NULL);
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

/* Who makes a signal, and so whom it is meant for. */
enum sender {
    SOMEBODY,           /* kill(2), for the one that we stand for */
    CALLERS_TERMINAL,   /* for its whole foreground process group: here it is the container's first */
    CONTAINERS_TERMINAL /* who is to have it has it */
};

/* The container's first process is the leader of its process group, since become_container(). */
static void send_to_group(const struct container *container, int number) {
    if (kill(-container->pid, number)) kernel_pidfd_send_signal(container->pidfd, number, NULL);
}

static void deliver(const struct container *container, int number, enum sender sender) {
    siginfo_t for_all = {.si_signo = number, .si_code = SI_QUEUE};
    if (sender == CONTAINERS_TERMINAL) return;
    if (sender == SOMEBODY) kernel_pidfd_send_signal(container->pidfd, number, NULL);
    else if (how_it_handles(container, number) != BLOCKED) send_to_group(container, number);
    /* A reaping init passes on what it gets, or some would have it twice. */
    else kernel_pidfd_send_signal(container->pidfd, number, &for_all);
}

/* Not by SIGSTOP: the kernel ignores these where no shell is there to continue us. False then. */
static bool stop_ourselves(int number, bool group) {
    sigset_t stop, pending;
    sigemptyset(&stop);
    sigaddset(&stop, number);
    if (group) kill(0, number);
    else raise(number);
    sigprocmask(SIG_UNBLOCK, &stop, NULL); /* here we stand still until SIGCONT */
    sigprocmask(SIG_BLOCK, &stop, NULL);
    return !sigpending(&pending) && sigismember(&pending, SIGCONT);
}

/* As a shell's job would: the container stops, unless it has by itself, then we do, and the shell takes the terminal. From
 * outside, because PID 1 cannot be stopped by what it does not handle, nor an orphaned process group (setpgid(2)). */
static void suspend(const struct container *container, int number, enum sender sender, bool stopped) {
    if (!stopped) send_to_group(container, SIGSTOP);
    relay_pause();
    bool continued = stop_ourselves(number, sender == CONTAINERS_TERMINAL);
    relay_continued(continued);
    if (continued || !stopped) send_to_group(container, SIGCONT);
}

/* The status to end with when the signal was its end, else 0. */
static int pass_on(const struct container *container, int number, enum sender sender) {
    if (ends_by_default(number)) {
        /* PID 1 of a namespace is not ended by signals it does not handle (pid_namespaces(7)), but
         * who types `hew enter sleep 100` and Ctrl-C means just that. */
        bool deaf = container->pid_namespace && how_it_handles(container, number) == NOT_HANDLED;
        if (deaf || setting_up(container)) {
            kernel_pidfd_send_signal(container->pidfd, SIGKILL, NULL);
            return 128 + number;
        }
    }
    deliver(container, number, sender);
    return 0;
}

/* A key of the container's own terminal has made a signal. Who handles Ctrl-Z stops, or does not, as it likes. */
static int typed(const struct container *container, int number) {
    if (!stops_by_default(number)) return pass_on(container, number, CONTAINERS_TERMINAL);
    enum handling handling = how_it_handles(container, number);
    if (number == SIGTTOU || handling == NOT_HANDLED || handling == BLOCKED) suspend(container, number, CONTAINERS_TERMINAL, false);
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

/* Its pages go, and come back from the file if they are needed; while we wait that is what is around this function, which therefore
 * calls no other once they have gone. So does what earlier calls have left on the stack below it. */
static __attribute__((noinline)) int poll_without_program(struct pollfd *on, nfds_t count) {
    enum { STACK = 128 << 10 };
    extern const char __executable_start[];
    struct {
        uintptr_t begin, size;
    } parts[4];
    size_t number = 0;
    const ElfW(Phdr) *part = (const void *)getauxval(AT_PHDR);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    for (size_t left = getauxval(AT_PHNUM); left > 0 && number < sizeof parts / sizeof *parts; left--, part++) {
        if (part->p_type != PT_LOAD || part->p_flags & PF_W) continue;
        uintptr_t begin = ((uintptr_t)__executable_start + part->p_vaddr) & ~page;
        parts[number].begin = begin;
        parts[number++].size = ((uintptr_t)__executable_start + part->p_vaddr + part->p_memsz - begin + page) & ~page;
    }
    uintptr_t below = ((uintptr_t)parts & ~page) - (page + 1); /* a page for what else is in this frame */
    raw_syscall(SYS_madvise, below - STACK, STACK, MADV_DONTNEED, 0, 0, 0);
    while (number-- > 0) raw_syscall(SYS_madvise, parts[number].begin, parts[number].size, MADV_DONTNEED, 0, 0, 0);
    return (int)raw_syscall(SYS_poll, (uintptr_t)on, count, (uintptr_t)-1, 0, 0, 0);
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
}

static int ended_by; /* the status that a signal has made the container's */

static void child_changed(const struct container *container) {
    siginfo_t child = {0};
    if (waitid(P_PID, (id_t)container->pid, &child, WEXITED | WSTOPPED | WNOHANG) || !child.si_pid) return;
    if (child.si_code == CLD_EXITED) finish(container, child.si_status, 0);
    if (child.si_code != CLD_STOPPED) finish(container, ended_by ? ended_by : 128 + child.si_status, child.si_status);
    /* Where nobody sees us stop, nobody continues us. */
    if (terminal.foreground) suspend(container, SIGTSTP, SOMEBODY, true);
}

/* The status to end with, or 0. */
static int arrived(const struct container *container) {
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != sizeof info) return 0;
    int number = (int)info.ssi_signo;
    if (number == SIGCHLD) child_changed(container);
    else if (stops_by_default(number)) suspend(container, number, SOMEBODY, false);
    else if (number != SIGWINCH || !relay_resize()) {
        if (number == SIGCONT) relay_continued(true);
        hurry |= ends_by_default(number);
        return pass_on(container, number, info.ssi_code == SI_KERNEL ? CALLERS_TERMINAL : SOMEBODY);
    }
    return 0;
}

enum { QUIET = 1000 }; /* milliseconds: what has happened then is over, and its code is not needed */

void supervise(const struct container *container) {
    enum { SIGNALS, LINE, LOG, RELAY, COUNT = RELAY + RELAY_FDS };
    struct pollfd on[COUNT];
    sigset_t all;
    every_signal(&all);
    signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) {
        say("cannot wait for signals: %s", error_text(errno));
        give_up(container);
    }
    let_go();
    for (;;) {
        on[SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
        on[LINE] = (struct pollfd){.fd = told.ended ? -1 : container->line, .events = POLLIN};
        log_watch(&on[LOG]);
        int wait = relay_watch(on + RELAY);
        int ready = poll(on, COUNT, wait >= 0 ? wait : QUIET);
        if (ready == 0 && wait < 0) ready = poll_without_program(on, COUNT);
        if (ready < 0) continue; /* EINTR: we were stopped */
        if (on[LINE].revents) listen_to(container);
        log_relay(&on[LOG]);
        int key = relay(on + RELAY, container->pid), status = key ? typed(container, key) : 0;
        if (status) ended_by = status;
        if (on[SIGNALS].revents && (status = arrived(container))) ended_by = status;
    }
}
