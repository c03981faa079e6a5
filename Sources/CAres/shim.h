#pragma once
// <features.h> first: a C header that defines feature macros of its own must not change what Glibc shows.
#include <features.h>
#include <sys/types.h>
#include <netdb.h>
#include <arpa/nameser.h>
#include <ares.h>
