import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** Apache's Java client against a server at the address given as the only argument. */
public final class ClientChecks {
    private static final int TIMEOUT_MS = 20_000;
    private static final long EVENT_LIMIT_MS = 20_000;
    private static final byte[] EMPTY = new byte[0];

    private static String address;
    private static int roots;

    /** A connected client whose default watcher collects the session's events. */
    private static final class Client implements AutoCloseable {
        final LinkedBlockingQueue<WatchedEvent> session = new LinkedBlockingQueue<>();
        final ZooKeeper zk;

        Client() throws Exception {
            this("", TIMEOUT_MS);
        }

        Client(String chroot, int timeoutMs) throws Exception {
            zk = new ZooKeeper(address + chroot, timeoutMs, session::add);
            expect(KeeperState.SyncConnected);
        }

        Client(long id, byte[] password) throws Exception {
            zk = new ZooKeeper(address, TIMEOUT_MS, session::add, id, password);
        }

        void expect(KeeperState state) throws Exception {
            WatchedEvent event = session.poll(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS);
            Checks.that(event != null, state + " in time");
            Checks.equal(state, event.getState());
        }

        String create(String path) throws Exception {
            return zk.create(path, EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }

        String root() throws Exception {
            return create("/java-" + roots++);
        }

        @Override
        public void close() throws Exception {
            zk.close();
        }
    }

    /** A watcher that collects "Type path". */
    private static final class Events implements Watcher {
        private final LinkedBlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() != EventType.None) {
                queue.add(event);
            }
        }

        WatchedEvent next() throws Exception {
            WatchedEvent event = queue.poll(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS);
            Checks.that(event != null, "an event in time");
            return event;
        }

        void expect(EventType type, String path) throws Exception {
            WatchedEvent event = next();
            Checks.equal(type + " " + path, event.getType() + " " + event.getPath());
        }

        /** Fails if an event came that nobody expected; the sync makes sure that earlier ones have arrived. */
        void expectNoMore(ZooKeeper zk) throws Exception {
            CountDownLatch arrived = new CountDownLatch(1);
            zk.sync("/", (rc, path, context) -> arrived.countDown(), null);
            Checks.that(arrived.await(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS), "sync answered");
            Checks.that(queue.isEmpty(), "no more events, but " + queue);
        }
    }

    private interface Operation {
        void run() throws Exception;
    }

    private static KeeperException fails(Code code, Operation operation) throws Exception {
        try {
            operation.run();
        } catch (KeeperException problem) {
            Checks.equal(code, problem.code());
            return problem;
        }
        throw new AssertionError("no error, expected " + code);
    }

    private static List<Integer> codes(List<OpResult> results) {
        List<Integer> codes = new ArrayList<>();
        for (OpResult result : results) {
            codes.add(result instanceof OpResult.ErrorResult ? ((OpResult.ErrorResult) result).getErr() : 1);
        }
        return codes;
    }

    public static void main(String[] arguments) {
        address = arguments[0];
        Checks checks = new Checks();
        znodes(checks);
        multi(checks);
        watches(checks);
        removingWatches(checks);
        access(checks);
        queries(checks);
        sessions(checks);
        checks.run();
        System.exit(0);
    }

    private static void znodes(Checks checks) {
        checks.check("every create mode", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                long session = client.zk.getSessionId();
                int number = 0;
                for (CreateMode mode : CreateMode.values()) {
                    Stat stat = new Stat();
                    long ttl = mode.isTTL() ? 3_600_000 : -1;
                    String path = client.zk.create(root + "/n", EMPTY, Ids.OPEN_ACL_UNSAFE, mode, stat, ttl);
                    String suffix = mode.isSequential() ? String.format("%010d", number) : "";
                    Checks.equal(root + "/n" + suffix, path);
                    Checks.equal(mode.isEphemeral() ? session : 0L, stat.getEphemeralOwner());
                    Checks.equal(stat, client.zk.exists(path, false));
                    client.zk.delete(path, 0);
                    number++;
                }
                Checks.equal(2 * number, client.zk.exists(root, false).getCversion());
            }
        });
        checks.check("stat of create, set and getData", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Stat created = new Stat();
                client.zk.create(root + "/n", "abc".getBytes(UTF_8), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, created);
                Checks.equal(3, created.getDataLength());
                Checks.equal(created.getCzxid(), client.zk.exists(root, false).getPzxid());
                Stat changed = client.zk.setData(root + "/n", "defgh".getBytes(UTF_8), 0);
                Checks.equal(1, changed.getVersion());
                Checks.equal(created.getCzxid(), changed.getCzxid());
                Checks.that(changed.getMzxid() > created.getMzxid(), "mzxid grows");
                Stat read = new Stat();
                Checks.equal("defgh", new String(client.zk.getData(root + "/n", false, read), UTF_8));
                Checks.equal(changed, read);
                Stat listed = new Stat();
                Checks.equal(List.of("n"), client.zk.getChildren(root, false, listed));
                Checks.equal(client.zk.exists(root, false), listed);
            }
        });
        checks.check("null and empty data", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                client.zk.create(root + "/null", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                client.zk.create(root + "/empty", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                Checks.equal(null, client.zk.getData(root + "/null", false, null));
                Checks.equal(EMPTY, client.zk.getData(root + "/empty", false, null));
                client.zk.setData(root + "/empty", null, -1);
                Checks.equal(null, client.zk.getData(root + "/empty", false, null));
            }
        });
        checks.check("errors of single operations", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                client.zk.create(root + "/e", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                fails(Code.NODEEXISTS, () -> client.create(root));
                fails(Code.NONODE, () -> client.create(root + "/x/y"));
                fails(Code.NOTEMPTY, () -> client.zk.delete(root, -1));
                fails(Code.BADVERSION, () -> client.zk.delete(root + "/e", 5));
                fails(Code.BADVERSION, () -> client.zk.setData(root, EMPTY, 5));
                fails(Code.NOCHILDRENFOREPHEMERALS, () -> client.create(root + "/e/x"));
                fails(Code.NONODE, () -> client.zk.getData(root + "/x", false, null));
                fails(Code.NONODE, () -> client.zk.getChildren(root + "/x", false));
                fails(Code.BADARGUMENTS, () -> client.zk.delete("/zookeeper", -1));
                Checks.equal(null, client.zk.exists(root + "/x", false));
            }
        });
        checks.check("container and TTL znodes are reaped", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                client.zk.create(root + "/c", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
                client.create(root + "/c/child");
                client.zk.create(root + "/t", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 3000);
                Events events = new Events();
                client.zk.addWatch(root, events, AddWatchMode.PERSISTENT_RECURSIVE);
                client.zk.delete(root + "/c/child", -1);
                Set<String> seen = new TreeSet<>();
                while (!seen.containsAll(Set.of(root + "/c", root + "/t"))) {
                    WatchedEvent event = events.next();
                    Checks.equal(EventType.NodeDeleted, event.getType());
                    seen.add(event.getPath());
                }
            }
        });
        checks.check("large values", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                byte[] data = new byte[1_000_000];
                Arrays.fill(data, (byte) 0xa5);
                client.zk.setData(root, data, -1);
                Checks.equal(data, client.zk.getData(root, false, null));
            }
        });
        checks.check("pipelined operations answer in order", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                int count = 2000;
                ConcurrentLinkedQueue<Integer> answers = new ConcurrentLinkedQueue<>();
                CountDownLatch left = new CountDownLatch(2 * count);
                for (int index = 0; index < count; index++) {
                    int number = index;
                    client.zk.setData(root, EMPTY, number, (rc, path, context, stat) -> {
                        answers.add(rc == 0 ? stat.getVersion() : rc);
                        left.countDown();
                    }, null);
                    client.zk.exists(root, false, (rc, path, context, stat) -> {
                        answers.add(rc == 0 ? stat.getVersion() : rc);
                        left.countDown();
                    }, null);
                }
                Checks.that(left.await(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS), "all answered");
                List<Integer> expected = new ArrayList<>();
                for (int version = 1; version <= count; version++) {
                    expected.addAll(List.of(version, version));
                }
                Checks.equal(expected, new ArrayList<>(answers));
            }
        });
        checks.check("recursive delete and visit", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                for (String path : List.of("/a", "/a/b", "/a/b/c", "/d", "/d/e")) {
                    client.create(root + path);
                }
                List<String> visited = new ArrayList<>();
                ZKUtil.visitSubTreeDFS(client.zk, root, false, (rc, path, context, name) -> visited.add(path));
                Checks.equal(6, visited.size());
                Checks.that(ZKUtil.deleteRecursive(client.zk, root, 100), "all deleted");
                Checks.equal(null, client.zk.exists(root, false));
            }
        });
    }

    private static void multi(Checks checks) {
        checks.check("multi of every operation", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                client.create(root + "/old");
                List<OpResult> results = client.zk.multi(List.of(
                        Op.create(root + "/p", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                        Op.create(root + "/s", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL),
                        Op.create(root + "/c", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                        Op.create(root + "/t", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 3_600_000),
                        Op.check(root + "/p", 0),
                        Op.setData(root + "/p", "x".getBytes(UTF_8), 0),
                        Op.delete(root + "/old", 0)));
                Checks.equal(root + "/p", ((OpResult.CreateResult) results.get(0)).getPath());
                Checks.equal(root + "/s0000000002", ((OpResult.CreateResult) results.get(1)).getPath());
                Stat set = ((OpResult.SetDataResult) results.get(5)).getStat();
                for (int index : new int[] {2, 3}) {
                    OpResult.CreateResult made = (OpResult.CreateResult) results.get(index);
                    Checks.equal(root + (index == 2 ? "/c" : "/t"), made.getPath());
                    Checks.equal(set.getMzxid(), made.getStat().getCzxid());
                    Checks.equal(0L, made.getStat().getEphemeralOwner());
                }
                Checks.that(results.get(4) instanceof OpResult.CheckResult, "check result");
                Checks.equal(1, set.getVersion());
                Checks.that(results.get(6) instanceof OpResult.DeleteResult, "delete result");
                Checks.equal(set, client.zk.exists(root + "/p", false));
            }
        });
        checks.check("failed multi changes nothing and says what failed", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Stat before = client.zk.exists(root, false);
                KeeperException problem = fails(Code.BADVERSION, () -> client.zk.multi(List.of(
                        Op.create(root + "/a", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                        Op.setData(root, EMPTY, -1),
                        Op.check(root, 99),
                        Op.delete(root + "/a", -1))));
                Checks.equal(List.of(0, 0, Code.BADVERSION.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()),
                        codes(problem.getResults()));
                Checks.equal(before, client.zk.exists(root, false));
            }
        });
        checks.check("multi of reads", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                client.create(root + "/a");
                client.zk.setData(root, "data".getBytes(UTF_8), -1);
                List<OpResult> results = client.zk.multi(List.of(
                        Op.getData(root), Op.getChildren(root), Op.getData(root + "/missing"), Op.getChildren(root + "/a")));
                OpResult.GetDataResult data = (OpResult.GetDataResult) results.get(0);
                Checks.equal("data", new String(data.getData(), UTF_8));
                Checks.equal(client.zk.exists(root, false), data.getStat());
                Checks.equal(List.of("a"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
                Checks.equal(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
                Checks.equal(List.of(), ((OpResult.GetChildrenResult) results.get(3)).getChildren());
            }
        });
        checks.check("empty multi", () -> {
            try (Client client = new Client()) {
                Checks.equal(List.of(), client.zk.multi(List.of()));
            }
        });
        checks.check("transaction", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Checks.equal(3, client.zk.transaction()
                        .create(root + "/a", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
                        .setData(root + "/a", "1".getBytes(UTF_8), 0)
                        .delete(root + "/a", 1)
                        .commit().size());
            }
        });
    }

    private static void watches(Checks checks) {
        checks.check("one-shot watches", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Events events = new Events();
                Checks.equal(null, client.zk.exists(root + "/n", events));
                client.create(root + "/n");
                events.expect(EventType.NodeCreated, root + "/n");
                client.zk.getData(root + "/n", events, null);
                client.zk.setData(root + "/n", EMPTY, -1);
                events.expect(EventType.NodeDataChanged, root + "/n");
                client.zk.getChildren(root, events);
                client.zk.exists(root + "/n", events);
                client.zk.delete(root + "/n", -1);
                events.expect(EventType.NodeDeleted, root + "/n");
                events.expect(EventType.NodeChildrenChanged, root);
                client.create(root + "/n");
                events.expectNoMore(client.zk);
            }
        });
        checks.check("an event carries the zxid of its transaction", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Events events = new Events();
                client.zk.getData(root, events, null);
                Stat stat = client.zk.setData(root, EMPTY, -1);
                Checks.equal(stat.getMzxid(), events.next().getZxid());
            }
        });
        checks.check("persistent watch", () -> {
            try (Client client = new Client(); Client other = new Client()) {
                String root = client.root();
                Events events = new Events();
                client.zk.addWatch(root + "/n", events, AddWatchMode.PERSISTENT);
                for (int round = 0; round < 2; round++) {
                    other.create(root + "/n");
                    other.zk.setData(root + "/n", EMPTY, -1);
                    other.zk.setData(root + "/n", EMPTY, -1);
                    other.create(root + "/n/child");
                    other.zk.setData(root + "/n/child", EMPTY, -1);
                    other.zk.delete(root + "/n/child", -1);
                    other.zk.delete(root + "/n", -1);
                    for (EventType type : List.of(EventType.NodeCreated, EventType.NodeDataChanged,
                            EventType.NodeDataChanged, EventType.NodeChildrenChanged,
                            EventType.NodeChildrenChanged, EventType.NodeDeleted)) {
                        events.expect(type, root + "/n");
                    }
                }
                events.expectNoMore(client.zk);
            }
        });
        checks.check("persistent recursive watch", () -> {
            try (Client client = new Client(); Client other = new Client()) {
                String root = client.root();
                Events events = new Events();
                client.zk.addWatch(root, events, AddWatchMode.PERSISTENT_RECURSIVE);
                other.create(root + "/a");
                other.create(root + "/a/b");
                other.zk.setData(root + "/a/b", EMPTY, -1);
                other.zk.setData(root, EMPTY, -1);
                other.zk.delete(root + "/a/b", -1);
                other.zk.delete(root + "/a", -1);
                events.expect(EventType.NodeCreated, root + "/a");
                events.expect(EventType.NodeCreated, root + "/a/b");
                events.expect(EventType.NodeDataChanged, root + "/a/b");
                events.expect(EventType.NodeDataChanged, root);
                events.expect(EventType.NodeDeleted, root + "/a/b");
                events.expect(EventType.NodeDeleted, root + "/a");
                events.expectNoMore(client.zk);
            }
        });
        checks.check("watches of all kinds are set again after a break", () -> {
            try (Client client = new Client(); Client helper = new Client()) {
                String root = client.root();
                for (String name : List.of("/data", "/child", "/gone", "/quiet", "/persistent", "/recursive")) {
                    client.create(root + name);
                }
                Events data = new Events();
                Events child = new Events();
                Events gone = new Events();
                Events quiet = new Events();
                Events made = new Events();
                Events persistent = new Events();
                Events recursive = new Events();
                client.zk.getData(root + "/data", data, null);
                client.zk.getChildren(root + "/child", child);
                client.zk.getData(root + "/gone", gone, null);
                client.zk.getData(root + "/quiet", quiet, null);
                client.zk.exists(root + "/made", made);
                client.zk.addWatch(root + "/persistent", persistent, AddWatchMode.PERSISTENT);
                client.zk.addWatch(root + "/recursive", recursive, AddWatchMode.PERSISTENT_RECURSIVE);
                checks.ask("close");
                client.expect(KeeperState.Disconnected);
                checks.ask("change " + root);
                checks.ask("open");
                client.expect(KeeperState.SyncConnected);
                data.expect(EventType.NodeDataChanged, root + "/data");
                child.expect(EventType.NodeChildrenChanged, root + "/child");
                gone.expect(EventType.NodeDeleted, root + "/gone");
                made.expect(EventType.NodeCreated, root + "/made");
                helper.zk.setData(root + "/quiet", EMPTY, -1);
                quiet.expect(EventType.NodeDataChanged, root + "/quiet");
                helper.create(root + "/persistent/x");
                persistent.expect(EventType.NodeChildrenChanged, root + "/persistent");
                helper.create(root + "/recursive/x");
                recursive.expect(EventType.NodeCreated, root + "/recursive/x");
                for (Events events : List.of(data, child, gone, quiet, made, persistent, recursive)) {
                    events.expectNoMore(client.zk);
                }
            }
        });
        checks.check("a watcher without read permission sees nothing", () -> {
            try (Client client = new Client(); Client other = new Client()) {
                String root = client.root();
                other.zk.addAuthInfo("digest", "ann:secret".getBytes(UTF_8));
                Events events = new Events();
                client.zk.addWatch(root, events, AddWatchMode.PERSISTENT_RECURSIVE);
                other.zk.create(root + "/hidden", EMPTY, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
                other.zk.setData(root + "/hidden", EMPTY, -1);
                other.create(root + "/shown");
                events.expect(EventType.NodeCreated, root + "/shown");
                events.expectNoMore(client.zk);
            }
        });
    }

    private static void removingWatches(Checks checks) {
        checks.check("removing one kind of watch keeps the others", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Events data = new Events();
                Events child = new Events();
                client.zk.getData(root, data, null);
                client.zk.getChildren(root, child);
                client.zk.removeWatches(root, data, WatcherType.Data, false);
                data.expect(EventType.DataWatchRemoved, root);
                client.zk.setData(root, EMPTY, -1);
                client.create(root + "/a");
                child.expect(EventType.NodeChildrenChanged, root);
                data.expectNoMore(client.zk);
                client.zk.getChildren(root, child);
                client.zk.removeWatches(root, child, WatcherType.Children, false);
                child.expect(EventType.ChildWatchRemoved, root);
                client.create(root + "/b");
                child.expectNoMore(client.zk);
            }
        });
        checks.check("removing persistent watches", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Events persistent = new Events();
                Events recursive = new Events();
                client.zk.addWatch(root, persistent, AddWatchMode.PERSISTENT);
                client.zk.addWatch(root, recursive, AddWatchMode.PERSISTENT_RECURSIVE);
                client.zk.removeWatches(root, persistent, WatcherType.Persistent, false);
                persistent.expect(EventType.PersistentWatchRemoved, root);
                client.zk.setData(root, EMPTY, -1);
                recursive.expect(EventType.NodeDataChanged, root);
                client.zk.removeWatches(root, recursive, WatcherType.PersistentRecursive, false);
                recursive.expect(EventType.PersistentWatchRemoved, root);
                client.zk.setData(root, EMPTY, -1);
                persistent.expectNoMore(client.zk);
                recursive.expectNoMore(client.zk);
            }
        });
        checks.check("removing all watches of a path", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Events events = new Events();
                client.zk.getData(root, events, null);
                client.zk.getChildren(root, events);
                client.zk.addWatch(root, events, AddWatchMode.PERSISTENT);
                client.zk.removeAllWatches(root, WatcherType.Any, false);
                Set<EventType> seen = new TreeSet<>();
                for (int index = 0; index < 3; index++) {
                    seen.add(events.next().getType());
                }
                Checks.equal(Set.of(EventType.DataWatchRemoved, EventType.ChildWatchRemoved,
                        EventType.PersistentWatchRemoved), seen);
                client.zk.setData(root, EMPTY, -1);
                client.create(root + "/a");
                events.expectNoMore(client.zk);
            }
        });
        checks.check("removing a watch that is not there", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                fails(Code.NOWATCHER, () -> client.zk.removeAllWatches(root, WatcherType.Any, false));
                client.zk.getChildren(root, new Events());
                fails(Code.NOWATCHER, () -> client.zk.removeAllWatches(root, WatcherType.Data, false));
            }
        });
    }

    private static void access(Checks checks) {
        checks.check("digest authentication", () -> {
            try (Client owner = new Client(); Client other = new Client()) {
                String root = owner.root();
                owner.zk.addAuthInfo("digest", "ann:secret".getBytes(UTF_8));
                owner.zk.create(root + "/n", EMPTY, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
                fails(Code.NOAUTH, () -> other.zk.getData(root + "/n", false, null));
                fails(Code.NOAUTH, () -> other.zk.exists(root + "/n", false));
                fails(Code.NOAUTH, () -> other.create(root + "/n/x"));
                other.zk.addAuthInfo("digest", "ann:secret".getBytes(UTF_8));
                Checks.equal(EMPTY, other.zk.getData(root + "/n", false, null));
            }
        });
        checks.check("getACL and setACL", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                List<ACL> acl = Arrays.asList(
                        new ACL(Perms.ALL, Ids.ANYONE_ID_UNSAFE), new ACL(Perms.READ, new Id("ip", "10.0.0.0/8")));
                Stat set = client.zk.setACL(root, acl, 0);
                Checks.equal(1, set.getAversion());
                Stat read = new Stat();
                Checks.equal(acl, client.zk.getACL(root, read));
                Checks.equal(set, read);
                fails(Code.BADVERSION, () -> client.zk.setACL(root, acl, 0));
                fails(Code.INVALIDACL, () -> client.zk.setACL(root, Arrays.asList(new ACL(1, new Id("x", "y"))), -1));
                fails(Code.INVALIDACL, () -> client.zk.create(
                        root + "/n", EMPTY, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
            }
        });
        checks.check("unknown authentication scheme", () -> {
            try (Client client = new Client()) {
                client.zk.addAuthInfo("nonsense", EMPTY);
                client.expect(KeeperState.AuthFailed);
                fails(Code.AUTHFAILED, () -> client.zk.exists("/", false));
            }
        });
        checks.check("who am I", () -> {
            try (Client client = new Client()) {
                client.zk.addAuthInfo("digest", "ann:secret".getBytes(UTF_8));
                client.zk.addAuthInfo("digest", "bob:hidden".getBytes(UTF_8));
                Set<String> seen = new TreeSet<>();
                for (ClientInfo info : client.zk.whoAmI()) {
                    seen.add(info.getAuthScheme() + " " + info.getUser());
                }
                Checks.equal(Set.of("digest ann", "digest bob", "ip 127.0.0.1"), seen);
            }
        });
    }

    private static void queries(Checks checks) {
        checks.check("ephemerals of this session", () -> {
            try (Client client = new Client(); Client other = new Client()) {
                String root = client.root();
                for (String name : List.of("/a1", "/a2", "/b1")) {
                    client.zk.create(root + name, EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                }
                other.zk.create(root + "/a3", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                List<String> all = client.zk.getEphemerals();
                Collections.sort(all);
                Checks.equal(List.of(root + "/a1", root + "/a2", root + "/b1"), all);
                Checks.equal(Set.of(root + "/a1", root + "/a2"), new TreeSet<>(client.zk.getEphemerals(root + "/a")));
                Checks.equal(List.of(), other.zk.getEphemerals(root + "/b"));
            }
        });
        checks.check("number of all children", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                Checks.equal(0, client.zk.getAllChildrenNumber(root));
                for (String path : List.of("/a", "/a/b", "/a/b/c", "/d")) {
                    client.create(root + path);
                }
                Checks.equal(4, client.zk.getAllChildrenNumber(root));
                Checks.equal(2, client.zk.getAllChildrenNumber(root + "/a"));
                fails(Code.NONODE, () -> client.zk.getAllChildrenNumber(root + "/x"));
            }
        });
        checks.check("sync", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                LinkedBlockingQueue<String> answers = new LinkedBlockingQueue<>();
                client.zk.sync(root, (rc, path, context) -> answers.add(rc + " " + path), null);
                Checks.equal("0 " + root, answers.poll(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS));
            }
        });
        checks.check("configuration of a standalone server", () -> {
            try (Client client = new Client()) {
                Stat stat = new Stat();
                Checks.equal(EMPTY, client.zk.getConfig(false, stat));
                Checks.equal(0L, stat.getMzxid());
                fails(Code.NOAUTH, () -> client.zk.setData("/zookeeper/config", EMPTY, -1));
            }
        });
        checks.check("reconfiguration of a standalone server", () -> {
            try (ZooKeeperAdmin admin = new ZooKeeperAdmin(address, TIMEOUT_MS, event -> { })) {
                fails(Code.UNIMPLEMENTED, () ->
                        admin.reconfigure("server.2=127.0.0.1:1:2;3", null, null, -1, new Stat()));
            }
        });
        checks.check("chroot", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                try (Client inside = new Client(root, TIMEOUT_MS)) {
                    Events events = new Events();
                    inside.zk.addWatch("/", events, AddWatchMode.PERSISTENT_RECURSIVE);
                    Checks.equal("/n", inside.create("/n"));
                    events.expect(EventType.NodeCreated, "/n");
                    Checks.equal(List.of("n"), inside.zk.getChildren("/", false));
                    inside.zk.create("/e", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                    Checks.equal(List.of(root + "/e"), inside.zk.getEphemerals());
                }
                Checks.equal(List.of("n"), client.zk.getChildren(root, false));
            }
        });
    }

    private static void sessions(Checks checks) {
        checks.check("session is taken up again by id and password", () -> {
            try (Client first = new Client()) {
                String root = first.root();
                first.zk.create(root + "/e", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                try (Client second = new Client(first.zk.getSessionId(), first.zk.getSessionPasswd())) {
                    second.expect(KeeperState.SyncConnected);
                    Checks.equal(first.zk.getSessionId(), second.zk.getSessionId());
                    Checks.equal(List.of(root + "/e"), second.zk.getEphemerals());
                }
                first.expect(KeeperState.Disconnected);
                first.expect(KeeperState.Expired);
            }
        });
        checks.check("wrong password is refused", () -> {
            try (Client first = new Client()) {
                try (Client second = new Client(first.zk.getSessionId(), new byte[16])) {
                    second.expect(KeeperState.Expired);
                    fails(Code.SESSIONEXPIRED, () -> second.zk.exists("/", false));
                }
            }
        });
        checks.check("closed session is refused", () -> {
            Client first = new Client();
            first.close();
            try (Client second = new Client(first.zk.getSessionId(), first.zk.getSessionPasswd())) {
                second.expect(KeeperState.Expired);
            }
        });
        checks.check("expiry while disconnected", () -> {
            try (Client dying = new Client("", 3000)) {
                String root = dying.root();
                dying.zk.create(root + "/e", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                checks.ask("close");
                dying.expect(KeeperState.Disconnected);
                checks.ask("expire " + Long.toHexString(dying.zk.getSessionId()));
                checks.ask("open");
                dying.expect(KeeperState.Expired);
                try (Client client = new Client()) {
                    Checks.equal(List.of(), client.zk.getChildren(root, false));
                }
            }
        });
        checks.check("session, ephemerals and watches outlive a restart", () -> {
            try (Client client = new Client()) {
                String root = client.root();
                long session = client.zk.getSessionId();
                client.zk.create(root + "/e", EMPTY, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
                Events persistent = new Events();
                Events data = new Events();
                client.zk.addWatch(root, persistent, AddWatchMode.PERSISTENT_RECURSIVE);
                client.zk.getData(root, data, null);
                checks.ask("restart");
                client.expect(KeeperState.Disconnected);
                client.expect(KeeperState.SyncConnected);
                Checks.equal(session, client.zk.getSessionId());
                Checks.equal(session, client.zk.exists(root + "/e", false).getEphemeralOwner());
                client.zk.setData(root, EMPTY, -1);
                persistent.expect(EventType.NodeDataChanged, root);
                data.expect(EventType.NodeDataChanged, root);
                client.create(root + "/n");
                persistent.expect(EventType.NodeCreated, root + "/n");
                persistent.expectNoMore(client.zk);
                data.expectNoMore(client.zk);
            }
        });
    }
}
