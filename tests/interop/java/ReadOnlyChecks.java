import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/** Apache's Java client, content with a read-only server, at an ensemble of which one member is left, and "/a" in it. */
public final class ReadOnlyChecks {
    private static final long EVENT_LIMIT_MS = 30_000;

    private interface Request {
        void send() throws Exception;
    }

    private static void refused(Request request) throws Exception {
        try {
            request.send();
        } catch (KeeperException problem) {
            Checks.equal(Code.NOTREADONLY, problem.code());
            return;
        }
        throw new AssertionError("not refused");
    }

    public static void main(String[] arguments) throws Exception {
        LinkedBlockingQueue<WatchedEvent> session = new LinkedBlockingQueue<>();
        LinkedBlockingQueue<WatchedEvent> changes = new LinkedBlockingQueue<>();
        ZooKeeper zk = new ZooKeeper(arguments[0], 5_000, session::add, true);
        Checks checks = new Checks();
        checks.check("reads", () -> {
            WatchedEvent first = session.poll(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS);
            Checks.that(first != null, "connected in time");
            Checks.equal(KeeperState.ConnectedReadOnly, first.getState());
            Checks.equal(ZooKeeper.States.CONNECTEDREADONLY, zk.getState());
            Checks.equal("old", new String(zk.getData("/a", changes::add, null), UTF_8));
            Checks.that(zk.getChildren("/", false).contains("a"), "its child is there");
        });
        checks.check("is refused writes", () -> {
            refused(() -> zk.setData("/a", new byte[0], -1));
            refused(() -> zk.create("/b", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            refused(() -> zk.create("/b", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
            refused(() -> zk.delete("/a", -1));
            refused(() -> zk.multi(List.of(Op.delete("/a", -1))));
        });
        checks.check("finds a server that takes writes", () -> {
            checks.ask("leader");
            Checks.eventually("it is connected to one", () -> zk.getState() == ZooKeeper.States.CONNECTED);
            zk.setData("/a", "new".getBytes(UTF_8), -1);
            WatchedEvent change = changes.poll(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS);
            while (change != null && change.getType() == EventType.None) {
                change = changes.poll(EVENT_LIMIT_MS, TimeUnit.MILLISECONDS);
            }
            Checks.that(change != null, "the watch fires");
            Checks.equal(EventType.NodeDataChanged, change.getType());
        });
        checks.run();
        zk.close();
    }
}
