/* The few frames of the ZooKeeper client protocol that zkfill and zkwatch send, and the helpers they share.
 * All integers on the wire are big-endian; a frame is a 4-byte length and that many bytes. */
#ifndef ZKWIRE_H
#define ZKWIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OP_CREATE = 1, OP_GET = 4, OP_SET = 5, OP_PING = 11 };
enum { XID_EVENT = -1, XID_PING = -2 };
enum { ERROR_NODE_EXISTS = -110 };
enum { CONNECT_FRAME = 49, SESSION_TIMEOUT_MS = 30000, PATH_LIMIT = 256 };

static inline void fail(const char *what) {
    perror(what);
    exit(2);
}

static inline uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000ULL + (uint64_t)t.tv_nsec / 1000;
}

static inline uint8_t *put_int(uint8_t *p, int32_t value) {
    uint32_t n = htonl((uint32_t)value);
    memcpy(p, &n, 4);
    return p + 4;
}

static inline int32_t get_int(const uint8_t *p) {
    uint32_t n;
    memcpy(&n, p, 4);
    return (int32_t)ntohl(n);
}

static inline uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t length) {
    p = put_int(p, (int32_t)length);
    memcpy(p, bytes, length);
    return p + length;
}

/* Writes the length in front of a frame that ends at `end` and returns the frame's whole size. */
static inline size_t seal(uint8_t *frame, const uint8_t *end) {
    put_int(frame, (int32_t)(end - frame - 4));
    return (size_t)(end - frame);
}

static inline size_t connect_frame(uint8_t *frame) {
    static const uint8_t zeros[16];
    uint8_t *p = put_int(frame + 4, 0);
    memcpy(p, zeros, 8); /* last zxid seen */
    p = put_int(p + 8, SESSION_TIMEOUT_MS);
    memcpy(p, zeros, 8); /* session: a new one */
    p = put_bytes(p + 8, zeros, sizeof zeros);
    *p++ = 0; /* not read-only */
    return seal(frame, p);
}

static inline size_t create_frame(uint8_t *frame, int32_t xid, const char *path, size_t value_size) {
    enum { ALL_PERMISSIONS = 31, PERSISTENT = 0 };
    uint8_t *p = put_int(put_int(frame + 4, xid), OP_CREATE);
    p = put_bytes(p, path, strlen(path));
    p = put_int(p, (int32_t)value_size);
    memset(p, 'x', value_size);
    p = put_int(p + value_size, 1); /* one ACL entry */
    p = put_int(p, ALL_PERMISSIONS);
    p = put_bytes(put_bytes(p, "world", 5), "anyone", 6);
    return seal(frame, put_int(p, PERSISTENT));
}

static inline size_t get_frame(uint8_t *frame, int32_t xid, const char *path, int watch) {
    uint8_t *p = put_bytes(put_int(put_int(frame + 4, xid), OP_GET), path, strlen(path));
    *p++ = (uint8_t)watch;
    return seal(frame, p);
}

static inline size_t set_frame(uint8_t *frame, int32_t xid, const char *path, size_t value_size) {
    uint8_t *p = put_bytes(put_int(put_int(frame + 4, xid), OP_SET), path, strlen(path));
    p = put_int(p, (int32_t)value_size);
    memset(p, 'y', value_size);
    return seal(frame, put_int(p + value_size, -1)); /* any version */
}

static inline size_t ping_frame(uint8_t *frame) {
    return seal(frame, put_int(put_int(frame + 4, XID_PING), OP_PING));
}

/* HOST:PORT as an address; ends the program when it is none. */
static inline struct sockaddr_in resolve(const char *host_port) {
    char host[256];
    const char *colon = strrchr(host_port, ':');
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    struct sockaddr_in address;
    if (!colon || (size_t)(colon - host_port) >= sizeof host) {
        fprintf(stderr, "HOST:PORT wanted, not %s\n", host_port);
        exit(2);
    }
    memcpy(host, host_port, (size_t)(colon - host_port));
    host[colon - host_port] = 0;
    if (getaddrinfo(host, colon + 1, &hints, &found)) {
        fprintf(stderr, "no such host: %s\n", host_port);
        exit(2);
    }
    memcpy(&address, found->ai_addr, sizeof address);
    freeaddrinfo(found);
    return address;
}

static inline void read_exactly(int fd, uint8_t *into, size_t length) {
    for (size_t got = 0; got < length;) {
        ssize_t n = read(fd, into + got, length - got);
        if (n == 0) errno = ECONNRESET;
        if (n <= 0) fail("read");
        got += (size_t)n;
    }
}

/* Sends one frame on a blocking socket, takes one frame as the answer and returns its length. */
static inline size_t exchange(int fd, const uint8_t *frame, size_t length, uint8_t *answer, size_t room) {
    if (write(fd, frame, length) != (ssize_t)length) fail("write");
    uint8_t prefix[4];
    read_exactly(fd, prefix, sizeof prefix);
    size_t size = (size_t)get_int(prefix);
    if (size > room) {
        fprintf(stderr, "an answer of %zu bytes was not expected\n", size);
        exit(2);
    }
    read_exactly(fd, answer, size);
    return size;
}

/* The error code of one request made on a blocking socket. */
static inline int32_t request_error(int fd, const uint8_t *frame, size_t length) {
    uint8_t answer[4096];
    if (exchange(fd, frame, length, answer, sizeof answer) < 16) {
        fprintf(stderr, "a reply without a whole header\n");
        exit(2);
    }
    return get_int(answer + 12);
}

/* A blocking connection with a session of its own. */
static inline int open_session(const struct sockaddr_in *address) {
    uint8_t frame[64], answer[64];
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) fail("socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof *address)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (exchange(fd, frame, connect_frame(frame), answer, sizeof answer) < 8 || get_int(answer + 4) <= 0) {
        fprintf(stderr, "the server refused the session\n");
        exit(2);
    }
    return fd;
}

/* Lifts the limit of open files to the hard limit; ends the program when that is not enough. */
static inline void want_files(rlim_t count) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (limit.rlim_max < count || setrlimit(RLIMIT_NOFILE, &limit)) {
        fprintf(stderr, "%lu open files wanted, at most %lu allowed (ulimit -Hn)\n", (unsigned long)count,
                (unsigned long)limit.rlim_max);
        exit(2);
    }
}

#endif
