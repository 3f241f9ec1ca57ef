/* zkload: a load generator for the ZooKeeper client protocol.
 *
 * One thread, epoll, raw frames; cheap enough that the server is the bottleneck.
 * Build:  cc -O2 -o zkload zkload.c
 * Use:    zkload HOST:PORT[,HOST:PORT...] [options]
 *   -c N      connections, spread round robin over the servers   (default 30)
 *   -p N      requests each connection keeps in flight           (default 1)
 *   -t SEC    measured seconds, after a 1 s warm-up              (default 5)
 *   -r PCT    percent of reads; the rest are setData             (default 100)
 *   -n N      znodes in the working set                          (default 1000)
 *   -b BYTES  value size                                         (default 1024)
 *   -P PID[,PID...]  server processes whose CPU time is counted
 *   -k        keep: do not create the working set (it is there already)
 *   -m MIX    reads are 'get' (default), 'exists', 'children' or 'ping'
 *   -o N      ends after N operations, none of them a warm-up    (default: after -t)
 *   -w        writes are create+delete of an ephemeral instead of setData
 * Prints one line:
 *   ops=… ops_s=… reads_s=… writes_s=… p50_us=… p99_us=… p999_us=… max_us=… errors=… cpu_us_per_op=…
 */
#define _GNU_SOURCE
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { GET = 4, SET = 5, CREATE = 1, DELETE = 2, EXISTS = 3, CHILDREN = 8, PING = 11, CLOSE = -11 };
enum { BUF = 1 << 20, MAXP = 4096 };

typedef struct {
    int fd, inflight, alive;
    uint8_t *in; size_t inlen;
    uint8_t *out; size_t outlen, outoff;
    uint64_t sent_at[MAXP]; uint8_t kind[MAXP]; uint32_t head, tail; /* FIFO of what is in flight */
    int32_t xid; int own; int have; /* -w: does my ephemeral exist (as sent) */
    int wantw;
} Conn;

static int conns = 30, depth = 1, secs = 5, readpct = 100, nodes = 1000, vsize = 1024, keep = 0, ephem = 0;
static const char *mix = "get";
static uint64_t *hist; enum { HMAX = 20000000 };  /* 1 us buckets up to 2 s in 10us steps past 1e6 */
static uint64_t nlat = 0, maxlat = 0, ops = 0, wanted = 0, submitted = 0, reads = 0, writes = 0, errors = 0;
static int measuring = 0;
static uint64_t rng = 88172645463325252ULL;

static uint64_t now_us(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000ULL + t.tv_nsec / 1000; }
static uint32_t rnd(void) { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; return (uint32_t)(rng >> 11); }
static void die(const char *m) { perror(m); exit(2); }
static uint8_t *be32(uint8_t *p, int32_t v) { uint32_t n = htonl((uint32_t)v); memcpy(p, &n, 4); return p + 4; }
static int32_t rd32(const uint8_t *p) { uint32_t n; memcpy(&n, p, 4); return (int32_t)ntohl(n); }

static size_t frame(uint8_t *o, int32_t xid, int32_t op, const char *path, int32_t datalen, int flags) {
    uint8_t *p = o + 4; size_t n = path ? strlen(path) : 0;
    p = be32(p, xid); p = be32(p, op);
    if (op == PING || op == CLOSE) { be32(o, (int32_t)(p - o - 4)); return p - o; }
    p = be32(p, (int32_t)n); memcpy(p, path, n); p += n;
    if (op == GET || op == EXISTS || op == CHILDREN) *p++ = 0;
    if (op == SET || op == CREATE) { p = be32(p, datalen); memset(p, 'x', datalen); p += datalen; }
    if (op == SET || op == DELETE) p = be32(p, -1);
    if (op == CREATE) {
        p = be32(p, 1); p = be32(p, 31);
        p = be32(p, 5); memcpy(p, "world", 5); p += 5; p = be32(p, 6); memcpy(p, "anyone", 6); p += 6;
        p = be32(p, flags);
    }
    be32(o, (int32_t)(p - o - 4));
    return p - o;
}

static int dial(const char *hp) {
    char host[256]; const char *c = strrchr(hp, ':'); if (!c) { fprintf(stderr, "zkload: HOST:PORT wanted\n"); exit(2); }
    snprintf(host, sizeof host, "%.*s", (int)(c - hp), hp);
    struct addrinfo h = { .ai_socktype = SOCK_STREAM }, *ai;
    if (getaddrinfo(host, c + 1, &h, &ai)) { fprintf(stderr, "zkload: no such host %s\n", host); exit(2); }
    int fd = socket(ai->ai_family, SOCK_STREAM, 0); if (fd < 0) die("socket");
    if (connect(fd, ai->ai_addr, ai->ai_addrlen)) die("connect");
    freeaddrinfo(ai);
    int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    uint8_t b[64], *p = b + 4; p = be32(p, 0); memset(p, 0, 8); p += 8; p = be32(p, 30000); memset(p, 0, 8); p += 8;
    p = be32(p, 16); memset(p, 0, 16); p += 16; *p++ = 0; be32(b, (int32_t)(p - b - 4));
    if (write(fd, b, p - b) != p - b) die("write");
    uint8_t r[256]; size_t got = 0;
    while (got < 4 || got < 4 + (size_t)rd32(r)) { ssize_t n = read(fd, r + got, sizeof r - got); if (n <= 0) die("session"); got += n; }
    if (rd32(r + 8) <= 0) { fprintf(stderr, "zkload: session refused\n"); exit(2); }
    return fd;
}

static void call(int fd, const uint8_t *f, size_t n, uint8_t *r) { /* one blocking request */
    if (write(fd, f, n) != (ssize_t)n) die("write");
    size_t got = 0; while (got < 4) { ssize_t k = read(fd, r + got, 4 - got); if (k <= 0) die("read"); got += k; }
    size_t need = rd32(r); got = 0; while (got < need) { ssize_t k = read(fd, r + got, need - got); if (k <= 0) die("read"); got += k; }
}

static void submit(Conn *c) {
    uint8_t *o = c->out + c->outlen; char path[64]; int op, kind;
    if ((int)(rnd() % 100) < readpct) {
        kind = 0; snprintf(path, sizeof path, "/zkload/n%u", rnd() % nodes);
        op = *mix == 'e' ? EXISTS : *mix == 'c' ? CHILDREN : *mix == 'p' ? PING : GET;
        c->outlen += frame(o, op == PING ? -2 : ++c->xid, op, path, 0, 0);
    } else if (ephem) {
        kind = 1; snprintf(path, sizeof path, "/zkload/e%d-%d", (int)getpid(), c->own);
        if (c->have) c->outlen += frame(o, ++c->xid, DELETE, path, 0, 0);
        else c->outlen += frame(o, ++c->xid, CREATE, path, vsize, 1);
        c->have = !c->have;
    } else {
        kind = 1; snprintf(path, sizeof path, "/zkload/n%u", rnd() % nodes);
        c->outlen += frame(o, ++c->xid, SET, path, vsize, 0);
    }
    c->sent_at[c->tail % MAXP] = now_us(); c->kind[c->tail % MAXP] = kind; c->tail++; c->inflight++; submitted++;
}

static int may_submit(const Conn *c) { return c->inflight < depth && (!wanted || submitted < wanted); }

static void flush_out(Conn *c, int ep) {
    while (c->outoff < c->outlen) {
        ssize_t n = write(c->fd, c->out + c->outoff, c->outlen - c->outoff);
        if (n < 0) { if (errno == EAGAIN) break; c->alive = 0; return; }
        c->outoff += n;
    }
    if (c->outoff == c->outlen) c->outoff = c->outlen = 0;
    int wantw = c->outlen > 0;
    if (wantw != c->wantw) { struct epoll_event e = { .events = EPOLLIN | (wantw ? EPOLLOUT : 0), .data.ptr = c }; epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e); c->wantw = wantw; }
}

static void drain(Conn *c) {
    ssize_t n = read(c->fd, c->in + c->inlen, BUF - c->inlen);
    if (n == 0 || (n < 0 && errno != EAGAIN)) { c->alive = 0; return; }
    if (n < 0) return;
    c->inlen += n; size_t o = 0; uint64_t t = now_us();
    while (c->inlen - o >= 4) {
        size_t len = (uint32_t)rd32(c->in + o); if (c->inlen - o < 4 + len) break;
        int32_t xid = rd32(c->in + o + 4), err = rd32(c->in + o + 16); o += 4 + len;
        if (xid == -1) continue; /* a watch event */
        uint64_t lat = t - c->sent_at[c->head % MAXP]; int kind = c->kind[c->head % MAXP]; c->head++; c->inflight--;
        if (measuring) { ops++; if (kind) writes++; else reads++; if (err) errors++; nlat++; if (lat > maxlat) maxlat = lat; hist[lat < HMAX ? lat : HMAX - 1]++; }
    }
    memmove(c->in, c->in + o, c->inlen - o); c->inlen -= o;
}

static double cpu_us(const char *pids) {
    if (!pids) return 0;
    char b[256]; snprintf(b, sizeof b, "%s", pids); double s = 0;
    for (char *t = strtok(b, ","); t; t = strtok(NULL, ",")) {
        char f[64]; snprintf(f, sizeof f, "/proc/%s/stat", t); FILE *fp = fopen(f, "r"); if (!fp) continue;
        char l[2048]; if (fgets(l, sizeof l, fp)) { char *q = strrchr(l, ')'); unsigned long u, k, cu, ck; /* its ended children's time is its own */
            if (q && sscanf(q + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &u, &k, &cu, &ck) == 4) s += (u + k + cu + ck) * 1e6 / sysconf(_SC_CLK_TCK); }
        fclose(fp);
    }
    return s;
}
static uint64_t pct(double p) { uint64_t want = (uint64_t)(nlat * p), s = 0; for (int i = 0; i < HMAX; i++) { s += hist[i]; if (s >= want && s) return i; } return maxlat; }

int main(int argc, char **argv) {
    const char *pids = NULL; int ch; if (argc < 2) { fprintf(stderr, "usage: zkload HOST:PORT[,..] [-c N] [-p N] [-t SEC] [-r PCT] [-n N] [-b BYTES] [-P PIDS] [-m get|exists|children|ping] [-o OPS] [-w] [-k]\n"); return 2; }
    char *servers[64]; int ns = 0; char *list = strdup(argv[1]); for (char *t = strtok(list, ","); t && ns < 64; t = strtok(NULL, ",")) servers[ns++] = t;
    optind = 2;
    while ((ch = getopt(argc, argv, "c:p:t:r:n:b:P:m:o:wk")) != -1) switch (ch) {
        case 'c': conns = atoi(optarg); break; case 'p': depth = atoi(optarg); break; case 't': secs = atoi(optarg); break;
        case 'r': readpct = atoi(optarg); break; case 'n': nodes = atoi(optarg); break; case 'b': vsize = atoi(optarg); break;
        case 'P': pids = optarg; break; case 'm': mix = optarg; break; case 'o': wanted = strtoull(optarg, NULL, 10); break; case 'w': ephem = 1; break; case 'k': keep = 1; break; default: return 2; }
    if (depth > MAXP || conns < 1 || depth < 1) { fprintf(stderr, "zkload: -p is 1..%d\n", MAXP); return 2; }
    hist = calloc(HMAX, sizeof *hist);
    size_t outcap = (size_t)(depth + 2) * (vsize + 256) * 2; uint8_t *tmp = malloc(vsize + 4096), *rep = malloc(1 << 22);
    int fd = dial(servers[0]);
    if (!keep) {
        call(fd, tmp, frame(tmp, 1, CREATE, "/zkload", 0, 0), rep);
        for (int i = 0; i < nodes; i++) { char p[64]; snprintf(p, sizeof p, "/zkload/n%d", i); call(fd, tmp, frame(tmp, 2 + i, CREATE, p, vsize, 0), rep); int e = rd32(rep + 12); if (e && e != -110) { fprintf(stderr, "zkload: create %s: error %d\n", p, e); return 2; } }
    }
    Conn *cs = calloc(conns, sizeof *cs); int ep = epoll_create1(0);
    for (int i = 0; i < conns; i++) {
        Conn *c = &cs[i]; c->fd = dial(servers[i % ns]); c->alive = 1; c->own = i; c->in = malloc(BUF); c->out = malloc(outcap);
        fcntl(c->fd, F_SETFL, O_NONBLOCK); struct epoll_event e = { .events = EPOLLIN, .data.ptr = c }; epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    }
    uint64_t start = now_us(), begin = start + 1000000, end = begin + secs * 1000000ULL; double cpu0 = 0, cpu1; int live = conns;
    if (wanted) { measuring = 1; begin = start; end = UINT64_MAX; cpu0 = cpu_us(pids); }
    for (int i = 0; i < conns; i++) { while (may_submit(&cs[i])) submit(&cs[i]); flush_out(&cs[i], ep); }
    struct epoll_event ev[256];
    for (;;) {
        uint64_t t = now_us(); if (!measuring && t >= begin) { measuring = 1; begin = t; end = t + secs * 1000000ULL; cpu0 = cpu_us(pids); } if (t >= end || !live || (wanted && ops >= wanted)) break;
        int n = epoll_wait(ep, ev, 256, 100);
        for (int i = 0; i < n; i++) { Conn *c = ev[i].data.ptr; if (!c->alive) continue; if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) drain(c);
            if (c->alive) { while (may_submit(c) && outcap - c->outlen > (size_t)vsize + 256) submit(c); flush_out(c, ep); }
            if (!c->alive) { epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL); live--; errors++; } }
    }
    double el = (now_us() - begin) / 1e6; cpu1 = cpu_us(pids);
    printf("ops=%lu ops_s=%.0f reads_s=%.0f writes_s=%.0f p50_us=%lu p99_us=%lu p999_us=%lu max_us=%lu errors=%lu live=%d cpu_us_per_op=%.2f\n",
        ops, ops / el, reads / el, writes / el, pct(.5), pct(.99), pct(.999), maxlat, errors, live, pids && ops ? (cpu1 - cpu0) / ops : 0);
    return errors ? 1 : 0;
}
