/* What the rooms that write files share: beneath.c, journal.c, copy.c, remove.c, files.c, tree.c, archive.c. */
#ifndef FILES_H
#define FILES_H

#include "stage.h"

#include <limits.h>
#include <sys/stat.h>

/* ---- beneath.c ---- */

/* The file that says that a root is not finished; locked by whoever works on it. */
#define MARKER ".hew-unfinished"

void root_set(int fd, const char *path);
/* `path` as the host sees it, for messages; good for the next few calls. */
const char *in_root(const char *path);
/* As open_beneath(), below another directory than the root in force. */
int open_below(int base, const char *path, int flags, mode_t mode);
/* parent_beneath(), or the end with a worded message. The descriptor is good until the next call, or: */
int parent_of(const char *path, const char **name);
/* Some directory may be another one by now. */
void parent_forget(void);

/* ---- inodes.c: numbers by inode ---- */

struct inodes {
    struct inode {
        dev_t dev;
        ino_t ino;
        int number; /* 0: a free slot, else one more than the number */
    } *slots;
    size_t used, room;
};
int inodes_find(const struct inodes *set, const struct stat *st);
void inodes_put(struct inodes *set, const struct stat *st, int number);

/* ---- journal.c: directories that can be found again without a descriptor each ---- */

/* The number of the directory `fd`. */
int place_of(int fd);
/* The directory `fd` is `name` below `parent`. */
void place_known(int fd, int parent, const char *name);
/* That directory, opened, if it still is the same one; -1 and errno otherwise. */
int place_open(int place, int flags);
/* The newest entry of the journal, a temporary one, is now called `name`. */
void journal_renamed(const char *name);
/* It has changed places with `name`: what that was before stays beside it until all is kept. */
void journal_exchanged(const char *name);

/* ---- copy.c: contents and attributes ---- */

struct owner {
    uid_t uid;
    gid_t gid;
};
static inline struct owner owner_of(const struct stat *st) { return (struct owner){st->st_uid, st->st_gid}; }
void write_all(int fd, const void *bytes, size_t size, const char *path);
/* The bytes of `in`, holes as holes. `source` and `path` are for messages. */
void copy_contents(int in, const struct stat *st, int out, const char *source, const char *path);
bool same_contents(int in, int other);
void copy_xattrs(int in, int out, const char *path);
/* 0, or the errno where it matters: an attribute that a file system or a user cannot have does not. */
int set_xattr(int fd, const char *name, const void *value, size_t size, const char *path);
/* False where the ids cannot be had here: as an ordinary user, in a user namespace without them. */
bool set_owner(int fd, struct owner owner, const char *path);
/* Also for a descriptor opened with O_PATH. */
bool set_mode(int fd, mode_t mode);

/* A name that nothing has yet. */
enum { TEMPORARY = sizeof ".hew-123456" };
void temporary_name(char name[TEMPORARY]);
int temporary_file(int parent, char name[TEMPORARY], const char *path);
/* Something that is no regular file: target for a link, device for a device. */
struct node {
    mode_t mode;
    dev_t device;
    const char *target;
};
int make_node(int parent, const char *name, const struct node *node);
/* Under a temporary name; false and errno where it cannot be made. */
bool temporary_node(int parent, char name[TEMPORARY], const struct node *node);
/* Owner and times of a node just made; it comes back opened with O_PATH. */
int finish_node(int parent, const char *name, const struct node *node, struct owner owner, const struct timespec times[2], const char *path);
/* From the temporary name to its own; false where something is and nothing is to be replaced. */
bool settle(int parent, const char *temporary, const char *name, bool replace, const char *path);

/* A regular file, with everything it has; what is there already must be the same, unless `force`. */
struct copy {
    const char *source, *path; /* for messages */
    mode_t keep;               /* bits of the mode that are kept */
    bool force;
    bool link;                 /* the same file, where there can be links to it, and no copy */
};
void copy_file(const struct copy *copy, int in, const struct stat *st, int parent, const char *name);
/* The file is there already, as far as size, mode and time tell; `st` is then its source's. */
bool is_there(const struct copy *copy, struct stat *st, int parent, const char *name);
void copy_symlink(const char *target, const struct stat *st, int parent, const char *name, const char *path);
/* The same, whatever else is there; only a directory stays. */
void replace_by_symlink(const char *target, int parent, const char *name, const char *path);
/* Under its second name a file that was copied becomes a link to the copy; false: there is none. */
bool link_again(const struct stat *st, int parent, const char *name);
void remember_link(const struct stat *st, int parent, const char *name);
/* "a directory", "a link", ... */
const char *kind(mode_t mode);
/* A device was refused; the first time it says so. */
void device_left_out(int error, const char *path);

/* ---- files.c ---- */

/* A word of less than PATH_MAX; unlike word(), the last two are good at once. */
const char *path_word(void);

/* Attributes that a directory gets when nothing more is put into it: at `keep` or `entries-end`. */
void finish_later(int directory, mode_t mode, const struct timespec times[2]);
void finish_directories(void);
bool finish_expected(int directory);
/* By `new-root`: its own attributes are ours to set. */
extern bool root_is_new;
_Noreturn void no_directory(int error, const char *path);
/* An exact mode whatever the umask and the parent say; false and errno. A new one is journaled. */
bool make_directory(int parent, const char *name, mode_t mode);

/* ---- tree.c ---- */

void step_copy_tree(void);

/* ---- trail.c: down and up in deep trees, with few descriptors ---- */

struct trail {
    struct trail_level {
        int fd;
        bool pinned; /* ".." of the next level does not lead back here */
        dev_t dev;
        ino_t ino;
    } *levels;
    size_t depth, room;
};
/* Takes the descriptor over. */
void trail_enter(struct trail *trail, int fd);
int trail_here(const struct trail *trail);
void trail_pin(struct trail *trail);
/* Back up: the descriptor of the directory left is the caller's now. The one above is reopened
 * where it had been closed; if it is another one now, that is -1 and ESTALE in trail_here(). */
int trail_leave(struct trail *trail);
void trail_end(struct trail *trail);
/* The names in a directory, each ended by a NUL, the last by two; the caller frees. NULL and errno. */
char *names_in(int fd);

#endif
