/*
 * The stage: what no JavaScript can do, and no policy.
 *
 * It is a small interpreter. TypeScript decides what is to be done and writes it
 * down as steps; the stage does one after the other and stops at the first
 * that fails, undoing what the earlier ones created.
 *
 * A step is its name and then its words, each a string. Words come from the
 * environment the stage was executed with ("0=mkdir", "1=0755", "2=/etc", ...):
 * /proc/PID/cmdline can be read by everyone, /proc/PID/environ by the owner
 * alone, and steps may hold secrets. `words-from FD` goes on with words from a
 * descriptor, each ended by a NUL: a plan has no size limit there.
 */
#ifndef STAGE_H
#define STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Exit statuses, as docker and env have them. */
enum { EXIT_HEW = 125, EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127 };

/* ---- words.c: where words come from ---- */

void words_from_environment(char **envp);
void words_from_descriptor(int fd);
/* The next word. Valid until the process ends when it came from the
 * environment; until the next call of word() when it came from a descriptor. */
char *word(void);
/* The next word, copied: for steps that need two words at once. */
char *word_kept(void);
bool words_left(void);
/* All words are here: none comes from a descriptor. */
bool words_are_complete(void);
/* These words (up to NULL) come next, before all others: as the environment of another stage, too. */
char **words_before(const char *const *first);
/* The next word as a number; base 8 for modes. */
unsigned long long word_number(int base);
/* Exactly `size` raw bytes of the descriptor that words come from. */
void raw_bytes(void *to, size_t size);

/* ---- say.c: one line on stderr ---- */

/* "hew mkroot: " before every message. */
void say_as(const char *name);
const char *said_as(void);
/* Messages go to this descriptor from now on, instead of stderr. */
void say_to(int fd);
int said_to(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A sentence for the user if the next step fails with this errno (0: any). */
void hint(int error, const char *text);
void hints_forget(void);
/* They, and the line that is to be said, are for the step whose words come next. */
void hints_become_words(void);
/* The line that a person types instead of the next step; it is said with what came of it. */
void explain(const char *text);
void explained(const char *outcome);
/* As fail(), where the message itself says what the error is: only its hint is added. */
_Noreturn void refuse(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What errno says, as other programs say it. */
const char *error_text(int error);
/* Message, ": error_text(error)" unless error is 0, ": hint" if there is one; undoes; exits. */
_Noreturn void fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void fail_with(int status, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- interrupt.c: INT, TERM and HUP, between `begin` and `keep` ---- */

void interrupts_hold(void);
void interrupts_release(void);
/* They stay blocked, and are another's to ask for: supervise.c. */
void interrupts_hand_over(void);
bool interrupts_held(void);
/* If one has come: undoes the journal and dies by it. To be called in every long loop. */
void interrupted(void);
/* poll(2) of one descriptor, and interrupted() meanwhile. */
void wait_for(int fd, short events);

/* ---- journal.c: what was created, so that it can be taken back ---- */

/* The entry `name` below the directory `parent` (an O_PATH descriptor that the journal duplicates). */
void journal_created(int parent, const char *name);
/* Everything so far is meant to stay. */
void journal_keep(void);
/* Remove, last first, what was created since. Never follows a link, never crosses a mount. */
void journal_undo(void);
/* What fail() does: journal_undo(), or behind a container's own mounts what undoes those (mounts.c). */
extern void (*undo)(void);

/* ---- beneath.c: paths inside a root that may be hostile ---- */

/* The root in force: an O_PATH descriptor, set by the step `root`. */
extern int root_fd;
extern const char *root_path;
/* openat2 with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS below root_fd; -1 and errno on failure. */
int open_beneath(const char *path, int flags, mode_t mode);
/* The parent directory of `path` as an O_PATH descriptor; *name is its last component
 * ("." for the root itself). -1 and errno on failure; the caller closes it. */
int parent_beneath(const char *path, const char **name);

/* ---- remove.c ---- */

/* Removes a file or a directory tree. Never follows a link, never crosses a mount. False when
 * something had to stay; it has been said what, with the parent's path `above`, and why. */
bool remove_tree_at(int parent, const char *above, const char *name);
/* The directory `path` (the machine's) and all below it, if it still is the one with this device and inode. */
bool remove_tree(const char *path, dev_t dev, ino_t ino);

/* ---- steps.c: the table and the loop ---- */

struct step {
    const char *name;
    void (*run)(void);
};
/* Each room lists its own; ended by a null name. */
extern const struct step file_steps[];      /* files.c */
extern const struct step archive_steps[];   /* archive.c */
extern const struct step namespace_steps[]; /* namespaces.c */
extern const struct step mount_steps[];     /* mounts.c */
extern const struct step process_steps[];   /* process.c */
extern const struct step terminal_steps[];  /* terminal.c */
extern const struct step log_steps[];       /* log.c */
extern const struct step cgroup_steps[];    /* cgroups.c */
extern const struct step state_steps[];     /* state.c */
extern const struct step detach_steps[];    /* detach.c */
extern const struct step claim_steps[];     /* claim.c */
extern const struct step replay_steps[];    /* replay.c */
extern const struct step seal_steps[];      /* seal.c */
extern const struct step join_steps[];      /* join.c */
extern const struct step signal_steps[];    /* signal.c */
extern const struct step probe_steps[];     /* probe.c */

/* What the stage ends with when no step fails. */
extern int exit_status;
/* What it was called with, for ps(1). */
extern char **stage_arguments;

void run_steps(void);
int replay_main(char **argv);
/* The command that a plan is replayed with; ends with a null. */
extern char **replayed_command;
int stage_main(int argc, char **argv, char **envp);

/* Descriptors 0 to 2 are open, whatever the caller has closed. */
void fill_standard_descriptors(void);

#endif
