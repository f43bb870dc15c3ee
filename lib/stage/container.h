/* What the rooms that make a container share: namespaces.c, mounts.c, process.c, supervise.c. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "stage.h"

#include <poll.h>
#include <stdio.h>
#include <termios.h>

/* ---- namespaces.c ---- */

/* "mnt,pid" as flags of clone(2); "-" is none. */
unsigned long namespace_flags(const char *list);
/* In one write: a map, or a value of a cgroup, is written so or not at all (user_namespaces(7)). False with the errno of what
 * failed, the open(2) that fd came from included. */
bool write_and_close(int fd, const char *text);
/* In one read: a text of the kernel's, or a small file, with a null behind it. False, and the text empty, when there is none. */
bool read_and_close(int fd, char *text, size_t size);
/* The same, of /proc/NUMBER/FILE. */
bool write_proc(const char *number, const char *file, const char *text);

/* In the container, as long as it is set up: its end of the line to the supervisor, else -1. */
extern int line_fd;
/* What the container tells its supervisor, a message each: */
enum line {
    LINE_EXECUTES = 'E', /* it executes the command: everything stays */
    LINE_FAILED = 'F',   /* it could not */
    LINE_FILE = 'f',     /* it made a file, this name in this directory, as a mount point */
    LINE_DIRECTORY = 'd',
    LINE_TERMINAL = 't', /* it has a terminal of its own, and this is the master */
};
void tell(enum line what, int directory, const char *name);
/* The kinds of namespaces, by the names of their links in /proc/PID/ns. */
enum { NAMESPACE_KINDS = 8 };
extern const struct namespace_kind {
    const char *name;
    unsigned long flag;
} namespace_kinds[NAMESPACE_KINDS];
/* A socket for the line, and every signal blocked: none may be lost between the clone and the wait for it. */
void prepare_clone(int ends[2]);
/* We are the container's: named so, undoing nothing, bound to the supervisor if there is a line to it. */
void in_container(void);
/* From now on, whoever ends first, the supervisor's death is this process's as well. */
void die_with_supervisor(void);

/* ---- terminal.c ---- */

/* The caller's terminal; fd is -1 when there is none. */
extern struct terminal {
    int fd; /* of our own, not blocking; in a container that has one of its own it is that one's slave */
    dev_t device;
    struct termios settings; /* what it had when we came to the foreground */
    bool foreground;         /* we were it, at the start */
    bool own;                /* the container is to have a terminal of its own */
    bool relayed;            /* and has it */
    bool shared;             /* with others of our pipe: its settings are not our business */
    bool held;               /* we are the foreground, and it has the container's settings */
} terminal;
/* In the container, after setsid(2): if that is wanted (terminal.own), it gets a terminal of its own in the devpts of this
 * root (-1: the machine's), as its controlling one and in place of the caller's as 0, 1 and 2. */
void own_terminal(int root);
bool terminal_in_foreground(void);
/* If we are the foreground: the terminal is the container's from now on. True when it was not before. */
bool terminal_hold(void);
/* With the settings it had, if we are the foreground. */
void terminal_give_back(void);
/* The caller's window is how large this terminal's is, too. */
void terminal_copy_size(int to);
bool same_settings(const struct termios *one, const struct termios *other);

/* ---- relay.c ---- */

enum { RELAY_FDS = 2 };
/* From now on this master is relayed to the caller's terminal. Takes the descriptor over. */
void relay_start(int master);
/* What poll(2) has to wait for, and how long (milliseconds, -1 without end). */
int relay_watch(struct pollfd on[RELAY_FDS]);
/* After poll(2). A signal that concerns us too, or 0: a key of the container's terminal made it, while this process group
 * was the foreground there; SIGTTOU: we are in the background, and the container needs the caller's terminal. */
int relay(const struct pollfd on[RELAY_FDS], pid_t container);
/* Before we stop: what is there goes out, as far as that can be at once; the terminal is as it was. */
void relay_pause(void);
/* We go on: after SIGCONT, or because nothing has stopped us. */
void relay_continued(bool by_somebody);
/* After SIGWINCH; false when nothing is relayed. */
bool relay_resize(void);
/* The container has ended, by this signal or 0: what it has written goes out, unless a signal comes; the terminal is as it
 * was. Hurry: one has come before, so a terminal that takes nothing more is not waited for. */
void relay_finish(int signals, int ended_by, bool hurry);

/* ---- log.c ---- */

bool log_wanted(void);
/* In a copy of the stage: whether the log is its stdout. */
void log_connected(bool is);
/* In the container, as its stdin, stdout and stderr: nothing, and the log twice. */
void log_connect(void);
/* For poll(2), and after it. */
void log_watch(struct pollfd *on);
void log_relay(const struct pollfd *on);
/* From now on what hew says goes there, too, behind what the container has written. */
void log_messages(void);
/* The container has ended. */
void log_finish(void);

/* ---- detach.c ---- */

/* The command runs: whoever has waited for that gets this text. */
void tell_caller(const char *state);

/* ---- seal.c ---- */

/* A copy of the stage that nobody can write to; -1 where there is none, or we are it already. */
int sealed_copy(void);
/* Goes on in the copy with the words to come. Returns where that cannot be, with what the copy would do as the next words. */
void go_on_sealed(int copy);

/* ---- supervise.c ---- */

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
/* Nothing is limited in that one: where the kernel refuses it the container does without. */
bool cgroup_may_lack(void);
/* The container goes into the cgroups that were made for it, but for the one that clone has put it into. */
bool join_cgroups(pid_t pid, bool cloned_into);
/* It runs from now on: for --verdict. */
void note_start(void);
struct text {
    char bytes[1024];
    size_t length;
};
/* One that it got while it ran is treated as those that it began with. The path is changed, and kept. */
void adopt_cgroup(char *path);
/* After the end: what the limits did, on stderr; the cgroups go. How it ended, for --verdict too, as a line of JSON. */
struct text settle_cgroups(int status, int signal);
/* Their directories as part of a JSON text, a line each; that of v2 comes first. */
void print_cgroups(FILE *out);

/* ---- state.c: does nothing where the container has no state ---- */

extern struct state {
    int directory; /* -1: nobody is told of this container */
    int states;    /* the directory that it is in, by this name */
    const char *path, *id;
    const char *head, *where; /* state.json up to when it was created; "NAMESPACE BOOT" of the supervisor */
    bool keep;                /* after the end, too */
    pid_t pid;                /* of the container's first process */
    unsigned long long start; /* once it has ended, its number may be another's */
} state;
/* Its state.json, anew. False with an errno. */
bool write_state(const char *status, bool with_process);
/* From now on it goes with whatever is undone. */
void state_is_ours(void);
/* When a process started: its name in /proc. 0: there is none. */
unsigned long long start_time(const char *number);
/* When we started. */
unsigned long long own_start(void);
/* Its cgroups are there: a kill -9 from now on leaves them to whoever sweeps. */
void state_has_cgroups(void);
/* Its first process is there, with this name in /proc. False: it has been said why that cannot be written down. */
bool state_created(pid_t pid, const char *number);
void state_running(void);
/* What `hew limit` has given it meanwhile is ours to remove. */
void state_take_back(void);
/* ran: its command was executed. */
void state_ended(bool ran, const struct text *verdict);
/* The inside of a JSON string. */
void print_json(FILE *out, const char *text);

/* ---- process.c ---- */

/* What Ctrl-Z and its like do when nobody handles them. */
bool stops_by_default(int number);
/* It would end a process that does nothing about it (signal(7)). */
bool ends_by_default(int number);

#endif
