/*
 * A name of a container, claimed by the stage itself: for a plan that is replayed. What lib/containers/claim.ts does for
 * `enter`, by the same rules: a state that nobody sees is made beside the others, and one rename gives it its name.
 */
#include "container.h"

#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { LONGEST_ID = 100 };

static char where[128]; /* "NAMESPACE BOOT" of this process */
static unsigned long long namespace;

/* As ownIdentity() of lib/containers/process.ts. */
static void find_ourselves(void) {
    char link[64] = "", boot[64];
    ssize_t length = readlink("/proc/self", link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    bool ours = atoi(link) == getpid();
    length = readlink("/proc/self/ns/pid", link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    if (ours) sscanf(link, "pid:[%llu]", &namespace);
    bool known = read_and_close(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC), boot, sizeof boot);
    boot[strcspn(boot, "\n")] = 0;
    snprintf(where, sizeof where, "%llu %s", namespace, known ? boot : "-");
}

/* ---- the directory of states ---- */

/* As stateDirectory() of lib/containers/directory.ts: others must not be able to put something into it. */
static int open_states(const char *path) {
    struct stat st;
    if (mkdir(path, 0700) && errno != EEXIST) fail(errno, "cannot make %s, where the states of containers are", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) fail(errno, "cannot open %s, where the states of containers are", path);
    if (st.st_uid != geteuid() || st.st_mode & 022)
        refuse(EPERM, "the directory of states %s is not yours alone: somebody else made it, or may write to it: remove it", path);
    return fd;
}

/* ---- what died ---- */

static bool is_gone(long pid, unsigned long long start) {
    char number[24];
    snprintf(number, sizeof number, "%ld", pid);
    return start_time(number) != start;
}

enum life { NOT_THERE, LIVES, ENDED, DEAD };

static enum life life_of(int states, const char *id) {
    char path[NAME_MAX + 16], text[8192], inside[sizeof where + 1];
    snprintf(path, sizeof path, "%s/state.json", id);
    if (!read_and_close(openat(states, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), text, sizeof text)) return NOT_THERE;
    static const char key[] = "\"dev.hew.supervisor\":\"";
    long pid;
    unsigned long long start;
    int rest = 0;
    char *at = strstr(text, key);
    snprintf(inside, sizeof inside, "%s\"", where);
    if (!at || sscanf(at + sizeof key - 1, "%ld %llu %n", &pid, &start, &rest) < 2) return LIVES; /* broken: not ours to judge */
    if (strstr(text, "\"status\":\"stopped\"")) return ENDED;
    if (strncmp(at + sizeof key - 1 + rest, inside, strlen(inside))) return LIVES; /* another PID namespace's */
    return is_gone(pid, start) ? DEAD : LIVES;
}

/* A state that was being made or removed: `.new-PID-START-NAMESPACE`, `.old-PID-START-N`. */
static bool is_abandoned(const char *name) {
    char kind[4];
    long pid;
    unsigned long long start, last;
    if (sscanf(name, ".%3[a-z]-%ld-%llu-%llu", kind, &pid, &start, &last) < 4) return false;
    return (strcmp(kind, "new") || last == namespace) && is_gone(pid, start);
}

/* Its processes, cgroups and roots, too: all that is written once, in lib/containers/sweep.ts. */
static void sweep(void) {
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; null >= 0 && fd < 3; fd++) dup2(null, fd);
        execl("/proc/self/exe", "hew", "rm", "--stale", NULL);
        _exit(EXIT_HEW);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

/* Only so many are looked at, others each time: a thousand containers do not make the next one slower. */
static void sweep_if_needed(int states) {
    enum { LOOKED_AT = 4 };
    DIR *directory = fdopendir(fcntl(states, F_DUPFD_CLOEXEC, 3));
    char chosen[LOOKED_AT][NAME_MAX + 1];
    unsigned seen = 0, random = (unsigned)getpid() * 2654435761U;
    bool dead = false;
    if (!directory) return;
    rewinddir(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        random = random * 1664525U + 1013904223U;
        unsigned slot = seen < LOOKED_AT ? seen : (random >> 8) % (seen + 1); /* each has the same chance: Vitter's algorithm R */
        if (slot < LOOKED_AT) snprintf(chosen[slot], sizeof chosen[slot], "%s", entry->d_name);
        seen++;
    }
    closedir(directory);
    for (unsigned i = 0; i < seen && i < LOOKED_AT && !dead; i++)
        dead = *chosen[i] == '.' ? is_abandoned(chosen[i]) : life_of(states, chosen[i]) == DEAD;
    if (dead) sweep();
}

/* ---- the claim ---- */

static char begun[64]; /* the state's name until it has one */
static void (*undo_the_rest)(void);

static void abandon(void) {
    undo_the_rest();
    remove_tree_at(state.states, state.path, begun);
}

static void write_file(const char *name, const char *text) {
    int fd = openat(state.directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (!write_and_close(fd, text)) fail(errno, "the container's state cannot be written to %s", state.path);
}

/* The document with the command that is replayed: `head` ends where the arguments begin, the last thing in it. */
static void write_configuration(const char *head) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) fail(ENOMEM, "cannot keep the configuration");
    fprintf(out, "%s[", head);
    for (char **at = replayed_command; *at; at++) {
        fputs(at == replayed_command ? "\"" : ",\"", out);
        print_json(out, *at);
        fputc('"', out);
    }
    fputs("]}}\n", out);
    if (fclose(out)) fail(ENOMEM, "cannot keep the configuration");
    write_file("config.json", text);
    free(text);
}

static char *head_for(const char *id, const char *rest) {
    char *head;
    if (asprintf(&head, "{\"id\":\"%s\",\"bundle\":\"%s/%s\",%s", id, state.path, id, rest) < 0)
        fail(ENOMEM, "cannot keep the container's state");
    return head;
}

static bool take(const char *id, const char *rest) {
    state.id = strdup(id);
    state.head = head_for(id, rest);
    if (!state.id || !write_state("creating", false)) fail(errno, "the container's state cannot be written to %s", state.path);
    if (!renameat(state.states, begun, state.states, id)) return true;
    if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) fail(errno, "cannot claim the name %s in %s", id, state.path);
    return false;
}

/* This very name. A sweep at work, or the end of a container: in a moment it may be free. */
static void take_only(const char *id, const char *rest) {
    enum { LONGEST_MS = 128 };
    enum life life = life_of(state.states, id);
    if (life == DEAD) sweep();
    for (int ms = 1; !take(id, rest); ms *= 2) {
        life = life_of(state.states, id);
        if (life == ENDED) refuse(EEXIST, "the name %s is taken by a container that has ended: 'hew rm %s' frees it", id, id);
        if (life == LIVES || ms > LONGEST_MS)
            refuse(EEXIST, "the name %s is taken by a container that runs: end that one with 'hew rm -f %s'", id, id);
        nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
    }
}

/* This name, or one like it that nobody has, without asking who has which. */
static void take_like(const char *id, const char *rest) {
    char other[LONGEST_ID + 1];
    if (take(id, rest)) return;
    for (unsigned n = 0;; n++) {
        char number[32];
        snprintf(number, sizeof number, n ? "-%d-%u" : "-%d", (int)getpid(), n);
        snprintf(other, sizeof other, "%.*s%s", (int)(LONGEST_ID - strlen(number)), id, number);
        if (take(other, rest)) return;
    }
}

static void step_claim(void) {
    state.path = word_kept();
    const char *id = word_kept();
    bool only = !strcmp(word(), "only");
    const char *rest = word_kept(), *configuration = word_kept();
    state.keep = !strcmp(word(), "keep");
    state.states = open_states(state.path);
    find_ourselves();
    state.where = where;
    sweep_if_needed(state.states);

    interrupts_hold();
    snprintf(begun, sizeof begun, ".new-%d-%llu-%llu", (int)getpid(), own_start(), namespace);
    if (mkdirat(state.states, begun, 0700)) fail(errno, "the container's state cannot be written to %s", state.path);
    undo_the_rest = undo;
    undo = abandon;
    state.directory = openat(state.states, begun, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (state.directory < 0) fail(errno, "the container's state cannot be written to %s", state.path);
    write_configuration(configuration);
    /* Written to at the end, and not replaced: who waits for that holds it open. */
    write_file("verdict.json", "");
    if (only) take_only(id, rest);
    else take_like(id, rest);
    undo = undo_the_rest;
    state_is_ours();
}

const struct step claim_steps[] = {
    /* STATES ID only|like HEAD CONFIG keep|remove: this name, or one like it; HEAD is state.json's start, CONFIG config.json's */
    {"claim-state", step_claim},
    {NULL, NULL},
};
