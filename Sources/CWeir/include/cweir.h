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

// Whether the kernel holds completions that did not fit the queue (IORING_SQ_CQ_OVERFLOW).
static inline int cweir_cq_has_overflow(struct io_uring *ring) {
    return (IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

// Fills `out`; returns its length. `high` and `low` are the address in host order (IPv4: the low 32 bits of `low`).
socklen_t cweir_sockaddr_set(struct sockaddr_storage *out, int is_v6, uint64_t high, uint64_t low, uint16_t port);
// Reads `in`; returns 0, or -1 where it is neither IPv4 nor IPv6.
int cweir_sockaddr_get(const struct sockaddr_storage *in, int *is_v6, uint64_t *high, uint64_t *low, uint16_t *port);

// A TCP socket for a connect: close-on-exec, blocking, TCP_NODELAY. Returns it or -errno.
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
// A TCP socket that listens: SO_REUSEADDR, SO_REUSEPORT, TCP_NODELAY for what it accepts, IPV6_V6ONLY. Returns it or
// -errno.
int cweir_listening_socket(const struct sockaddr_storage *address, socklen_t length, int backlog);
// Binds a socket of its own that shares the address with nobody, and closes it. Returns 0 or -errno.
int cweir_try_bind(const struct sockaddr_storage *address, socklen_t length);
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

// Names the calling thread for ps, top and gdb: at most 15 bytes count (pthread_setname_np(3)).
void cweir_thread_name(const char *name);

// The descriptor limit: raises the soft limit to the hard one and returns it, or -errno.
int64_t cweir_raise_descriptor_limit(void);
// Processors that this process may run on.
int cweir_processor_count(void);
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
