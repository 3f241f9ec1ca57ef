/* zkwatch: many connections, one session each, that either watch one znode or stay idle and ping.
 *
 * Use:  zkwatch HOST:PORT [options]
 *   -c N      connections                                      (default 10000)
 *   -n N      changes made, each seen by all of them           (default 5)
 *   -i SEC    no changes: stay idle for SEC seconds instead, each connection pinging three times per session timeout
 * Watching, each change is one setData by a connection of its own; times count from just before it is sent.
 * Prints one line a change:   change=… notified=… reply_us=… first_us=… median_us=… last_us=…
 * Idle, prints `ready` once the connections stand and have been pinging for a while, and after SEC seconds
 *                             pings=… answered=… lost=… p50_us=… p999_us=… max_us=…
 */
#define _GNU_SOURCE
#include "zkwire.h"

enum { HANDSHAKES_AT_ONCE = 40, /* less than the 50 that wait in a Java server's accept queue */
       VALUE_SIZE = 100, PATIENCE_US = 60000000, SETTLE_US = 200000, IDLE_LEAD_US = 5000000 };
enum { PINGS_PER_TIMEOUT = 3, INPUT_SIZE = 1024, LATENCY_LIMIT = 1 << 22 };

typedef enum { CONNECTING, GREETING, STANDING } State;

typedef struct {
    int fd;
    State state;
    uint64_t pinged_at;
    size_t input_size;
    uint8_t input[INPUT_SIZE];
} Connection;

static const char *const path = "/zkwatch";
static struct sockaddr_in address;
static int connections = 10000, changes = 5, idle_s = 0, poller, started = 0, standing = 0;
static Connection *all;
static uint64_t *latencies, latency_count = 0; /* of watch events or of pings */
static uint64_t counted_from = 0, replied_at = 0, replies = 0, pings = 0, answered = 0, lost = 0;

static void send_small(int fd, const uint8_t *frame, size_t length) {
    if (write(fd, frame, length) != (ssize_t)length) fail("write"); /* an idle socket always has room for so little */
}

static void start_connection(void) {
    Connection *c = &all[started++];
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) fail("connect");
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void greet(Connection *c) {
    uint8_t frame[64];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        errno = error;
        fail("connect");
    }
    send_small(c->fd, frame, connect_frame(frame));
    c->state = GREETING;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

static void note_latency(uint64_t since) {
    if (latency_count < LATENCY_LIMIT) latencies[latency_count++] = now_us() - since;
}

/* One whole frame without its length has come in. */
static void take_frame(Connection *c, const uint8_t *frame, size_t length) {
    if (c->state == GREETING) {
        if (length < 8 || get_int(frame + 4) <= 0) {
            fprintf(stderr, "zkwatch: the server refused a session\n");
            exit(2);
        }
        c->state = STANDING;
        standing++;
        return;
    }
    int32_t xid = get_int(frame);
    if (xid == XID_EVENT) {
        note_latency(counted_from);
    } else if (xid == XID_PING) {
        if (c->pinged_at >= counted_from) {
            answered++;
            note_latency(c->pinged_at);
        }
    } else {
        int32_t error = get_int(frame + 12);
        if (error) {
            fprintf(stderr, "zkwatch: a request failed with error %d\n", error);
            exit(2);
        }
        replied_at = now_us();
        replies++;
    }
}

static void take_input(Connection *c) {
    ssize_t n = read(c->fd, c->input + c->input_size, INPUT_SIZE - c->input_size);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (!idle_s || c->state != STANDING) {
            fprintf(stderr, "zkwatch: the server closed a connection (%d stand)\n", standing);
            exit(2);
        }
        lost++;
        close(c->fd);
        c->fd = -1;
        return;
    }
    c->input_size += (size_t)n;
    size_t at = 0;
    while (c->input_size - at >= 4) {
        size_t length = (uint32_t)get_int(c->input + at);
        if (length + 4 > INPUT_SIZE) {
            fprintf(stderr, "zkwatch: a frame of %zu bytes was not expected\n", length);
            exit(2);
        }
        if (c->input_size - at < 4 + length) break;
        take_frame(c, c->input + at + 4, length);
        at += 4 + length;
    }
    memmove(c->input, c->input + at, c->input_size - at);
    c->input_size -= at;
}

/* Waits at most `wait_ms` for anything to come in and takes it. */
static void turn(int wait_ms) {
    struct epoll_event events[512];
    int n = epoll_wait(poller, events, 512, wait_ms);
    for (int i = 0; i < n; i++) {
        Connection *c = events[i].data.ptr;
        if (c->fd < 0) continue;
        if (c->state == CONNECTING) greet(c);
        else take_input(c);
    }
}

static void turn_until(uint64_t end) {
    for (uint64_t now = now_us(); now < end; now = now_us()) turn((int)((end - now) / 1000) + 1);
}

/* Turns until `*counter` has reached `goal`. */
static void turn_for(const uint64_t *counter, uint64_t goal, const char *what) {
    uint64_t end = now_us() + PATIENCE_US;
    while (*counter < goal) {
        if (now_us() > end) {
            fprintf(stderr, "zkwatch: %lu of %lu %s came within %d s\n", (unsigned long)*counter, (unsigned long)goal, what,
                    PATIENCE_US / 1000000);
            exit(2);
        }
        turn(100);
    }
}

static void connect_all(void) {
    uint64_t end = now_us() + 2 * (uint64_t)PATIENCE_US;
    while (standing < connections) {
        while (started < connections && started - standing < HANDSHAKES_AT_ONCE) start_connection();
        turn(100);
        if (now_us() > end) {
            fprintf(stderr, "zkwatch: only %d of %d sessions opened\n", standing, connections);
            exit(2);
        }
    }
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t at_share(double share) {
    if (!latency_count) return 0;
    uint64_t index = (uint64_t)((double)latency_count * share);
    return latencies[index < latency_count ? index : latency_count - 1];
}

/* The connection that makes the changes; its requests have made sure that the znode is there. */
static Connection *open_writer(void) {
    uint8_t frame[PATH_LIMIT + VALUE_SIZE];
    Connection *c = &all[connections];
    c->fd = open_session(&address);
    c->state = STANDING;
    int32_t error = request_error(c->fd, frame, create_frame(frame, 1, path, VALUE_SIZE));
    if (error && error != ERROR_NODE_EXISTS) {
        fprintf(stderr, "zkwatch: create %s: error %d\n", path, error);
        exit(2);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    return c;
}

static void watch(void) {
    uint8_t frame[PATH_LIMIT + VALUE_SIZE];
    Connection *writer = open_writer();
    for (int change = 1; change <= changes; change++) {
        replies = 0;
        size_t length = get_frame(frame, change, path, 1);
        for (int i = 0; i < connections; i++) {
            send_small(all[i].fd, frame, length);
            if (i % 256 == 255) turn(0);
        }
        turn_for(&replies, (uint64_t)connections, "replies");
        turn_until(now_us() + SETTLE_US);
        latency_count = replies = 0;
        length = set_frame(frame, change + 1, path, VALUE_SIZE);
        counted_from = now_us();
        send_small(writer->fd, frame, length);
        turn_for(&latency_count, (uint64_t)connections, "notifications");
        turn_for(&replies, 1, "replies to setData");
        qsort(latencies, latency_count, sizeof *latencies, compare);
        printf("change=%d notified=%lu reply_us=%lu first_us=%lu median_us=%lu last_us=%lu\n", change,
               (unsigned long)latency_count, (unsigned long)(replied_at - counted_from), (unsigned long)latencies[0],
               (unsigned long)at_share(0.5), (unsigned long)latencies[latency_count - 1]);
        fflush(stdout);
    }
}

/* Pings every connection in turn until `end`, evenly: all of them once in a third of the session timeout. */
static void ping_until(uint64_t end) {
    static int next = 0;
    uint8_t frame[16];
    size_t length = ping_frame(frame);
    double gap_us = 1000.0 * SESSION_TIMEOUT_MS / PINGS_PER_TIMEOUT / connections;
    double due = (double)now_us();
    for (uint64_t now = now_us(); now < end; now = now_us()) {
        for (; due <= (double)now; due += gap_us) {
            Connection *c = &all[next++ % connections];
            if (c->fd < 0) continue;
            c->pinged_at = now_us();
            send_small(c->fd, frame, length);
            if (counted_from) pings++;
        }
        turn(1);
    }
}

static void stay_idle(void) {
    counted_from = UINT64_MAX;
    ping_until(now_us() + IDLE_LEAD_US);
    printf("ready\n");
    fflush(stdout);
    pings = answered = latency_count = 0;
    counted_from = now_us();
    ping_until(now_us() + (uint64_t)idle_s * 1000000);
    turn_until(now_us() + SETTLE_US);
    qsort(latencies, latency_count, sizeof *latencies, compare);
    printf("pings=%lu answered=%lu lost=%lu p50_us=%lu p999_us=%lu max_us=%lu\n", (unsigned long)pings,
           (unsigned long)answered, (unsigned long)lost, (unsigned long)at_share(0.5), (unsigned long)at_share(0.999),
           (unsigned long)at_share(1));
}

int main(int argc, char **argv) {
    int option;
    if (argc < 2) {
        fprintf(stderr, "usage: zkwatch HOST:PORT [-c N] [-n N | -i SEC]\n");
        return 2;
    }
    address = resolve(argv[1]);
    optind = 2;
    while ((option = getopt(argc, argv, "c:n:i:")) != -1) switch (option) {
        case 'c': connections = atoi(optarg); break;
        case 'n': changes = atoi(optarg); break;
        case 'i': idle_s = atoi(optarg); break;
        default: return 2;
    }
    if (connections < 1 || connections > LATENCY_LIMIT || changes < 1 || idle_s < 0) {
        fprintf(stderr, "zkwatch: -c is 1..%d, -n at least 1, -i at least 0\n", LATENCY_LIMIT);
        return 2;
    }
    want_files((rlim_t)connections + 20);
    all = calloc((size_t)connections + 1, sizeof *all); /* and the writer */
    latencies = calloc(LATENCY_LIMIT, sizeof *latencies);
    poller = epoll_create1(0);
    connect_all();
    if (idle_s) stay_idle();
    else watch();
    return lost ? 1 : 0;
}
