#include "cfuzz.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

static struct cfuzz_tls_reading *current;

// Called when the message has been taken apart and before anything is chosen from it.
static int hello_was_read(SSL *ssl, int *alert, void *argument) {
    (void)alert;
    (void)argument;
    const unsigned char *bytes;
    size_t length;
    current->progress = CFUZZ_TLS_HELLO;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &bytes, &length)) {
        current->extension_length = (int)length;
        memcpy(current->extension, bytes, length < sizeof current->extension ? length : sizeof current->extension);
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

// Called when OpenSSL has read server_name; the rest of the handshake is none of our business.
static int server_name_was_read(SSL *ssl, int *alert, void *argument) {
    (void)alert;
    (void)argument;
    current->progress = CFUZZ_TLS_SERVER_NAME;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name != NULL) {
        size_t length = strlen(name);
        if (length > sizeof current->name) abort();
        current->name_length = (int)length;
        memcpy(current->name, name, length);
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *make_context(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    // As old and as weak as this library goes: what it refuses shall be refused for its form.
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, 0);
    SSL_CTX_set_cipher_list(context, "ALL:COMPLEMENTOFALL");
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_client_hello_cb(context, hello_was_read, NULL);
    SSL_CTX_set_tlsext_servername_callback(context, server_name_was_read);
    return context;
}

void cfuzz_tls_read(const uint8_t *data, size_t size, struct cfuzz_tls_reading *reading) {
    static SSL_CTX *context;
    if (context == NULL) context = make_context();
    current = reading;
    reading->progress = CFUZZ_TLS_NEED_MORE;
    reading->extension_length = -1;
    reading->name_length = -1;
    reading->reason = "";
    memset(reading->function, 0, sizeof reading->function);

    SSL *ssl = SSL_new(context);
    BIO *input = BIO_new_mem_buf(data, (int)size);
    BIO *output = BIO_new(BIO_s_mem());
    if (ssl == NULL || input == NULL || output == NULL) abort();
    // The end of the bytes is not the end of the connection.
    BIO_set_mem_eof_return(input, -1);
    SSL_set_bio(ssl, input, output);
    SSL_set_accept_state(ssl);
    int result = SSL_do_handshake(ssl);
    // After the server name, or a whole hello in time, it answers: there is nothing to see in that.
    int error = SSL_get_error(ssl, result);
    if (error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL) {
        const char *function = NULL;
        unsigned long code = ERR_peek_error_all(NULL, NULL, &function, NULL, NULL);
        const char *reason = ERR_reason_error_string(code);
        reading->reason = reason != NULL ? reason : "no reason given";
        // Belongs to the queue of errors, which is emptied below.
        if (function != NULL) strncpy(reading->function, function, sizeof reading->function - 1);
        if (reading->progress == CFUZZ_TLS_NEED_MORE) reading->progress = CFUZZ_TLS_REFUSED;
    }
    SSL_free(ssl);
    ERR_clear_error();
}
