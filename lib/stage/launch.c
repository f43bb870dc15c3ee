/*
 * The launcher: starts a dynamically linked program where there is no dynamic
 * linker, no libc and not one file, without unpacking anything.
 *
 * What we are: the first instructions of `hew`, a static-pie executable, which
 * the kernel therefore loads at a random address, out of the way of 0x400000,
 * where Node wants to be. Behind our own ELF image the same file carries, page
 * aligned, the Node executable (our JavaScript injected), the ld.so that it
 * wants, and the libraries that it names in DT_NEEDED. See launch.h.
 *
 * What our job is: to do what the kernel does in execve(2) for a program with a
 * PT_INTERP (fs/binfmt_elf.c), only with both ELF files inside this one:
 *
 *   1. map the PT_LOAD segments of Node and of ld.so, straight from
 *      /proc/self/exe, so that all running hews share one page cache;
 *   2. put the libraries where ld.so can open them;
 *   3. lay a new initial stack: arguments, environment and an auxiliary vector
 *      (getauxval(3)) that describes Node, and not us;
 *   4. jump to ld.so's entry point. We never return.
 *
 * Step 2 is the hard one: ld.so open(2)s a library by name and expects an ELF
 * header at offset 0, so a library in the middle of a file cannot be opened. Each
 * one gets a memfd (memfd_create(2)), and is named "/proc/self/fd/N" in
 * DT_NEEDED entries that we put before Node's own in a private copy of its
 * dynamic section; ld.so then recognizes Node's own names by DT_SONAME. No
 * LD_PRELOAD, so nothing in the environment has to be hidden from children.
 *
 * Copying all libraries into memfds would take 3 ms, a tenth of the whole start.
 * Only what ld.so reads before it relocates anything is copied: the first
 * segment (headers, symbols, strings, relocations) and the writable one. Code
 * and constants are a hole in the memfd, mapped PROT_NONE. The first touch, an
 * IFUNC resolver's during relocation, when all libraries have been mapped,
 * faults; our handler of that one SIGSEGV lays the real pages, from
 * /proc/self/exe again, over every hole, closes all descriptors, and is gone.
 * strace(1) shows it; it is meant to be there.
 */
#include "kernel.h"
#include "launch.h"
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { PAGE = 4096, SEGMENTS_MAX = 16, DYNAMIC_MAX = 64, SEED_DIGITS = 8 };

static const char toc_magic[8] = "\177hewtoc\n";
static const char damaged[] = "the file is damaged or was not copied to its end: copy it again";

static uintptr_t page_down(uintptr_t x) { return x & ~(uintptr_t)(PAGE - 1); }
static uintptr_t page_up(uintptr_t x) { return page_down(x + PAGE - 1); }

/* An ELF file inside ours. */
struct image {
    const struct part *part;
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[SEGMENTS_MAX];
};

/* ---- the file ---- */

static int self;

static void read_self(void *to, size_t size, uint64_t offset) {
    ssize_t n = pread(self, to, size, (off_t)offset);
    if (n < 0) fail(errno, "cannot read /proc/self/exe");
    if ((size_t)n != size) fail(0, damaged);
}

static void open_self(struct toc *toc) {
    self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0 && errno == ENOENT) fail(0, "/proc is not mounted: mount it first (mount -t proc proc /proc)");
    if (self < 0) fail(errno, "cannot open /proc/self/exe, which hew starts from");
    struct stat st;
    if (fstat(self, &st) < 0) fail(errno, "cannot read /proc/self/exe");
    if ((size_t)st.st_size < sizeof *toc) fail(0, damaged);
    read_self(toc, sizeof *toc, (uint64_t)st.st_size - sizeof *toc);
    if (memcmp(toc->magic, toc_magic, sizeof toc_magic) != 0 || toc->version != TOC_VERSION ||
        toc->count <= PART_LIBRARIES || toc->count > TOC_PARTS_MAX)
        fail(0, damaged);
}

static void read_image(struct image *image, const struct part *part) {
    image->part = part;
    read_self(&image->header, sizeof image->header, part->offset);
    if (memcmp(image->header.e_ident, ELFMAG, SELFMAG) != 0 || image->header.e_phnum > SEGMENTS_MAX)
        fail(0, damaged);
    read_self(image->segments, image->header.e_phnum * sizeof *image->segments, part->offset + image->header.e_phoff);
}

static int protection(const ElfW(Phdr) *segment) {
    return (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
           (segment->p_flags & PF_X ? PROT_EXEC : 0);
}

/* ---- what it takes ---- */

/*
 * What Node takes, with some room: where there is less it dies of a failed assertion, with a stack trace or without a word, or waits
 * for a thread that cannot be. Found by trying (prlimit(1)).
 */
enum { DESCRIPTORS = 24, THREADS = 2 };
static const struct {
    int resource;
    rlim_t least;
    const char *what;
} takes[] = {
    {RLIMIT_AS, 1536 << 20, "of addresses (ulimit -v)"},
    {RLIMIT_DATA, 1024 << 20, "of data (ulimit -d)"},
    {RLIMIT_STACK, 256 << 10, "of stack (ulimit -s)"},
};

static void check_limits(void) {
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) {
        struct rlimit limit;
        if (getrlimit(takes[i].resource, &limit) < 0 || limit.rlim_cur >= takes[i].least) continue;
        fail(0, "cannot start: it takes %llu KiB %s, and may have %llu: raise that limit",
             (unsigned long long)takes[i].least >> 10, takes[i].what, (unsigned long long)limit.rlim_cur >> 10);
    }
}

/* The limit alone does not tell: the caller's may be open. */
static void check_descriptors(void) {
    int spare[DESCRIPTORS];
    for (int i = 0; i < DESCRIPTORS; i++)
        if ((spare[i] = dup(self)) < 0)
            fail(0, "cannot start: it takes %d open files more, and may have %d: raise the limit (ulimit -n)", DESCRIPTORS, i);
    for (int i = 0; i < DESCRIPTORS; i++) close(spare[i]);
}

/* As many at once beside us as Node has threads; each parent sleeps until its child has ended, so that they share a stack. */
static void start_processes(int more, volatile int *refused) {
    pid_t child = vfork();
    if (child == 0) {
        if (more > 1) start_processes(more - 1, refused);
        _exit(0);
    }
    if (child > 0) waitpid(child, NULL, __WALL);
    else *refused = errno;
}

/* RLIMIT_NPROC is not all, and many cgroups above us may have a pids.max: trying tells. */
static void check_processes(void) {
    volatile int refused = 0;
    start_processes(THREADS, &refused);
    if (refused == EAGAIN)
        fail(0, "cannot start: it takes %d processes, and there may be no more (pids.max of its cgroup, or ulimit -u): "
                "raise the limit, or start hew outside of it",
             THREADS + 1);
}

/* ---- 1. Node and ld.so ---- */

static void map_exactly(uintptr_t at, size_t size, int protect, int flags, int fd, uint64_t offset, const char *what) {
    void *got = mmap((void *)at, size, protect, MAP_PRIVATE | flags, fd, (off_t)offset);
    if (got == (void *)at) return;
    /* Before Linux 4.17 MAP_FIXED_NOREPLACE is a mere hint. */
    if (got != MAP_FAILED) errno = EEXIST;
    if (errno == EEXIST) fail(0, "cannot map %s: its address %#lx is taken", what, (unsigned long)at);
    fail(errno, "cannot map %s", what);
}

static void map_segment(const struct image *image, const ElfW(Phdr) *segment, uintptr_t base, int flags) {
    const char *what = image->part->name;
    uintptr_t start = page_down(base + segment->p_vaddr);
    uintptr_t file_end = base + segment->p_vaddr + segment->p_filesz;
    uintptr_t end = page_up(base + segment->p_vaddr + segment->p_memsz);
    map_exactly(start, file_end - start, protection(segment), flags, self,
                image->part->offset + page_down(segment->p_offset), what);
    if (!(segment->p_flags & PF_W)) return;
    /* The rest of the last page is zero for whoever maps an ELF file, also where bss ends
     * earlier: ld.so's first allocator hands out its own. */
    memset((void *)file_end, 0, page_up(file_end) - file_end);
    if (end > page_up(file_end))
        map_exactly(page_up(file_end), end - page_up(file_end), protection(segment), flags | MAP_ANONYMOUS, -1, 0, what);
}

static void map_segments(const struct image *image, uintptr_t base, int flags) {
    for (int i = 0; i < image->header.e_phnum; i++)
        if (image->segments[i].p_type == PT_LOAD) map_segment(image, &image->segments[i], base, flags);
}

/* A stretch of free addresses as long as the image; the segments then go over it. */
static uintptr_t reserve(const struct image *image) {
    uintptr_t end = 0;
    for (int i = 0; i < image->header.e_phnum; i++)
        if (image->segments[i].p_type == PT_LOAD) end = image->segments[i].p_vaddr + image->segments[i].p_memsz;
    void *base = mmap(NULL, page_up(end), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) fail(errno, "cannot map %s", image->part->name);
    return (uintptr_t)base;
}

/*
 * V8 searches primes for a secret of its string hashes, a twelfth of Node's start, unless its seed is one with which they are found at once
 * (lib/build/seeds.ts). Which of these is random: nobody is to know a start's hashes. The option stands in what pkg has put into
 * Node; we write its digits.
 */
static const uint32_t seeds[256] = {
#include "seeds.h"
};

static void choose_seed(const struct image *node, uint64_t at) {
    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    for (int i = 0; i < node->header.e_phnum; i++) {
        const ElfW(Phdr) *segment = &node->segments[i];
        uint64_t end = segment->p_offset + segment->p_filesz;
        if (segment->p_type != PT_LOAD || at < segment->p_offset || at + SEED_DIGITS > end) continue;
        uintptr_t digits = segment->p_vaddr + (at - segment->p_offset), page = page_down(digits);
        size_t size = page_up(digits + SEED_DIGITS) - page;
        if (mprotect((void *)page, size, PROT_READ | PROT_WRITE) < 0) fail(errno, "cannot map %s", node->part->name);
        uint32_t seed = seeds[random ? *random : 0];
        for (int i = SEED_DIGITS; i-- > 0; seed /= 10) ((char *)digits)[i] = (char)('0' + seed % 10);
        mprotect((void *)page, size, protection(segment));
    }
}

/* ---- 2. the libraries ---- */

static struct library {
    struct image image;
    char path[sizeof "/proc/self/fd/2147483647"];
    int fd;
} libraries[TOC_PARTS_MAX - PART_LIBRARIES];
static unsigned library_count;
static const struct r_debug *const *debug; /* ld.so's list of what it has mapped (link.h), behind DT_DEBUG */

static void copy_to(int fd, const struct part *part, uint64_t start, uint64_t end) {
    off_t from = (off_t)(part->offset + start);
    if (lseek(fd, (off_t)start, SEEK_SET) < 0) fail(errno, "cannot load %s", part->name);
    for (uint64_t left = end - start; left > 0;) {
        ssize_t n = sendfile(fd, self, &from, left);
        if (n < 0) fail(errno, "cannot load %s", part->name);
        if (n == 0) fail(0, damaged);
        left -= (uint64_t)n;
    }
}

/* True for the segments that ld.so does not look into until it calls IFUNC resolvers. */
static bool is_hole(const struct library *library, const ElfW(Phdr) *segment) {
    return segment->p_type == PT_LOAD && !(segment->p_flags & PF_W) && segment->p_offset >= library->image.part->head;
}

static void offer(struct library *library, const struct part *part) {
    struct image *image = &library->image;
    read_image(image, part);
    /* The seal only takes the x bits, which mmap(2) does not ask for, and satisfies the
     * sysctl vm.memfd_noexec=2. Before Linux 6.3 the flag is unknown. */
    library->fd = memfd_create(part->name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (library->fd < 0 && errno == EINVAL) library->fd = memfd_create(part->name, MFD_CLOEXEC);
    if (library->fd < 0) fail(errno, "cannot load %s: memfd_create", part->name);
    if (ftruncate(library->fd, (off_t)part->size) < 0) fail(errno, "cannot load %s", part->name);
    copy_to(library->fd, part, 0, part->head);
    ElfW(Phdr) edited[SEGMENTS_MAX];
    memcpy(edited, image->segments, sizeof edited);
    for (int i = 0; i < image->header.e_phnum; i++) {
        const ElfW(Phdr) *segment = &image->segments[i];
        if (is_hole(library, segment)) edited[i].p_flags = 0;
        else if (segment->p_type == PT_LOAD && segment->p_offset >= part->head)
            copy_to(library->fd, part, segment->p_offset, segment->p_offset + segment->p_filesz);
    }
    size_t size = image->header.e_phnum * sizeof *edited;
    if (pwrite(library->fd, edited, size, (off_t)image->header.e_phoff) != (ssize_t)size)
        fail(errno, "cannot load %s", part->name);
    snprintf(library->path, sizeof library->path, "/proc/self/fd/%d", library->fd);
}

/* In the handler the thread pointer is ld.so's, and our errno nowhere: no functions of libc that may set it, but raw_syscall. */
static void raw_close(int *fd) {
    raw_syscall(SYS_close, (uintptr_t)*fd, 0, 0, 0, 0, 0);
    *fd = -1;
}

static void fill_holes(struct library *library, uintptr_t base) {
    for (int i = 0; i < library->image.header.e_phnum; i++) {
        const ElfW(Phdr) *segment = &library->image.segments[i];
        if (!is_hole(library, segment)) continue;
        uintptr_t start = page_down(base + segment->p_vaddr);
        long at = raw_syscall(SYS_mmap, start, base + segment->p_vaddr + segment->p_filesz - start,
                              (uintptr_t)protection(segment), MAP_PRIVATE | MAP_FIXED, (uintptr_t)self,
                              library->image.part->offset + page_down(segment->p_offset));
        if (at == (long)start) continue;
        static const char message[] = "hew: cannot map its libraries: out of memory\n";
        raw_syscall(SYS_write, STDERR_FILENO, (uintptr_t)message, sizeof message - 1, 0, 0, 0);
        raw_syscall(SYS_exit_group, EXIT_HEW, 0, 0, 0, 0, 0);
    }
    raw_close(&library->fd);
}

/* Normally once. A fault that fills no hole is not ours: it comes again, and kills, as it should. */
static void on_touch(int signal) {
    static unsigned filled;
    unsigned before = filled;
    for (const struct link_map *map = *debug ? (*debug)->r_map : NULL; map; map = map->l_next)
        for (unsigned i = 0; i < library_count; i++)
            if (libraries[i].fd >= 0 && strcmp(map->l_name, libraries[i].path) == 0) {
                fill_holes(&libraries[i], map->l_addr);
                filled++;
            }
    if (filled < library_count && filled > before) return;
    raw_close(&self);
    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

static void await_first_touch(void) {
    struct sigaction action = {.sa_handler = on_touch};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    if (sigaction(SIGSEGV, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0)
        fail(errno, "cannot handle SIGSEGV");
}

/* ---- 3. the initial stack ---- */

/* What is meant for another Node, ld.so, libc or zx has no power over this one. */
static bool is_foreign(const char *variable) {
    static const char *const prefixes[] = {
        "NODE_", "LD_", "GLIBC_TUNABLES=", "MALLOC_", "UV_", "OPENSSL_", "ZX_", "HEW_LAUNCH=",
    };
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

/* Node raises its soft limit of open files; what hew starts gets the caller's back. We need some too. */
static void raise_file_limit(char *callers, size_t size) {
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    snprintf(callers, size, "HEW_LAUNCH=nofile=%llu:%llu", (unsigned long long)limit.rlim_cur,
             (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static const ElfW(Phdr) *find(const struct image *image, ElfW(Word) type) {
    for (int i = 0; i < image->header.e_phnum; i++)
        if (image->segments[i].p_type == type) return &image->segments[i];
    fail(0, damaged);
}

/*
 * Node's dynamic section, with our names before its own. The string table that
 * DT_NEEDED counts from is Node's; the distance from there to our strings is as
 * good an offset, modulo 2^64.
 */
static const ElfW(Dyn) *extend_dynamic(const ElfW(Phdr) *section) {
    static ElfW(Dyn) extended[DYNAMIC_MAX];
    if (library_count + section->p_filesz / sizeof *extended > DYNAMIC_MAX) fail(0, damaged);
    ElfW(Dyn) *to = extended;
    const ElfW(Dyn) *from = (const ElfW(Dyn) *)section->p_vaddr;
    const ElfW(Dyn) *strings = from;
    while (strings->d_tag != DT_STRTAB)
        if ((strings++)->d_tag == DT_NULL) fail(0, damaged);
    for (unsigned i = 0; i < library_count; i++)
        *to++ = (ElfW(Dyn)){DT_NEEDED, {(uintptr_t)libraries[i].path - strings->d_un.d_ptr}};
    do {
        *to = *from;
        if (from->d_tag == DT_DEBUG) debug = (const struct r_debug *const *)&to->d_un.d_ptr;
        to++;
    } while ((from++)->d_tag != DT_NULL);
    if (!debug) fail(0, damaged);
    return extended;
}

/*
 * Node's program headers, as ld.so is to see them. It computes Node's load
 * address as AT_PHDR - p_vaddr of PT_PHDR, which has to come out as 0.
 */
static void describe_program(ElfW(Phdr) *to, const struct image *node, const ElfW(Dyn) *dynamic) {
    memcpy(to, node->segments, node->header.e_phnum * sizeof *to);
    for (int i = 0; i < node->header.e_phnum; i++) {
        if (to[i].p_type == PT_PHDR) to[i].p_vaddr = (uintptr_t)to;
        if (to[i].p_type == PT_DYNAMIC) to[i].p_vaddr = (uintptr_t)dynamic;
    }
}

_Noreturn static void jump(const uintptr_t *stack, uintptr_t entry) {
    __asm__ volatile("mov %0, %%rsp; xor %%edx, %%edx; xor %%ebp, %%ebp; jmp *%1" : : "r"(stack), "r"(entry) : "memory");
    __builtin_unreachable();
}

/* What getauxval(3) is to say: the kernel's values, but about Node. */
static ElfW(auxv_t) describe(ElfW(auxv_t) entry, const ElfW(Phdr) *headers, const struct image *node, uintptr_t base) {
    switch (entry.a_type) {
    case AT_PHDR: entry.a_un.a_val = (uintptr_t)headers; break;
    case AT_PHNUM: entry.a_un.a_val = node->header.e_phnum; break;
    case AT_ENTRY: entry.a_un.a_val = node->header.e_entry; break;
    case AT_BASE: entry.a_un.a_val = base; break;
    }
    return entry;
}

/*
 * `--verdict 3`: Node marks all that it inherits close-on-exec (uv_disable_stdio_inheritance), and could not tell it from what it
 * opens itself. Behind a gap of numbers it is out of reach, and the stage finds it (lib/launch.ts).
 */
static void put_verdict_aside(char **argv) {
    enum { ASIDE = 99 };
    static const char option[] = "--verdict";
    for (char **at = argv; *at; at++) {
        const char *found = strstr(*at, option); /* in the middle of `-c LINE`, too */
        if (!found) continue;
        found += sizeof option - 1;
        const char *value = *found ? found + 1 : at[1];
        char *end;
        long fd = value ? strtol(value, &end, 10) : -1;
        if (fd >= 0 && fd < ASIDE && end != value && !*end) dup2((int)fd, ASIDE);
    }
}

void launch(int argc, char **argv, char **envp) {
    static struct toc toc;
    static struct image node, loader;
    static char callers[96];
    raise_file_limit(callers, sizeof callers);
    fill_standard_descriptors();
    put_verdict_aside(argv);
    open_self(&toc);
    check_limits();
    check_descriptors();
    check_processes();

    read_image(&node, &toc.parts[PART_NODE]);
    map_segments(&node, 0, MAP_FIXED_NOREPLACE);
    choose_seed(&node, toc.seed);
    read_image(&loader, &toc.parts[PART_LOADER]);
    uintptr_t base = reserve(&loader);
    map_segments(&loader, base, MAP_FIXED);
    for (uint32_t i = PART_LIBRARIES; i < toc.count; i++) offer(&libraries[library_count++], &toc.parts[i]);

    static ElfW(Phdr) headers[SEGMENTS_MAX];
    describe_program(headers, &node, extend_dynamic(find(&node, PT_DYNAMIC)));

    /* The vectors are laid anew, further down the stack that the kernel gave us; the strings stay. */
    size_t variables = 0, entries = 0;
    while (envp[variables]) variables++;
    const ElfW(auxv_t) *auxiliary = (const ElfW(auxv_t) *)(envp + variables + 1);
    while (auxiliary[entries++].a_type != AT_NULL) {}
    uintptr_t stack[1 + (size_t)argc + 1 + 1 + variables + 1 + 2 * entries] __attribute__((aligned(16)));
    uintptr_t *top = stack;
    *top++ = (uintptr_t)argc;
    for (int i = 0; i < argc; i++) *top++ = (uintptr_t)argv[i];
    *top++ = 0;
    *top++ = (uintptr_t)callers;
    for (size_t i = 0; i < variables; i++)
        if (!is_foreign(envp[i])) *top++ = (uintptr_t)envp[i];
    *top++ = 0;
    for (size_t i = 0; i < entries; i++) {
        ElfW(auxv_t) entry = describe(auxiliary[i], headers, &node, base);
        *top++ = entry.a_type;
        *top++ = entry.a_un.a_val;
    }

    await_first_touch();
    jump(stack, base + loader.header.e_entry);
}
