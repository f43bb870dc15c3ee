#include "stage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void (*undo)(void) = journal_undo;

static const char *name = "hew";
static int to = STDERR_FILENO;

enum { MAX_HINTS = 16 };
static struct {
    int error;
    const char *text;
} hints[MAX_HINTS];
static int hint_count;

/* The line that a person types instead of the step that is being done. */
static const char *explaining;

void say_as(const char *as) { name = as; }

const char *said_as(void) { return name; }

void say_to(int fd) { to = fd; }

int said_to(void) { return to; }

void hint(int error, const char *text) {
    if (hint_count < MAX_HINTS) {
        hints[hint_count].error = error;
        hints[hint_count++].text = text;
    }
}

void hints_forget(void) { hint_count = 0; }

void hints_become_words(void) {
    if (explaining) words_before((const char *const[]){"explain", explaining, NULL});
    explaining = NULL;
    while (hint_count > 0) {
        char number[16];
        hint_count--;
        snprintf(number, sizeof number, "%d", hints[hint_count].error);
        words_before((const char *const[]){"hint", number, hints[hint_count].text, NULL});
    }
}

void explain(const char *text) { explaining = text; }

void explained(const char *outcome) {
    if (!explaining) return;
    dprintf(to, "%s: %s%s\n", name, explaining, outcome);
    explaining = NULL;
}

/* musl has other words for these than what cp and mount have made known. */
const char *error_text(int error) {
    static const struct {
        int error;
        const char *text;
    } known[] = {
        {EIO, "Input/output error"},
        {ENOMEM, "Cannot allocate memory"},
        {EBUSY, "Device or resource busy"},
        {EXDEV, "Invalid cross-device link"},
        {EMFILE, "Too many open files"},
        {ENOTTY, "Inappropriate ioctl for device"},
        {ENAMETOOLONG, "File name too long"},
        {ELOOP, "Too many levels of symbolic links"},
        {EOVERFLOW, "Value too large for defined data type"},
        {EUSERS, "Too many users"},
        {EOPNOTSUPP, "Operation not supported"},
        {EUCLEAN, "Structure needs cleaning"},
        {EDQUOT, "Disk quota exceeded"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].error == error) return known[i].text;
    return strerror(error);
}

static const char *hint_for(int error) {
    for (int i = 0; i < hint_count; i++)
        if (hints[i].error == error || hints[i].error == 0) return hints[i].text;
    return NULL;
}

/* One write per line, so that lines of a pipe's commands do not mix. Control
 * characters (a hostile file name) are shown, not sent to the terminal. */
static void line(int error, const char *why, const char *format, va_list arguments) {
    char raw[4096], text[3 * sizeof raw];
    int n = explaining ? snprintf(raw, sizeof raw, "%s: %.1000s  # ", name, explaining) : snprintf(raw, sizeof raw, "%s: ", name);
    size_t length = n < 0 ? 0 : (size_t)n;
    length += (size_t)vsnprintf(raw + length, sizeof raw - length, format, arguments);
    if (length < sizeof raw && why) length += (size_t)snprintf(raw + length, sizeof raw - length, ": %s", why);
    const char *advice = hint_for(error);
    if (length < sizeof raw && advice) length += (size_t)snprintf(raw + length, sizeof raw - length, ": %s", advice);
    if (length > sizeof raw - 1) length = sizeof raw - 1;
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)raw[i];
        if (c < 0x20 || c == 0x7f) out += (size_t)sprintf(text + out, "?");
        else text[out++] = (char)c;
    }
    text[out++] = '\n';
    ssize_t ignored = write(to, text, out);
    (void)ignored;
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = hint_count;
    const char *text = explaining;
    hint_count = 0;
    explaining = NULL;
    line(0, NULL, format, arguments);
    explaining = text;
    hint_count = count;
    va_end(arguments);
}

void fail(int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line(error, error ? error_text(error) : NULL, format, arguments);
    va_end(arguments);
    undo();
    _exit(EXIT_HEW);
}

void fail_with(int status, int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line(error, error ? error_text(error) : NULL, format, arguments);
    va_end(arguments);
    undo();
    _exit(status);
}

void refuse(int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line(error, NULL, format, arguments);
    va_end(arguments);
    undo();
    _exit(EXIT_HEW);
}
