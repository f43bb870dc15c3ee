#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* So many levels stay open; the ones above are reopened through "..", which a hostile rename can lead
 * elsewhere: device and inode are compared, as fts(3) does. */
enum { OPEN_LEVELS = 16 };

int trail_here(const struct trail *trail) { return trail->depth ? trail->levels[trail->depth - 1].fd : -1; }

void trail_pin(struct trail *trail) { trail->levels[trail->depth - 1].pinned = true; }

void trail_enter(struct trail *trail, int fd) {
    struct stat st;
    if (fstat(fd, &st)) fail(errno, "cannot look at a directory");
    if (trail->depth == trail->room) {
        trail->room = trail->room ? 2 * trail->room : OPEN_LEVELS;
        trail->levels = reallocarray(trail->levels, trail->room, sizeof *trail->levels);
        if (!trail->levels) fail(ENOMEM, "cannot go deeper");
    }
    trail->levels[trail->depth++] = (struct trail_level){fd, false, st.st_dev, st.st_ino};
    if (trail->depth <= OPEN_LEVELS) return;
    struct trail_level *far = &trail->levels[trail->depth - 1 - OPEN_LEVELS];
    if (far->pinned || far->fd < 0) return;
    close(far->fd);
    far->fd = -1;
}

int trail_leave(struct trail *trail) {
    int left = trail->levels[--trail->depth].fd;
    if (trail->depth == 0) return left;
    struct trail_level *above = &trail->levels[trail->depth - 1];
    if (above->fd >= 0) return left;
    struct stat st;
    above->fd = openat(left, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above->fd >= 0 && !fstat(above->fd, &st) && st.st_ino == above->ino && st.st_dev == above->dev) return left;
    if (above->fd >= 0) {
        close(above->fd);
        errno = ESTALE;
    }
    above->fd = -1;
    return left;
}

void trail_end(struct trail *trail) {
    while (trail->depth > 0)
        if (trail->levels[--trail->depth].fd >= 0) close(trail->levels[trail->depth].fd);
    free(trail->levels);
    *trail = (struct trail){0};
}

static bool is_dots(const char *name) { return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])); }

char *names_in(int fd) {
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    if (!directory) {
        if (own >= 0) close(own);
        return NULL;
    }
    size_t length = 0, room = 1024;
    char *names = malloc(room);
    errno = 0;
    for (struct dirent *entry; names && (entry = readdir(directory)) != NULL;) {
        if (is_dots(entry->d_name)) continue;
        size_t size = strlen(entry->d_name) + 1;
        if (length + size + 1 > room) {
            room = 2 * (room + size);
            char *larger = realloc(names, room);
            if (!larger) free(names);
            names = larger;
        }
        if (names) memcpy(names + length, entry->d_name, size);
        length += size;
    }
    int error = errno;
    closedir(directory);
    errno = error;
    if (names && !error) {
        names[length] = 0;
        return names;
    }
    free(names);
    return NULL;
}
