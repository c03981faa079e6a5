#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/un.h>
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

int cweir_inotify_watch_file(int fd, const char *path) { return inotify_add_watch(fd, path, IN_CLOSE_WRITE); }

int cweir_is_mount_root(const char *path) {
    struct statx found;
    if (statx(AT_FDCWD, path, 0, 0, &found) != 0) return 0;
    return (found.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

int cweir_inotify_unwatch(int fd, int watch) { return inotify_rm_watch(fd, watch); }

_Static_assert(CWEIR_EVENT_CREATED == IN_CREATE && CWEIR_EVENT_DIRECTORY == IN_ISDIR, "inotify(7)");
_Static_assert(CWEIR_EVENT_ENDED == IN_IGNORED && CWEIR_EVENT_LOST == IN_Q_OVERFLOW, "inotify(7)");

int cweir_set_groups(const gid_t *groups, size_t count) { return setgroups(count, groups) == 0 ? 0 : errno; }
int cweir_set_group(gid_t group) { return setresgid(group, group, group) == 0 ? 0 : errno; }
int cweir_set_user(uid_t user) { return setresuid(user, user, user) == 0 ? 0 : errno; }

int cweir_keep_capabilities(void) { return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 ? 0 : errno; }

int cweir_set_capabilities(uint64_t kept) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
        uint32_t bits = (uint32_t)(kept >> 32 * word);
        sets[word] = (struct __user_cap_data_struct){.effective = bits, .permitted = bits, .inheritable = bits};
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return errno;
    if (syscall(SYS_capset, &header, sets) != 0) return errno;
    for (int capability = 0; capability < 64; capability++) {
        if (!(kept >> capability & 1)) continue;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) return errno;
    }
    return 0;
}

int cweir_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno; }

int cweir_channel(int ends[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0 ? 0 : errno; }

int cweir_channel_send(int fd, const void *bytes, size_t byte_count, const int *descriptors, int descriptor_count) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * CWEIR_DESCRIPTOR_COUNT_MAX)];
    } control = {0};
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = byte_count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > CWEIR_DESCRIPTOR_COUNT_MAX) return E2BIG;
    if (descriptor_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptor_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * descriptor_count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * descriptor_count);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

ssize_t cweir_channel_receive(int fd, void *bytes, size_t byte_count, int *descriptors, int *descriptor_count) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * CWEIR_DESCRIPTOR_COUNT_MAX)];
    } control = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = byte_count};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int room = *descriptor_count;
    *descriptor_count = 0;
    ssize_t length;
    do length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0) return -errno;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int index = 0; index < count; index++) {
            int received;
            memcpy(&received, CMSG_DATA(header) + index * sizeof(int), sizeof received);
            if (*descriptor_count < room) descriptors[(*descriptor_count)++] = received;
            else close(received);
        }
    }
    // Descriptors that found no room are lost: the message is not what was sent.
    return message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : length;
}

char **cweir_environment(void) { return environ; }

pid_t cweir_spawn(const char *path, char *const arguments[], char *const environment[], int channel) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int code = posix_spawnattr_init(&attributes);
    if (code != 0) return -code;
    code = posix_spawn_file_actions_init(&actions);
    if (code != 0) {
        posix_spawnattr_destroy(&attributes);
        return -code;
    }
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t child = 0;
    // A descriptor that is duplicated onto itself stays open over the exec, too.
    code = posix_spawn_file_actions_adddup2(&actions, channel, CWEIR_CHANNEL);
    // Not every library makes its descriptors close-on-exec; a copy of a connection in the child keeps it open for ever.
    if (code == 0) code = posix_spawn_file_actions_addclosefrom_np(&actions, CWEIR_CHANNEL + 1);
    if (code == 0) code = posix_spawn(&child, path, &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return code == 0 ? child : -code;
}

bool cweir_has_ended(pid_t child) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, child, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == child;
}

int cweir_await_end(pid_t child) {
    siginfo_t info = {.si_pid = 0};
    while (waitid(P_PID, child, &info, WEXITED | WNOWAIT) != 0) {
        if (errno != EINTR) return CWEIR_UNKNOWN_STATUS;
    }
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

void cweir_forget(pid_t child) {
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
}

int cweir_datagram(const char *path, const void *bytes, size_t byte_count) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof address.sun_path) return EINVAL;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    // An abstract name has no end but its length.
    socklen_t address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] != '@'));
    ssize_t sent = sendto(
        fd, bytes, byte_count, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, address_length);
    int code = sent < 0 ? errno : 0;
    close(fd);
    return code;
}

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
