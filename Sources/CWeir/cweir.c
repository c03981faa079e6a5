#define _GNU_SOURCE
#include "cweir.h"

#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
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

int cweir_restrict_ring(
    struct io_uring *ring, const uint8_t *operations, int operation_count, const uint8_t *registrations,
    int registration_count, uint8_t entry_flags) {
    struct io_uring_restriction rules[33] = {0};
    if (operation_count > 16 || registration_count > 16) return -E2BIG;
    unsigned count = 0;
    for (int index = 0; index < operation_count; index++) {
        rules[count].opcode = IORING_RESTRICTION_SQE_OP;
        rules[count++].sqe_op = operations[index];
    }
    for (int index = 0; index < registration_count; index++) {
        rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        rules[count++].register_op = registrations[index];
    }
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[count++].sqe_flags = entry_flags;
    // liburing 2.3 declares io_uring_register_restrictions and does not export it.
    long code = syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules, count);
    return code < 0 ? -errno : 0;
}

static uint64_t now_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t cweir_monotonic_ns(void) { return now_ns(CLOCK_MONOTONIC); }
uint64_t cweir_realtime_ns(void) { return now_ns(CLOCK_REALTIME); }

socklen_t cweir_sockaddr_set(struct sockaddr_storage *out, int is_v6, uint64_t high, uint64_t low, uint16_t port) {
    memset(out, 0, sizeof *out);
    if (!is_v6) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        v4->sin_addr.s_addr = htonl((uint32_t)low);
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    uint64_t words[2] = {htobe64(high), htobe64(low)};
    memcpy(&v6->sin6_addr, words, sizeof words);
    return sizeof *v6;
}

int cweir_sockaddr_get(const struct sockaddr_storage *in, int *is_v6, uint64_t *high, uint64_t *low, uint16_t *port) {
    if (in->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)in;
        *is_v6 = 0;
        *high = 0;
        *low = ntohl(v4->sin_addr.s_addr);
        *port = ntohs(v4->sin_port);
        return 0;
    }
    if (in->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)in;
        uint64_t words[2];
        memcpy(words, &v6->sin6_addr, sizeof words);
        *is_v6 = 1;
        *high = be64toh(words[0]);
        *low = be64toh(words[1]);
        *port = ntohs(v6->sin6_port);
        return 0;
    }
    return -1;
}

// SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST; their headers do not go together with those of the C library.
#define CWEIR_ORIGINAL_DESTINATION 80

int cweir_original_destination(int fd, struct sockaddr_storage *out) {
    socklen_t length = sizeof *out;
    if (getsockname(fd, (struct sockaddr *)out, &length) < 0) return -errno;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)out;
    int is_v6 = out->ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
    struct sockaddr_storage original;
    length = sizeof original;
    // ENOENT: the connection was not redirected; ENOPROTOOPT: nothing here redirects.
    if (getsockopt(fd, is_v6 ? SOL_IPV6 : SOL_IP, CWEIR_ORIGINAL_DESTINATION, &original, &length) == 0) *out = original;
    return 0;
}

// Urgent bytes stay in the stream, where they stood (RFC 6093, section 5). Otherwise a receive stops at them although more
// is there, and a multishot one waits for what comes behind: it takes SIOCINQ's word, which is 0 there.
static int keep_urgent_inline(int fd) {
    int one = 1;
    return setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
}

static int connecting_socket(int is_v6, int flags) {
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) return -errno;
    keep_urgent_inline(fd);
    return fd;
}

// Blocking: on a non-blocking socket io_uring reports EAGAIN instead of waiting.
int cweir_connecting_socket(int is_v6) { return connecting_socket(is_v6, 0); }

int cweir_connecting_socket_nonblocking(int is_v6) { return connecting_socket(is_v6, SOCK_NONBLOCK); }

int cweir_connect(int fd, const struct sockaddr_storage *address, socklen_t length) {
    return connect(fd, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
}

int cweir_accept(int fd, struct sockaddr_storage *peer) {
    socklen_t length = sizeof *peer;
    int accepted = accept4(fd, (struct sockaddr *)peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return accepted < 0 ? -errno : accepted;
}

int cweir_accept_queue(int fd) {
    struct tcp_info info;
    // On a listening socket `tcpi_unacked` is the length of the accept queue. Nothing behind it is asked for.
    socklen_t length = offsetof(struct tcp_info, tcpi_unacked) + sizeof info.tcpi_unacked;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return -errno;
    return (int)info.tcpi_unacked;
}

int cweir_unacknowledged(int fd) {
    int count = 0;
    return ioctl(fd, SIOCOUTQ, &count) < 0 ? -errno : count;
}

int cweir_bound_accept(int fd) {
    struct timeval shortest = {.tv_usec = 1};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &shortest, sizeof shortest);
}

int cweir_bind_source(int fd, const struct sockaddr_storage *address, socklen_t length) {
    int one = 1;
    // Also the right call for IPv6: the option is IP-level and shared by both families.
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    return bind(fd, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
}

int cweir_restrict_outlet(int fd, int interface, unsigned mark) {
    if (interface < 0) return -ENODEV;
    if (interface > 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &interface, sizeof interface) < 0) return -errno;
    if (mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0) return -errno;
    return 0;
}

static int listening_socket(const struct sockaddr_storage *address, socklen_t length, int backlog, int shares,
                            int takes_ipv4) {
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int one = 1, only_ipv6 = !takes_ipv4;
    int failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
                 (shares && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) < 0) ||
                 setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 || keep_urgent_inline(fd) < 0;
    if (!failed && address->ss_family == AF_INET6)
        failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, sizeof only_ipv6) < 0;
    if (!failed) failed = bind(fd, (const struct sockaddr *)address, length) < 0;
    if (!failed) failed = listen(fd, backlog) < 0;
    if (failed) {
        int code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

int cweir_listening_socket(const struct sockaddr_storage *address, socklen_t length, int backlog, int takes_ipv4) {
    return listening_socket(address, length, backlog, 1, takes_ipv4);
}

int cweir_exclusive_listening_socket(const struct sockaddr_storage *address, socklen_t length, int backlog) {
    return listening_socket(address, length, backlog, 0, 0);
}

int cweir_adopt_listening_socket(int fd, int backlog) {
    int type = 0, listens = 0, one = 1;
    socklen_t length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) return -errno;
    length = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0) return -errno;
    if (type != SOCK_STREAM || !listens) return -ENOTCONN;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 || keep_urgent_inline(fd) < 0) return -errno;
    return listen(fd, backlog) < 0 ? -errno : 0;
}

int cweir_make_blocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

int cweir_duplicate(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

int cweir_accept_waiting(int fd, struct sockaddr_storage *peer, int is_nonblocking) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    // The socket itself stays blocking: io_uring accepts on it, and other processes may have it.
    if (poll(&entry, 1, 0) <= 0) return -EAGAIN;
    // Which may have been faster since.
    if (cweir_bound_accept(fd) < 0) return -errno;
    socklen_t length = sizeof *peer;
    int flags = SOCK_CLOEXEC | (is_nonblocking ? SOCK_NONBLOCK : 0);
    int accepted = accept4(fd, (struct sockaddr *)peer, &length, flags);
    return accepted < 0 ? -errno : accepted;
}

int cweir_try_bind(const struct sockaddr_storage *address, socklen_t length, int takes_ipv4) {
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int one = 1, only_ipv6 = !takes_ipv4;
    // Connections in TIME_WAIT are no reason to refuse.
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (address->ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, sizeof only_ipv6);
    int code = bind(fd, (const struct sockaddr *)address, length) < 0 ? -errno : 0;
    close(fd);
    return code;
}

void cweir_set_no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

void cweir_delay_acknowledgements(int fd) {
    int zero = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &zero, sizeof zero);
}

void cweir_prep_delay_acknowledgements(struct io_uring_sqe *entry, int fd) {
    static const int zero = 0;
    // The layout of <linux/io_uring.h> from Linux 6.7 on: cmd_op is SOCKET_URING_OP_SETSOCKOPT, then level and optname,
    // optlen, optval.
    memset(entry, 0, sizeof *entry);
    entry->opcode = CWEIR_OP_SOCKET_COMMAND;
    entry->fd = fd;
    entry->off = 3;
    entry->addr = (uint64_t)TCP_QUICKACK << 32 | IPPROTO_TCP;
    entry->file_index = sizeof zero;
    entry->addr3 = (uintptr_t)&zero;
}

int cweir_set_congestion_control(int fd, const char *name) {
    return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name)) < 0 ? -errno : 0;
}

int cweir_has_congestion_control(int fd, const char *name) {
    char found[16] = {0};
    socklen_t length = sizeof found - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, found, &length) < 0) return 0;
    return strcmp(found, name) == 0;
}

void cweir_set_keepalive(int fd, int idle, int interval, int probes) {
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

int cweir_set_reset_on_close(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

void cweir_set_unsent_limit(int fd, int byte_count) {
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &byte_count, sizeof byte_count);
}

void cweir_set_send_buffer(int fd, int byte_count) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &byte_count, sizeof byte_count);
}

void cweir_set_receive_buffer(int fd, int byte_count) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &byte_count, sizeof byte_count);
}

int cweir_socket_error(int fd) {
    int code = 0;
    socklen_t length = sizeof code;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) < 0) return errno;
    return code;
}

void cweir_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }

int64_t cweir_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    }
    return (int64_t)limit.rlim_cur;
}

int cweir_processor_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

int cweir_allowed_processors(int *out, int max) {
    cpu_set_t set;
    int count = 0;
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++)
        if (CPU_ISSET(cpu, &set)) out[count++] = cpu;
    return count;
}

int cweir_bind_thread(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return -pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

int cweir_steer_by_processor(int fd, const int *processors, int count, int socket_count) {
    // Two instructions for each CPU, and the rest for CPUs that are not ours, of which the network card may use some.
    struct sock_filter *code = calloc(2 * (size_t)count + 3, sizeof *code);
    if (!code) return -ENOMEM;
    unsigned length = 0;
    code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU));
    for (int index = 0; index < count; index++) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)processors[index], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (uint32_t)(index % socket_count));
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, (uint32_t)socket_count);
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_A, 0);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = code};
    int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) < 0 ? -errno : 0;
    free(code);
    return result;
}

void cweir_steer_by_hash(int fd) {
    int unused = 0;
    setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof unused);
}

uint64_t cweir_memory_byte_count(void) {
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
}

uint64_t cweir_random(void) {
    uint64_t value = 0;
    while (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) {}
    return value;
}

int cweir_each_local_address(void *state, void (*visit)(void *state, int is_v6, uint64_t high, uint64_t low)) {
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0) return -errno;
    for (struct ifaddrs *entry = list; entry; entry = entry->ifa_next) {
        if (!entry->ifa_addr) continue;
        struct sockaddr_storage storage = {0};
        if (entry->ifa_addr->sa_family == AF_INET)
            memcpy(&storage, entry->ifa_addr, sizeof(struct sockaddr_in));
        else if (entry->ifa_addr->sa_family == AF_INET6)
            memcpy(&storage, entry->ifa_addr, sizeof(struct sockaddr_in6));
        else
            continue;
        int is_v6;
        uint64_t high, low;
        uint16_t port;
        if (cweir_sockaddr_get(&storage, &is_v6, &high, &low, &port) == 0) visit(state, is_v6, high, low);
    }
    freeifaddrs(list);
    return 0;
}

int cweir_address_watch(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0) return -errno;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

void cweir_discard(int fd) {
    char bytes[4096];
    while (read(fd, bytes, sizeof bytes) > 0) {}
}

int cweir_pipe(int *read_end, int *write_end, int byte_count) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
    *read_end = ends[0];
    *write_end = ends[1];
    // Above its limit the kernel leaves the pipe as it is.
    fcntl(ends[1], F_SETPIPE_SZ, byte_count);
    return fcntl(ends[1], F_GETPIPE_SZ);
}

ssize_t cweir_splice_in(int socket, int pipe, size_t byte_count) {
    ssize_t count = splice(socket, NULL, pipe, NULL, byte_count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    return count < 0 ? -errno : count;
}

ssize_t cweir_splice_out(int pipe, int socket, size_t byte_count, int is_blocking) {
    int on = 1, off = 0;
    if (is_blocking) ioctl(socket, FIONBIO, &on);
    ssize_t count = splice(pipe, NULL, socket, NULL, byte_count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count < 0) count = -errno;
    if (is_blocking) ioctl(socket, FIONBIO, &off);
    return count;
}

int cweir_peek(int socket) {
    char byte;
    ssize_t count = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return count < 0 ? -errno : (int)count;
}

void cweir_block_sigpipe(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}
