import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/** Curator against a server at the address given as the only argument. */
public final class CuratorChecks {
    private static final int TIMEOUT_MS = 20_000;
    private static final int LIMIT_S = 20;
    private static final byte[] EMPTY = new byte[0];

    private static String address;
    private static int roots;

    private static CuratorFramework client() throws Exception {
        return client(TIMEOUT_MS);
    }

    private static CuratorFramework client(int sessionTimeoutMs) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(address)
                .sessionTimeoutMs(sessionTimeoutMs)
                .connectionTimeoutMs(5000)
                .retryPolicy(new RetryForever(100))
                .build();
        client.start();
        Checks.that(client.blockUntilConnected(LIMIT_S, TimeUnit.SECONDS), "connected in time");
        return client;
    }

    private static String root(CuratorFramework client) throws Exception {
        return client.create().withMode(CreateMode.PERSISTENT).forPath("/curator-" + roots++, EMPTY);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    /** Runs the same work in several threads and waits for all. */
    private static <T> List<T> inParallel(Collection<Callable<T>> work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(work.size());
        try {
            List<T> results = new ArrayList<>();
            for (Future<T> future : threads.invokeAll(work, LIMIT_S, TimeUnit.SECONDS)) {
                results.add(future.get());
            }
            return results;
        } finally {
            threads.shutdownNow();
        }
    }

    public static void main(String[] arguments) {
        address = arguments[0];
        Checks checks = new Checks();
        framework(checks);
        locks(checks);
        leaders(checks);
        caches(checks);
        nodesAndNumbers(checks);
        connections(checks);
        checks.run();
        System.exit(0);
    }

    private static void framework(Checks checks) {
        checks.check("ensemble tracker reads the configuration", () -> {
            try (CuratorFramework client = client()) {
                Checks.equal(EMPTY, client.getConfig().forEnsemble());
                Checks.equal(0, client.getCurrentConfig().getAllMembers().size());
            }
        });
        checks.check("parents are made as containers", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                client.create().creatingParentContainersIfNeeded().forPath(root + "/a/b/c", EMPTY);
                client.delete().forPath(root + "/a/b/c");
                Checks.eventually("emptied containers are reaped",
                        () -> client.getChildren().forPath(root).isEmpty());
            }
        });
        checks.check("create, update and delete", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                Stat stat = new Stat();
                client.create().storingStatIn(stat).creatingParentsIfNeeded().forPath(root + "/a/b", bytes("1"));
                Checks.equal(stat, client.checkExists().forPath(root + "/a/b"));
                client.create().orSetData().forPath(root + "/a/b", bytes("2"));
                Checks.equal("2", new String(client.getData().storingStatIn(stat).forPath(root + "/a/b"), UTF_8));
                Checks.equal(1, stat.getVersion());
                client.create().idempotent().forPath(root + "/i", bytes("2"));
                client.create().idempotent().forPath(root + "/i", bytes("2"));
                client.setData().idempotent().withVersion(1).forPath(root + "/a/b", bytes("3"));
                client.create().withTtl(3_600_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath(root + "/ttl", EMPTY);
                client.delete().guaranteed().deletingChildrenIfNeeded().forPath(root);
                Checks.equal(null, client.checkExists().forPath(root));
            }
        });
        checks.check("protected ephemeral sequential", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                String path = client.create().withProtection()
                        .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(root + "/n-", EMPTY);
                Checks.that(path.matches(root + "/_c_[-0-9a-f]{36}-n-0000000000"), path);
            }
        });
        checks.check("transactions", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                List<CuratorTransactionResult> results = client.transaction().forOperations(
                        client.transactionOp().create().forPath(root + "/a", bytes("1")),
                        client.transactionOp().setData().withVersion(0).forPath(root + "/a", bytes("2")),
                        client.transactionOp().check().withVersion(1).forPath(root + "/a"),
                        client.transactionOp().create().withMode(CreateMode.CONTAINER).forPath(root + "/c", EMPTY),
                        client.transactionOp().delete().forPath(root + "/a"));
                Checks.equal(5, results.size());
                Checks.equal(1, results.get(1).getResultStat().getVersion());
                Checks.equal(root + "/a", results.get(0).getResultPath());
                Checks.equal(List.of("c"), client.getChildren().forPath(root));
                try {
                    client.transaction().forOperations(
                            client.transactionOp().create().forPath(root + "/b", EMPTY),
                            client.transactionOp().check().withVersion(9).forPath(root));
                    throw new AssertionError("no error");
                } catch (KeeperException.BadVersionException expected) {
                    Checks.equal(null, client.checkExists().forPath(root + "/b"));
                }
            }
        });
        checks.check("persistent watchers", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                ConcurrentLinkedQueue<String> seen = new ConcurrentLinkedQueue<>();
                client.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE)
                        .usingWatcher((org.apache.curator.framework.api.CuratorWatcher) event ->
                                seen.add(event.getType() + " " + event.getPath()))
                        .forPath(root);
                client.create().forPath(root + "/a", EMPTY);
                client.setData().forPath(root + "/a", EMPTY);
                client.delete().forPath(root + "/a");
                List<String> expected = List.of(
                        "NodeCreated " + root + "/a", "NodeDataChanged " + root + "/a", "NodeDeleted " + root + "/a");
                Checks.eventually("all events seen", () -> expected.equals(new ArrayList<>(seen)));
                client.watchers().removeAll().forPath(root);
            }
        });
    }

    private static void locks(Checks checks) {
        checks.check("mutex excludes", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                one.create().forPath(root + "/value", bytes("0"));
                List<Callable<Void>> work = new ArrayList<>();
                for (CuratorFramework client : List.of(one, one, two, two)) {
                    InterProcessMutex mutex = new InterProcessMutex(client, root + "/lock");
                    work.add(() -> {
                        for (int turn = 0; turn < 10; turn++) {
                            mutex.acquire();
                            int value = Integer.parseInt(new String(client.getData().forPath(root + "/value"), UTF_8));
                            client.setData().forPath(root + "/value", bytes(Integer.toString(value + 1)));
                            mutex.release();
                        }
                        return null;
                    });
                }
                inParallel(work);
                Checks.equal("40", new String(one.getData().forPath(root + "/value"), UTF_8));
            }
        });
        checks.check("mutex of a closed client is free", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(two);
                new InterProcessMutex(one, root + "/lock").acquire();
                InterProcessMutex waiting = new InterProcessMutex(two, root + "/lock");
                Checks.that(!waiting.acquire(50, TimeUnit.MILLISECONDS), "still held");
                one.close();
                Checks.that(waiting.acquire(LIMIT_S, TimeUnit.SECONDS), "free after the close");
                waiting.release();
            }
        });
        checks.check("readers share, a writer waits", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                InterProcessReadWriteLock first = new InterProcessReadWriteLock(one, root + "/lock");
                InterProcessReadWriteLock second = new InterProcessReadWriteLock(two, root + "/lock");
                first.readLock().acquire();
                Checks.that(second.readLock().acquire(LIMIT_S, TimeUnit.SECONDS), "two readers");
                second.readLock().release();
                Checks.that(!second.writeLock().acquire(50, TimeUnit.MILLISECONDS), "no writer beside a reader");
                first.readLock().release();
                Checks.that(second.writeLock().acquire(LIMIT_S, TimeUnit.SECONDS), "writer after the readers");
                second.writeLock().release();
            }
        });
        checks.check("semaphore", () -> {
            try (CuratorFramework client = client()) {
                InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, root(client) + "/s", 2);
                Lease lease = semaphore.acquire();
                semaphore.acquire();
                Checks.equal(null, semaphore.acquire(50, TimeUnit.MILLISECONDS));
                semaphore.returnLease(lease);
                Checks.that(semaphore.acquire(LIMIT_S, TimeUnit.SECONDS) != null, "a lease came back");
            }
        });
    }

    private static void leaders(Checks checks) {
        checks.check("leader latch passes on", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(two);
                LeaderLatch first = new LeaderLatch(one, root + "/latch", "first");
                first.start();
                Checks.that(first.await(LIMIT_S, TimeUnit.SECONDS), "the first leads");
                try (LeaderLatch second = new LeaderLatch(two, root + "/latch", "second")) {
                    second.start();
                    Checks.eventually("both take part", () -> second.getParticipants().size() == 2);
                    Checks.that(!second.hasLeadership(), "one leader");
                    Checks.equal("first", second.getLeader().getId());
                    one.close();
                    Checks.that(second.await(LIMIT_S, TimeUnit.SECONDS), "the second leads");
                }
            }
        });
        checks.check("leader selector gives everybody a turn", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                AtomicInteger leaders = new AtomicInteger();
                Set<String> turns = new ConcurrentSkipListSet<>();
                List<LeaderSelector> selectors = new ArrayList<>();
                for (CuratorFramework client : List.of(one, two)) {
                    String name = "member-" + selectors.size();
                    LeaderSelector selector = new LeaderSelector(client, root + "/leader",
                            new LeaderSelectorListenerAdapter() {
                                @Override
                                public void takeLeadership(CuratorFramework ignored) throws Exception {
                                    if (leaders.incrementAndGet() == 1) {
                                        turns.add(name);
                                    }
                                    Thread.sleep(20);
                                    leaders.decrementAndGet();
                                }
                            });
                    selectors.add(selector);
                    selector.start();
                }
                Checks.eventually("both had a turn, alone", () -> turns.size() == 2);
                selectors.forEach(LeaderSelector::close);
            }
        });
    }

    private static void caches(Checks checks) {
        checks.check("curator cache follows, also over a broken connection", () -> {
            try (CuratorFramework client = client(); CuratorFramework other = client()) {
                String root = root(client);
                other.create().creatingParentsIfNeeded().forPath(root + "/a/b", bytes("1"));
                try (CuratorCache cache = CuratorCache.build(client, root)) {
                    cache.start();
                    Checks.eventually("filled", () -> cache.size() == 3);
                    other.setData().forPath(root + "/a/b", bytes("2"));
                    other.create().forPath(root + "/c", bytes("3"));
                    Checks.eventually("followed", () -> content(cache).equals(Set.of(root + "/a/b 2", root + "/c 3")));
                    checks.ask("cut");
                    other.delete().forPath(root + "/c");
                    other.create().forPath(root + "/d", bytes("4"));
                    Checks.eventually("followed again", () -> content(cache).equals(Set.of(root + "/a/b 2", root + "/d 4")));
                }
            }
        });
        checks.check("tree cache follows by one-shot watches", () -> {
            try (CuratorFramework client = client(); TreeCache cache = new TreeCache(client, root(client))) {
                String root = "/curator-" + (roots - 1);
                cache.start();
                for (int index = 0; index < 20; index++) {
                    client.create().creatingParentsIfNeeded().forPath(root + "/" + index % 4 + "/n-" + index, EMPTY);
                }
                for (int parent = 0; parent < 4; parent++) {
                    String path = root + "/" + parent;
                    Checks.eventually("five children of " + path, () ->
                            cache.getCurrentChildren(path) != null && cache.getCurrentChildren(path).size() == 5);
                }
            }
        });
    }

    private static Set<String> content(CuratorCache cache) {
        Set<String> content = new TreeSet<>();
        cache.stream()
                .filter(node -> node.getData() != null && node.getData().length == 1)
                .forEach((ChildData node) -> content.add(node.getPath() + " " + new String(node.getData(), UTF_8)));
        return content;
    }

    private static void nodesAndNumbers(Checks checks) {
        checks.check("persistent node comes back", () -> {
            try (CuratorFramework client = client(); CuratorFramework other = client()) {
                String root = root(client);
                try (PersistentNode node =
                        new PersistentNode(client, CreateMode.EPHEMERAL, false, root + "/n", bytes("here"))) {
                    node.start();
                    Checks.that(node.waitForInitialCreate(LIMIT_S, TimeUnit.SECONDS), "created");
                    long first = other.checkExists().forPath(root + "/n").getCzxid();
                    other.delete().forPath(root + "/n");
                    Checks.eventually("created again", () -> {
                        Stat stat = other.checkExists().forPath(root + "/n");
                        return stat != null && stat.getCzxid() > first;
                    });
                }
                Checks.eventually("gone", () -> other.checkExists().forPath(root + "/n") == null);
            }
        });
        checks.check("group members see each other", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                try (GroupMember first = new GroupMember(one, root + "/g", "first", EMPTY);
                        GroupMember second = new GroupMember(two, root + "/g", "second", EMPTY)) {
                    first.start();
                    second.start();
                    Checks.eventually("both see both", () ->
                            first.getCurrentMembers().keySet().equals(Set.of("first", "second"))
                                    && second.getCurrentMembers().size() == 2);
                }
            }
        });
        checks.check("distributed atomic long", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                List<Callable<Integer>> work = new ArrayList<>();
                for (CuratorFramework client : List.of(one, one, two, two)) {
                    DistributedAtomicLong number =
                            new DistributedAtomicLong(client, root + "/n", new RetryNTimes(1000, 1));
                    work.add(() -> {
                        int succeeded = 0;
                        for (int turn = 0; turn < 10; turn++) {
                            AtomicValue<Long> value = number.increment();
                            succeeded += value.succeeded() ? 1 : 0;
                        }
                        return succeeded;
                    });
                }
                Checks.equal(List.of(10, 10, 10, 10), inParallel(work));
                Checks.equal(40L, new DistributedAtomicLong(one, root + "/n", new RetryNTimes(1, 1)).get().postValue());
            }
        });
        checks.check("shared count", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                try (SharedCount first = new SharedCount(one, root + "/n", 5);
                        SharedCount second = new SharedCount(two, root + "/n", 5)) {
                    first.start();
                    second.start();
                    first.setCount(6);
                    Checks.eventually("the other sees it", () -> second.getCount() == 6);
                }
            }
        });
        checks.check("double barrier", () -> {
            try (CuratorFramework one = client(); CuratorFramework two = client()) {
                String root = root(one);
                AtomicInteger inside = new AtomicInteger();
                List<Callable<Integer>> work = new ArrayList<>();
                for (CuratorFramework client : List.of(one, two)) {
                    DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, root + "/barrier", 2);
                    work.add(() -> {
                        Checks.that(barrier.enter(LIMIT_S, TimeUnit.SECONDS), "entered");
                        inside.incrementAndGet();
                        Checks.that(barrier.leave(LIMIT_S, TimeUnit.SECONDS), "left");
                        return inside.get();
                    });
                }
                Checks.equal(List.of(2, 2), inParallel(work));
            }
        });
    }

    private static void connections(Checks checks) {
        checks.check("reconnects after a broken connection", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                client.create().withMode(CreateMode.EPHEMERAL).forPath(root + "/e", EMPTY);
                ConcurrentLinkedQueue<ConnectionState> states = new ConcurrentLinkedQueue<>();
                // That it is connected may be told after it can be seen, and so to this listener, too.
                client.getConnectionStateListenable().addListener((ignored, state) -> {
                    if (state != ConnectionState.CONNECTED) {
                        states.add(state);
                    }
                });
                checks.ask("cut");
                Checks.eventually("suspended, then reconnected", () ->
                        List.of(ConnectionState.SUSPENDED, ConnectionState.RECONNECTED).equals(new ArrayList<>(states)));
                Checks.that(client.checkExists().forPath(root + "/e") != null, "the ephemeral is still there");
            }
        });
        checks.check("persistent node comes back after an expiry", () -> {
            try (CuratorFramework client = client(1000); CuratorFramework other = client()) {
                String root = root(client);
                try (PersistentNode node =
                        new PersistentNode(client, CreateMode.EPHEMERAL, false, root + "/n", EMPTY)) {
                    node.start();
                    Checks.that(node.waitForInitialCreate(LIMIT_S, TimeUnit.SECONDS), "created");
                    long session = client.getZookeeperClient().getZooKeeper().getSessionId();
                    checks.ask("close");
                    checks.ask("expire " + Long.toHexString(session));
                    checks.ask("open");
                    Checks.eventually("created by a new session", () -> {
                        Stat stat = other.checkExists().forPath(root + "/n");
                        return stat != null && stat.getEphemeralOwner() != session;
                    });
                }
            }
        });
        checks.check("works on after a restart", () -> {
            try (CuratorFramework client = client()) {
                String root = root(client);
                InterProcessMutex mutex = new InterProcessMutex(client, root + "/lock");
                mutex.acquire();
                checks.ask("restart");
                Checks.that(client.blockUntilConnected(LIMIT_S, TimeUnit.SECONDS), "connected again");
                Checks.equal(1, client.getChildren().forPath(root + "/lock").size());
                mutex.release();
                Checks.equal(0, client.getChildren().forPath(root + "/lock").size());
            }
        });
    }
}
