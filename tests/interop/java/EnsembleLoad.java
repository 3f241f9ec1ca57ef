import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * Works with an ensemble until its input ends, and prints what it was told, as tests/interop/journal.py reads it.
 * Arguments: the servers, and the session timeout in milliseconds. Requests are those of Apache's client, each sent
 * once; only locks are Curator's.
 */
public final class EnsembleLoad {
    private static final int PAUSE_MS = 10;
    private static final int LIMIT_S = 60;
    private static final String LOCK = "/locks/curator";

    /** Whether a step may have been done before, by an earlier call whose outcome is not known. */
    interface Step<T> {
        T run(boolean isRepeated) throws Exception;
    }

    private static final class Mutex extends InterProcessMutex {
        private final String name;

        Mutex(CuratorFramework client, String name) {
            super(client, LOCK);
            this.name = name;
        }

        String claim() {
            return getLockPath();
        }

        @Override
        protected byte[] getLockNodeBytes() {
            return bytes(name);
        }
    }

    private final CuratorFramework client;
    private volatile boolean isEnding;

    private EnsembleLoad(CuratorFramework client) {
        this.client = client;
    }

    private static synchronized void print(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static boolean isUncertain(KeeperException problem) {
        switch (problem.code()) {
            case CONNECTIONLOSS:
            case OPERATIONTIMEOUT:
            case SESSIONEXPIRED:
            case SESSIONMOVED:
                return true;
            default:
                return false;
        }
    }

    /** The client below Curator's, of the session that there is now. */
    private ZooKeeper service() throws Exception {
        return client.getZookeeperClient().getZooKeeper();
    }

    private void create(String letter) throws Exception {
        for (int number = 0; !isEnding; number++) {
            String path = "/load/java-" + letter + "/" + number;
            try {
                service().create(path, bytes(path), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                print("created " + path);
            } catch (KeeperException problem) {
                if (!isUncertain(problem)) {
                    throw problem;
                }
                print("perhaps-created " + path);
            }
            Thread.sleep(PAUSE_MS);
        }
    }

    private void count() throws Exception {
        while (!isEnding) {
            boolean isSent = false;
            try {
                ZooKeeper service = service();
                Stat stat = new Stat();
                int value = Integer.parseInt(new String(service.getData("/counter", false, stat), StandardCharsets.UTF_8));
                isSent = true;
                service.setData("/counter", bytes(Integer.toString(value + 1)), stat.getVersion());
                print("counted");
            } catch (KeeperException.BadVersionException problem) {
                Thread.yield();
            } catch (KeeperException problem) {
                if (!isUncertain(problem)) {
                    throw problem;
                }
                if (isSent) {
                    print("perhaps-counted");
                }
            }
            Thread.sleep(PAUSE_MS);
        }
    }

    private void own(String name) throws Exception {
        while (!isEnding) {
            Mutex mutex = new Mutex(client, name);
            boolean isHeld = false;
            try {
                isHeld = acquire(mutex);
                if (isHeld) {
                    hold(name, mutex.claim());
                }
            } catch (KeeperException problem) {
                if (!isUncertain(problem) && problem.code() != KeeperException.Code.NONODE) {
                    throw problem;
                }
            } finally {
                if (isHeld) {
                    release(mutex);
                }
            }
            Thread.sleep(PAUSE_MS);
        }
    }

    /**
     * Takes a lost connection for what it is where Curator does not. It repeats the creation of a claim after looking
     * for it; as both count as one call to be repeated, a connection that is lost a second time, at the creation, ends
     * that call with no error and no path (seen with 5.9), and then a claim of which Curator knows nothing may be there.
     */
    private boolean acquire(Mutex mutex) throws Exception {
        try {
            return mutex.acquire(5, TimeUnit.SECONDS);
        } catch (NullPointerException problem) {
            untilCertain(isRepeated -> withdraw(mutex.name));
            return false;
        }
    }

    private Void withdraw(String name) throws Exception {
        service().sync(LOCK, (code, path, context) -> { }, null);
        for (String child : service().getChildren(LOCK, false)) {
            String claim = LOCK + "/" + child;
            try {
                Stat stat = new Stat();
                boolean isMine = Arrays.equals(service().getData(claim, false, stat), bytes(name));
                if (isMine && stat.getEphemeralOwner() == service().getSessionId()) {
                    service().delete(claim, -1);
                }
            } catch (KeeperException.NoNodeException problem) {
                // It ended by itself.
            }
        }
        return null;
    }

    private static void release(Mutex mutex) throws Exception {
        try {
            mutex.release();
        } catch (KeeperException problem) {
            // Curator goes on deleting the claim in the background.
            if (!isUncertain(problem) && problem.code() != KeeperException.Code.NONODE) {
                throw problem;
            }
        }
    }

    /** Writes into the service that the lock is held, and takes that away again; NoNode if the claim is gone. */
    private void hold(String name, String claim) throws Exception {
        Stat stat = untilCertain(isRepeated -> service().exists(claim, false));
        if (stat == null) {
            return;
        }
        long entered;
        long left;
        try {
            untilCertain(isRepeated -> enter(claim));
            entered = System.nanoTime();
            Thread.sleep(PAUSE_MS);
            left = System.nanoTime();
            untilCertain(isRepeated -> leave(claim, isRepeated));
        } catch (KeeperException.NoNodeException problem) {
            if (service().getSessionId() == stat.getEphemeralOwner()) {
                print("wrong " + claim + " is gone, its session is not");
            }
            throw problem;
        }
        print("held curator " + name + " " + stat.getCzxid() + " " + entered + " " + left);
    }

    private static <T> T untilCertain(Step<T> step) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        boolean isRepeated = false;
        while (true) {
            try {
                return step.run(isRepeated);
            } catch (KeeperException problem) {
                if (!isUncertain(problem) || System.nanoTime() > deadline) {
                    throw problem;
                }
                isRepeated = true;
                Thread.sleep(PAUSE_MS);
            }
        }
    }

    private Void commit(String claim, Op op) throws Exception {
        List<Op> operations = new ArrayList<>();
        operations.add(Op.check(claim, -1));
        operations.add(op);
        service().multi(operations);
        return null;
    }

    private Void enter(String claim) throws Exception {
        try {
            return commit(claim, Op.create("/holding/curator", bytes(claim), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        } catch (KeeperException.NodeExistsException problem) {
            Stat stat = new Stat();
            String before = new String(service().getData("/holding/curator", false, stat), StandardCharsets.UTF_8);
            if (before.equals(claim)) {
                return null;
            }
            // Who held it before has not left, so its claim must have ended with its session.
            service().sync(before, (code, path, context) -> { }, null);
            if (service().exists(before, false) != null) {
                print("wrong " + claim + " holds the lock, and " + before + " does too");
            }
            return commit(claim, Op.setData("/holding/curator", bytes(claim), stat.getVersion()));
        }
    }

    private Void leave(String claim, boolean isRepeated) throws Exception {
        try {
            return commit(claim, Op.delete("/holding/curator", -1));
        } catch (KeeperException.NoNodeException problem) {
            // The claim is the first operation: without it, the error of the second is none of its own.
            boolean isLost = service().exists(claim, false) == null;
            if (isLost) {
                throw problem;
            }
            if (!isRepeated) {
                print("wrong somebody else entered while " + claim + " was there");
            }
            return null;
        }
    }

    private Thread worker(String name, Callable<Void> work) {
        Thread thread = new Thread(() -> {
            try {
                work.call();
            } catch (Exception problem) {
                problem.printStackTrace();
                print("wrong java " + name + " failed: " + problem.toString().replace('\n', ' '));
            }
        }, name);
        thread.start();
        return thread;
    }

    private Callable<Void> creating(String letter) {
        return () -> {
            create(letter);
            return null;
        };
    }

    private Callable<Void> owning(String name) {
        return () -> {
            own(name);
            return null;
        };
    }

    public static void main(String[] arguments) throws Exception {
        int timeout = Integer.parseInt(arguments[1]);
        try (CuratorFramework client =
                CuratorFrameworkFactory.newClient(arguments[0], timeout, timeout, new RetryNTimes(100, 100))) {
            client.getConnectionStateListenable().addListener((same, state) -> {
                if (state == ConnectionState.LOST) {
                    print("ended java");
                }
            });
            client.start();
            client.blockUntilConnected();
            EnsembleLoad load = new EnsembleLoad(client);
            List<Thread> threads = new ArrayList<>();
            threads.add(load.worker("creator a", load.creating("a")));
            threads.add(load.worker("creator b", load.creating("b")));
            threads.add(load.worker("counter", () -> {
                load.count();
                return null;
            }));
            threads.add(load.worker("owner a", load.owning("java-a")));
            threads.add(load.worker("owner b", load.owning("java-b")));
            while (System.in.read() >= 0) {
                Thread.yield();
            }
            load.isEnding = true;
            for (Thread thread : threads) {
                thread.join();
            }
        }
    }
}
