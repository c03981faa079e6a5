// What liburing.h declares and Debian 12's liburing.so.2.3 does not export. Weak: a release that has it may bring its own.
#include "cweir.h"

__attribute__((weak)) int io_uring_enable_rings(struct io_uring *ring) {
    return io_uring_register(ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}
