#include "stage.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void step_as(void) { say_as(word_kept()); }

static void step_hint(void) {
    int error = (int)word_number(10);
    hint(error, word_kept());
}

static void step_explain(void) { explain(word_kept()); }

static void step_words_from(void) { words_from_descriptor((int)word_number(10)); }

static const struct step common_steps[] = {
    {"as", step_as},                 /* NAME: how messages begin */
    {"hint", step_hint},             /* ERRNO TEXT: what to do if the next step fails so (0: any way) */
    {"explain", step_explain},       /* TEXT: the next step as a line of a shell, said when it is done */
    {"words-from", step_words_from}, /* FD: the rest of the words come from there */
    {NULL, NULL},
};

static const struct step *const rooms[] = {
    common_steps, file_steps, archive_steps, cgroup_steps, detach_steps, state_steps, namespace_steps, mount_steps,
    process_steps, claim_steps, replay_steps, terminal_steps, log_steps, signal_steps, seal_steps, join_steps, probe_steps,
};

static const struct step *find(const char *name) {
    for (size_t room = 0; room < sizeof rooms / sizeof *rooms; room++)
        for (const struct step *step = rooms[room]; step->name; step++)
            if (!strcmp(step->name, name)) return step;
    return NULL;
}

int exit_status;

void run_steps(void) {
    while (words_left()) {
        const char *name = word();
        const struct step *step = find(name);
        if (!step) fail(0, "no step is called '%s'", name);
        bool whole = step->run != step_hint && step->run != step_explain;
        if (whole) interrupted();
        step->run();
        if (!whole) continue;
        hints_forget();
        /* An archive is one line, and many steps. */
        if (strncmp(step->name, "entry-", 6)) explained("  # ok");
    }
}

int stage_main(int argc, char **argv, char **envp) {
    (void)argc;
    stage_arguments = argv;
    words_from_environment(envp);
    run_steps();
    /* Whoever writes the words may have died between two steps. */
    if (interrupts_held()) fail(0, "the plan ends before its work is kept");
    return exit_status;
}
