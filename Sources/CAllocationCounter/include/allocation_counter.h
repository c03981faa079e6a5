// For tests: counts the heap allocations of threads by their name. Linking it replaces malloc(3) and its kin in the
// whole program by wrappers that pass everything on to the C library's own. Built with a sanitizer, which brings an
// allocator of its own, it replaces nothing and counts nothing.
#pragma once
#include <stdint.h>

// Starts to count for every thread whose name begins with `prefix` (at most 15 bytes); the count begins at zero.
void allocation_counter_start(const char *prefix);
// Ends it; returns the count.
uint64_t allocation_counter_stop(void);
// Whether this build can count.
int allocation_counter_works(void);
// Allocates once, whatever the optimiser thinks of it.
void allocation_counter_allocate(void);
// Writes where the first allocations of the last count came from to a descriptor, one stack after the other.
void allocation_counter_print(int fd);
