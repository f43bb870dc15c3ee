#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <linux/limits.h>
#include <unistd.h>

const char *path_word(void) {
    static char paths[2][PATH_MAX];
    static int next;
    const char *text = word();
    if (strlen(text) >= PATH_MAX) fail(ENAMETOOLONG, "cannot use the path %.64s...", text);
    return strcpy(paths[next++ % 2], text);
}

/* ---- directories that are finished later ---- */

static struct finish {
    bool wanted;
    mode_t mode;
    struct timespec times[2];
} *finishes;
static int finish_room;

void finish_later(int directory, mode_t mode, const struct timespec times[2]) {
    int place = place_of(directory);
    if (place >= finish_room) {
        int room = 2 * place + 64;
        finishes = reallocarray(finishes, (size_t)room, sizeof *finishes);
        if (!finishes) fail(ENOMEM, "cannot remember a directory");
        memset(finishes + finish_room, 0, (size_t)(room - finish_room) * sizeof *finishes);
        finish_room = room;
    }
    finishes[place] = (struct finish){true, mode, {times[0], times[1]}};
}

bool finish_expected(int directory) {
    int place = place_of(directory);
    return place < finish_room && finishes[place].wanted;
}

/* What is below comes first: its directory may be closed to us afterwards. */
void finish_directories(void) {
    for (int place = finish_room; place-- > 0;) {
        if (!finishes[place].wanted) continue;
        finishes[place].wanted = false;
        int fd = place_open(place, O_RDONLY);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ESTALE)) continue; /* it was replaced */
        if (fd < 0 || !set_mode(fd, finishes[place].mode) || futimens(fd, finishes[place].times))
            fail(errno, "cannot finish a directory in %s", root_path);
        close(fd);
    }
}

/* ---- the transaction ---- */

static void step_begin(void) { interrupts_hold(); }

/* Others wrote into the root as well. */
static bool adopted;

static void step_keep(void) {
    finish_directories();
    adopted = false;
    journal_keep();
    interrupts_release();
}

/* ---- the root ---- */

_Noreturn void no_directory(int error, const char *path) {
    if (error == ENOENT) refuse(error, "%s is not there", path);
    if (error == ENOTDIR) refuse(error, "%s is not a directory", path);
    fail(error, "cannot open %s", path);
}

bool root_is_new;

static void step_root(void) {
    char *path = word_kept();
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) no_directory(errno, path);
    root_set(fd, path);
    root_is_new = false;
}

/* A directory of the machine, made with its parents. */
static int open_made(const char *path, mode_t mode) {
    char text[PATH_MAX];
    if (strlen(path) >= sizeof text) fail(ENAMETOOLONG, "cannot create %.64s...", path);
    strcpy(text, path);
    int fd = open(*text == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char *rest = text, *name;
    while (fd >= 0 && (name = strtok_r(rest, "/", &rest))) {
        bool last = !rest || !rest[strspn(rest, "/")];
        if (!make_directory(fd, name, last ? mode : 0755) && errno != EEXIST) fail(errno, "cannot create %s", path);
        int next = openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (next < 0) no_directory(errno, strndup(path, (size_t)(name - text) + strlen(name)));
        close(fd);
        fd = next;
    }
    if (fd < 0) no_directory(errno, path);
    return fd;
}

/* The marker's text: "hew PID owned" when the root was made from nothing, "hew PID into" when it was added to. */
struct marker {
    int pid;
    char kind[8];
};

/* Only what we ourselves, or root, can have written is believed: what it says may lead to a removal. */
/* A hostile root may have another file there: a link to one that must not be written. */
static bool is_own_file(int fd) {
    struct stat st;
    return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == geteuid();
}

static struct marker read_marker(int fd) {
    struct marker marker = {0};
    char text[64];
    if (!is_own_file(fd)) return marker;
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    if (length < 0) length = 0;
    text[length] = 0;
    if (sscanf(text, "hew %d %7s", &marker.pid, marker.kind) != 2) marker.kind[0] = 0;
    return marker;
}

static int open_marker(void) { return openat(root_fd, MARKER, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); }

static bool marker_alone(const char *names) { return !strcmp(names, MARKER) && !names[sizeof MARKER]; }

/* `names` are all there are. A run that is killed before it has written its marker leaves that alone, and empty. */
static bool cut_off_and_owned(const char *names) {
    int fd = open_marker();
    if (fd < 0) return false;
    struct marker marker = read_marker(fd);
    bool alone = is_own_file(fd) && marker_alone(names);
    close(fd);
    return !strcmp(marker.kind, "owned") || (!*marker.kind && alone);
}

static void step_new_root(void) {
    mode_t mode = (mode_t)word_number(8);
    char *path = word_kept();
    root_set(open_made(path, mode), path);
    char *names = names_in(root_fd);
    if (!names) fail(errno, "cannot read %s", path);
    if (*names && !cut_off_and_owned(names)) refuse(ENOTEMPTY, "%s is not empty", path);
    free(names);
    root_is_new = true;
}

static int claimed = -1;

/* Still the marker of this root: whoever had it may have finished, and removed it, before we had the lock. */
static bool is_marker(int fd) {
    struct stat held, named;
    return !fstat(fd, &held) && !fstatat(root_fd, MARKER, &named, AT_SYMLINK_NOFOLLOW) && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

/* Not removed meanwhile, as by another hew that made it and was interrupted. */
static bool is_named(int directory) {
    struct stat st;
    bool named = !fstat(directory, &st) && st.st_nlink > 0;
    errno = ENOENT;
    return named;
}

static bool empty_root(void) {
    char *names = names_in(root_fd);
    bool all = names != NULL;
    for (char *name = names; names && *name; name += strlen(name) + 1)
        if (strcmp(name, MARKER)) all &= remove_tree_at(root_fd, root_path, name);
    free(names);
    return all;
}

/* Another hew may have made the root, and let it go, since new-root has found it empty. */
static void must_be_alone(void) {
    char *names = names_in(root_fd);
    if (!names) fail(errno, "cannot read %s", root_path);
    if (!marker_alone(names)) refuse(ENOTEMPTY, "%s is not empty", root_path);
    free(names);
}

static void step_claim(void) {
    const char *text = word(), *space = strrchr(text, ' '), *own_kind = space ? space + 1 : text;
    char content[64];
    snprintf(content, sizeof content, "hew %d %.7s\n", (int)getpid(), own_kind);
    for (;;) {
        int fd = openat(root_fd, MARKER, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        bool fresh = fd >= 0;
        if (!fresh && errno == EEXIST) fd = open_marker();
        if (fd < 0 && errno == ENOENT && is_named(root_fd)) continue;
        if (fd < 0) fail(errno, "cannot create %s", in_root(MARKER));
        if (!is_own_file(fd) && is_marker(fd)) refuse(EEXIST, "%s is there already, and hew did not make it", in_root(MARKER));
        struct marker before = read_marker(fd);
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            if (errno == EWOULDBLOCK) refuse(EWOULDBLOCK, "%s is being made by another hew (PID %d)", root_path, before.pid);
            fail(errno, "cannot lock %s", in_root(MARKER));
        }
        if (!is_marker(fd)) {
            close(fd);
            continue;
        }
        bool owned = !strcmp(before.kind, "owned");
        if (owned && strcmp(own_kind, "owned"))
            refuse(EEXIST, "%s is unfinished: the hew that made it (PID %d) was cut off: make it again, or remove it", root_path, before.pid);
        if (owned && !empty_root()) fail(0, "cannot clear %s of what an earlier run left", root_path);
        /* Where others' work was cut off in a root that has more in it, it stays unfinished when ours fails. */
        if (fresh || owned) journal_created(root_fd, MARKER);
        if (!strcmp(own_kind, "owned")) must_be_alone();
        if (ftruncate(fd, 0) || pwrite(fd, content, strlen(content), 0) < 0) fail(errno, "cannot write %s", in_root(MARKER));
        claimed = fd;
        return;
    }
}

static void step_release(void) {
    if (claimed < 0) return;
    struct stat st;
    int fd = open_beneath("/", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || fstat(fd, &st)) fail(errno, "cannot look at %s", root_path);
    if (unlinkat(root_fd, MARKER, 0)) fail(errno, "cannot remove %s", in_root(MARKER));
    /* The marker leaves no trace in the root's own time, which an archive may have set. */
    futimens(fd, (struct timespec[]){{.tv_nsec = UTIME_OMIT}, st.st_mtim});
    close(fd);
    close(claimed);
    claimed = -1;
}

static void undo_nothing(void) {}

/* What cannot be removed stays, and the marker with it. */
static void undo_adopted(void) {
    undo = undo_nothing; /* a signal meanwhile */
    if (!adopted || empty_root()) journal_undo();
    else say("%s is not finished, and not removed", root_path);
}

static void step_adopt(void) {
    if (claimed < 0) fail(0, "only a root that is claimed can be adopted");
    adopted = true;
    undo = undo_adopted;
}

/* ---- directories ---- */

bool make_directory(int parent, const char *name, mode_t mode) {
    mode_t umask_before = umask(0);
    int failed = mkdirat(parent, name, mode);
    umask(umask_before);
    if (failed) return false;
    journal_created(parent, name);
    /* mkdir(2) ignores the setgid bit, and gives the parent's. */
    struct stat st;
    int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) return false;
    place_known(fd, parent, name);
    bool done = (st.st_mode & 07777) == mode || set_mode(fd, mode);
    close(fd);
    return done;
}

static void must_be_directory(const char *path) {
    int fd = open_beneath(path, O_PATH | O_DIRECTORY, 0);
    if (fd >= 0) {
        close(fd);
        return;
    }
    if (errno == ENOTDIR) refuse(EEXIST, "%s is there already, and is no directory", in_root(path));
    if (errno == ENOENT) refuse(EEXIST, "%s is there already, as a link to nothing", in_root(path));
    fail(errno, "cannot open %s", in_root(path));
}

static void step_mkdir(void) {
    mode_t mode = (mode_t)word_number(8);
    const char *path = path_word(), *name;
    int parent = parent_of(path, &name);
    if (!make_directory(parent, name, mode)) {
        if (errno != EEXIST) fail(errno, "cannot create %s", in_root(path));
        must_be_directory(path);
    }
}

static void step_directory(void) {
    const char *source = path_word(), *path = path_word(), *name;
    struct stat st;
    int in = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (in < 0 || fstat(in, &st)) no_directory(errno, source);
    int parent = parent_of(path, &name);
    if (make_directory(parent, name, S_IRWXU)) {
        int out = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (out < 0) fail(errno, "cannot open %s", in_root(path));
        set_owner(out, owner_of(&st), path);
        copy_xattrs(in, out, path);
        mode_t mode = st.st_mode & 03777;
        if (!set_mode(out, mode | S_IRWXU)) fail(errno, "cannot change the mode of %s", in_root(path));
        finish_later(out, mode, (struct timespec[]){st.st_atim, st.st_mtim});
        close(out);
    } else {
        if (errno != EEXIST) fail(errno, "cannot create %s", in_root(path));
        must_be_directory(path);
    }
    close(in);
}

/* ---- files and links ---- */

static void step_copy(void) {
    struct copy copy = {.keep = 0777 | S_ISVTX};
    for (const char *flag = word(); *flag; flag++) {
        if (*flag == 's') copy.keep |= S_ISUID | S_ISGID;
        else if (*flag == 'f') copy.force = true;
        else if (*flag == 'l') copy.link = true;
        else if (*flag != '-') fail(0, "the step copy has no flag '%c'", *flag);
    }
    const char *name;
    copy.source = path_word();
    copy.path = path_word();
    struct stat st;
    int parent = parent_of(copy.path, &name);
    if (is_there(&copy, &st, parent, name)) {
        remember_link(&st, parent, name);
        return;
    }
    /* O_NONBLOCK: should it be a pipe now, that is seen instead of waited for. openat: musl's open asks for O_CLOEXEC twice. */
    int in = openat(AT_FDCWD, copy.source, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (in < 0 || fstat(in, &st)) {
        if (errno == ENOENT) refuse(ENOENT, "%s is not there", copy.source);
        fail(errno, "cannot read %s", copy.source);
    }
    if (!S_ISREG(st.st_mode)) refuse(EINVAL, "%s is %s, not a file", copy.source, kind(st.st_mode));
    if (!link_again(&st, parent, name)) {
        copy_file(&copy, in, &st, parent, name);
        remember_link(&st, parent, name);
    }
    close(in);
}

static void step_symlink(void) {
    const char *target = path_word(), *path = path_word(), *name;
    int parent = parent_of(path, &name);
    copy_symlink(target, NULL, parent, name, path);
}

static void step_relink(void) {
    const char *target = path_word(), *path = path_word(), *name;
    int parent = parent_of(path, &name);
    replace_by_symlink(target, parent, name, path);
    parent_forget();
}

static void write_file(bool may_be_there) {
    mode_t mode = (mode_t)word_number(8);
    const char *path = path_word(), *content = word(), *name;
    int parent = parent_of(path, &name);
    struct stat there;
    bool exists = !fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW);
    if (exists && !may_be_there) refuse(EEXIST, "%s is there already", in_root(path));
    if (!exists) {
        char temporary[TEMPORARY];
        int fd = temporary_file(parent, temporary, path);
        write_all(fd, content, strlen(content), path);
        if (!set_mode(fd, mode)) fail(errno, "cannot change the mode of %s", in_root(path));
        close(fd);
        if (!settle(parent, temporary, name, false, path)) refuse(EEXIST, "%s is there already", in_root(path));
    }
}

static void step_write(void) { write_file(false); }

static void step_put(void) { write_file(true); }

/* ---- the rest ---- */

static void step_remove_tree(void) {
    char *path = word_kept();
    dev_t dev = (dev_t)word_number(10);
    if (!remove_tree(path, dev, (ino_t)word_number(10))) exit_status = EXIT_HEW;
}

/* A write of at most PIPE_BUF never blocks behind poll(2), and a signal can end the waiting. */
static void print(const char *text) {
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    for (size_t left = strlen(text); left > 0;) {
        wait_for(STDOUT_FILENO, POLLOUT);
        ssize_t n = write(STDOUT_FILENO, text, left < PIPE_BUF ? left : PIPE_BUF);
        if (n < 0 && errno == EPIPE) refuse(EPIPE, "nobody reads what comes out of the pipe: the next command has ended");
        if (n < 0 && errno != EAGAIN && errno != EINTR) fail(errno, "cannot write to stdout");
        if (n <= 0) continue;
        text += n;
        left -= (size_t)n;
    }
    signal(SIGPIPE, before);
}

static void step_print(void) { print(word()); }

static void step_print_identity(void) {
    struct stat st;
    char text[64];
    if (fstat(root_fd, &st)) fail(errno, "cannot look at %s", root_path);
    snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    print(text);
}

const struct step file_steps[] = {
    {"begin", step_begin},             /* from now on a signal undoes everything, and the plan must end with: */
    {"keep", step_keep},               /* what was created stays */
    {"root", step_root},               /* PATH (the machine's) */
    {"new-root", step_new_root},       /* MODE PATH: made with its parents, or empty */
    {"claim", step_claim},             /* owned|into: the root is unfinished, and ours */
    {"release", step_release},         /* it is finished */
    {"adopt", step_adopt},             /* others write into the claimed root too: undoing empties it */
    {"mkdir", step_mkdir},             /* MODE PATH: or it is a directory already */
    {"directory", step_directory},     /* SOURCE PATH: with the attributes of SOURCE */
    {"copy", step_copy},               /* FLAGS SOURCE PATH: s keep setuid, f replace, l link, - none */
    {"symlink", step_symlink},         /* TARGET PATH */
    {"relink", step_relink},           /* TARGET PATH: as symlink, whatever else is there */
    {"write", step_write},             /* MODE PATH CONTENT */
    {"put", step_put},                 /* MODE PATH CONTENT: unless something is there */
    {"remove-tree", step_remove_tree}, /* PATH DEV INO (the machine's) */
    {"print", step_print},             /* TEXT on stdout */
    {"print-identity", step_print_identity}, /* "dev:ino" of the root, on stdout */
    {NULL, NULL},
};
