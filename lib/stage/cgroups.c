/*
 * The cgroups of a container: one where the machine has v2, one in each hierarchy that counts with v1.
 * They are made and limited before the container starts, and go when it has ended.
 */
#include "container.h"

#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum { MAX_CGROUPS = 16 };

static struct cgroup {
    const char *above; /* the path of its parent */
    int parent, fd;    /* fd is -1 before it is made */
    bool v2, may_lack;
} cgroups[MAX_CGROUPS];
static size_t cgroup_count;
/* Others' that it joins. */
static struct other {
    const char *path;
    int fd;
    bool may_lack;
} others[MAX_CGROUPS];
static size_t others_count;
static char name[NAME_MAX + 1]; /* the same in all hierarchies */
static bool join;

static int verdict_fd = -1;
static struct timespec started;

/* ---- making them ---- */

/* With the cgroups in it: a container may divide what it got. */
static int remove_cgroup(int parent, const char *called) {
    int removed = unlinkat(parent, called, AT_REMOVEDIR);
    if (!removed || errno != EBUSY) return removed;
    int fd = openat(parent, called, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) return -1;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_type == DT_DIR && *entry->d_name != '.') remove_cgroup(fd, entry->d_name);
    closedir(directory);
    return unlinkat(parent, called, AT_REMOVEDIR);
}

static void remove_one(struct cgroup *cgroup) {
    if (cgroup->fd < 0) return;
    remove_cgroup(cgroup->parent, name);
    close(cgroup->fd);
    cgroup->fd = -1;
}

static void remove_made(void) {
    for (size_t i = cgroup_count; i-- > 0;) remove_one(&cgroups[i]);
}

static void (*undo_the_rest)(void);
static void undo_cgroups(void) {
    remove_made();
    undo_the_rest();
}

/* Opened and locked; -1 and errno. Each has a lock on its own as long as it lives: an empty one without is nobody's. */
static int open_locked(const struct cgroup *cgroup) {
    int fd = openat(cgroup->parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat ours, there;
    if (fd < 0) return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && !fstat(fd, &ours) && !fstatat(cgroup->parent, name, &there, AT_SYMLINK_NOFOLLOW) &&
        ours.st_ino == there.st_ino)
        return fd;
    close(fd);
    errno = EEXIST;
    return -1;
}

/* A container that was killed leaves its cgroup behind, and that its settings. */
static bool remove_abandoned(const struct cgroup *cgroup) {
    int fd = open_locked(cgroup);
    bool removed = fd >= 0 && !unlinkat(cgroup->parent, name, AT_REMOVEDIR);
    if (fd >= 0) close(fd);
    return removed;
}

static bool make_one(struct cgroup *cgroup) {
    bool made = !mkdirat(cgroup->parent, name, 0755);
    if (!made && errno == EEXIST) {
        made = remove_abandoned(cgroup) && !mkdirat(cgroup->parent, name, 0755);
        errno = EEXIST;
    }
    if (!made) return false;
    cgroup->fd = open_locked(cgroup);
    if (cgroup->fd < 0 && errno == ENOENT) errno = EEXIST; /* who took it for abandoned has the name now */
    return cgroup->fd >= 0;
}

/* False: the name is taken in some hierarchy, and nothing was made. */
static bool make_all(void) {
    for (size_t i = 0; i < cgroup_count; i++) {
        if (make_one(&cgroups[i]) || (cgroups[i].may_lack && errno != EEXIST)) continue;
        int error = errno;
        remove_made();
        if (error == EEXIST) return false;
        fail(error, "cannot make the cgroup %s/%s", cgroups[i].above, name);
    }
    return true;
}

static void step_cgroup(void) {
    const char *wanted = word_kept();
    if (!*wanted) wanted = state.id;
    size_t count = (size_t)word_number(10);
    if (count > MAX_CGROUPS) refuse(E2BIG, "a container has no %zu cgroups", count);
    /* Whoever ends us now has to wait for the supervisor: the cgroups would stay. */
    sigset_t all;
    every_signal(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    undo_the_rest = undo;
    undo = undo_cgroups;
    for (size_t i = 0; i < count; i++) {
        struct cgroup *cgroup = &cgroups[cgroup_count++];
        *cgroup = (struct cgroup){.fd = -1};
        cgroup->v2 = word_number(10) == 2;
        cgroup->may_lack = !strcmp(word(), "may");
        cgroup->above = word_kept();
        cgroup->parent = open(cgroup->above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (cgroup->parent < 0 && !cgroup->may_lack) fail(errno, "cannot open the cgroup %s", cgroup->above);
    }
    snprintf(name, sizeof name, "%s", wanted);
    if (make_all()) return state_has_cgroups();
    /* Another container of the same root, or what one left that was killed. */
    snprintf(name, sizeof name, "%.200s-%d", wanted, (int)getpid());
    if (!make_all()) fail(EEXIST, "cannot make the cgroup %s/%s", cgroups[0].above, name);
    state_has_cgroups();
}

/* The lock is the open file's, flock(2): it stays with the caller, who has handed it to us, when we have ended. */
static void step_cgroup_lock(void) {
    int fd = (int)word_number(10);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) dprintf(STDOUT_FILENO, "%d\n", fd);
}

static bool write_at(int directory, const char *file, const char *text) {
    return write_and_close(openat(directory, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC), text);
}

static void step_cgroup_set(void) {
    size_t index = (size_t)word_number(10);
    const char *file = word_kept(), *value = word_kept();
    bool may_lack = !strcmp(word(), "if-there");
    if (index >= cgroup_count) refuse(EINVAL, "there is no cgroup %zu", index);
    if (write_at(cgroups[index].fd, file, value) || (may_lack && errno == ENOENT)) return;
    fail(errno, "cannot set %s of the cgroup %s/%s to '%s'", file, cgroups[index].above, name, value);
}

static void step_cgroup_join(void) { join = true; }

static void step_cgroup_into(void) {
    const char *path = word_kept();
    bool may = !strcmp(word(), "may");
    if (others_count == MAX_CGROUPS) refuse(E2BIG, "a process is in no more than %d cgroups", MAX_CGROUPS);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && !may) fail(errno, "cannot open the cgroup %s", path);
    others[others_count++] = (struct other){path, fd, may};
}

/* ---- the container goes in ---- */

int cgroup_to_clone_into(void) {
    for (size_t i = 0; join && i < cgroup_count; i++)
        if (cgroups[i].v2) return cgroups[i].fd;
    return -1;
}

bool cgroup_may_lack(void) {
    for (size_t i = 0; i < cgroup_count; i++)
        if (cgroups[i].v2) return cgroups[i].may_lack;
    return true;
}

bool join_cgroups(pid_t pid, bool cloned_into) {
    char number[16];
    snprintf(number, sizeof number, "%d", (int)pid);
    for (size_t i = 0; join && i < cgroup_count; i++) {
        if (cgroups[i].fd < 0 || (cgroups[i].v2 && cloned_into)) continue;
        if (write_at(cgroups[i].fd, "cgroup.procs", number)) continue;
        if (cgroups[i].may_lack) {
            remove_one(&cgroups[i]);
            continue;
        }
        say("cannot put the container into the cgroup %s/%s: %s", cgroups[i].above, name, error_text(errno));
        return false;
    }
    for (size_t i = 0; i < others_count; i++) {
        if (others[i].fd >= 0 && write_at(others[i].fd, "cgroup.procs", number)) continue;
        say("cannot join the cgroup %s: %s", others[i].path, error_text(errno));
        if (!others[i].may_lack) return false;
    }
    return true;
}

void note_start(void) { clock_gettime(CLOCK_MONOTONIC, &started); }

/* ---- what the kernel has counted ---- */

/* Of a file of lines "key number", or of one that holds a single number: in whatever hierarchy it is. -1: unknown. */
static long long counted(const char *file, const char *key) {
    for (size_t i = 0; i < cgroup_count; i++) {
        char text[8192];
        int fd = cgroups[i].fd < 0 ? -1 : openat(cgroups[i].fd, file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        text[length < 0 ? 0 : length] = 0;
        size_t key_length = strlen(key);
        for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
            if (!strncmp(line, key, key_length) && (!key_length || line[key_length] == ' ')) {
                char *at = line + key_length + (key_length > 0), *end;
                long long number = strtoll(at, &end, 10);
                if (end != at) return number;
            }
    }
    return -1;
}

static long long either(const char *file2, const char *key2, const char *file1, const char *key1) {
    long long number = counted(file2, key2);
    return number < 0 ? counted(file1, key1) : number;
}

/* Seconds; microseconds in v2, nanoseconds in v1. */
static double seconds(const char *file2, const char *key2, const char *file1, const char *key1) {
    long long number = counted(file2, key2);
    if (number >= 0) return (double)number / 1e6;
    number = counted(file1, key1);
    return number < 0 ? -1 : (double)number / 1e9;
}

static double cpu_seconds(void) {
    double counted_by_cgroup = seconds("cpu.stat", "usage_usec", "cpuacct.usage", "");
    struct rusage usage;
    if (counted_by_cgroup >= 0 || getrusage(RUSAGE_CHILDREN, &usage)) return counted_by_cgroup;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static struct tally {
    long long oom_kills, forks_refused, peak_memory;
    double cpu, throttled, wall;
} tally(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (struct tally){
        .oom_kills = either("memory.events", "oom_kill", "memory.oom_control", "oom_kill"),
        .forks_refused = counted("pids.events", "max"),
        .peak_memory = either("memory.peak", "", "memory.max_usage_in_bytes", ""),
        .cpu = cpu_seconds(),
        .throttled = seconds("cpu.stat", "throttled_usec", "cpu.stat", "throttled_time"),
        .wall = (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) / 1e9,
    };
}

/* ---- telling it ---- */

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text->bytes + text->length, sizeof text->bytes - text->length, format, arguments);
    va_end(arguments);
    if (n > 0) text->length += (size_t)n;
    if (text->length >= sizeof text->bytes) text->length = sizeof text->bytes - 1;
}

static void add_size(struct text *text, long long bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double number = (double)bytes;
    size_t unit = 0;
    for (; number >= 1024 && unit < 4; unit++) number /= 1024;
    long tenths = (long)(number * 10 + 0.5);
    if (tenths % 10) add(text, "%ld.%ld %s", tenths / 10, tenths % 10, units[unit]);
    else add(text, "%ld %s", tenths / 10, units[unit]);
}

static void add_cpu_limit(struct text *text) {
    char line[64] = "";
    long long quota = counted("cpu.cfs_quota_us", ""), period = counted("cpu.cfs_period_us", "");
    for (size_t i = 0; i < cgroup_count && quota < 0; i++) {
        int fd = cgroups[i].v2 ? openat(cgroups[i].fd, "cpu.max", O_RDONLY | O_CLOEXEC) : -1;
        if (fd >= 0 && read(fd, line, sizeof line - 1) > 0) sscanf(line, "%lld %lld", &quota, &period);
        if (fd >= 0) close(fd);
    }
    if (quota > 0 && period > 0) add(text, " (limit %g%% of a CPU)", (double)quota * 100 / (double)period);
}

/* Once, and only if a limit was felt. */
static void say_what_limits_did(const struct tally *tally) {
    enum { WORTH_SAYING_MS = 100 };
    struct text text = {.length = 0};
    if (tally->oom_kills > 0) {
        long long limit = either("memory.max", "", "memory.limit_in_bytes", "");
        add(&text, "killed by its memory limit (");
        if (limit > 0) add_size(&text, limit), add(&text, ", ");
        add(&text, "%lld kill%s)", tally->oom_kills, tally->oom_kills == 1 ? "" : "s");
    }
    if (tally->forks_refused > 0) {
        long long limit = counted("pids.max", "");
        add(&text, "%srefused %lld fork%s", text.length ? "; " : "", tally->forks_refused,
            tally->forks_refused == 1 ? "" : "s");
        if (limit >= 0) add(&text, " (pids limit %lld)", limit);
    }
    if (tally->throttled * 1000 >= WORTH_SAYING_MS) {
        add(&text, "%sheld back %.1f s of CPU", text.length ? "; " : "", tally->throttled);
        add_cpu_limit(&text);
    }
    if (text.length) say("%s", text.bytes);
}

static void add_number(struct text *text, const char *key, long long number) {
    if (number < 0) add(text, ",\"%s\":null", key);
    else add(text, ",\"%s\":%lld", key, number);
}

static void add_seconds(struct text *text, const char *key, double number) {
    if (number < 0) add(text, ",\"%s\":null", key);
    else add(text, ",\"%s\":%.6f", key, number);
}

static struct text verdict_of(const struct tally *tally, int status, int signal) {
    struct text text = {.length = 0};
    add(&text, "{\"exitStatus\":%d", status);
    add_number(&text, "signal", signal ? signal : -1);
    add_number(&text, "oomKills", tally->oom_kills);
    add_number(&text, "peakMemoryBytes", tally->peak_memory);
    add_seconds(&text, "cpuSeconds", tally->cpu);
    add_seconds(&text, "throttledSeconds", tally->throttled);
    add_number(&text, "forksRefused", tally->forks_refused);
    add_seconds(&text, "wallSeconds", tally->wall);
    add(&text, "}\n");
    return text;
}

/* Opened before anything starts: a verdict that cannot be written is a mistake to be told of at once. */
static void step_verdict(void) {
    bool by_name = !strcmp(word_kept(), "file");
    const char *target = word();
    verdict_fd = by_name ? open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : atoi(target);
    if (!by_name && fcntl(verdict_fd, F_SETFD, FD_CLOEXEC)) verdict_fd = -1;
    if (verdict_fd < 0) fail(errno, "cannot write the verdict to %s%s", by_name ? "" : "descriptor ", target);
}

/* ---- the end ---- */

/* What died is still counted for a moment: EBUSY, until the kernel has buried it. */
static bool remove_patiently(const struct cgroup *cgroup) {
    enum { LONGEST_MS = 256 };
    for (int ms = 1; remove_cgroup(cgroup->parent, name); ms *= 2) {
        if (errno == ENOENT) return true;
        if (errno != EBUSY || ms > LONGEST_MS) return false;
        nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
    }
    return true;
}

struct text settle_cgroups(int status, int signal) {
    struct tally counts = tally();
    struct text verdict = verdict_of(&counts, status, signal);
    say_what_limits_did(&counts);
    if (verdict_fd >= 0) {
        if (write(verdict_fd, verdict.bytes, verdict.length) < 0) say("cannot write the verdict: %s", error_text(errno));
        close(verdict_fd);
    }
    for (size_t i = cgroup_count; i-- > 0;) {
        if (cgroups[i].fd < 0 || remove_patiently(&cgroups[i])) continue;
        if (errno == EBUSY)
            say("the cgroup %s/%s stays, with its limits: processes of the container still run in it", cgroups[i].above, name);
        else say("cannot remove the cgroup %s/%s: %s", cgroups[i].above, name, error_text(errno));
    }
    return verdict;
}

void adopt_cgroup(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash || cgroup_count == MAX_CGROUPS || strlen(slash + 1) >= sizeof name) return;
    if (cgroup_count == 0) strcpy(name, slash + 1);
    if (strcmp(name, slash + 1)) return;
    *slash = 0;
    struct cgroup *cgroup = &cgroups[cgroup_count];
    *cgroup = (struct cgroup){.above = path, .parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    cgroup->fd = openat(cgroup->parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (cgroup->fd >= 0) cgroup_count++;
}

void print_cgroups(FILE *out) {
    const char *between = "";
    for (int v2 = 1; v2 >= 0; v2--)
        for (size_t i = 0; i < cgroup_count; i++) {
            if (cgroups[i].fd < 0 || cgroups[i].v2 != v2) continue;
            fputs(between, out);
            print_json(out, cgroups[i].above);
            print_json(out, "/");
            print_json(out, name);
            between = "\\n";
        }
}

const struct step cgroup_steps[] = {
    {"cgroup", step_cgroup},           /* NAME ('': the state's) COUNT (VERSION must|may PARENT)...: one in each; NAME-PID where it is taken */
    {"cgroup-set", step_cgroup_set},   /* INDEX FILE VALUE must|if-there */
    {"cgroup-join", step_cgroup_join}, /* the container starts in them */
    {"cgroup-into", step_cgroup_into}, /* PATH must|may: the process goes into this one, which is another's */
    {"cgroup-lock", step_cgroup_lock}, /* FD: printed, if nobody else has locked it */
    {"verdict", step_verdict},         /* file|fd TARGET: how it ended, as JSON, goes there */
    {NULL, NULL},
};
