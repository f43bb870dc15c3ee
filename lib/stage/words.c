#include "stage.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char **environment; /* words still to come, or NULL */
static int descriptor = -1;

/* What was read from the descriptor and not yet used. */
static char buffer[1 << 16];
static size_t have, used;

void words_from_environment(char **envp) { environment = envp; }

void words_from_descriptor(int fd) {
    environment = NULL;
    descriptor = fd;
}

static bool refill(void) {
    ssize_t n;
    do {
        wait_for(descriptor, POLLIN);
        n = read(descriptor, buffer, sizeof buffer);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0) fail(errno, "cannot read the steps");
    have = (size_t)n;
    used = 0;
    return have > 0;
}

bool words_are_complete(void) { return environment != NULL; }

bool words_left(void) {
    if (environment) return *environment != NULL;
    return descriptor >= 0 && (used < have || refill());
}

static char *word_from_descriptor(void) {
    static char *text;
    static size_t room;
    size_t length = 0;
    for (;;) {
        if (used == have && !refill()) fail(0, "the plan ends in the middle of a step");
        char *end = memchr(buffer + used, 0, have - used);
        size_t part = end ? (size_t)(end - (buffer + used)) + 1 : have - used;
        if (length + part > room) {
            room = 2 * (length + part);
            text = realloc(text, room);
            if (!text) fail(ENOMEM, "cannot keep a step");
        }
        memcpy(text + length, buffer + used, part);
        length += part;
        used += part;
        if (end) return text;
    }
}

char *word(void) {
    if (!environment) return word_from_descriptor();
    if (!*environment) fail(0, "the plan ends in the middle of a step");
    char *entry = *environment++;
    char *equals = strchr(entry, '=');
    return equals ? equals + 1 : entry;
}

char *word_kept(void) {
    char *text = word();
    if (environment) return text;
    text = strdup(text);
    if (!text) fail(ENOMEM, "cannot keep a step");
    return text;
}

char **words_before(const char *const *first) {
    size_t count = 0, room = 64;
    char **entries = malloc(room * sizeof *entries);
    while (entries && (*first || words_left())) {
        if (count + 1 == room) entries = reallocarray(entries, room *= 2, sizeof *entries);
        if (!entries) break;
        if (environment && !*first) entries[count++] = *environment++;
        else if (asprintf(&entries[count++], "=%s", *first ? *first++ : word()) < 0) entries = NULL;
    }
    if (!entries) fail(ENOMEM, "cannot keep the steps");
    entries[count] = NULL;
    return environment = entries;
}

unsigned long long word_number(int base) {
    char *text = word(), *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, base);
    if (errno || end == text || *end) fail(EINVAL, "a step has '%s' for a number", text);
    return number;
}

void raw_bytes(void *to, size_t size) {
    char *at = to;
    while (size > 0) {
        if (used == have && !refill()) fail(0, "the plan ends in the middle of a file");
        size_t part = have - used < size ? have - used : size;
        memcpy(at, buffer + used, part);
        at += part;
        used += part;
        size -= part;
    }
}
