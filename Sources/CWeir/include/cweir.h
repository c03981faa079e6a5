// What Swift cannot import from the C library and liburing: GNU-only calls, macros, ABI constants. No logic.
#pragma once
// <features.h> before <liburing.h>, which defines _GNU_SOURCE: otherwise every importer of Glibc fails.
#include <features.h>
#include <sys/types.h>
#include <liburing.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

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

// IOSQE_* are macros of enum values, which Swift does not import.
enum cweir_sqe_flags : uint8_t {
    CWEIR_SQE_BUFFER_SELECT = 1u << IOSQE_BUFFER_SELECT_BIT,
    CWEIR_SQE_CQE_SKIP_SUCCESS = 1u << IOSQE_CQE_SKIP_SUCCESS_BIT,
};

// GNU-only constants, which Glibc's module does not have: SPLICE_F_MOVE | SPLICE_F_NONBLOCK, and POLLRDHUP.
enum cweir_gnu_constants : uint32_t {
    CWEIR_SPLICE_FLAGS = 3,
    CWEIR_POLLRDHUP = 0x2000,
};

// IORING_OP_URING_CMD, which does that since Linux 6.7.
enum cweir_later_operations : uint8_t { CWEIR_OP_SOCKET_COMMAND = 46 };

// Whether the kernel holds completions that did not fit the queue (IORING_SQ_CQ_OVERFLOW).
static inline int cweir_cq_has_overflow(struct io_uring *ring) {
    return (IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

// Lets a ring that is still disabled do no more than these operations (IORING_OP_*) with these entry flags
// (IOSQE_*_BIT as a mask), and these registrations (IORING_REGISTER_*), for good. Each list has at most 16. Returns 0 or
// -errno.
int cweir_restrict_ring(
    struct io_uring *ring, const uint8_t *operations, int operation_count, const uint8_t *registrations,
    int registration_count, uint8_t entry_flags);

// Fills `out`; returns its length. `high` and `low` are the address in host order (IPv4: the low 32 bits of `low`).
socklen_t cweir_sockaddr_set(struct sockaddr_storage *out, int is_v6, uint64_t high, uint64_t low, uint16_t port);
// Reads `in`; returns 0, or -1 where it is neither IPv4 nor IPv6.
int cweir_sockaddr_get(const struct sockaddr_storage *in, int *is_v6, uint64_t *high, uint64_t *low, uint16_t *port);
// The address that an accepted connection was made to before netfilter redirected it, else this end's. 0 or -errno.
int cweir_original_destination(int fd, struct sockaddr_storage *out);

// A TCP socket for a connect: close-on-exec, blocking. Returns it or -errno.
int cweir_connecting_socket(int is_v6);
// The same, non-blocking.
int cweir_connecting_socket_nonblocking(int is_v6);
// connect(2). Returns 0 or -errno.
int cweir_connect(int fd, const struct sockaddr_storage *address, socklen_t length);
// accept4(2): the new socket, close-on-exec and non-blocking, and its other end. Returns it or -errno.
int cweir_accept(int fd, struct sockaddr_storage *peer);
// Connections that wait to be accepted, or -errno.
int cweir_accept_queue(int fd);
// Bytes sent that the other end has not acknowledged, FIN included (SIOCOUTQ), or -errno.
int cweir_unacknowledged(int fd);
// Lets a blocking accept(2) end with EAGAIN after the shortest time there is (SO_RCVTIMEO).
int cweir_bound_accept(int fd);
// Binds to a local address without choosing a port yet (IP_BIND_ADDRESS_NO_PORT), so that connect(2) can share ports
// between destinations. Returns 0 or -errno.
int cweir_bind_source(int fd, const struct sockaddr_storage *address, socklen_t length);
// Lets a socket's packets leave through one interface only (its number; 0: any, below: ENODEV) and marks them (0: not).
// Returns 0 or -errno.
int cweir_restrict_outlet(int fd, int interface, unsigned mark);
// A TCP socket that listens: SO_REUSEADDR, SO_REUSEPORT, TCP_NODELAY for what it accepts, IPV6_V6ONLY unless it
// takes IPv4 too. Returns it or -errno.
int cweir_listening_socket(const struct sockaddr_storage *address, socklen_t length, int backlog, int takes_ipv4);
// The same on an address of its own, for a server that needs no second socket: SO_REUSEADDR only.
int cweir_exclusive_listening_socket(const struct sockaddr_storage *address, socklen_t length, int backlog);
// Makes a listening TCP socket that somebody else made ready for us: close-on-exec, TCP_NODELAY for what it accepts, this
// backlog. Returns 0 or -errno; -ENOTCONN where it is a socket that does not listen.
int cweir_adopt_listening_socket(int fd, int backlog);
// Takes O_NONBLOCK away, for everyone who has the socket. Returns 0 or -errno.
int cweir_make_blocking(int fd);
// Another descriptor of the same socket, close-on-exec; or -errno.
int cweir_duplicate(int fd);
// A connection that waits on a listening socket, and its other end: close-on-exec, non-blocking where asked for. Returns
// it or -errno; -EAGAIN where none waits.
int cweir_accept_waiting(int fd, struct sockaddr_storage *peer, int is_nonblocking);
// Binds a socket of its own that shares the address with nobody, and closes it. Returns 0 or -errno.
int cweir_try_bind(const struct sockaddr_storage *address, socklen_t length, int takes_ipv4);
// What is sent does not wait for the acknowledgement of what was sent before (TCP_NODELAY).
void cweir_set_no_delay(int fd);
// Acknowledgements go with what is sent, as far as it is sent soon (TCP_QUICKACK 0). On a socket that is about to connect:
// the first send carries the one that ends the handshake.
void cweir_delay_acknowledgements(int fd);
// The same by the ring (Linux 6.7). Sets neither user data nor flags.
void cweir_prep_delay_acknowledgements(struct io_uring_sqe *entry, int fd);
// The congestion control (TCP_CONGESTION), inherited by accepted sockets. Returns 0 or -errno: ENOENT where the kernel has
// none of that name, EPERM where it is not for everybody.
int cweir_set_congestion_control(int fd, const char *name);
// Whether the socket has this one.
int cweir_has_congestion_control(int fd, const char *name);
// SO_KEEPALIVE: seconds of silence before the first probe, between two, and how many go unanswered.
void cweir_set_keepalive(int fd, int idle, int interval, int probes);
// Makes a later close(2) send RST.
int cweir_set_reset_on_close(int fd);
// Bytes that may wait to be sent for the first time (TCP_NOTSENT_LOWAT); inherited by accepted sockets.
void cweir_set_unsent_limit(int fd, int byte_count);
// The send buffer (SO_SNDBUF), which the kernel then tunes no more.
void cweir_set_send_buffer(int fd, int byte_count);
// The receive buffer (SO_RCVBUF), which the kernel then tunes no more.
void cweir_set_receive_buffer(int fd, int byte_count);
// SO_ERROR, and clears it.
int cweir_socket_error(int fd);

// A pipe of about `byte_count` bytes, close-on-exec and non-blocking. Returns its size or -errno.
int cweir_pipe(int *read_end, int *write_end, int byte_count);
// splice(2) from a socket that has bytes or has ended into a pipe. Returns the byte count or -errno.
ssize_t cweir_splice_in(int socket, int pipe, size_t byte_count);
// splice(2) from a pipe into a socket, as much as there is room for. `is_blocking`: so is the socket, which is made
// non-blocking meanwhile: the kernel looks at nothing else. Returns the byte count or -errno. The calling thread gets
// SIGPIPE where the peer has gone; see cweir_block_sigpipe.
ssize_t cweir_splice_out(int pipe, int socket, size_t byte_count, int is_blocking);
// What a receive would give: 1 where there are bytes, 0 at the end, -EAGAIN, another -errno (which is taken from it).
int cweir_peek(int socket);
// Keeps SIGPIPE from the calling thread for good: splice(2) has no MSG_NOSIGNAL.
void cweir_block_sigpipe(void);

// Names the calling thread for ps, top and gdb: at most 15 bytes count (pthread_setname_np(3)).
void cweir_thread_name(const char *name);

// The descriptor limit: raises the soft limit to the hard one and returns it, or -errno.
int64_t cweir_raise_descriptor_limit(void);
// Processors that this process may run on.
int cweir_processor_count(void);
// The numbers of the CPUs that the calling thread may run on, ascending, `max` at most. Returns how many.
int cweir_allowed_processors(int *out, int max);
// Lets the calling thread run on this CPU only. Returns 0 or -errno.
int cweir_bind_thread(int processor);
// Chooses among the sockets that listen on the address of `fd` (SO_REUSEPORT) by the CPU that a connection comes in on:
// for `processors[n]` the one that began to listen as number `n % socket_count`. Returns 0 or -errno.
int cweir_steer_by_processor(int fd, const int *processors, int count, int socket_count);
// Undoes it.
void cweir_steer_by_hash(int fd);
// Bytes of physical memory.
uint64_t cweir_memory_byte_count(void);
// 64 unpredictable bits (getrandom(2)).
uint64_t cweir_random(void);

// The machine's addresses: calls `visit` for each IPv4 and IPv6 address of every interface. Returns 0 or -errno.
int cweir_each_local_address(void *state, void (*visit)(void *state, int is_v6, uint64_t high, uint64_t low));
// A netlink socket that becomes readable when an address is added or removed (RTMGRP_IPV4_IFADDR, _IPV6_IFADDR).
// Returns it or -errno.
int cweir_address_watch(void);
// Takes what a descriptor has to say until it would block; its contents do not matter.
void cweir_discard(int fd);
