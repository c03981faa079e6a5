// What Swift cannot import from the C library and liburing: GNU-only calls, macros, ABI constants. No logic.
#pragma once
// <features.h> before <liburing.h>, which defines _GNU_SOURCE: otherwise every importer of Glibc fails.
#include <features.h>
#include <sys/types.h>
#include <liburing.h>
#include <poll.h>
#include <stdint.h>

// A counter descriptor (eventfd(2), non-blocking, close-on-exec) that one thread signals to wake another.
int cweir_eventfd(void);
// Adds one. Safe from any thread and from a signal handler.
void cweir_eventfd_signal(int fd);
// Takes the count back to zero.
void cweir_eventfd_drain(int fd);

// CLOCK_MONOTONIC in nanoseconds.
uint64_t cweir_monotonic_ns(void);
// CLOCK_REALTIME in nanoseconds since 1970.
uint64_t cweir_realtime_ns(void);

// Names the calling thread for ps, top and gdb: at most 15 bytes count (pthread_setname_np(3)).
void cweir_thread_name(const char *name);
