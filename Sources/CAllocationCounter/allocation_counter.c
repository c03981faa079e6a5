#define _GNU_SOURCE
#include "allocation_counter.h"

#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#if !defined(__has_feature)
#define __has_feature(x) 0
#endif
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer) && !__has_feature(memory_sanitizer) && \
    !__has_feature(leak_sanitizer)
#define COUNTS 1
#else
#define COUNTS 0
#endif

enum { stack_count_max = 8, stack_depth_max = 24 };

static char prefix[16];
// Odd while counting; a thread's verdict holds for one value of it.
static atomic_uint generation;
static atomic_uint_fast64_t count;
static void *stacks[stack_count_max][stack_depth_max];
static int stack_depths[stack_count_max];

void allocation_counter_start(const char *name_prefix) {
    strncpy(prefix, name_prefix, sizeof prefix - 1);
    memset(stack_depths, 0, sizeof stack_depths);
    atomic_store(&count, 0);
    // The first call loads the unwinder, which allocates.
    void *one[1];
    backtrace(one, 1);
    atomic_fetch_add(&generation, 1);
}

uint64_t allocation_counter_stop(void) {
    atomic_fetch_add(&generation, 1);
    return atomic_load(&count);
}

int allocation_counter_works(void) { return COUNTS; }

void allocation_counter_allocate(void) {
    void *volatile memory = malloc(1);
    free(memory);
}

void allocation_counter_print(int fd) {
    for (int index = 0; index < stack_count_max && stack_depths[index] > 0; index++) {
        backtrace_symbols_fd(stacks[index], stack_depths[index], fd);
        ssize_t ignored = write(fd, "\n", 1);
        (void)ignored;
    }
}

#if COUNTS
// In the executable's own block: reached without a call, which could allocate.
#define THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
THREAD_LOCAL unsigned judged_at;
THREAD_LOCAL int is_counted;
THREAD_LOCAL int is_inside;

static void note(void) {
    unsigned now = atomic_load_explicit(&generation, memory_order_relaxed);
    if (!(now & 1) || is_inside) return;
    // Asked again where the answer was no: a thread may allocate before it has its name.
    if (judged_at != now || !is_counted) {
        char name[16];
        judged_at = now;
        is_counted = prctl(PR_GET_NAME, name) == 0 && strncmp(name, prefix, strlen(prefix)) == 0;
    }
    if (!is_counted) return;
    uint64_t index = atomic_fetch_add(&count, 1);
    if (index >= stack_count_max) return;
    is_inside = 1;
    stack_depths[index] = backtrace(stacks[index], stack_depth_max);
    is_inside = 0;
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
    note();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    note();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    note();
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || alignment & (alignment - 1)) return EINVAL;
    note();
    void *memory = __libc_memalign(alignment, size);
    if (!memory) return ENOMEM;
    *result = memory;
    return 0;
}
#endif
