#include "container.h"

#include "kernel.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- before the clone: how this process is treated ---- */

/*
 * Descriptors 0 to 2 that the caller closed would be given to the next file that is
 * opened. Node puts /dev/null there, and aborts in a root without: an empty file
 * that nothing can be written to does as well.
 */
void fill_standard_descriptors(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || open("/dev/null", O_RDWR) >= 0) continue;
        int empty = memfd_create("closed", MFD_ALLOW_SEALING);
        if (empty >= 0) fcntl(empty, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_GROW | F_SEAL_WRITE);
    }
}

static void step_die_with_parent(void) {
    pid_t parent = (pid_t)word_number(10);
    if (!parent) parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) fail(errno, "cannot bind this process to its parent");
    /* It may be gone already: whoever adopted us would not tell. */
    if (getppid() != parent) _exit(EXIT_HEW);
}

static void step_stdin(void) {
    const char *text = word();
    size_t length = strlen(text);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) || (length > PIPE_BUF && fcntl(ends[1], F_SETPIPE_SZ, length) < 0) ||
        write(ends[1], text, length) != (ssize_t)length || dup2(ends[0], STDIN_FILENO) < 0)
        fail(errno, "cannot hand on what came through the pipe");
    close(ends[0]);
    close(ends[1]);
}

static void step_on_exit_remove(void) {
    leftover.path = word_kept();
    leftover.dev = (dev_t)word_number(10);
    leftover.ino = (ino_t)word_number(10);
}

/* ---- limits and ids ---- */

static const struct {
    const char *name;
    int resource;
} limits[] = {
    {"as", RLIMIT_AS},
    {"core", RLIMIT_CORE},
    {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},
    {"fsize", RLIMIT_FSIZE},
    {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK},
    {"msgqueue", RLIMIT_MSGQUEUE},
    {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},
    {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},
    {"rttime", RLIMIT_RTTIME},
    {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

static rlim_t limit_word(void) {
    char *text = word_kept(), *end;
    if (!strcmp(text, "unlimited")) return RLIM_INFINITY;
    errno = 0;
    rlim_t value = strtoull(text, &end, 10);
    if (errno || *end || !isdigit((unsigned char)*text)) refuse(EINVAL, "a limit is '%s'", text);
    return value;
}

static void step_rlimit(void) {
    const char *name = word_kept();
    struct rlimit limit = {.rlim_cur = limit_word()};
    limit.rlim_max = limit_word();
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (strcmp(limits[i].name, name)) continue;
        if (setrlimit(limits[i].resource, &limit)) fail(errno, "cannot set the limit %s", name);
        return;
    }
    refuse(EINVAL, "no limit is called '%s'", name);
}

static void step_umask(void) { umask((mode_t)word_number(8)); }

static void step_oom_score_adj(void) {
    const char *value = word();
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) fail(errno, "cannot set oom_score_adj to %s", value);
    close(fd);
}

/* (id_t) -1 leaves an id as it is, and a larger number loses its high bits: either way root would stay root. */
static id_t id_word(void) {
    unsigned long long id = word_number(10);
    if (id >= (id_t)-1) refuse(EINVAL, "there is no user or group %lld", (long long)id);
    return (id_t)id;
}

/* The words of one identity, and the only order that works: the bounding set and the groups
 * while we still may, the ids, then what the change of ids took away. capabilities(7). */
static void step_identity(void) {
    uid_t uid = id_word();
    gid_t gid = id_word();
    size_t count = (size_t)word_number(10);
    gid_t *groups = count > NGROUPS_MAX ? NULL : malloc((count + 1) * sizeof *groups);
    if (!groups) fail(ENOMEM, "cannot keep %zu groups", count);
    for (size_t i = 0; i < count; i++) groups[i] = id_word();
    uint64_t bounding = word_number(16), permitted = word_number(16), effective = word_number(16);
    uint64_t inheritable = word_number(16), ambient = word_number(16);

    for (int cap = 0, has; (has = prctl(PR_CAPBSET_READ, cap)) >= 0; cap++)
        if (has && !(bounding >> cap & 1) && prctl(PR_CAPBSET_DROP, cap))
            fail(errno, "cannot drop capability %d from the bounding set", cap);
    /* Where a user namespace denies setgroups(2) nobody can have others, nor get rid of the caller's. */
    if (setgroups(count, groups) && !(errno == EPERM && count == 0)) fail(errno, "cannot set the supplementary groups");
    free(groups);
    if (prctl(PR_SET_KEEPCAPS, 1)) fail(errno, "cannot keep capabilities");
    /* It may open them by their names, /dev/stderr or what tty(1) says. */
    if (terminal.relayed) fchown(terminal.fd, uid, (gid_t)-1);
    if (log_wanted()) fchown(STDOUT_FILENO, uid, (gid_t)-1);
    if (setresgid(gid, gid, gid)) fail(errno, "cannot become group %u", gid);
    if (setresuid(uid, uid, uid)) fail(errno, "cannot become user %u", uid);

    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct have[2], data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    if (syscall(SYS_capget, &header, have)) fail(errno, "cannot read the capabilities");
    for (int i = 0; i < 2; i++) { /* what the caller lacks cannot be given */
        data[i].permitted &= have[i].permitted;
        data[i].effective &= data[i].permitted;
        data[i].inheritable &= have[i].permitted | have[i].inheritable;
    }
    if (syscall(SYS_capset, &header, data)) fail(errno, "cannot set the capabilities");
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int cap = 0; cap < 64; cap++)
        if (ambient >> cap & 1 && data[cap / 32].permitted & data[cap / 32].inheritable & 1U << cap % 32 &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0))
            fail(errno, "cannot raise the ambient capability %d", cap);
}

static void step_no_new_privs(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail(errno, "cannot set no_new_privs");
}

static void step_chdir(void) {
    const char *path = word();
    if (chdir(path)) {
        if (errno == ENOENT) fail(errno, "the working directory %s is not in the root", path);
        fail(errno, "cannot work in %s", path);
    }
    /* A directory outside the root has no path here: CVE-2024-21626. */
    char inside[PATH_MAX];
    if (syscall(SYS_getcwd, inside, sizeof inside) < 0 || *inside != '/')
        refuse(EPERM, "the working directory %s is outside the root", path);
}

/* ---- signals ---- */

bool stops_by_default(int number) { return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU; }

bool ends_by_default(int number) {
    bool nothing = number == SIGCONT || number == SIGCHLD || number == SIGURG || number == SIGWINCH;
    return !nothing && !stops_by_default(number) && number != SIGSTOP;
}

/* ---- init ---- */

/* The host's paths, and all words of the plan: /proc/1/cmdline is everybody's to read, and /proc/1/environ can be read
 * with CAP_SYS_PTRACE in the user namespace that the sealed copy was executed in. */
static void forget_words(void) {
    char *from = program_invocation_name + strlen(program_invocation_name) + 1, **last = environ;
    while (*last && last[1]) last++;
    if (*last && from < *last) memset(from, 0, (size_t)(*last + strlen(*last) - from));
}

/*
 * Stage 3, "hew:init": we are PID 1 of the container, and the command is our child. Our job:
 * reap whoever loses its parent, pass signals on to the command, and end with its status.
 * The kernel then ends everyone who is left.
 */
static _Noreturn void become_init(pid_t command) {
    sigset_t all;
    every_signal(&all);
    prctl(PR_SET_NAME, "hew:init");
    forget_words();
    /* Not sigwaitinfo(2): that unblocks what it waits for, and the supervisor looks at what we block. */
    int arrivals = signalfd(-1, &all, 0);
    if (arrivals < 0 || dup2(arrivals, 0) < 0) fail(errno, "cannot wait for signals");
    kernel_close_range(1, ~0U, 0);
    for (struct signalfd_siginfo info; read(0, &info, sizeof info) == sizeof info;) {
        int status;
        if (info.ssi_signo == SIGCHLD) {
            for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                if (pid == command) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        } else if (info.ssi_pid == (uint32_t)getpid()) {
            continue;
        } else if (info.ssi_code == SI_QUEUE) { /* a terminal that is not ours: supervise.c */
            kill(-getpgid(command), (int)info.ssi_signo);
        } else if (info.ssi_code != SI_KERNEL || getpgid(command) != getpgrp()) {
            kill(command, (int)info.ssi_signo); /* ours sends to the whole process group */
        }
    }
    _exit(EXIT_HEW);
}

static void step_init(void) {
    /* Nothing in the container may look into PID 1. */
    if (prctl(PR_SET_DUMPABLE, 0)) fail(errno, "cannot protect the init process");
    /* Orphans come to PID 1; where we are not that, they must come to us. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    die_with_supervisor();
    pid_t pid = fork();
    if (pid < 0) fail(errno, "cannot start the command beside its init");
    if (pid > 0) become_init(pid);
}

/* ---- exec ---- */

static char *no_variables[] = {NULL};
static char **variables = no_variables;

static char **words_array(size_t count) {
    char **array = calloc(count + 1, sizeof *array);
    if (!array) fail(ENOMEM, "cannot keep %zu words", count);
    for (size_t i = 0; i < count; i++) array[i] = word_kept();
    return array;
}

static void step_env(void) { variables = words_array((size_t)word_number(10)); }

static const char *search_path(void) {
    for (char **variable = variables; *variable; variable++)
        if (!strncmp(*variable, "PATH=", 5)) return *variable + 5;
    return "/bin:/usr/bin"; /* confstr(3), _CS_PATH */
}

/* What execve(2) leaves as it is, a command expects to find new. */
static void clean_process(void) {
    for (int fd = 0; fd < 3; fd++) {
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && flags & O_NONBLOCK) fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    }
    /* Not signal(3): glibc keeps 32 and 33 to itself, and make(1) leaves 32 ignored to all it starts. */
    static const struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } initial; /* struct sigaction as the kernel has it: SIG_DFL */
    for (int number = 1; number < NSIG; number++) syscall(SYS_rt_sigaction, number, &initial, NULL, sizeof initial.mask);
    kernel_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    die_with_supervisor();
    tell(LINE_EXECUTES, -1, "");
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void cannot_execute(int error, const char *path) {
    struct stat st;
    tell(LINE_FAILED, -1, "");
    bool there = stat(path, &st) == 0;
    if (!there && (error == ENOENT || error == ENOTDIR)) fail_with(EXIT_NOT_FOUND, error, "cannot run %s", path);
    if (there && S_ISDIR(st.st_mode)) fail_with(EXIT_CANNOT_EXECUTE, EISDIR, "cannot run %s", path);
    if (there && error == ENOENT)
        fail_with(EXIT_CANNOT_EXECUTE, error, "cannot run %s (its interpreter or loader is missing)", path);
    fail_with(EXIT_CANNOT_EXECUTE, error, "cannot run %s", path);
}

/* As execvp(3), but never a shell for a file that nobody can execute, and through the PATH of the new environment. */
static void step_exec(void) {
    char **arguments = words_array((size_t)word_number(10));
    const char *name = arguments[0];
    if (!name) refuse(EINVAL, "there is no command");
    explained("");
    clean_process();
    if (strchr(name, '/')) {
        execve(name, arguments, variables);
        cannot_execute(errno, name);
    }
    char refused[PATH_MAX] = "";
    int error = ENOENT;
    for (const char *at = search_path(); *name && at; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
        char path[PATH_MAX];
        struct stat st;
        int length = (int)strcspn(at, ":");
        /* An empty part of PATH is the working directory. */
        length = snprintf(path, sizeof path, "%.*s%s%s", length, at, length ? "/" : "./", name);
        if (length >= (int)sizeof path) continue;
        execve(path, arguments, variables);
        int why = errno;
        if (stat(path, &st) || S_ISDIR(st.st_mode)) continue;
        if (why == EACCES && *refused) continue;
        strcpy(refused, path);
        error = why;
        if (why != EACCES) break;
    }
    if (*refused) cannot_execute(error, refused);
    tell(LINE_FAILED, -1, "");
    fail_with(EXIT_NOT_FOUND, ENOENT, "cannot find %s in %s", name, search_path());
}

const struct step process_steps[] = {
    {"die-with-parent", step_die_with_parent}, /* PID of the parent (0: whoever that is now): the supervisor ends when whoever started it does */
    {"stdin", step_stdin},                     /* TEXT: stdin is a pipe that holds this, and ends */
    {"on-exit-remove", step_on_exit_remove},   /* PATH DEV INO: this tree goes when the container has ended */
    {"rlimit", step_rlimit},                   /* NAME SOFT HARD: prlimit(1)'s names; a number or `unlimited` */
    {"umask", step_umask},                     /* MODE */
    {"oom-score-adj", step_oom_score_adj},     /* NUMBER */
    {"identity", step_identity},               /* UID GID COUNT GID... BOUNDING PERMITTED EFFECTIVE INHERITABLE AMBIENT (hex) */
    {"no-new-privs", step_no_new_privs},
    {"chdir", step_chdir}, /* PATH */
    {"env", step_env},     /* COUNT NAME=VALUE...: all that the command gets */
    {"init", step_init},   /* stay as PID 1; the rest happens in PID 2 */
    {"exec", step_exec},   /* COUNT ARGUMENT... */
    {NULL, NULL},
};
