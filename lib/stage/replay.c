/*
 * A plan that is kept: `enter --plan` has the stage write down the steps, and with them what they follow from; `hew replay`
 * looks whether all that is still so, and does them. No Node is started.
 *
 * The file is entries as the environment of a stage has them, "=word", each ended by a NUL:
 *
 *     MAGIC   PLAN   COUNT (KIND PATH WHY VALUE)...   COUNT ARGUMENT...   the steps up to `exec`   END
 *
 * PLAN is the same as TypeScript has it, for --dry-run and --explain: lib/container/replay.ts.
 *
 * Whoever can write to it says what is done with our privileges. So it must be ours, and nobody else's to write to.
 */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char MAGIC[] = "hew plan 2", END[] = "end of the plan";
static const char again[] = "make it anew with 'hew enter --plan'";

char **replayed_command;

/* ---- facts ---- */

enum { LONGEST_FACT = 16384 };

static bool look_at_file(const char *path, char *value) {
    struct stat st;
    if (stat(path, &st)) return false;
    sprintf(value, "%lu:%lu %ld %ld.%09ld", st.st_dev, st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return true;
}

/* The number of an inode is soon another's; when it was born tells them apart (statx(2), where the file system keeps it). */
static bool look_at_inode(const char *path, char *value) {
    struct statx st;
    if (kernel_statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &st)) return false;
    bool born = st.stx_mask & STATX_BTIME;
    sprintf(value, "%u:%u:%llu %lld.%09u", st.stx_dev_major, st.stx_dev_minor, (unsigned long long)st.stx_ino,
            born ? (long long)st.stx_btime.tv_sec : 0, born ? st.stx_btime.tv_nsec : 0);
    return true;
}

static bool look_at_link(const char *path, char *value) {
    ssize_t length = readlink(path, value, PATH_MAX);
    if (length >= 0) value[length] = 0;
    return length >= 0;
}

static bool look_at_text(const char *path, char *value) {
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t more; fd >= 0 && (more = read(fd, value + length, LONGEST_FACT - 1 - length)) > 0;) length += (size_t)more;
    if (fd >= 0) close(fd);
    value[length] = 0;
    errno = fd < 0 ? errno : EFBIG;
    return fd >= 0 && length < LONGEST_FACT - 1;
}

static bool look_for_absence(const char *path, char *value) {
    struct stat st;
    strcpy(value, lstat(path, &st) ? error_text(errno) : "there");
    return true;
}

static bool look_at_ids(const char *path, char *value) {
    (void)path;
    sprintf(value, "%u:%u", geteuid(), getegid());
    return true;
}

static const struct fact {
    const char *kind;
    bool (*look)(const char *path, char value[LONGEST_FACT]); /* false with an errno */
} facts[] = {
    {"file", look_at_file},     /* which one it is, and when it was written to */
    {"inode", look_at_inode},   /* a directory, a namespace: which one it is */
    {"link", look_at_link},     /* where it leads: a namespace */
    {"text", look_at_text},
    {"absent", look_for_absence},
    {"ids", look_at_ids},
};

static bool look(const char *kind, const char *path, char value[LONGEST_FACT]) {
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!strcmp(facts[i].kind, kind)) return facts[i].look(path, value);
    refuse(EINVAL, "no fact is called '%s'", kind);
}

/* ---- writing it ---- */

static char *unfinished;

static void remove_unfinished(void) { unlink(unfinished); }

static void put(FILE *out, const char *text) {
    fprintf(out, "=%s", text);
    fputc(0, out);
}

static void put_facts(FILE *out, unsigned long long count) {
    char value[LONGEST_FACT], number[24];
    snprintf(number, sizeof number, "%llu", count);
    put(out, number);
    while (count--) {
        const char *kind = word_kept(), *path = word_kept(), *why = word_kept();
        if (!look(kind, path, value)) fail(errno, "cannot look at %s, which the plan follows from", path);
        const char *const entries[] = {kind, path, why, value};
        for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) put(out, entries[i]);
    }
}

/* It appears whole or not at all, and in nobody's place. */
static void step_plan(void) {
    const char *path = word_kept(), *plan = word_kept();
    unsigned long long count = word_number(10);
    if (asprintf(&unfinished, "%s.%d", path, (int)getpid()) < 0) fail(ENOMEM, "cannot keep a name");
    int fd = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (!out) fail(errno, "cannot write the plan %s", path);
    undo = remove_unfinished;
    interrupts_hold();
    put(out, MAGIC);
    put(out, plan);
    put_facts(out, count);
    while (words_left()) put(out, word());
    put(out, END);
    if (ferror(out) | fclose(out)) fail(errno, "cannot write the plan %s", path);
    interrupted();
    if (kernel_renameat2(AT_FDCWD, unfinished, AT_FDCWD, path, RENAME_NOREPLACE)) {
        if (errno == EEXIST) refuse(errno, "the plan %s is there already: remove it, or choose another name", path);
        fail(errno, "cannot write the plan %s", path);
    }
    interrupts_release();
}

/* ---- reading it ---- */

static char *read_plan(const char *path, size_t *size) {
    enum { LARGEST = 1 << 22 };
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st)) fail(errno, "cannot read the plan %s", path);
    if (!S_ISREG(st.st_mode)) refuse(EINVAL, "the plan %s is no file", path);
    if (st.st_uid != geteuid())
        refuse(EPERM, "refused: the plan %s is another user's (%u), who could make you do anything: %s", path, st.st_uid, again);
    if (st.st_mode & 022)
        refuse(EPERM, "refused: others can write to the plan %s, and could make you do anything: chmod go-w it if you trust it", path);
    *size = (size_t)st.st_size;
    char *text = st.st_size > LARGEST ? NULL : malloc(*size + 1);
    ssize_t length = text ? read(fd, text, *size + 1) : 0;
    if (length < 0) fail(errno, "cannot read the plan %s", path);
    if ((size_t)length != *size || length == 0 || text[length - 1]) refuse(EINVAL, "%s is no plan of hew: %s", path, again);
    close(fd);
    return text;
}

static bool is_entry(const char *entry, const char *text) { return *entry == '=' && !strcmp(entry + 1, text); }

/* Its entries, with a null in the place of END, and behind that room for a step with these arguments, or its own. */
static char **entries_of(const char *path, char **given, char ***end) {
    size_t size, count = 0, room = 4;
    char *text = read_plan(path, &size);
    for (size_t i = 0; i < size; i++) count += !text[i];
    while (*given++) room++;
    char **entries = calloc(2 * count + room, sizeof *entries), **to = entries;
    if (!entries) fail(ENOMEM, "cannot keep the plan");
    for (char *at = text; at < text + size; at += strlen(at) + 1) *to++ = at;
    if (count < 3 || !is_entry(entries[0], MAGIC) || !is_entry(to[-1], END))
        refuse(EINVAL, "%s is no plan of this hew, or was cut off: %s", path, again);
    *--to = NULL;
    *end = to;
    return entries;
}

static void check_facts(const char *path) {
    char now[LONGEST_FACT];
    for (unsigned long long count = word_number(10); count > 0; count--) {
        const char *kind = word(), *at = word(), *why = word(), *then = word();
        if (!look(kind, at, now)) snprintf(now, sizeof now, "%s", error_text(errno));
        if (strcmp(now, then)) refuse(ESTALE, "the plan %s holds no more: %s: %s", path, why, again);
    }
}

/* The command of the plan, unless the caller has one. */
static void choose_command(char **given) {
    size_t count = (size_t)word_number(10);
    char **planned = calloc(count + 1, sizeof *planned);
    if (!planned) fail(ENOMEM, "cannot keep the command");
    for (size_t i = 0; i < count; i++) planned[i] = word();
    if (*given && !strcmp(*given, "--")) given++;
    replayed_command = *given ? given : planned;
}

static void append_exec(char **to) {
    size_t count = 0;
    while (replayed_command[count]) count++;
    bool kept = asprintf(to++, "=exec") >= 0 && asprintf(to++, "=%zu", count) >= 0;
    for (char **at = replayed_command; kept && *at; at++) kept = asprintf(to++, "=%s", *at) >= 0;
    if (!kept) fail(ENOMEM, "cannot keep the command");
    *to = NULL;
}

static char *nothing[] = {NULL};

static void step_plan_holds(void) {
    const char *path = word_kept();
    char **end, **entries = entries_of(path, nothing, &end);
    words_from_environment(entries + 2);
    check_facts(path);
    words_from_environment(end);
}

static void step_replayed(void) { choose_command(nothing); }

const struct step replay_steps[] = {
    {"plan", step_plan},             /* FILE PLAN COUNT (KIND PATH WHY)... COUNT ARGUMENT... STEPS: nothing is done, all is written down */
    {"plan-holds", step_plan_holds}, /* FILE: as at a replay; the last step */
    {"replayed", step_replayed},     /* COUNT ARGUMENT...: the command of a replay, before its steps */
    {NULL, NULL},
};

/* `hew replay` came by way of Node, which has raised the limit of open files: lib/launch.ts. */
static void callers_file_limit(void) {
    unsigned long long soft, hard;
    const char *text = getenv("HEW_LAUNCH");
    if (text && sscanf(text, "nofile=%llu:%llu", &soft, &hard) == 2) setrlimit(RLIMIT_NOFILE, &(struct rlimit){soft, hard});
}

/* argv: the file of the plan, and a command in the place of its own. */
int replay_main(char **argv) {
    const char *path = *argv++;
    static char *arguments[] = {"hew-stage", "replay", NULL, NULL};
    arguments[2] = (char *)path;
    stage_arguments = arguments;
    say_as("hew replay");
    callers_file_limit();
    char **end, **entries = entries_of(path, argv, &end);
    words_from_environment(entries + 2);
    check_facts(path);
    choose_command(argv);
    append_exec(end);
    run_steps();
    return exit_status;
}
