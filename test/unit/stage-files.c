/*
 * The stage's file steps under AddressSanitizer and UBSan.
 *
 *   hew-stage              (as argv[0]) is the stage itself, for the system tests
 *   fuzz DIR SEED COUNT    random plans in a root that random plans have made
 *   deep DIR LEVELS        a tree deeper than PATH_MAX and than the descriptors there are
 *   swap ONE OTHER         exchanges two names, over and over until it is killed
 *
 * What holds for every plan, however senseless: it ends with 0 or 125, a failed one leaves the root as it
 * was, and nothing outside of the root ever changes.
 */
#include "../../lib/stage/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* xorshift: the same seed is the same run, on every machine. */
static uint64_t state;

static unsigned below(unsigned limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % limit;
}

/* ---- words ---- */

static char words[1 << 16];
static size_t words_size;

static void add(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void add(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    words_size += (size_t)vsnprintf(words + words_size, sizeof words - words_size, format, arguments) + 1;
    va_end(arguments);
}

static const char *top;
static int nowhere; /* /dev/null, which the fuzzer's chroot does not have */

/* Short names, so that they meet again. */
static const char *random_path(void) {
    static const char *const parts[] = {"a", "b", "c", "d", "e", "a", "b", "c", "d", "e", "..", ".", "", "new", MARKER};
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    *path = 0;
    if (below(2)) strcat(path, "/");
    for (unsigned i = below(4) ? 1 : below(3) + 1; i > 0; i--) {
        strcat(path, parts[below(i > 1 || !below(16) ? sizeof parts / sizeof *parts : 5)]);
        if (i > 1 || !below(8)) strcat(path, "/");
    }
    return path;
}

static const char *random_target(void) {
    static char target[4096];
    switch (below(5)) {
    case 0: snprintf(target, sizeof target, "%s/outside", top); break;
    case 1: snprintf(target, sizeof target, "../../../../../../../..%s/outside/kept", top); break;
    case 2: snprintf(target, sizeof target, "/"); break;
    default: snprintf(target, sizeof target, "%s", random_path());
    }
    return target;
}

static unsigned random_mode(void) {
    static const unsigned modes[] = {0755, 0644, 0700, 01777, 02755, 04755, 0, 07777};
    return modes[below(sizeof modes / sizeof *modes)];
}

static void add_raw(unsigned size) {
    for (unsigned i = 0; i < size; i++) words[words_size++] = (char)below(256);
}

static void random_step(void) {
    unsigned uid = below(3), ns = below(1000);
    switch (below(22)) {
    case 0: add("mkdir"), add("%o", random_mode()), add("%s", random_path()); break;
    case 1: add("relink"), add("%s", random_target()), add("%s", random_path()); break;
    case 2: add("symlink"), add("%s", random_target()), add("%s", random_path()); break;
    case 3: add("write"), add("%o", random_mode()), add("%s", random_path()), add("text %u", ns); break;
    case 4: add("put"), add("%o", random_mode()), add("%s", random_path()), add("%s", ""); break;
    case 5: add("copy"), add("%s", below(2) ? "f" : "-"), add("%s/source/%s", top, below(2) ? "file" : "sub/small"), add("%s", random_path()); break;
    case 6: add("directory"), add("%s/source/sub", top), add("%s", random_path()); break;
    case 7: add("copy-tree"), add("%s/source", top); break;
    case 8: add("entry-dir"), add("%o", random_mode()), add("%u", uid), add("0"), add("%u", ns), add("%s", random_path()); break;
    case 9: add("entry-symlink"), add("%u", uid), add("0"), add("-%u", ns), add("%s", random_target()), add("%s", random_path()); break;
    case 10: add("entry-link"), add("%s", random_path()), add("%s", random_path()); break;
    case 11: add("entry-fifo"), add("%o", random_mode()), add("%u", uid), add("0"), add("%u", ns), add("%s", random_path()); break;
    case 12: add("entry-xattr"), add("user.hew"), add("%s", below(30) ? "00ff7a" : "zz"); break;
    case 13: add("entries-end"); break;
    case 14: if (!below(10)) add("%.*s", (int)below(8), "garbage"); break;
    default:
        add("entry-file"), add("%o", random_mode()), add("%u", uid), add("0"), add("%u", ns), add("%u", ns), add("%s", random_path());
        add_raw(ns);
    }
}

/* Entries that mostly work, so that much is undone: links on the way to others, and what replaces these. */
static void random_archive(void) {
    static const char *const paths[] = {"a", "b", "a/b", "a/c", "b/c", "a/b/c", "c/a", "a/d", "b/d"};
    enum { PATHS = sizeof paths / sizeof *paths };
    for (unsigned entries = 20; entries > 0; entries--) {
        const char *path = paths[below(PATHS)];
        switch (below(5)) {
        case 0: add("entry-dir"), add("%o", random_mode()), add("0"), add("0"), add("0"), add("%s", path); break;
        case 1: add("entry-file"), add("%o", random_mode()), add("0"), add("0"), add("0"), add("0"), add("%s", path); break;
        case 2: add("entry-link"), add("%s", paths[below(PATHS)]), add("%s", path); break;
        default: add("entry-symlink"), add("0"), add("0"), add("0"), add("%s", below(4) ? paths[below(PATHS)] : "."), add("%s", path);
        }
    }
    if (below(2)) add("entries-end");
}

/* A plan in a process of its own, the words on a pipe as they really come. */
static int run(void) {
    int ends[2], status;
    if (pipe(ends)) exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        if (!getenv("HEW_SAY")) dup2(nowhere, STDERR_FILENO);
        char from[16];
        snprintf(from, sizeof from, "1=%d", ends[0]);
        _exit(stage_main(0, NULL, (char *[]){"0=words-from", from, NULL}));
    }
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN); /* it may fail before it has read all */
    for (size_t at = 0; at < words_size;) {
        ssize_t n = write(ends[1], words + at, words_size - at);
        if (n <= 0) break;
        at += (size_t)n;
    }
    close(ends[1]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void begin(const char *root) {
    words_size = 0;
    add("begin"), add("root"), add("%s", root);
}

/* ---- what a tree is, as text ---- */

static void describe(FILE *out, int parent, const char *name) {
    struct stat st;
    struct dirent **list;
    char content[4096];
    ssize_t length = 0;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW)) return;
    fprintf(out, "%s %o %u:%u %ju %ju ", name, st.st_mode, st.st_uid, st.st_gid, (uintmax_t)st.st_nlink,
            S_ISDIR(st.st_mode) ? 0 : (uintmax_t)st.st_ino);
    int fd = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? openat(parent, name, O_RDONLY | O_NOFOLLOW) : -1;
    if (S_ISREG(st.st_mode)) length = read(fd, content, sizeof content);
    if (S_ISLNK(st.st_mode)) length = readlinkat(parent, name, content, sizeof content);
    if (length > 0) fwrite(content, 1, (size_t)length, out);
    fputc('\n', out);
    int count = S_ISDIR(st.st_mode) ? scandirat(parent, name, &list, NULL, alphasort) : 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, "..")) describe(out, fd, list[i]->d_name);
        free(list[i]);
    }
    if (count > 0) free(list);
    if (S_ISDIR(st.st_mode)) fputs("end\n", out);
    if (fd >= 0) close(fd);
}

static char *tree(const char *name) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    describe(out, fd, name);
    close(fd);
    fclose(out);
    return text;
}

/* What else there is beside `name`. */
static char *all_but(const char *name) {
    struct dirent **list;
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int count = scandir(".", &list, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *entry = list[i]->d_name;
        if (strcmp(entry, name) && strcmp(entry, ".") && strcmp(entry, "..")) describe(out, AT_FDCWD, entry);
        free(list[i]);
    }
    free(list);
    fclose(out);
    return text;
}

static void must_be_same(const char *what, const char *now, const char *before, const char *when) {
    if (!strcmp(now, before)) return;
    printf("%s has changed: %s\n--- before\n%s--- after\n%s", what, when, before, now);
    exit(1);
}

static void must_be(const char *name, const char *expected, const char *when) {
    char *now = tree(name);
    must_be_same(name, now, expected, when);
    free(now);
}

static void file_at(const char *path, const char *content) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || write(fd, content, strlen(content)) < 0) exit(1);
    close(fd);
}

/* ---- fuzz ---- */

static int fuzz(unsigned count) {
    char root[4096], when[64];
    unsigned done = 0, failed = 0;
    if (chdir(top)) return 1;
    /* Should a plan get out, then it does no harm as root. */
    if (geteuid() == 0) {
        if (chroot(".")) return 1;
        top = "";
    }
    snprintf(root, sizeof root, "%s/root", top);
    if (mkdir("root", 0755) || mkdir("outside", 0755) || mkdir("source", 0755) || mkdir("source/sub", 0700)) return 1;
    file_at("outside/kept", "kept");
    file_at("source/file", "a file");
    file_at("source/sub/small", "small");
    if (link("source/sub/small", "source/again") || symlink("sub", "source/link")) return 1;
    char *outside = all_but("root");
    for (unsigned i = 0; i < count; i++) {
        if (i % 40 == 0) {
            int fd = open(".", O_RDONLY | O_DIRECTORY);
            if (!remove_tree_at(fd, top, "root") || mkdir(root, 0755)) return 1;
            close(fd);
        }
        char *before = tree("root");
        begin(root);
        if (below(3))
            for (unsigned steps = below(5) + 1; steps > 0; steps--) random_step();
        else random_archive();
        if (below(5)) add("keep");
        int status = run();
        snprintf(when, sizeof when, "plan %u", i);
        if (status != 0 && status != EXIT_HEW) {
            printf("%s ended with %d\n", when, status);
            return 1;
        }
        if (status) must_be("root", before, when);
        char *now = all_but("root");
        must_be_same("what is outside", now, outside, when);
        free(now);
        free(before);
        status ? failed++ : done++;
    }
    printf("%u done, %u undone\n", done, failed);
    return 0;
}

/* ---- deep ---- */

static void dig(const char *path, unsigned levels) {
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    for (unsigned i = 0; i < levels; i++) {
        if (mkdirat(fd, "a-level-of-the-deep-tree", 0755)) exit(1);
        int file = openat(fd, "file", O_WRONLY | O_CREAT, 0644), next = openat(fd, "a-level-of-the-deep-tree", O_RDONLY | O_DIRECTORY);
        /* A second name far above, so that places have to be reopened. */
        if (i == levels / 2 && linkat(fd, "file", fd, "again", 0)) exit(1);
        close(file);
        close(fd);
        fd = next;
    }
    close(fd);
}

static unsigned depth_of(const char *path) {
    unsigned levels = 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    for (int next; (next = openat(fd, "a-level-of-the-deep-tree", O_RDONLY | O_DIRECTORY)) >= 0; levels++) {
        close(fd);
        fd = next;
    }
    close(fd);
    return levels;
}

/* A directory that was moved away while we were far below it: ".." leads elsewhere, and is not taken. */
static bool moved(void) {
    struct trail trail = {0};
    bool lost = false;
    if (mkdir("from", 0755) || mkdir("to", 0755)) return false;
    dig("from", 40);
    trail_enter(&trail, open("from", O_RDONLY | O_DIRECTORY));
    for (int next; (next = openat(trail_here(&trail), "a-level-of-the-deep-tree", O_RDONLY | O_DIRECTORY)) >= 0;) trail_enter(&trail, next);
    if (trail.depth != 41 || rename("from/a-level-of-the-deep-tree", "to/moved")) return false;
    while (trail.depth > 1) {
        close(trail_leave(&trail));
        lost = trail_here(&trail) < 0;
        if (lost && (errno != ESTALE || trail.depth != 1)) return false;
    }
    trail_end(&trail);
    return lost;
}

static int deep(unsigned levels) {
    struct rlimit few = {128, 128};
    if (chdir(top) || !moved() || mkdir("source", 0755) || mkdir("root", 0755)) return 1;
    dig("source", levels);
    setrlimit(RLIMIT_NOFILE, &few);
    char root[4096];
    snprintf(root, sizeof root, "%s/root", top);
    char *empty = tree("root");
    begin(root);
    add("copy-tree"), add("%s/source", top), add("no-such-step");
    if (run() != EXIT_HEW) return 1;
    must_be("root", empty, "undone");
    begin(root);
    add("copy-tree"), add("%s/source", top), add("keep");
    if (run() || depth_of("root") != levels) return 1;
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    if (!remove_tree_at(fd, top, "root") || !remove_tree_at(fd, top, "source")) return 1;
    printf("%u levels copied, undone and removed\n", levels);
    return 0;
}

/* For as long as whoever started it lives. */
static int swap(const char *one, const char *other) {
    for (pid_t parent = getppid(); getppid() == parent;)
        if (renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)) return 1;
    return 0;
}

/* What a plan leaves unfreed when it ends is the kernel's to free. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

int main(int argc, char **argv, char **envp) {
    if (argc < 3 || !strcmp(argv[0], "hew-stage")) return stage_main(argc, argv, envp);
    top = argv[2];
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    umask(022);
    if (!strcmp(argv[1], "fuzz") && argc == 5) {
        state = strtoull(argv[3], NULL, 10) * 2 + 1;
        return fuzz((unsigned)atoi(argv[4]));
    }
    if (!strcmp(argv[1], "swap") && argc == 4) return swap(argv[2], argv[3]);
    if (!strcmp(argv[1], "deep") && argc == 4) return deep((unsigned)atoi(argv[3]));
    return 2;
}
