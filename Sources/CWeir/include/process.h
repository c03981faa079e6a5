// Calls about the process itself that Swift cannot import: signals, file watching, privileges. No logic.
#pragma once
#include "cweir.h"

// Blocks these signals in the calling thread, so in every thread it starts, and returns a descriptor to read them from
// (signalfd(2), non-blocking, close-on-exec); -1 with errno.
int cweir_signalfd(const int *signals, int count);
// The next pending signal, or 0.
int cweir_signalfd_next(int fd);

// inotify(7), non-blocking, close-on-exec; -1 with errno.
int cweir_inotify(void);
// Watches a directory for entries that appear, vanish, are renamed, or are closed after writing; -1 with errno.
int cweir_inotify_watch(int fd, const char *directory);
// Forgets all events that are waiting.
void cweir_inotify_drain(int fd);

// 0 or an errno. The user and group changes apply to every thread, the other two to the calling thread.
int cweir_set_groups(const gid_t *groups, size_t count);
int cweir_set_group(gid_t group);
int cweir_set_user(uid_t user);
int cweir_drop_capabilities(void);
int cweir_no_new_privileges(void);

// Makes a ring in a child process, registers with it and enters it, because seccomp may answer with a signal that cannot
// be caught. The signal that ended the child; 0 where it lived, whatever it was answered; -errno where there was no child.
int cweir_ring_calls_signal(void);
// Whether seccomp is off (0) or filters (2) for the calling thread; -errno where the kernel does not know it.
int cweir_seccomp_mode(void);
