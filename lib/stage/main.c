/*
 * One executable, three programs. Called `hew-stage` it runs steps (stage.h); `hew replay PLAN` runs those that a file holds
 * (replay.c); anything else is the launcher, which starts the Node that the same file carries (launch.c).
 */
#include "launch.h"
#include "stage.h"

#include <stdlib.h>
#include <string.h>

/* Where the file of the plan is among the arguments; 0: this is something else, `replay --help` for instance, or Node explains it. */
static int replayed(int argc, char **argv, const char *name) {
    int at = !strcmp(name, "replay") ? 1 : argc > 1 && !strncmp(name, "hew", 3) && !strcmp(argv[1], "replay") ? 2 : 0;
    return at && at < argc && argv[at][0] != '-' && !getenv("HEW_EXPLAIN") ? at : 0;
}

int main(int argc, char **argv, char **envp) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    if (strcmp(name, "hew-stage") == 0) return stage_main(argc, argv, envp);
    int plan = replayed(argc, argv, name);
    if (plan) {
        fill_standard_descriptors();
        return replay_main(argv + plan);
    }
    launch(argc, argv, envp);
}
