/*
 * The caller's terminal, and the one of the container. Who holds a descriptor of the caller's
 * could type into it, had it not been taken away as the controlling terminal by setsid(2)
 * (TIOCSTI, TIOCLINUX: CVE-2017-5226). So an interactive container has a pty, which the
 * supervisor relays (relay.c).
 */
#include "container.h"
#include "files.h"

#include "kernel.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

struct terminal terminal = {.fd = -1};

/* Its settings while the container has it, and whether there are any yet. */
static struct termios inside;
static bool inside_known;

/* /dev/tty stands for another device: tty(4). */
static bool terminal_device(int fd, dev_t *device) {
    unsigned number;
    if (ioctl(fd, TIOCGDEV, &number)) return false;
    *device = makedev(number >> 8 & 0xfff, (number & 0xff) | (number >> 12 & 0xfff00));
    return true;
}

static bool is_the_terminal(int fd) {
    dev_t device;
    return terminal_device(fd, &device) && device == terminal.device;
}

/* ---- the caller's ---- */

/* Nothing is left to be read from stdin, for certain: waits until it is. */
static bool stdin_used_up(void) {
    struct stat st;
    off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);
    if (at >= 0 && !fstat(STDIN_FILENO, &st) && S_ISREG(st.st_mode)) return at >= st.st_size;
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    wait_for(in.fd, in.events);
    poll(&in, 1, 0);
    return in.revents && !(in.revents & POLLIN);
}

static void take_terminal(void) {
    int controlling = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (controlling < 0) return;
    if (dup2(controlling, STDIN_FILENO) < 0) fail(errno, "cannot read from the terminal");
    close(controlling);
}

/* Opened anew where that is possible: O_NONBLOCK on what we were given would be the shell's, too. */
static int open_terminal(int given) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", given);
    const char *const paths[] = {"/dev/tty", link};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int fd = open(paths[i], O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && is_the_terminal(fd)) return fd;
        if (fd >= 0) close(fd);
    }
    return fcntl(given, F_DUPFD_CLOEXEC, 3);
}

/* Nobody else reads from it or sets it: we are its foreground, or nobody is, because it controls no session of ours. */
bool terminal_in_foreground(void) {
    pid_t group = tcgetpgrp(terminal.fd);
    return group == getpgrp() || (group < 0 && errno == ENOTTY);
}

static void step_terminal(void) {
    struct stat out;
    bool take = !strcmp(word(), "take"), to_pipe = !fstat(STDOUT_FILENO, &out) && S_ISFIFO(out.st_mode);
    int fd = 0;
    if (take && !isatty(STDIN_FILENO) && stdin_used_up()) take_terminal();
    while (fd < 3 && !terminal_device(fd, &terminal.device)) fd++;
    terminal.fd = fd < 3 ? open_terminal(fd) : open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (terminal.fd < 0 || !terminal_device(terminal.fd, &terminal.device)) return;
    if (tcgetattr(terminal.fd, &terminal.settings)) fail(errno, "cannot read the terminal's settings");
    terminal.foreground = terminal_in_foreground();
    /* `hew enter ls | less`: whoever reads our output may want the keys, and sets the terminal to its liking. */
    terminal.held = terminal.foreground && !to_pipe;
    bool usable = (fcntl(terminal.fd, F_GETFL) & O_ACCMODE) == O_RDWR;
    terminal.own = fd == STDIN_FILENO && usable && (terminal.held || !terminal.foreground);
    terminal.shared = terminal.foreground && to_pipe;
}

/* What cfmakeraw(3) does, but for what belongs to a line: parity and the size of a character. */
static struct termios raw(const struct termios *settings) {
    struct termios result = *settings;
    cfmakeraw(&result);
    result.c_cflag = settings->c_cflag;
    return result;
}

bool same_settings(const struct termios *one, const struct termios *other) {
    return one->c_iflag == other->c_iflag && one->c_oflag == other->c_oflag && one->c_lflag == other->c_lflag &&
           !memcmp(one->c_cc, other->c_cc, VEOL2 + 1); /* the last that the kernel fills in */
}

bool terminal_hold(void) {
    struct termios now;
    if (terminal.fd < 0 || terminal.shared || terminal.held || !terminal_in_foreground()) return false;
    if (tcgetattr(terminal.fd, &now)) return false;
    /* They may be our own still: not every shell sets a terminal when a job of it stops. */
    if (!inside_known || !same_settings(&now, &inside)) terminal.settings = now;
    if (terminal.relayed) inside = raw(&terminal.settings), inside_known = true;
    if (inside_known) tcsetattr(terminal.fd, TCSANOW, &inside);
    return terminal.held = true;
}

void terminal_give_back(void) {
    if (!terminal.held) return;
    terminal.held = false;
    if (!terminal_in_foreground()) return;
    inside_known = !tcgetattr(terminal.fd, &inside);
    tcsetattr(terminal.fd, TCSANOW, &terminal.settings);
}

void terminal_copy_size(int to) {
    struct winsize size;
    if (!ioctl(terminal.fd, TIOCGWINSZ, &size)) ioctl(to, TIOCSWINSZ, &size);
}

/* ---- the container's ---- */

/* In a devpts, ptmx is what the kernel has put there; anywhere else the name could be anything. */
static int open_ptmx(int root) {
    struct open_how how = {
        .flags = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    struct statfs fs;
    int fd = -1, directory = root < 0 ? -1 : open_below(root, "/dev/pts", O_PATH | O_DIRECTORY, 0);
    if (directory >= 0 && !fstatfs(directory, &fs) && fs.f_type == DEVPTS_SUPER_MAGIC)
        fd = kernel_openat2(directory, "ptmx", &how);
    if (directory >= 0) close(directory);
    return fd >= 0 ? fd : open("/dev/ptmx", (int)how.flags);
}

void own_terminal(int root) {
    if (!terminal.own || log_wanted()) return;
    int unlocked = 0, master = open_ptmx(root);
    /* TIOCGPTPEER, because /dev/pts/N may be another one by now, or elsewhere: ioctl_tty(2). */
    int slave = master < 0 || ioctl(master, TIOCSPTLCK, &unlocked)
                    ? -1
                    : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) { /* it gets the caller's then, and no job control: setsid(2) has taken that away */
        if (master >= 0) close(master);
        return;
    }

    /* In the background they are those of whoever is in the foreground. */
    if (terminal.foreground) tcsetattr(slave, TCSANOW, &terminal.settings);
    terminal_copy_size(slave);
    tell(LINE_TERMINAL, master, "");
    close(master);
    if (ioctl(slave, TIOCSCTTY, 0)) fail(errno, "cannot give the container a terminal");
    for (int fd = 0; fd < 3; fd++)
        if (is_the_terminal(fd) && dup2(slave, fd) < 0) fail(errno, "cannot give the container a terminal");
    close(terminal.fd);
    terminal.fd = slave;
    terminal.relayed = true;
}

static void step_pty(void) { own_terminal(root_fd); }

const struct step terminal_steps[] = {
    {"terminal", step_terminal}, /* take|keep: remember the terminal; take: it becomes stdin if that is none */
    {"pty", step_pty},           /* where stdin is a terminal: it is one of the container's own from here on */
    {NULL, NULL},
};
