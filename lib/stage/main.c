/*
 * One executable, two programs. Called `hew-stage` it runs steps (stage.h);
 * under any other name it is the launcher, which starts the Node that the same
 * file carries (launch.c).
 */
#include "launch.h"
#include "stage.h"

#include <string.h>

int main(int argc, char **argv, char **envp) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    if (strcmp(name, "hew-stage") == 0) return stage_main(argc, argv, envp);
    launch(argc, argv, envp);
}
