// Calls about the process itself that Swift cannot import: signals, file watching, privileges. No logic.
#pragma once
#include "cweir.h"
#include <linux/capability.h>
#include <stdbool.h>

// Blocks these signals in the calling thread, so in every thread it starts, and returns a descriptor to read them from
// (signalfd(2), non-blocking, close-on-exec); -1 with errno.
int cweir_signalfd(const int *signals, int count);
// The next pending signal, or 0.
int cweir_signalfd_next(int fd);

// inotify(7), non-blocking, close-on-exec; -1 with errno.
int cweir_inotify(void);
// Watches a directory for entries that appear, vanish, are renamed, or are closed after writing; -1 with errno.
int cweir_inotify_watch(int fd, const char *directory);
int cweir_inotify_unwatch(int fd, int watch);
// The file itself, for writes to it.
int cweir_inotify_watch_file(int fd, const char *path);
// Whether something is mounted at the path itself; 0 where that cannot be known (before Linux 5.8).
int cweir_is_mount_root(const char *path);
// Of the mask of an event: a name has appeared; it is a directory's; the watch has ended; events were lost.
enum {
    CWEIR_EVENT_CREATED = 0x100,
    CWEIR_EVENT_DIRECTORY = 0x40000000,
    CWEIR_EVENT_ENDED = 0x8000,
    CWEIR_EVENT_LOST = 0x4000
};

// 0 or an errno. The user and group changes apply to every thread, the other two to the calling thread.
int cweir_set_groups(const gid_t *groups, size_t count);
int cweir_set_group(gid_t group);
int cweir_set_user(uid_t user);
// Until the next exec the permitted capabilities outlive a change of user.
int cweir_keep_capabilities(void);
// Keeps these capabilities (bit 1 << CAP_*), also over an exec, and no others.
int cweir_set_capabilities(uint64_t kept);
int cweir_no_new_privileges(void);

// Two ends of a channel that keeps messages apart and tells when the other end is closed (SOCK_SEQPACKET). 0 or an
// errno.
int cweir_channel(int ends[2]);
// Sends one message with descriptors, at most CWEIR_DESCRIPTOR_COUNT_MAX. 0 or an errno; EAGAIN where there is no room.
int cweir_channel_send(int fd, const void *bytes, size_t byte_count, const int *descriptors, int descriptor_count);
// Receives one message; blocks. `descriptor_count`: room before, count after. The length, 0 where the other end is
// closed, or -errno.
ssize_t cweir_channel_receive(int fd, void *bytes, size_t byte_count, int *descriptors, int *descriptor_count);
enum { CWEIR_DESCRIPTOR_COUNT_MAX = 250 };

// This process's environment: NAME=VALUE, NULL at the end.
char **cweir_environment(void);
// Starts a program with no signal blocked or ignored. Of our descriptors it gets the standard three, and `channel` as
// CWEIR_CHANNEL. Its process id, or -errno, also of the exec.
pid_t cweir_spawn(const char *path, char *const arguments[], char *const environment[], int channel);
enum { CWEIR_CHANNEL = 3 };

// Whether this child has ended. True, too, where there is no such child.
bool cweir_has_ended(pid_t child);
// Waits for its end: its exit status, the negative number of the signal that ended it, or CWEIR_UNKNOWN_STATUS where the
// system keeps none.
int cweir_await_end(pid_t child);
enum { CWEIR_UNKNOWN_STATUS = 256 };
// Waits for its end, and lets the system forget it. Until then it is there for whoever asks next, also for our parent
// if we end first.
void cweir_forget(pid_t child);

// Sends a datagram to a UNIX socket; a path that begins with @ is in the abstract namespace. 0 or an errno.
int cweir_datagram(const char *path, const void *bytes, size_t byte_count);

// Makes a ring in a child process, registers with it and enters it, because seccomp may answer with a signal that cannot
// be caught. The signal that ended the child; 0 where it lived, whatever it was answered; -errno where there was no child.
int cweir_ring_calls_signal(void);
// Whether seccomp is off (0) or filters (2) for the calling thread; -errno where the kernel does not know it.
int cweir_seccomp_mode(void);
