/* zkfill: creates many znodes through pipelined creates on a few connections, and says how fast that went.
 *
 * Use:  zkfill HOST:PORT DIRECTORY [options]
 *   -n N      znodes to create                                     (default 1000)
 *   -s N      number of the first one, for its name                (default 0)
 *   -b BYTES  value size                                           (default 100)
 *   -f N      children of each subdirectory; 0: all in DIRECTORY   (default 0)
 *   -c N      connections                                          (default 30)
 *   -p N      requests each connection keeps in flight             (default 8)
 * DIRECTORY and its subdirectories are created first and do not count.
 * Prints one line:  ops=… seconds=… ops_s=… max_us=… errors=…
 */
#define _GNU_SOURCE
#include "zkwire.h"

enum { INPUT_SIZE = 1 << 18, DEPTH_LIMIT = 1024 };

typedef struct {
    int fd, waiting_to_write;
    uint32_t sent, answered; /* requests; the send times of those in flight stand in sent_at, by number */
    uint64_t sent_at[DEPTH_LIMIT];
    uint8_t *input, *output;
    size_t input_size, output_size, output_start;
} Connection;

static const char *directory;
static long count = 1000, first_number = 0, fanout = 0, submitted = 0, finished = 0, errors = 0;
static size_t value_size = 100;
static int connections = 30, depth = 8;
static uint64_t max_us = 0;

static void path_of(long number, char *path) {
    if (fanout) snprintf(path, PATH_LIMIT, "%s/d%ld/n%ld", directory, number / fanout, number);
    else snprintf(path, PATH_LIMIT, "%s/n%ld", directory, number);
}

static void create_or_keep(int fd, const char *path) {
    uint8_t frame[2 * PATH_LIMIT];
    int32_t error = request_error(fd, frame, create_frame(frame, 1, path, 0));
    if (error && error != ERROR_NODE_EXISTS) {
        fprintf(stderr, "zkfill: create %s: error %d\n", path, error);
        exit(2);
    }
}

static void create_directories(int fd) {
    char path[PATH_LIMIT];
    create_or_keep(fd, directory);
    for (long i = fanout ? first_number / fanout : 0; fanout && i * fanout < first_number + count; i++) {
        snprintf(path, sizeof path, "%s/d%ld", directory, i);
        create_or_keep(fd, path);
    }
}

static void submit(Connection *c) {
    char path[PATH_LIMIT];
    while (submitted < count && c->sent - c->answered < (uint32_t)depth) {
        path_of(first_number + submitted++, path);
        c->output_size += create_frame(c->output + c->output_size, (int32_t)c->sent + 1, path, value_size);
        c->sent_at[c->sent++ % DEPTH_LIMIT] = now_us();
    }
}

static void flush_output(Connection *c, int poller) {
    while (c->output_start < c->output_size) {
        ssize_t n = write(c->fd, c->output + c->output_start, c->output_size - c->output_start);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) fail("write");
        c->output_start += (size_t)n;
    }
    if (c->output_start == c->output_size) c->output_start = c->output_size = 0;
    int waiting = c->output_size > 0;
    if (waiting != c->waiting_to_write) {
        struct epoll_event event = {.events = EPOLLIN | (waiting ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
        c->waiting_to_write = waiting;
    }
}

static void take_replies(Connection *c) {
    ssize_t n = read(c->fd, c->input + c->input_size, INPUT_SIZE - c->input_size);
    if (n < 0 && errno == EAGAIN) return;
    if (n == 0) errno = ECONNRESET;
    if (n <= 0) fail("read");
    c->input_size += (size_t)n;
    size_t at = 0;
    uint64_t now = now_us();
    while (c->input_size - at >= 4) {
        size_t length = (uint32_t)get_int(c->input + at);
        if (c->input_size - at < 4 + length) break;
        if (get_int(c->input + at + 16)) errors++;
        uint64_t taken = now - c->sent_at[c->answered++ % DEPTH_LIMIT];
        if (taken > max_us) max_us = taken;
        finished++;
        at += 4 + length;
    }
    memmove(c->input, c->input + at, c->input_size - at);
    c->input_size -= at;
}

int main(int argc, char **argv) {
    int option;
    if (argc < 3) {
        fprintf(stderr, "usage: zkfill HOST:PORT DIRECTORY [-n N] [-s N] [-b BYTES] [-f N] [-c N] [-p N]\n");
        return 2;
    }
    struct sockaddr_in address = resolve(argv[1]);
    directory = argv[2];
    optind = 3;
    while ((option = getopt(argc, argv, "n:s:b:f:c:p:")) != -1) switch (option) {
        case 'n': count = atol(optarg); break;
        case 's': first_number = atol(optarg); break;
        case 'b': value_size = (size_t)atol(optarg); break;
        case 'f': fanout = atol(optarg); break;
        case 'c': connections = atoi(optarg); break;
        case 'p': depth = atoi(optarg); break;
        default: return 2;
    }
    if (depth < 1 || depth > DEPTH_LIMIT || connections < 1 || strlen(directory) > PATH_LIMIT / 2) {
        fprintf(stderr, "zkfill: -p is 1..%d, -c at least 1, DIRECTORY at most %d bytes\n", DEPTH_LIMIT, PATH_LIMIT / 2);
        return 2;
    }
    want_files((rlim_t)connections + 10);
    Connection *all = calloc((size_t)connections, sizeof *all);
    int poller = epoll_create1(0);
    /* A reply may make room for a new request while older ones still stand in the buffer, hence twice the depth. */
    size_t output_room = 2 * (size_t)depth * (value_size + PATH_LIMIT + 64);
    for (int i = 0; i < connections; i++) {
        Connection *c = &all[i];
        c->fd = open_session(&address);
        if (i == 0) create_directories(c->fd);
        c->input = malloc(INPUT_SIZE);
        c->output = malloc(output_room);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    }
    uint64_t begin = now_us();
    for (int i = 0; i < connections; i++) {
        submit(&all[i]);
        flush_output(&all[i], poller);
    }
    while (finished < count) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 60000);
        if (n == 0) {
            fprintf(stderr, "zkfill: no reply for 60 s, %ld of %ld created\n", finished, count);
            return 2;
        }
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_replies(c);
            if (c->output_size == 0) submit(c);
            flush_output(c, poller);
        }
    }
    double seconds = (double)(now_us() - begin) / 1e6;
    printf("ops=%ld seconds=%.3f ops_s=%.0f max_us=%lu errors=%ld\n", finished, seconds, (double)finished / seconds,
           (unsigned long)max_us, errors);
    return errors ? 1 : 0;
}
