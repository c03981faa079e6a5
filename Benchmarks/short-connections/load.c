// One epoll process that is client and origin of short connections through a proxy:
//
//   connect to the proxy -> send a ClientHello -> the origin reads it, answers, closes -> read to the end -> close
//
//   load PROXY_PORT ORIGIN_PORT CONCURRENCY SECONDS PROXY_PID
//
// Prints one line of JSON: connections per second, errors, and the proxy's CPU time per connection (utime + stime of
// /proc/PID/stat over the measured window, children not included).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { helloMax = 600, replyCount = 512, socketMax = 65536 };

// What a descriptor is, in the upper half of epoll's data.
enum { listening = 1, client = 2, origin = 3 };

static unsigned char hello[helloMax];
static int helloCount;
static char reply[replyCount];
static int received[socketMax];
static int epollDescriptor;
static struct sockaddr_in proxyAddress;
static long done, failed;

static void put(int *at, const void *bytes, int count) {
    memcpy(hello + *at, bytes, count);
    *at += count;
}

// A minimal TLS 1.2 hello with the server name `bench.test`, padded to 517 bytes as OpenSSL does.
static void makeHello(void) {
    static const unsigned char name[] = "bench.test";
    int at = 9;
    unsigned char body[2 + 32 + 1] = {3, 3};
    put(&at, body, sizeof body);
    put(&at, "\0\2\x13\x01\1\0", 6);
    int nameCount = sizeof name - 1, sniCount = nameCount + 5;
    int paddingCount = 517 - at - 2 - 4 - sniCount - 4, extensions = 4 + sniCount + 4 + paddingCount;
    unsigned char head[] = {extensions >> 8, extensions, 0, 0, sniCount >> 8, sniCount, 0, sniCount - 2, 0, 0, nameCount};
    put(&at, head, sizeof head);
    put(&at, name, nameCount);
    unsigned char padding[] = {0, 21, paddingCount >> 8, paddingCount};
    put(&at, padding, sizeof padding);
    at += paddingCount;
    helloCount = at;
    unsigned char record[] = {22, 3, 1, (at - 5) >> 8, (at - 5), 1, 0, (at - 9) >> 8, (at - 9)};
    memcpy(hello, record, sizeof record);
}

static void watch(int fd, int kind, unsigned events) {
    struct epoll_event event = {.events = events, .data.u64 = (unsigned long)kind << 32 | (unsigned)fd};
    epoll_ctl(epollDescriptor, EPOLL_CTL_ADD, fd, &event);
}

static void startClient(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0 || fd >= socketMax) { perror("socket"); exit(1); }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    received[fd] = -1;
    if (connect(fd, (struct sockaddr *)&proxyAddress, sizeof proxyAddress) < 0 && errno != EINPROGRESS) {
        perror("connect");
        exit(1);
    }
    watch(fd, client, EPOLLIN | EPOLLOUT | EPOLLET);
}

static void clientReady(int fd, unsigned events) {
    char bytes[4096];
    if (received[fd] < 0) {
        if (!(events & EPOLLOUT)) return;
        received[fd] = 0;
        if (send(fd, hello, helloCount, MSG_NOSIGNAL) != helloCount) received[fd] = -2;
    }
    for (;;) {
        ssize_t count = read(fd, bytes, sizeof bytes);
        if (count > 0) { received[fd] += count; continue; }
        if (count < 0 && errno == EAGAIN) return;
        if (count == 0 && received[fd] == replyCount) done++; else failed++;
        close(fd);
        startClient();
        return;
    }
}

static void originReady(int fd) {
    char bytes[4096];
    for (;;) {
        ssize_t count = read(fd, bytes, sizeof bytes);
        if (count > 0) received[fd] += count;
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) { close(fd); return; }
        if (received[fd] >= helloCount) {
            if (send(fd, reply, replyCount, MSG_NOSIGNAL) < 0) failed++;
            close(fd);
            return;
        }
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double cpu(int pid) {
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    text[count > 0 ? count : 0] = 0;
    char *end = strrchr(text, ')');
    unsigned long user = 0, system = 0;
    if (!end || sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) return 0;
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

int main(int count, char **arguments) {
    if (count != 6) { fprintf(stderr, "load PROXY_PORT ORIGIN_PORT CONCURRENCY SECONDS PROXY_PID\n"); return 2; }
    int concurrency = atoi(arguments[3]), pid = atoi(arguments[5]), one = 1;
    double seconds = atof(arguments[4]);
    makeHello();
    epollDescriptor = epoll_create1(0);
    proxyAddress = (struct sockaddr_in){AF_INET, htons(atoi(arguments[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    struct sockaddr_in own = {AF_INET, htons(atoi(arguments[2])), {htonl(INADDR_LOOPBACK)}, {0}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) < 0 || listen(listener, 4096) < 0) {
        perror("origin");
        return 1;
    }
    watch(listener, listening, EPOLLIN);
    for (int i = 0; i < concurrency; i++) startClient();

    double start = now(), warm = start + seconds / 4, stop = warm + seconds, cpuBefore = 0;
    long doneBefore = -1;
    struct epoll_event events[512];
    while (now() < stop) {
        int ready = epoll_wait(epollDescriptor, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            int fd = (int)events[i].data.u64, kind = (int)(events[i].data.u64 >> 32);
            if (kind == listening) {
                int accepted;
                while ((accepted = accept4(fd, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    received[accepted] = 0;
                    watch(accepted, origin, EPOLLIN | EPOLLET);
                }
            } else if (kind == client) {
                clientReady(fd, events[i].events);
            } else {
                originReady(fd);
            }
        }
        if (doneBefore < 0 && now() >= warm) { doneBefore = done; cpuBefore = cpu(pid); start = now(); }
    }
    double elapsed = now() - start;
    long measured = done - doneBefore;
    printf("{\"connections_per_second\": %.0f, \"cpu_us_per_connection\": %.1f, \"connections\": %ld, \"errors\": %ld}\n",
           measured / elapsed, (cpu(pid) - cpuBefore) * 1e6 / (measured ? measured : 1), measured, failed);
    return 0;
}
