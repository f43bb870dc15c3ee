/* What the supervisor passes on between the caller's terminal and the container's, byte by byte. */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

/* What was read and is not written yet. Small: the supervisor's memory is the price of a container. */
static struct flow {
    char bytes[4096];
    size_t at, end;
} keys, output;

/* Of the container's terminal. We hold a slave, too: without any, a master has nothing to wait for, and does not say
 * when one is opened again. */
static int master = -1, slave = -1;
static struct termios initial;
/* Ctrl-V was typed: the next key is meant as it is. */
static bool literal;
/* The signal that the last keys have made, or 0. */
static int last;
/* We were to stop as a job of the background, and were not continued since: where nobody sees us stop, it goes on. */
static bool stopped;

enum {
    FOREGROUND_LOOK = 300, /* milliseconds: nothing tells that `fg` has made a running job the foreground */
    STUCK = 1000,          /* milliseconds without any progress */
    BLOCKING_WRITE = 256,  /* poll(2) promises no more for a terminal that we could not open anew */
    MOST_LEFT = 1 << 20,   /* more than a terminal holds: whoever outlives the container may write for ever */
};

static bool pending(const struct flow *flow) { return flow->at < flow->end; }

static void hang_up(void) {
    close(master); /* now the container's hangs up as well */
    close(slave);
    master = slave = -1;
    keys.at = keys.end = output.at = output.end = 0;
}

static bool open_slave(void) {
    if (slave >= 0) close(slave);
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return slave >= 0;
}

void relay_start(int fd) {
    if (master >= 0 || terminal.fd < 0) {
        close(fd);
        return;
    }
    master = fd;
    if (!open_slave() || tcgetattr(slave, &initial)) {
        hang_up();
        return;
    }
    terminal_give_back();
    terminal.relayed = true;
    if (terminal_hold()) terminal_copy_size(master);
}

void relay_continued(bool by_somebody) {
    if (by_somebody) stopped = false;
    if (terminal.relayed) terminal.held = false; /* the shell has set the terminal meanwhile */
    if (terminal_hold() && master >= 0) terminal_copy_size(master);
}

bool relay_resize(void) {
    if (master < 0) return false;
    terminal_copy_size(master);
    return true;
}

int relay_watch(struct pollfd on[RELAY_FDS]) {
    on[0] = (struct pollfd){.fd = master};
    on[1] = (struct pollfd){.fd = master < 0 ? -1 : terminal.fd};
    if (master < 0) return -1;
    if (terminal_hold()) terminal_copy_size(master);
    on[0].events = (short)((pending(&keys) ? POLLOUT : 0) | (pending(&output) ? 0 : POLLIN));
    on[1].events = (short)((pending(&output) ? POLLOUT : 0) | (terminal.held && !pending(&keys) ? POLLIN : 0));
    return terminal.held ? -1 : FOREGROUND_LOOK;
}

/* False when there is nowhere to write to any more. */
static bool write_out(struct flow *flow, int to, size_t most) {
    size_t size = flow->end - flow->at;
    if (!size) return true;
    ssize_t written = write(to, flow->bytes + flow->at, size < most ? size : most);
    if (written > 0) flow->at += (size_t)written;
    return written >= 0 || errno == EAGAIN || errno == EINTR;
}

static bool write_output(void) {
    bool waits = !(fcntl(terminal.fd, F_GETFL) & O_NONBLOCK);
    return write_out(&output, terminal.fd, waits ? BLOCKING_WRITE : sizeof output.bytes);
}

static void read_output(void) {
    ssize_t length = read(master, output.bytes, sizeof output.bytes);
    output.at = 0;
    output.end = length > 0 ? (size_t)length : 0;
    /* EIO: vhangup(2) has closed our slave along with all others. */
    if (length < 0 && errno == EIO && !open_slave()) hang_up();
}

static void read_keys(void) {
    ssize_t length = read(terminal.fd, keys.bytes, sizeof keys.bytes);
    keys.at = 0;
    keys.end = length > 0 ? (size_t)length : 0;
    if (length >= 0 || errno == EAGAIN || errno == EINTR) return;
    if (terminal_in_foreground()) hang_up();
    else terminal.held = false; /* EIO: it is somebody else's turn; SIGTTIN is blocked */
}

/* The signal that the container's terminal makes of one of these keys, or 0. */
static int signal_of(const char *at, const char *end, const struct termios *settings) {
    static const struct {
        int character, number;
    } keys_of[] = {{VINTR, SIGINT}, {VQUIT, SIGQUIT}, {VSUSP, SIGTSTP}};
    for (; at < end; at++) {
        cc_t key = (cc_t)*at;
        bool meant = !literal;
        literal = meant && key && settings->c_lflag & IEXTEN && key == settings->c_cc[VLNEXT];
        for (size_t i = 0; i < sizeof keys_of / sizeof *keys_of; i++)
            if (meant && key && settings->c_lflag & ISIG && key == settings->c_cc[keys_of[i].character])
                return keys_of[i].number;
    }
    return 0;
}

static int write_keys(pid_t container) {
    struct termios settings;
    bool known = !tcgetattr(slave, &settings);
    const char *from = keys.bytes + keys.at;
    pid_t group = tcgetpgrp(master); /* asked before the key ends the session: then nobody's is in the foreground */
    if (!write_out(&keys, master, sizeof keys.bytes)) hang_up();
    last = known ? signal_of(from, keys.bytes + keys.at, &settings) : 0;
    if (group != container) last = 0;
    return last;
}

/* As the kernel would stop a job of the background: it writes where that is not wanted (TOSTOP), or it sets the terminal. */
static bool needs_foreground(void) {
    struct termios settings;
    if (terminal.held || stopped || terminal_in_foreground()) return false;
    bool no_output = !tcgetattr(terminal.fd, &settings) && settings.c_lflag & TOSTOP;
    return stopped = no_output || (!tcgetattr(slave, &settings) && !same_settings(&settings, &initial));
}

int relay(const struct pollfd on[RELAY_FDS], pid_t container) {
    int number = 0;
    if (master < 0) return 0;
    if (on[1].revents & (POLLHUP | POLLERR | POLLNVAL)) {
        hang_up();
        return 0;
    }
    if (on[1].revents & POLLIN) read_keys();
    if (pending(&keys) && master >= 0) number = write_keys(container);
    if (on[0].revents & ~POLLOUT && master >= 0 && !pending(&output)) read_output();
    if (!pending(&output) || master < 0) return number;
    if (needs_foreground()) return number ? number : SIGTTOU;
    if (!write_output()) hang_up();
    return number;
}

/* What the container has written so far. poll(2) first waits for what is on its way from slave to master, read(2) does not. */
static bool more_output(void) {
    struct pollfd rest = {.fd = master, .events = POLLIN};
    if (!pending(&output) && poll(&rest, 1, 0) > 0) read_output();
    return master >= 0 && pending(&output);
}

void relay_pause(void) {
    size_t left = terminal.held ? 0 : MOST_LEFT;
    while (left < MOST_LEFT && more_output() && write_output() && !pending(&output)) left += output.end;
    terminal_give_back();
}

/* False: a signal says that we shall end all the same, or one has, and the terminal takes nothing more. */
static bool wait_to_write(int signals, bool hurry) {
    struct signalfd_siginfo info;
    struct pollfd either[] = {{.fd = terminal.fd, .events = POLLOUT}, {.fd = signals, .events = POLLIN}};
    if (!poll(either, 2, hurry ? STUCK : -1)) return false;
    return !either[1].revents || read(signals, &info, sizeof info) < 0 || !ends_by_default((int)info.ssi_signo);
}

void relay_finish(int signals, int ended_by, bool hurry) {
    for (size_t left = 0; left < MOST_LEFT && more_output() && write_output();)
        if (!pending(&output)) left += output.end;
        else if (!wait_to_write(signals, hurry)) break;
    /* Whoever is in our process group, a script for example, would have had it from the caller's terminal as well. */
    if (last && last == ended_by && terminal.held && terminal_in_foreground()) kill(0, last);
    terminal_give_back();
}
