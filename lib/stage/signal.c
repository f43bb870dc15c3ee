/* Signals to processes that are not our children, and waiting for their end. A PID alone may be another's by now:
 * a process is its PID and its start time, compared once a pidfd holds on to it. */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* A pidfd of the process that has this PID and started then; -1, ESRCH when it has ended. */
static int open_process(pid_t pid, unsigned long long start) {
    char number[16];
    snprintf(number, sizeof number, "%d", (int)pid);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || start_time(number) == start) return pidfd;
    close(pidfd);
    errno = ESRCH;
    return -1;
}

/* The steps behind it are done all the same: they are other processes. */
static void step_signal(void) {
    pid_t pid = (pid_t)word_number(10);
    unsigned long long start = word_number(10);
    int number = (int)word_number(10);
    const char *whose = word();
    int pidfd = open_process(pid, start);
    bool sent = pidfd >= 0 && !kernel_pidfd_send_signal(pidfd, number, NULL);
    int error = errno;
    if (pidfd >= 0) close(pidfd);
    if (sent || (error == ESRCH && !*whose)) return;
    if (error == ESRCH) say("%s has ended", whose);
    else say("cannot send a signal to the process %d%s%s: %s", (int)pid, *whose ? " of " : "", whose, error_text(error));
    exit_status = EXIT_HEW;
}

static void step_await(void) {
    pid_t pid = (pid_t)word_number(10);
    int pidfd = open_process(pid, word_number(10));
    if (pidfd < 0 && errno == ESRCH) return;
    if (pidfd < 0) fail(errno, "cannot wait for the process %d", (int)pid);
    wait_for(pidfd, POLLIN);
    close(pidfd);
}

const struct step signal_steps[] = {
    {"signal", step_signal}, /* PID START NUMBER WHOSE: '' where it does not matter that it has ended */
    {"await", step_await},   /* PID START: until it has ended */
    {NULL, NULL},
};
