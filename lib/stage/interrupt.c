#include "stage.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Signals are not caught but blocked, and asked for where the journal is in order: no code runs
 * in the middle of other code, and a second Ctrl-C cannot cut the undoing short. */
static sigset_t held;
static bool holding;
static int arrivals = -1;

void interrupts_hold(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction now;
        sigaction(signals[i], NULL, &now);
        /* What the caller ignores (nohup) would pile up once it is blocked, signal(7). */
        if (now.sa_handler != SIG_IGN) sigaddset(&held, signals[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &held, NULL);
    if (arrivals < 0) arrivals = signalfd(-1, &held, SFD_CLOEXEC);
    if (arrivals < 0) fail(errno, "cannot wait for signals");
    holding = true;
}

void interrupts_hand_over(void) {
    if (!holding) return;
    holding = false;
    close(arrivals);
    arrivals = -1;
}

void interrupts_release(void) {
    if (!holding) return;
    interrupts_hand_over();
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &held, NULL);
}

bool interrupts_held(void) { return holding; }

void interrupted(void) {
    sigset_t pending;
    if (!holding || sigpending(&pending)) return;
    int number = 0;
    for (int i = 1; i < NSIG && !number; i++)
        if (sigismember(&pending, i) == 1 && sigismember(&held, i) == 1) number = i;
    if (!number) return;
    holding = false; /* the undoing itself is not interrupted */
    undo();
    signal(number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &held, NULL);
    raise(number);
    _exit(128 + number);
}

void wait_for(int fd, short events) {
    struct pollfd either[] = {{.fd = fd, .events = events}, {.fd = arrivals, .events = POLLIN}};
    if (!holding) either[1].fd = -1;
    while (poll(either, 2, -1) < 0 && errno == EINTR) continue;
    interrupted();
}
