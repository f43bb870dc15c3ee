/*
 * What goes into a container must not be executed from hew's own file: a process in there that executes /proc/self/exe, or
 * opens it, would have that, and could overwrite what the machine's root calls next (CVE-2019-5736). So the stage goes on
 * as a copy of itself, in a memory file that nobody can write to any more, and that is gone when the command is executed.
 */
#include "container.h"

#include "kernel.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/memfd.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* What the copy needs to know: it has no other memory of us. */
struct carried {
    int line, messages;
    bool logged;
    struct terminal terminal;
};

char **stage_arguments;

static bool is_sealed(int self) {
    int seals = fcntl(self, F_GET_SEALS); /* EINVAL: no memory file */
    return seals >= 0 && seals & F_SEAL_WRITE;
}

/* As much as the program headers name: Node and the libraries stay behind. */
static off_t extent(void) {
    const ElfW(Phdr) *part = (const void *)getauxval(AT_PHDR);
    ElfW(Off) end = 0;
    for (size_t left = getauxval(AT_PHNUM); left > 0; left--, part++)
        if (part->p_type == PT_LOAD && part->p_offset + part->p_filesz > end) end = part->p_offset + part->p_filesz;
    return (off_t)end;
}

static int memory_file(void) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("hew-stage", flags | MFD_EXEC);
    return fd < 0 && errno == EINVAL ? memfd_create("hew-stage", flags) : fd; /* before Linux 6.3 */
}

int sealed_copy(void) {
    /* Words that are still being made cannot be handed on; who enters a container has them all. */
    int self = words_are_complete() ? open("/proc/self/exe", O_RDONLY | O_CLOEXEC) : -1;
    int copy = self < 0 || is_sealed(self) ? -1 : memory_file();
    off_t at = 0, size = extent();
    while (copy >= 0 && at < size) {
        if (sendfile(copy, self, &at, (size_t)(size - at)) > 0) continue;
        close(copy);
        copy = -1;
    }
    if (self >= 0) close(self);
    if (copy >= 0 && fcntl(copy, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) {
        close(copy);
        copy = -1;
    }
    return copy;
}

/* An execve(2) takes the capabilities of who is not user 0, but for the ambient ones: capabilities(7). */
static void keep_capabilities(bool keep) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    if (geteuid() == 0 || syscall(SYS_capget, &header, sets)) return;
    if (!keep) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int i = 0; i < 2; i++) sets[i].inheritable = keep ? sets[i].permitted : 0;
    if (syscall(SYS_capset, &header, sets) || !keep) return;
    for (int cap = 0; cap < 64; cap++)
        if (sets[cap / 32].permitted >> cap % 32 & 1) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
}

static void close_on_exec(const struct carried *carried, bool close) {
    const int fds[] = {carried->line, carried->messages, carried->terminal.fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] > STDERR_FILENO) fcntl(fds[i], F_SETFD, close ? FD_CLOEXEC : 0);
}

void go_on_sealed(int copy) {
    if (copy < 0) return;
    struct carried carried = {line_fd, said_to(), log_wanted(), terminal};
    char hex[2 * sizeof carried + 1];
    for (size_t i = 0; i < sizeof carried; i++) sprintf(hex + 2 * i, "%02x", ((const unsigned char *)&carried)[i]);
    const char *const words[] = {"sealed", said_as(), hex, NULL};
    char **environment = words_before(words);
    keep_capabilities(true);
    close_on_exec(&carried, false);
    syscall(SYS_execveat, copy, "", stage_arguments, environment, AT_EMPTY_PATH);
    close(copy); /* where memory files cannot be executed (vm.memfd_noexec), we do all these words ourselves */
}

static void step_sealed(void) {
    struct carried carried;
    say_as(word_kept());
    const char *hex = word();
    if (strlen(hex) != 2 * sizeof carried) refuse(EINVAL, "what was carried over is damaged");
    for (size_t i = 0; i < sizeof carried; i++) sscanf(hex + 2 * i, "%2hhx", (unsigned char *)&carried + i);
    keep_capabilities(false);
    close_on_exec(&carried, true);
    say_to(carried.messages);
    terminal = carried.terminal;
    line_fd = carried.line;
    log_connected(carried.logged);
    in_container();
}

static void step_seal(void) { go_on_sealed(sealed_copy()); }

const struct step seal_steps[] = {
    {"seal", step_seal},     /* what follows is done by a copy of the stage that nobody can change */
    {"sealed", step_sealed}, /* NAME STATE: the first step of that copy */
    {NULL, NULL},
};
