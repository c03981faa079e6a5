#define _GNU_SOURCE
#include "cweir.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int cweir_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void cweir_eventfd_signal(int fd) {
    uint64_t one = 1;
    // EAGAIN means the count is at its maximum, so the reader is awake already.
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

void cweir_eventfd_drain(int fd) {
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}

static uint64_t now_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t cweir_monotonic_ns(void) { return now_ns(CLOCK_MONOTONIC); }
uint64_t cweir_realtime_ns(void) { return now_ns(CLOCK_REALTIME); }

void cweir_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }
