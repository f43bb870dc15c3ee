#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

int line_fd = -1;

/* ---- kinds of namespaces, by the names of their links in /proc/PID/ns ---- */

const struct namespace_kind namespace_kinds[NAMESPACE_KINDS] = {
    {"mnt", CLONE_NEWNS},  {"uts", CLONE_NEWUTS},       {"ipc", CLONE_NEWIPC},   {"net", CLONE_NEWNET},
    {"pid", CLONE_NEWPID}, {"cgroup", CLONE_NEWCGROUP}, {"user", CLONE_NEWUSER}, {"time", CLONE_NEWTIME},
};

static unsigned long flag_of(const char *name, size_t length) {
    for (size_t i = 0; i < NAMESPACE_KINDS; i++)
        if (strlen(namespace_kinds[i].name) == length && !strncmp(namespace_kinds[i].name, name, length))
            return namespace_kinds[i].flag;
    refuse(EINVAL, "no namespace is called '%.*s'", (int)length, name);
}

unsigned long namespace_flags(const char *list) {
    unsigned long flags = 0;
    if (!strcmp(list, "-")) return 0;
    while (*list) {
        size_t length = strcspn(list, ",");
        flags |= flag_of(list, length);
        list += length + (list[length] == ',');
    }
    return flags;
}

/* ---- clone: the supervisor and the container part ---- */

/* "inside outside count\n..." */
struct id_map {
    const char *file, *program, *text;
};

bool write_and_close(int fd, const char *text) {
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return written;
}

bool read_and_close(int fd, char *text, size_t size) {
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[length < 0 ? 0 : length] = 0;
    return length > 0;
}

bool write_proc(const char *number, const char *file, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/%s", number, file);
    return write_and_close(open(path, O_WRONLY | O_CLOEXEC), text);
}

/* newuidmap(1) is set-user-ID, and grants what /etc/subuid does. */
static bool run_newidmap(const char *number, const struct id_map *map) {
    enum { MAX_NUMBERS = 3 * 340 }; /* as many lines as the kernel takes */
    char *text = strdup(map->text), *words[MAX_NUMBERS + 3], *rest = text;
    int count = 0;
    words[count++] = (char *)map->program;
    words[count++] = (char *)number;
    for (char *next; count < MAX_NUMBERS + 2 && (next = strtok_r(rest, " \n", &rest));) words[count++] = next;
    words[count] = NULL;

    pid_t pid = fork();
    if (pid == 0) {
        static char *const nothing[] = {NULL};
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        for (int i = 0; i < 2; i++) {
            char path[64];
            snprintf(path, sizeof path, "%s/%s", i ? "/bin" : "/usr/bin", map->program);
            execve(path, words, nothing);
        }
        _exit(EXIT_NOT_FOUND);
    }
    free(text);
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (pid < 0) say("cannot start %s: %s", map->program, error_text(errno));
    else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_FOUND)
        say("cannot map a range of ids: %s is not installed (it comes with the package uidmap)", map->program);
    else if (status) say("cannot map a range of ids: %s refused (see /etc/subuid and /etc/subgid)", map->program);
    return pid > 0 && status == 0;
}

/* Only a process of the parent user namespace may write more than its own id: user_namespaces(7). */
static bool map_ids(const char *number, const char *mapping, const char *setgroups, const struct id_map maps[2]) {
    if (!*number) {
        say("cannot map ids: /proc is not mounted, or shows another machine's processes");
        return false;
    }
    if (!strcmp(mapping, "newuidmap")) return run_newidmap(number, &maps[0]) && run_newidmap(number, &maps[1]);
    /* Whoever may drop a group can pass where that group is refused (CVE-2014-8989): without privilege the kernel
     * wants "deny" first. */
    if (!write_proc(number, "setgroups", setgroups) && errno != ENOENT) {
        say("cannot write '%s' to setgroups: %s", setgroups, error_text(errno));
        return false;
    }
    for (int i = 0; i < 2; i++)
        if (!write_proc(number, maps[i].file, maps[i].text)) {
            int error = errno;
            say("cannot write the map of ids to %s: %s", maps[i].file, error_text(error));
            return false;
        }
    return true;
}

static int open_user_namespace(const char *number) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/user", number);
    return open(path, O_RDONLY | O_CLOEXEC);
}

void tell(enum line what, int directory, const char *name) {
    if (line_fd < 0) return;
    char kind = (char)what, control[CMSG_SPACE(sizeof directory)] = {0};
    struct iovec parts[] = {{&kind, 1}, {(char *)name, strlen(name)}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (directory >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof directory), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(header), &directory, sizeof directory);
    }
    sendmsg(line_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); /* nobody may be listening yet: no waiting */
}

void die_with_supervisor(void) {
    if (line_fd < 0) return;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) fail(errno, "cannot bind the container to its supervisor");
    /* It may have died before. getppid() tells nothing: in a new PID namespace it is always 0. */
    struct pollfd line = {.fd = line_fd};
    if (poll(&line, 1, 0) > 0 && line.revents & POLLHUP) _exit(EXIT_HEW);
}

static void nothing(void) {}

void in_container(void) {
    if (line_fd < 0) return;
    prctl(PR_SET_NAME, "hew:setup");
    undo = nothing; /* the supervisor's task: here it would trip over the mounts */
    die_with_supervisor();
}

/*
 * Stage 2, "hew:setup": we are the first process of the new namespaces, with every
 * capability in the user namespace if that is new, and an id nobody has mapped yet. Our
 * job: wait until the supervisor has mapped it, become its root, and go on with
 * the steps that stand behind `clone`; the last one executes the command.
 */
static void become_container(bool mapped, bool may_set_groups, int copy) {
    in_container();
    setsid();       /* nothing in here has the caller's terminal as its own, or can signal the caller's process group */

    char word;
    if (recv(line_fd, &word, 1, 0) != 1) _exit(EXIT_HEW); /* the supervisor gave up, and has said why */

    if (mapped) {
        if (may_set_groups && setgroups(0, NULL) && errno != EPERM) fail(errno, "cannot drop the supplementary groups");
        if (setresgid(0, 0, 0) && errno != EINVAL) fail(errno, "cannot become group 0 of the user namespace");
        if (setresuid(0, 0, 0) && errno != EINVAL) fail(errno, "cannot become user 0 of the user namespace");
        /* A change of ids makes /proc/self someone else's, where oom_score_adj must still be written. */
        prctl(PR_SET_DUMPABLE, 1);
    }
    die_with_supervisor();
    explained("  # ok");
    go_on_sealed(copy);
}

/* Its number as /proc counts, which may be another PID namespace's: who opens files there needs that one. pidfd_open(2) does
 * not say so, but the kernel's pidfd_show_fdinfo(): 0 when it is not in there. */
static const char *number_in_proc(int pidfd) {
    static char number[16];
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    read_and_close(open(path, O_RDONLY | O_CLOEXEC), text, sizeof text);
    const char *at = strstr(text, "\nPid:");
    int pid = at ? atoi(at + 5) : 0;
    if (pid > 0) snprintf(number, sizeof number, "%d", pid);
    return number;
}

/*
 * Stage 1, "hew:supervisor": we are the process that the user started, in the user's
 * namespaces, with every signal blocked. Our job: map the ids of the container, let it go
 * on, and from then on only wait for it. Not a step is run here any more.
 */
static _Noreturn void become_supervisor(struct container *container, const char *mapping, const char *setgroups,
                                        const struct id_map maps[2]) {
    prctl(PR_SET_NAME, "hew:supervisor");
    const char *number = container->number = number_in_proc(container->pidfd);
    if (maps && !map_ids(number, mapping, setgroups, maps)) give_up(container);
    /* Files of the other ids in a range are not ours to remove, but for who is in there. The namespace has no
     * name any more when its last process has ended: only a descriptor keeps it, namespaces(7). */
    if (maps && leftover.path && geteuid() && !strcmp(mapping, "newuidmap")) leftover.user_namespace = open_user_namespace(number);
    if (!state_created(container->pid, number)) give_up(container);
    if (send(container->line, "", 1, MSG_NOSIGNAL) < 0) say("the container ended before its steps began");
    supervise(container);
}

void prepare_clone(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) fail(errno, "cannot make a socket");
    interrupted();
    interrupts_hand_over();
    /* The container unblocks them when it executes. */
    sigset_t all;
    every_signal(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGCHLD, SIG_DFL); /* ignored, children would vanish with their status */
}

static void step_clone(void) {
    const char *list = word_kept(), *mapping = word_kept();
    const char *uids = word_kept(), *gids = word_kept(), *setgroups = word_kept();
    unsigned long flags = namespace_flags(list);
    bool mapped = flags & CLONE_NEWUSER;

    int ends[2], copy = sealed_copy();
    prepare_clone(ends);
    int pidfd = -1, cgroup = cgroup_to_clone_into();
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
    };
    note_start();
    long pid = kernel_clone3(&args);
    if (pid < 0 && cgroup >= 0 && (errno == E2BIG || errno == EINVAL || cgroup_may_lack())) { /* before Linux 5.7 */
        args.flags &= ~CLONE_INTO_CGROUP;
        args.cgroup = 0;
        pid = kernel_clone3(&args);
    }
    if (pid < 0) fail(errno, flags ? "cannot make new namespaces (%s)" : "cannot make a process (%s)", list);
    if (pid == 0) {
        close(ends[0]);
        line_fd = ends[1];
        log_connect();
        become_container(mapped, !strcmp(setgroups, "allow"), copy);
        return;
    }
    close(ends[1]);
    if (copy >= 0) close(copy);
    const struct id_map maps[2] = {{"uid_map", "newuidmap", uids}, {"gid_map", "newgidmap", gids}};
    struct container container = {(pid_t)pid, pidfd, ends[0], "", flags & CLONE_NEWPID};
    if (!join_cgroups((pid_t)pid, args.flags & CLONE_INTO_CGROUP)) give_up(&container);
    become_supervisor(&container, mapping, setgroups, mapped ? maps : NULL);
}

/* ---- other ways into namespaces ---- */

static void step_unshare(void) {
    const char *list = word();
    if (unshare((int)namespace_flags(list))) fail(errno, "cannot make new namespaces (%s)", list);
}

static void step_join(void) {
    const char *kind = word_kept();
    unsigned long flag = namespace_flags(kind);
    const char *path = word();
    /* Processes of the container may see us from here on, and must not get at what we hold (CVE-2016-9962). */
    prctl(PR_SET_DUMPABLE, 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(errno, "cannot open the %s namespace %s", kind, path);
    if (setns(fd, (int)flag)) fail(errno, "cannot join the %s namespace %s", kind, path);
    close(fd);
}

/* ---- what belongs to a namespace ---- */

static void step_hostname(void) {
    const char *name = word();
    if (sethostname(name, strlen(name))) fail(errno, "cannot set the hostname to '%s'", name);
}

static void step_domainname(void) {
    const char *name = word();
    if (setdomainname(name, strlen(name))) fail(errno, "cannot set the domain name to '%s'", name);
}

static void step_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request)) fail(errno, "cannot find the loopback interface");
    request.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request)) fail(errno, "cannot bring the loopback interface up");
    close(fd);
}

/* Which namespace a file of /proc/sys belongs to depends on who opens it: the host's /proc does. */
static void step_sysctl(void) {
    char *name = word_kept();
    const char *value = word();
    char *path = strdup(name);
    if (!path) fail(ENOMEM, "cannot keep a name");
    if (!strchr(path, '/')) /* as sysctl(8): with a slash in it, dots are part of names (net/ipv4/conf/eth0.1) */
        for (char *c = path; *c; c++)
            if (*c == '.') *c = '/';
    int directory = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct open_how how = {
        .flags = O_WRONLY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    int fd = directory < 0 ? -1 : kernel_openat2(directory, path, &how);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) fail(errno, "cannot set the sysctl %s to '%s'", name, value);
    close(fd);
    close(directory);
    free(path);
}

const struct step namespace_steps[] = {
    {"clone", step_clone},           /* KINDS direct|newuidmap UIDMAP GIDMAP allow|deny: what follows is in the container */
    {"unshare", step_unshare},       /* KINDS: new ones for this process */
    {"join", step_join},             /* KIND PATH */
    {"hostname", step_hostname},     /* NAME */
    {"domainname", step_domainname}, /* NAME */
    {"sysctl", step_sysctl},         /* NAME VALUE */
    {"loopback", step_loopback},     /* up, in the network namespace we are in */
    {NULL, NULL},
};
