/*
 * What a container without a terminal writes. Its stdout and stderr are a pipe; the supervisor moves what comes into the
 * file `log`, which becomes `log.1` when it is full. The pages themselves are moved (splice(2)): none of it is our memory.
 */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

static int directory = -1, file = -1;
static int ends[2] = {-1, -1};
static uint64_t size, limit;
static bool messages, connected;

static void open_log(void) {
    size = 0;
    file = openat(directory, "log", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void step_log(void) {
    const char *path = word_kept();
    limit = word_number(10);
    if (!limit) refuse(EINVAL, "a log of 0 bytes holds nothing");
    directory = *path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : fcntl(state.directory, F_DUPFD_CLOEXEC, 3);
    if (directory >= 0) open_log();
    if (file < 0) fail(errno, "cannot make the log in %s", path);
    if (pipe2(ends, O_CLOEXEC)) fail(errno, "cannot make a pipe for the log");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

bool log_wanted(void) { return ends[1] >= 0 || connected; }

void log_connected(bool is) { connected = is; }

void log_connect(void) {
    if (ends[1] < 0) return;
    connected = true;
    /* That the command cannot be executed is for the caller to know. */
    say_to(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    close(STDIN_FILENO);
    fill_standard_descriptors();
    if (dup2(ends[1], 1) < 0 || dup2(ends[1], 2) < 0) fail(errno, "cannot give the container its log");
}

void log_watch(struct pollfd *on) {
    if (ends[1] >= 0) close(ends[1]); /* or we would never see the end of what is written */
    ends[1] = -1;
    *on = (struct pollfd){.fd = ends[0], .events = POLLIN};
}

static void start_anew(void) {
    close(file);
    renameat(directory, "log", directory, "log.1");
    open_log();
}

/* 0: nothing more will come; -1: nothing is there. What cannot be written (a full disk, a removed directory) is lost:
 * the container does not wait for it. */
static ssize_t move(void) {
    char lost[4096];
    if (size >= limit || file < 0) start_anew();
    size_t most = limit - size < 1 << 16 ? (size_t)(limit - size) : 1 << 16;
    ssize_t moved = splice(ends[0], NULL, file, NULL, most, SPLICE_F_NONBLOCK);
    if (moved > 0) size += (size_t)moved;
    return moved >= 0 || errno == EAGAIN ? moved : read(ends[0], lost, sizeof lost);
}

void log_relay(const struct pollfd *on) {
    if (!on->revents || move()) return;
    close(ends[0]);
    ends[0] = -1;
}

void log_messages(void) { messages = true; }

void log_finish(void) {
    int left; /* and no more: who outlives the container may write for ever */
    if (ends[0] >= 0 && !ioctl(ends[0], FIONREAD, &left))
        for (ssize_t moved; left > 0 && (moved = move()) > 0;) left -= (int)moved;
    if (messages && file >= 0) say_to(file);
}

const struct step log_steps[] = {
    {"log", step_log}, /* DIR ('': of the state) LIMIT: what the container writes goes to DIR/log; beyond LIMIT bytes that is DIR/log.1 */
    {NULL, NULL},
};
