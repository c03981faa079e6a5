#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int cweir_signalfd(const int *signals, int count) {
    sigset_t set;
    sigemptyset(&set);
    for (int index = 0; index < count; index++) sigaddset(&set, signals[index]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int cweir_signalfd_next(int fd) {
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

int cweir_inotify(void) { return inotify_init1(IN_CLOEXEC | IN_NONBLOCK); }

int cweir_inotify_watch(int fd, const char *directory) {
    return inotify_add_watch(
        fd, directory, IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR);
}

void cweir_inotify_drain(int fd) {
    char events[4096];
    while (read(fd, events, sizeof events) > 0) continue;
}

int cweir_set_groups(const gid_t *groups, size_t count) { return setgroups(count, groups) == 0 ? 0 : errno; }
int cweir_set_group(gid_t group) { return setresgid(group, group, group) == 0 ? 0 : errno; }
int cweir_set_user(uid_t user) { return setresuid(user, user, user) == 0 ? 0 : errno; }

int cweir_drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return errno;
    return syscall(SYS_capset, &header, none) == 0 ? 0 : errno;
}

int cweir_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno; }

int cweir_ring_calls_signal(void) {
    // Not fork(2): without SIGCHLD the child is nobody's but ours, even where the program reaps every child it has.
    // All arguments are zero, so their order, which differs between architectures, does not matter.
    pid_t child = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (child < 0) return -errno;
    if (child == 0) {
        // From here on only system calls: other threads may have held locks.
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        signal(SIGSYS, SIG_DFL);
        struct io_uring_params params = {0};
        int ring = (int)syscall(__NR_io_uring_setup, 1, &params);
        syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_EVENTFD, NULL, 0);
        syscall(__NR_io_uring_enter, ring, 0, 0, 0, NULL, 0);
        syscall(SYS_exit_group, 0);
    }
    int status;
    while (waitpid(child, &status, __WALL) < 0) {
        if (errno != EINTR) return -errno;
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int cweir_seccomp_mode(void) {
    int mode = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
    return mode < 0 ? -errno : mode;
}
