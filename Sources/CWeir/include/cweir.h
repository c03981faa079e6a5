// What Swift cannot import from the C library and liburing: GNU-only calls, macros, ABI constants. No logic.
#pragma once
// <features.h> before <liburing.h>, which defines _GNU_SOURCE: otherwise every importer of Glibc fails.
#include <features.h>
#include <sys/types.h>
#include <liburing.h>
#include <stdint.h>
