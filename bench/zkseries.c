/* zkseries: keeps an ensemble busy while its members come and go, and says how much was answered in each interval.
 *
 * Use:  zkseries HOST:PORT,HOST:PORT,... [options]
 *   -c N      connections, spread over the servers at first     (default 30)
 *   -p N      requests each connection keeps in flight          (default 8)
 *   -r PCT    percent of reads; the rest are setData            (default 70)
 *   -n N      znodes of the working set, which zkload has made  (default 1000)
 *   -b BYTES  value size                                        (default 1024)
 *   -t SEC    how long                                          (default 60)
 *   -i MS     one interval                                      (default 200)
 * A connection that ends, or is not answered in time, opens a session on another server, picked by chance.
 * Prints a line for each interval:  at_us=… reads=… writes=… errors=… standing=…
 * `at_us` is its end on the monotonic clock; `standing` counts connections that have a session then.
 */
#define _GNU_SOURCE
#include "zkwire.h"
#include <signal.h>

enum { INPUT_SIZE = 1 << 18, DEPTH_LIMIT = 1024, SERVER_LIMIT = 16 };
enum { AGAIN_US = 20000, GREETING_PATIENCE_US = 1000000, REPLY_PATIENCE_US = 10000000 };

enum State { DOWN, CONNECTING, GREETING, STANDING };

typedef struct {
    enum State state;
    int fd, server, waiting_to_write;
    uint64_t since; /* DOWN: when to try again; otherwise when something last came in, or the state began */
    uint32_t sent, answered;
    uint8_t is_write[DEPTH_LIMIT]; /* of the requests in flight, by number */
    uint8_t *input, *output;
    size_t input_size, output_size, output_start;
} Connection;

static struct sockaddr_in servers[SERVER_LIMIT];
static int server_count = 0, connections = 30, depth = 8, read_percent = 70, znodes = 1000, poller, standing = 0;
static size_t value_size = 1024;
static uint64_t reads = 0, writes = 0, errors = 0;

static uint32_t chance(void) {
    static uint64_t state = 88172645463325252ULL;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 11);
}

static void listen_for(Connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poller, operation, c->fd, &event);
}

/* Gives the connection up; it will try another server. */
static void drop(Connection *c) {
    if (c->state == STANDING) standing--;
    close(c->fd); /* which takes it out of the poller as well */
    c->state = DOWN;
    c->server = (c->server + 1 + (int)(chance() % (uint32_t)(server_count > 1 ? server_count - 1 : 1))) % server_count;
    c->since = now_us() + AGAIN_US;
}

static void begin(Connection *c) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->sent = c->answered = 0;
    c->input_size = c->output_size = c->output_start = 0;
    c->waiting_to_write = 1;
    c->state = CONNECTING;
    c->since = now_us();
    const struct sockaddr_in *address = &servers[c->server];
    if (connect(c->fd, (const struct sockaddr *)address, sizeof *address) && errno != EINPROGRESS) {
        drop(c);
        return;
    }
    c->output_size = connect_frame(c->output);
    listen_for(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void submit(Connection *c) {
    char path[PATH_LIMIT];
    while (c->sent - c->answered < (uint32_t)depth) {
        int is_write = (int)(chance() % 100) >= read_percent;
        uint8_t *end = c->output + c->output_size;
        snprintf(path, sizeof path, "/zkload/n%u", chance() % (uint32_t)znodes);
        c->is_write[c->sent++ % DEPTH_LIMIT] = (uint8_t)is_write;
        c->output_size += is_write ? set_frame(end, (int32_t)c->sent, path, value_size)
                                   : get_frame(end, (int32_t)c->sent, path, 0);
    }
}

/* Returns whether the connection still stands. */
static int flush_output(Connection *c) {
    while (c->output_start < c->output_size) {
        ssize_t n = write(c->fd, c->output + c->output_start, c->output_size - c->output_start);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            drop(c);
            return 0;
        }
        c->output_start += (size_t)n;
    }
    if (c->output_start == c->output_size) c->output_start = c->output_size = 0;
    int waiting = c->output_size > 0;
    if (waiting != c->waiting_to_write) {
        listen_for(c, EPOLL_CTL_MOD, EPOLLIN | (waiting ? EPOLLOUT : 0));
        c->waiting_to_write = waiting;
    }
    return 1;
}

/* One whole frame without its length; returns whether the connection still stands. */
static int take_frame(Connection *c, const uint8_t *frame, size_t length) {
    if (c->state == GREETING) {
        if (length < 8 || get_int(frame + 4) <= 0) return 0;
        c->state = STANDING;
        standing++;
        return 1;
    }
    if (get_int(frame + 12)) errors++;
    else if (c->is_write[c->answered % DEPTH_LIMIT]) writes++;
    else reads++;
    c->answered++;
    return 1;
}

/* Returns whether the connection still stands. */
static int take_input(Connection *c) {
    ssize_t n = read(c->fd, c->input + c->input_size, INPUT_SIZE - c->input_size);
    if (n < 0 && errno == EAGAIN) return 1;
    int ok = n > 0;
    size_t at = 0;
    if (ok) c->input_size += (size_t)n;
    c->since = now_us();
    while (ok && c->input_size - at >= 4) {
        size_t length = (uint32_t)get_int(c->input + at);
        if (c->input_size - at < 4 + length) break;
        ok = take_frame(c, c->input + at + 4, length);
        at += 4 + length;
    }
    if (!ok) {
        drop(c);
        return 0;
    }
    memmove(c->input, c->input + at, c->input_size - at);
    c->input_size -= at;
    return 1;
}

static void handle(Connection *c, uint32_t events) {
    if (c->state == DOWN) return;
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            drop(c);
            return;
        }
        c->state = GREETING;
        flush_output(c);
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !take_input(c)) return;
    if (c->state == STANDING && c->output_size == 0) submit(c);
    flush_output(c);
}

/* Those that are down try again when it is time; those that wait for too long are given up. */
static void look_after(Connection *c, uint64_t now) {
    uint64_t patience = c->state == STANDING ? REPLY_PATIENCE_US : GREETING_PATIENCE_US;
    if (c->state == DOWN) {
        if (now >= c->since) begin(c);
    } else if (now > c->since + patience) {
        drop(c);
    }
}

int main(int argc, char **argv) {
    int option, seconds = 60, interval_ms = 200;
    if (argc < 2) {
        fprintf(stderr, "usage: zkseries HOST:PORT,... [-c N] [-p N] [-r PCT] [-n N] [-b BYTES] [-t SEC] [-i MS]\n");
        return 2;
    }
    for (char *one = strtok(argv[1], ","); one && server_count < SERVER_LIMIT; one = strtok(NULL, ","))
        servers[server_count++] = resolve(one);
    optind = 2;
    while ((option = getopt(argc, argv, "c:p:r:n:b:t:i:")) != -1) switch (option) {
        case 'c': connections = atoi(optarg); break;
        case 'p': depth = atoi(optarg); break;
        case 'r': read_percent = atoi(optarg); break;
        case 'n': znodes = atoi(optarg); break;
        case 'b': value_size = (size_t)atol(optarg); break;
        case 't': seconds = atoi(optarg); break;
        case 'i': interval_ms = atoi(optarg); break;
        default: return 2;
    }
    if (depth < 1 || depth > DEPTH_LIMIT || connections < 1 || znodes < 1 || interval_ms < 1 || !server_count) {
        fprintf(stderr, "zkseries: -p is 1..%d; -c, -n and -i are at least 1\n", DEPTH_LIMIT);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    want_files((rlim_t)connections + 20);
    poller = epoll_create1(0);
    Connection *all = calloc((size_t)connections, sizeof *all);
    /* New requests are only written into an empty buffer. */
    size_t output_room = (size_t)depth * (value_size + PATH_LIMIT + 64);
    for (int i = 0; i < connections; i++) {
        all[i].server = i % server_count;
        all[i].input = malloc(INPUT_SIZE);
        all[i].output = malloc(output_room);
    }
    uint64_t interval = (uint64_t)interval_ms * 1000, start = now_us(), end = start + (uint64_t)seconds * 1000000;
    for (uint64_t due = start + interval; due <= end;) {
        uint64_t now = now_us();
        if (now >= due) {
            printf("at_us=%lu reads=%lu writes=%lu errors=%lu standing=%d\n", (unsigned long)now, (unsigned long)reads,
                   (unsigned long)writes, (unsigned long)errors, standing);
            reads = writes = errors = 0;
            due += interval;
        }
        for (int i = 0; i < connections; i++) look_after(&all[i], now);
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 5);
        for (int i = 0; i < n; i++) handle(events[i].data.ptr, events[i].events);
    }
    return 0;
}
