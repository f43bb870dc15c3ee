/* What the rooms that make a container share: namespaces.c, mounts.c, process.c, supervise.c. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "stage.h"

#include <termios.h>

/* ---- namespaces.c ---- */

/* In the container, as long as it is set up: its end of the line to the supervisor, else -1. */
extern int line_fd;
/* What the container tells its supervisor, a message each: */
enum line {
    LINE_EXECUTES = 'E', /* it executes the command: everything stays */
    LINE_FAILED = 'F',   /* it could not */
    LINE_FILE = 'f',     /* it made a file, this name in this directory, as a mount point */
    LINE_DIRECTORY = 'd',
};
void tell(enum line what, int directory, const char *name);
/* From now on, whoever ends first, the supervisor's death is this process's as well. */
void die_with_supervisor(void);

/* ---- supervise.c ---- */

/* The caller's terminal, as it was found; fd is -1 when there is none. */
extern struct terminal {
    int fd;
    dev_t device;
    bool foreground; /* its foreground process group was ours */
    struct termios settings;
} terminal;
/* The tree to remove when the container has ended. */
extern struct leftover {
    const char *path;
    dev_t dev;
    ino_t ino;
    int user_namespace; /* where whoever may own parts of it has an id; -1: we may remove it all as we are */
} leftover;

struct container {
    pid_t pid;          /* as we see it */
    int pidfd, line;    /* line: our end of it */
    const char *number; /* its name in /proc, which may be another PID namespace's; "" when there is no /proc */
    bool pid_namespace; /* it is PID 1 of its own: signals it has no handler for do nothing */
};
/* Waits, passes signals on, cleans up; ends with the container's exit status. */
_Noreturn void supervise(const struct container *container);
/* The setup cannot go on: ends the container, cleans up. The message has been said. */
_Noreturn void give_up(const struct container *container);

/* ---- cgroups.c ---- */

/* The v2 cgroup that clone is to put the container into, or -1. */
int cgroup_to_clone_into(void);
/* The container goes into the cgroups that were made for it, but for the one that clone has put it into. */
bool join_cgroups(pid_t pid, bool cloned_into);
/* It runs from now on: for --verdict. */
void note_start(void);
/* After the end: what the limits did, on stderr and as --verdict; the cgroups go. */
void settle_cgroups(int status, int signal);

/* ---- process.c ---- */

/* What Ctrl-Z and its like do when nobody handles them. */
bool stops_by_default(int number);
/* It would end a process that does nothing about it (signal(7)). */
bool ends_by_default(int number);

#endif
