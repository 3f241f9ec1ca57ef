/* Apache's C client against a server at the address given as the only argument.
 *
 * Runs named checks one after the other. Each prints one line, "ok NAME" or "failed NAME: REASON". A check may ask the
 * test that runs this program for something ("? close"); the answer is one line on stdin.
 */
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

enum { TIMEOUT_MS = 20000, LIMIT_S = 20, PATH_SIZE = 256, EVENT_LIMIT = 64 };

static const char *address;
static jmp_buf failed;
static char reason[512];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    longjmp(failed, 1);
}

#define EQUAL(expected, actual)                                                                    \
    do {                                                                                           \
        int64_t wanted = (expected), got = (actual);                                               \
        if (wanted != got)                                                                         \
            fail("line %d: %s is %" PRId64 ", expected %" PRId64, __LINE__, #actual, got, wanted); \
    } while (0)

#define SAME_TEXT(expected, actual)                                                            \
    do {                                                                                       \
        if (strcmp((expected), (actual)) != 0)                                                 \
            fail("line %d: %s is '%s', expected '%s'", __LINE__, #actual, (actual), (expected)); \
    } while (0)

static void ask(const char *wish) {
    char answer[16];
    printf("? %s\n", wish);
    fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) == NULL || strcmp(answer, "done\n") != 0)
        fail("'%s' was not granted", wish);
}

/* Events, kept in the order of their arrival. */

struct event {
    int type;
    int state;
    char path[PATH_SIZE];
};

struct events {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct event seen[EVENT_LIMIT];
    int count;
    int read;
};

static struct events *new_events(void) {
    struct events *events = calloc(1, sizeof *events);
    pthread_mutex_init(&events->lock, NULL);
    pthread_cond_init(&events->changed, NULL);
    return events;
}

static void watch(zhandle_t *handle, int type, int state, const char *path, void *context) {
    struct events *events = context;
    int is_session_event = type == ZOO_SESSION_EVENT;
    if (is_session_event && context != zoo_get_context(handle))
        return;
    pthread_mutex_lock(&events->lock);
    if (events->count < EVENT_LIMIT) {
        struct event *event = &events->seen[events->count++];
        event->type = type;
        event->state = state;
        snprintf(event->path, sizeof event->path, "%s", path);
    }
    pthread_cond_broadcast(&events->changed);
    pthread_mutex_unlock(&events->lock);
}

static struct event next(struct events *events) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += LIMIT_S;
    pthread_mutex_lock(&events->lock);
    int late = 0;
    while (events->read == events->count && late == 0)
        late = pthread_cond_timedwait(&events->changed, &events->lock, &deadline);
    struct event event = events->seen[late == 0 ? events->read++ : 0];
    pthread_mutex_unlock(&events->lock);
    if (late != 0)
        fail("no event within %d s", LIMIT_S);
    return event;
}

#define EXPECT_EVENT(events, expected_type, expected_path) \
    do {                                                   \
        struct event event = next(events);                 \
        SAME_TEXT(expected_path, event.path);              \
        EQUAL(expected_type, event.type);                  \
    } while (0)

#define EXPECT_STATE(client, expected)                   \
    do {                                                 \
        struct event event = next((client).session);     \
        EQUAL(ZOO_SESSION_EVENT, event.type);            \
        EQUAL(expected, event.state);                    \
    } while (0)

/* Clients and paths. */

struct client {
    zhandle_t *handle;
    struct events *session;
};

static struct client begin(const clientid_t *id) {
    struct client client = {.session = new_events()};
    client.handle = zookeeper_init(address, watch, TIMEOUT_MS, id, client.session, 0);
    if (client.handle == NULL)
        fail("no handle");
    return client;
}

static struct client connected(void) {
    struct client client = begin(NULL);
    EXPECT_STATE(client, ZOO_CONNECTED_STATE);
    return client;
}

static void end(struct client client) {
    zookeeper_close(client.handle);
    free(client.session);
}

static const char *under(const char *root, const char *name) {
    static char paths[16][PATH_SIZE];
    static int turn;
    char *path = paths[turn++ % 16];
    snprintf(path, PATH_SIZE, "%s/%s", root, name);
    return path;
}

static int create(struct client client, const char *path) {
    return zoo_create(client.handle, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
}

static const char *new_root(struct client client) {
    static char paths[64][PATH_SIZE];
    static int count;
    char *path = paths[count];
    snprintf(path, PATH_SIZE, "/c-%d", count++);
    EQUAL(ZOK, create(client, path));
    return path;
}

/* Field by field: the struct has padding. */
static void same_stat(const struct Stat *expected, const struct Stat *actual) {
    EQUAL(expected->czxid, actual->czxid);
    EQUAL(expected->mzxid, actual->mzxid);
    EQUAL(expected->ctime, actual->ctime);
    EQUAL(expected->mtime, actual->mtime);
    EQUAL(expected->version, actual->version);
    EQUAL(expected->cversion, actual->cversion);
    EQUAL(expected->aversion, actual->aversion);
    EQUAL(expected->ephemeralOwner, actual->ephemeralOwner);
    EQUAL(expected->dataLength, actual->dataLength);
    EQUAL(expected->numChildren, actual->numChildren);
    EQUAL(expected->pzxid, actual->pzxid);
}

/* The checks. */

static void data_and_stat(void) {
    struct client client = connected();
    const char *root = new_root(client);
    char path[PATH_SIZE], data[64];
    int length = sizeof data;
    struct Stat created, changed, read;
    EQUAL(ZOK, zoo_create2(client.handle, under(root, "n"), "abc", 3, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path,
                           sizeof path, &created));
    SAME_TEXT(under(root, "n"), path);
    EQUAL(3, created.dataLength);
    EQUAL(created.czxid, created.pzxid);
    EQUAL(ZOK, zoo_set2(client.handle, path, "de\0fg", 5, 0, &changed));
    EQUAL(1, changed.version);
    EQUAL(created.czxid, changed.czxid);
    EQUAL(created.mzxid + 1, changed.mzxid);
    EQUAL(ZOK, zoo_get(client.handle, path, 0, data, &length, &read));
    EQUAL(5, length);
    EQUAL(0, memcmp("de\0fg", data, 5));
    same_stat(&changed, &read);
    EQUAL(ZOK, zoo_set(client.handle, path, NULL, -1, -1));
    length = sizeof data;
    EQUAL(ZOK, zoo_get(client.handle, path, 0, data, &length, &read));
    EQUAL(-1, length);
    EQUAL(0, read.dataLength);
    EQUAL(ZOK, zoo_delete(client.handle, path, 2));
    EQUAL(ZNONODE, zoo_exists(client.handle, path, 0, &read));
    end(client);
}

static void kinds_of_znodes(void) {
    struct client client = connected();
    const char *root = new_root(client);
    const struct {
        int mode;
        int64_t ttl;
        const char *name;
    } kinds[] = {
        {ZOO_PERSISTENT, -1, "n"},
        {ZOO_EPHEMERAL, -1, "n"},
        {ZOO_PERSISTENT_SEQUENTIAL, -1, "n0000000002"},
        {ZOO_EPHEMERAL_SEQUENTIAL, -1, "n0000000003"},
        {ZOO_CONTAINER, -1, "n"},
        {ZOO_PERSISTENT_WITH_TTL, 3600000, "n"},
        {ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 3600000, "n0000000006"},
    };
    for (size_t index = 0; index < sizeof kinds / sizeof *kinds; index++) {
        char path[PATH_SIZE];
        struct Stat stat;
        EQUAL(ZOK, zoo_create2_ttl(client.handle, under(root, "n"), "", 0, &ZOO_OPEN_ACL_UNSAFE, kinds[index].mode,
                                   kinds[index].ttl, path, sizeof path, &stat));
        SAME_TEXT(under(root, kinds[index].name), path);
        int ephemeral = index == 1 || index == 3;
        EQUAL(ephemeral ? zoo_client_id(client.handle)->client_id : 0, stat.ephemeralOwner);
        EQUAL(ZOK, zoo_delete(client.handle, path, 0));
    }
    end(client);
}

static void errors(void) {
    struct client client = connected();
    const char *root = new_root(client);
    char data[8];
    int length = sizeof data;
    EQUAL(ZOK, zoo_create(client.handle, under(root, "e"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    EQUAL(ZNODEEXISTS, create(client, root));
    EQUAL(ZNONODE, create(client, under(root, "x/y")));
    EQUAL(ZNOCHILDRENFOREPHEMERALS, create(client, under(root, "e/y")));
    EQUAL(ZNOTEMPTY, zoo_delete(client.handle, root, -1));
    EQUAL(ZBADVERSION, zoo_delete(client.handle, under(root, "e"), 9));
    EQUAL(ZBADVERSION, zoo_set(client.handle, root, "", 0, 9));
    EQUAL(ZNONODE, zoo_get(client.handle, under(root, "x"), 0, data, &length, NULL));
    EQUAL(ZBADARGUMENTS, zoo_delete(client.handle, "/zookeeper", -1));
    EQUAL(ZRECONFIGDISABLED, zoo_reconfig(client.handle, NULL, "2", NULL, -1, data, &length, NULL));
    end(client);
}

static void children(void) {
    struct client client = connected();
    const char *root = new_root(client);
    struct String_vector names;
    struct Stat listed, stat;
    for (int index = 0; index < 100; index++)
        EQUAL(ZOK, zoo_create(client.handle, under(root, "n-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL,
                              NULL, 0));
    EQUAL(ZOK, zoo_get_children2(client.handle, root, 0, &names, &listed));
    EQUAL(100, names.count);
    EQUAL(ZOK, zoo_exists(client.handle, root, 0, &stat));
    same_stat(&stat, &listed);
    deallocate_String_vector(&names);
    EQUAL(ZOK, zoo_get_children(client.handle, under(root, "n-0000000042"), 0, &names));
    EQUAL(0, names.count);
    deallocate_String_vector(&names);
    end(client);
}

static void large_value(void) {
    struct client client = connected();
    const char *root = new_root(client);
    int size = 1000000, length = size;
    char *sent = malloc(size), *received = malloc(size);
    for (int index = 0; index < size; index++)
        sent[index] = (char)(index * 31);
    EQUAL(ZOK, zoo_set(client.handle, root, sent, size, -1));
    EQUAL(ZOK, zoo_get(client.handle, root, 0, received, &length, NULL));
    EQUAL(size, length);
    EQUAL(0, memcmp(sent, received, size));
    free(sent);
    free(received);
    end(client);
}

static void multi_succeeds(void) {
    struct client client = connected();
    const char *root = new_root(client);
    char made[PATH_SIZE], numbered[PATH_SIZE];
    struct Stat set, stat;
    zoo_op_t operations[6];
    zoo_op_result_t results[6];
    const char *path = under(root, "a");
    zoo_create_op_init(&operations[0], path, "1", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, made, sizeof made);
    zoo_create_op_init(&operations[1], under(root, "s-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL,
                       numbered, sizeof numbered);
    zoo_check_op_init(&operations[2], path, 0);
    zoo_set_op_init(&operations[3], path, "22", 2, 0, &set);
    zoo_create_op_init(&operations[4], under(root, "b"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    zoo_delete_op_init(&operations[5], under(root, "b"), 0);
    EQUAL(ZOK, zoo_multi(client.handle, 6, operations, results));
    for (int index = 0; index < 6; index++)
        EQUAL(ZOK, results[index].err);
    SAME_TEXT(path, made);
    SAME_TEXT(under(root, "s-0000000001"), numbered);
    EQUAL(1, set.version);
    EQUAL(ZOK, zoo_exists(client.handle, path, 0, &stat));
    same_stat(&set, &stat);
    end(client);
}

static void multi_fails(void) {
    struct client client = connected();
    const char *root = new_root(client);
    struct Stat before, after;
    zoo_op_t operations[3];
    zoo_op_result_t results[3];
    EQUAL(ZOK, zoo_exists(client.handle, root, 0, &before));
    zoo_create_op_init(&operations[0], under(root, "a"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    zoo_check_op_init(&operations[1], root, 7);
    zoo_delete_op_init(&operations[2], under(root, "a"), -1);
    EQUAL(ZBADVERSION, zoo_multi(client.handle, 3, operations, results));
    EQUAL(ZOK, results[0].err);
    EQUAL(ZBADVERSION, results[1].err);
    EQUAL(ZRUNTIMEINCONSISTENCY, results[2].err);
    EQUAL(ZOK, zoo_exists(client.handle, root, 0, &after));
    same_stat(&before, &after);
    end(client);
}

static void watches_fire(void) {
    struct client client = connected();
    const char *root = new_root(client);
    const char *path = under(root, "n");
    struct events *events = new_events();
    struct String_vector names;
    char data[8];
    int length = sizeof data;
    EQUAL(ZNONODE, zoo_wexists(client.handle, path, watch, events, NULL));
    EQUAL(ZOK, create(client, path));
    EXPECT_EVENT(events, ZOO_CREATED_EVENT, path);
    EQUAL(ZOK, zoo_wget(client.handle, path, watch, events, data, &length, NULL));
    EQUAL(ZOK, zoo_set(client.handle, path, "x", 1, -1));
    EXPECT_EVENT(events, ZOO_CHANGED_EVENT, path);
    EQUAL(ZOK, zoo_wget_children(client.handle, root, watch, events, &names));
    deallocate_String_vector(&names);
    EQUAL(ZOK, zoo_delete(client.handle, path, -1));
    EXPECT_EVENT(events, ZOO_CHILD_EVENT, root);
    end(client);
}

static void watches_are_set_again(void) {
    struct client client = connected();
    const char *root = new_root(client);
    struct events *data_events = new_events(), *child_events = new_events();
    struct events *gone_events = new_events(), *made_events = new_events();
    struct String_vector names;
    char data[8], wish[PATH_SIZE];
    int length = sizeof data;
    EQUAL(ZOK, create(client, under(root, "data")));
    EQUAL(ZOK, create(client, under(root, "child")));
    EQUAL(ZOK, create(client, under(root, "gone")));
    EQUAL(ZOK, zoo_wget(client.handle, under(root, "data"), watch, data_events, data, &length, NULL));
    EQUAL(ZOK, zoo_wget_children(client.handle, under(root, "child"), watch, child_events, &names));
    deallocate_String_vector(&names);
    length = sizeof data;
    EQUAL(ZOK, zoo_wget(client.handle, under(root, "gone"), watch, gone_events, data, &length, NULL));
    EQUAL(ZNONODE, zoo_wexists(client.handle, under(root, "made"), watch, made_events, NULL));
    ask("close");
    EXPECT_STATE(client, ZOO_CONNECTING_STATE);
    snprintf(wish, sizeof wish, "change %s", root);
    ask(wish);
    ask("open");
    EXPECT_EVENT(data_events, ZOO_CHANGED_EVENT, under(root, "data"));
    EXPECT_EVENT(child_events, ZOO_CHILD_EVENT, under(root, "child"));
    EXPECT_EVENT(gone_events, ZOO_DELETED_EVENT, under(root, "gone"));
    EXPECT_EVENT(made_events, ZOO_CREATED_EVENT, under(root, "made"));
    end(client);
}

static void watches_are_removed(void) {
    struct client client = connected();
    const char *root = new_root(client);
    struct events *events = new_events(), *others = new_events();
    struct String_vector names;
    char data[8];
    int length = sizeof data;
    EQUAL(ZOK, zoo_wget(client.handle, root, watch, events, data, &length, NULL));
    EQUAL(ZOK, zoo_wget_children(client.handle, root, watch, others, &names));
    deallocate_String_vector(&names);
    EQUAL(ZOK, zoo_remove_watches(client.handle, root, ZWATCHTYPE_DATA, watch, events, 0));
    EQUAL(ZOK, zoo_set(client.handle, root, "x", 1, -1));
    EQUAL(ZOK, create(client, under(root, "n")));
    EXPECT_EVENT(others, ZOO_CHILD_EVENT, root);
    EQUAL(0, events->count);
    EQUAL(ZNOWATCHER, zoo_remove_watches(client.handle, root, ZWATCHTYPE_DATA, watch, events, 0));
    end(client);
}

struct answer {
    struct events *arrived;
    char text[PATH_SIZE];
    int status;
};

static void answered(int status, const void *context) {
    struct answer *answer = (struct answer *)context;
    answer->status = status;
    watch(NULL, ZOO_CHANGED_EVENT, 0, "", answer->arrived);
}

static void answered_with_text(int status, const char *text, const void *context) {
    struct answer *answer = (struct answer *)context;
    snprintf(answer->text, sizeof answer->text, "%s", text);
    answered(status, context);
}

static void authenticate(struct client client, const char *credentials) {
    static struct answer answer;
    answer.arrived = new_events();
    EQUAL(ZOK, zoo_add_auth(client.handle, "digest", credentials, (int)strlen(credentials), answered, &answer));
    next(answer.arrived);
    EQUAL(ZOK, answer.status);
}

static void access_lists(void) {
    struct client owner = connected(), other = connected();
    const char *root = new_root(owner);
    char data[8];
    int length = sizeof data;
    struct ACL_vector acl;
    struct Stat stat;
    authenticate(owner, "ann:secret");
    EQUAL(ZOK, zoo_create(owner.handle, under(root, "n"), "x", 1, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    EQUAL(ZNOAUTH, zoo_get(other.handle, under(root, "n"), 0, data, &length, NULL));
    EQUAL(ZNOAUTH, create(other, under(root, "n/x")));
    EQUAL(ZOK, zoo_get_acl(owner.handle, under(root, "n"), &acl, &stat));
    EQUAL(1, acl.count);
    EQUAL(ZOO_PERM_ALL, acl.data[0].perms);
    SAME_TEXT("digest", acl.data[0].id.scheme);
    deallocate_ACL_vector(&acl);
    EQUAL(ZOK, zoo_set_acl(owner.handle, under(root, "n"), 0, &ZOO_READ_ACL_UNSAFE));
    EQUAL(ZOK, zoo_get(other.handle, under(root, "n"), 0, data, &length, &stat));
    EQUAL(1, stat.aversion);
    EQUAL(ZNOAUTH, zoo_set(other.handle, under(root, "n"), "", 0, -1));
    EQUAL(ZINVALIDACL, zoo_set_acl(other.handle, root, -1, &ZOO_CREATOR_ALL_ACL));
    end(owner);
    end(other);
}

static void sync_echoes_the_path(void) {
    struct client client = connected();
    static struct answer answer;
    answer.arrived = new_events();
    EQUAL(ZOK, zoo_async(client.handle, "/some/path", answered_with_text, &answer));
    next(answer.arrived);
    EQUAL(ZOK, answer.status);
    SAME_TEXT("/some/path", answer.text);
    end(client);
}

static void configuration(void) {
    struct client client = connected();
    char data[512];
    int length = sizeof data;
    struct Stat stat;
    EQUAL(ZOK, zoo_getconfig(client.handle, 0, data, &length, &stat));
    EQUAL(0, length);
    EQUAL(-1, stat.aversion);
    end(client);
}

static void session_is_taken_up(void) {
    struct client first = connected();
    const char *root = new_root(first);
    struct Stat stat;
    clientid_t id = *zoo_client_id(first.handle);
    EQUAL(ZOK, zoo_create(first.handle, under(root, "e"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    ask("close");
    EXPECT_STATE(first, ZOO_CONNECTING_STATE);
    ask("open");
    EXPECT_STATE(first, ZOO_CONNECTED_STATE);
    EQUAL(id.client_id, zoo_client_id(first.handle)->client_id);
    EQUAL(ZOK, zoo_exists(first.handle, under(root, "e"), 0, &stat));
    EQUAL(id.client_id, stat.ephemeralOwner);
    struct client second = begin(&id);
    EXPECT_STATE(second, ZOO_CONNECTED_STATE);
    EQUAL(id.client_id, zoo_client_id(second.handle)->client_id);
    end(second);
    end(first);
}

static void wrong_password(void) {
    struct client first = connected();
    clientid_t id = *zoo_client_id(first.handle);
    memset(id.passwd, 0, sizeof id.passwd);
    struct client second = begin(&id);
    EXPECT_STATE(second, ZOO_EXPIRED_SESSION_STATE);
    end(second);
    end(first);
}

static void outlives_a_restart(void) {
    struct client client = connected();
    const char *root = new_root(client);
    struct Stat stat;
    int64_t session = zoo_client_id(client.handle)->client_id;
    EQUAL(ZOK, zoo_create(client.handle, under(root, "e"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    ask("restart");
    EXPECT_STATE(client, ZOO_CONNECTING_STATE);
    EXPECT_STATE(client, ZOO_CONNECTED_STATE);
    EQUAL(ZOK, zoo_exists(client.handle, under(root, "e"), 0, &stat));
    EQUAL(session, stat.ephemeralOwner);
    EQUAL(ZOK, create(client, under(root, "n")));
    end(client);
}

static void check(const char *name, void (*body)(void)) {
    if (setjmp(failed) == 0) {
        body();
        printf("ok %s\n", name);
    } else {
        printf("failed %s: %s\n", name, reason);
    }
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 2)
        return 2;
    address = arguments[1];
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    check("data and stat", data_and_stat);
    check("kinds of znodes", kinds_of_znodes);
    check("errors", errors);
    check("children", children);
    check("large value", large_value);
    check("multi succeeds", multi_succeeds);
    check("multi fails", multi_fails);
    check("watches fire", watches_fire);
    check("watches are set again", watches_are_set_again);
    check("watches are removed", watches_are_removed);
    check("access lists", access_lists);
    check("sync echoes the path", sync_echoes_the_path);
    check("configuration", configuration);
    check("session is taken up", session_is_taken_up);
    check("wrong password", wrong_password);
    check("outlives a restart", outlives_a_restart);
    return 0;
}
