#pragma once
#include <features.h>
#include <stddef.h>
#include <stdint.h>

// What libFuzzer gives a target's own mutator: changes `data` in place and returns its new length, at most `max_size`.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/// How far OpenSSL's server came with the bytes.
enum cfuzz_tls_progress {
    /// Waits for more of them.
    CFUZZ_TLS_NEED_MORE = 0,
    /// Refused before the ClientHello was read as a whole.
    CFUZZ_TLS_REFUSED = 1,
    /// The ClientHello was read, and its extensions told apart.
    CFUZZ_TLS_HELLO = 2,
    /// server_name was read too, or is not there.
    CFUZZ_TLS_SERVER_NAME = 3,
};

struct cfuzz_tls_reading {
    int progress;
    /// From CFUZZ_TLS_HELLO on: the bytes of the server_name extension, -1 where there is none. At most what fits.
    int extension_length;
    uint8_t extension[1024];
    /// With CFUZZ_TLS_SERVER_NAME: the host name, -1 where there is none.
    int name_length;
    uint8_t name[256];
    /// OpenSSL's words for what it refused, and its function; empty where it refused nothing.
    const char *reason;
    char function[64];
};

/// Has OpenSSL's server read `data` as the first bytes of a connection. One thread only.
void cfuzz_tls_read(const uint8_t *data, size_t size, struct cfuzz_tls_reading *reading);
