/*
 * `enter --detach`. The caller's process waits until the command is executed, prints the container's state, and ends. What
 * goes on with the steps is its child, the supervisor later on, in a session of its own: no terminal's hangup ends it.
 */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

static int caller = -1; /* where it waits for the state */

/* What the child has written, when it has closed its end: the caller frees. Signals to us are meant for the container. */
static char *read_state(pid_t child, int from, int signals, size_t *length) {
    size_t room = 1 << 14;
    char *text = malloc(room);
    struct pollfd on[] = {{.fd = from, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    *length = 0;
    while (text) {
        struct signalfd_siginfo info;
        if (poll(on, 2, -1) < 0) continue;
        if (on[1].revents && read(signals, &info, sizeof info) == sizeof info && ends_by_default((int)info.ssi_signo))
            kill(child, (int)info.ssi_signo);
        if (!on[0].revents) continue;
        ssize_t more = read(from, text + *length, room - *length);
        if (more <= 0) break;
        *length += (size_t)more;
        if (*length == room) text = realloc(text, room *= 2);
    }
    return text;
}

static _Noreturn void wait_for_command(pid_t child, int from) {
    sigset_t all;
    every_signal(&all);
    prctl(PR_SET_NAME, "hew:detach");
    int signals = signalfd(-1, &all, SFD_CLOEXEC);
    size_t length;
    char *state = read_state(child, from, signals, &length);
    if (state && length > 0) {
        for (ssize_t done; length > 0 && (done = write(STDOUT_FILENO, state, length)) > 0; length -= (size_t)done) state += done;
        if (length > 0) say("the container runs, and its state cannot be written to stdout: %s", error_text(errno));
        _exit(length > 0 ? EXIT_HEW : 0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void step_detach(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) fail(errno, "cannot make a pipe");
    /* They stay blocked in the child: interrupted() asks for those that it is ended by. */
    sigset_t all;
    every_signal(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGCHLD, SIG_DFL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) fail(errno, "cannot start the supervisor");
    if (pid > 0) {
        close(ends[1]);
        wait_for_command(pid, ends[0]);
    }
    close(ends[0]);
    caller = ends[1];
    setsid();
    /* As long as it waits the state is said to be its own: there must be no container that outlives it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) fail(errno, "cannot bind the supervisor to its parent");
    if (getppid() != parent) _exit(EXIT_HEW);
}

void tell_caller(const char *state) {
    if (caller < 0) return;
    prctl(PR_SET_PDEATHSIG, 0);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDERR_FILENO) < 0) close(STDERR_FILENO);
    if (null >= 0) close(null);
    log_messages();
    while (*state) {
        ssize_t done = write(caller, state, strlen(state));
        if (done <= 0) break;
        state += done;
    }
    close(caller);
    caller = -1;
}

const struct step detach_steps[] = {
    {"detach", step_detach}, /* the rest is a child's; this process ends when the command runs, with its state on stdout */
    {NULL, NULL},
};
