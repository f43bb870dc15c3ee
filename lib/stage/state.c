/*
 * The state of a container, which hew's other commands read: state.json in a directory that enter has made and
 * whose name it has won (lib/containers). From the step `state` on it is ours to write.
 *
 * Whoever reads it finds an old one or a new one, and nothing in between: each is written beside the one before and
 * renamed. A kill -9 leaves it as it was, with a supervisor that is gone: that is how others recognise the dead.
 */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct state state = {.directory = -1};

/* ---- processes ---- */

/* Field 22 of proc_pid_stat(5). The second one is a name in parentheses, which may hold anything. */
unsigned long long start_time(const char *number) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%s/stat", number);
    read_and_close(open(path, O_RDONLY | O_CLOEXEC), text, sizeof text);
    unsigned long long start = 0;
    char *at = strrchr(text, ')');
    if (at) sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &start);
    return start;
}

unsigned long long own_start(void) {
    static unsigned long long start;
    static pid_t whose; /* detach.c forks */
    if (whose != getpid()) start = start_time("self");
    whose = getpid();
    return start;
}

/* ---- writing ---- */

static bool replace_text(int directory, const char *name, const char *text) {
    char beside[64];
    snprintf(beside, sizeof beside, ".%s", name);
    int fd = openat(directory, beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (!write_and_close(fd, text)) return false;
    /* Not over the old one where that is possible: ext4 takes it for a file to be saved, and writes it out at once. */
    if (kernel_renameat2(directory, beside, directory, name, RENAME_EXCHANGE)) return !renameat(directory, beside, directory, name);
    unlinkat(directory, beside, 0);
    return true;
}

/* ISO 8601. Not gmtime(3), which reads /etc/localtime: the days since 1 March of the year 0, as of howardhinnant.github.io/date_algorithms.html */
static void print_now(char *to, size_t size) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    long second = now.tv_sec % 86400, days = now.tv_sec / 86400 + 719468;
    long era = days / 146097, of_era = days % 146097;
    long years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    long of_year = of_era - (365 * years + years / 4 - years / 100), from_march = (5 * of_year + 2) / 153;
    long month = from_march < 10 ? from_march + 3 : from_march - 9;
    snprintf(to, size, "%04ld-%02ld-%02ldT%02ld:%02ld:%02ld.%03ldZ", years + era * 400 + (month <= 2), month,
             of_year - (153 * from_march + 2) / 5 + 1, second / 3600, second / 60 % 60, second % 60, now.tv_nsec / 1000000);
}

/* The document as it is now; the caller frees. */
static char *document(const char *status, bool with_process) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    static char created[128];
    if (!*created) print_now(created, sizeof created);
    fprintf(out, "%s\"dev.hew.created\":\"%s\",\"dev.hew.supervisor\":\"%d %llu %s\"", state.head, created, (int)getpid(), own_start(), state.where);
    fprintf(out, ",\"dev.hew.cgroups\":\"");
    print_cgroups(out);
    if (with_process) fprintf(out, "\",\"dev.hew.start\":\"%llu", state.start);
    fprintf(out, "\"},\"status\":\"%s\"", status);
    if (with_process) fprintf(out, ",\"pid\":%d", (int)state.pid);
    fprintf(out, "}\n");
    if (fclose(out)) return NULL;
    return text;
}

bool write_state(const char *status, bool with_process) {
    if (state.directory < 0) return true;
    char *text = document(status, with_process);
    bool written = text && replace_text(state.directory, "state.json", text);
    int error = errno;
    if (text && !strcmp(status, "running")) tell_caller(text);
    free(text);
    errno = error;
    return written;
}

void print_json(FILE *out, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20) fprintf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else fputc(c, out);
    }
}

/* ---- its life ---- */

/* As lib/containers/sweep.ts: it is ours to remove once we have renamed state.json, which exactly one can; only then
 * the name in the directory of states is sure to be this directory's. */
static void remove_state(void) {
    char taken[64], grave[64];
    if (state.directory < 0) return;
    snprintf(taken, sizeof taken, ".taken-%d-%llu", (int)getpid(), own_start());
    snprintf(grave, sizeof grave, ".old-%d-%llu-0", (int)getpid(), own_start());
    if (!renameat(state.directory, "state.json", state.directory, taken) && !renameat(state.states, state.id, state.states, grave)) {
        const char *const usual[] = {taken, "config.json", "verdict.json"};
        for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) unlinkat(state.directory, usual[i], 0);
        if (unlinkat(state.states, grave, AT_REMOVEDIR)) remove_tree_at(state.states, state.path, grave);
    }
    close(state.directory);
    state.directory = -1;
}

static void (*undo_the_rest)(void);
static void undo_state(void) {
    undo_the_rest();
    remove_state();
}

void state_is_ours(void) {
    undo_the_rest = undo;
    undo = undo_state;
}

static void step_state(void) {
    char *path = word_kept();
    state.head = word_kept();
    state.where = word_kept();
    state.keep = !strcmp(word(), "keep");
    char *slash = strrchr(path, '/');
    if (!slash) refuse(EINVAL, "the state '%s' is no absolute path", path);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    *slash = 0;
    state.path = path;
    state.id = slash + 1;
    state.states = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || state.states < 0) fail(errno, "cannot open the container's state %s/%s", path, state.id);
    state.directory = directory;
    state_is_ours();
    interrupts_hold();
    if (!write_state("creating", false)) fail(errno, "cannot write the container's state to %s/%s", path, state.id);
}

void state_has_cgroups(void) {
    if (!write_state("creating", false)) fail(errno, "cannot write the container's state");
}

bool state_created(pid_t pid, const char *number) {
    state.pid = pid;
    state.start = start_time(number);
    if (write_state("created", true)) return true;
    say("cannot write the container's state: %s", error_text(errno));
    return false;
}

void state_running(void) {
    if (!write_state("running", true)) say("cannot write the container's state: %s", error_text(errno));
}

void state_take_back(void) {
    int fd = state.directory < 0 ? -1 : openat(state.directory, "cgroups", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return;
    static char text[1 << 14];
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length < 0 ? 0 : length] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) adopt_cgroup(line);
}

/* In place: `hew wait` holds it open, since the state of a container in the foreground goes with it. It was empty, and is not cut
 * to that: ext4 would have it on the disk before the close(2) is done, and that is what its removal would wait for. */
static bool write_verdict(const struct text *verdict) {
    int fd = openat(state.directory, "verdict.json", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return write_and_close(fd, verdict->bytes);
}

void state_ended(bool ran, const struct text *verdict) {
    if (state.directory < 0) return;
    /* In this order: who sees that it has stopped looks for how. */
    if (ran && (!write_verdict(verdict) || (state.keep && !write_state("stopped", false))))
        say("cannot write the container's state: %s", error_text(errno));
    if (!ran || !state.keep) remove_state();
}

const struct step state_steps[] = {
    {"state", step_state}, /* DIR HEAD WHERE keep|remove: its state is written to DIR, and kept after its end or not */
    {NULL, NULL},
};
