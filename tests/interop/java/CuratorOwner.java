import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.retry.RetryForever;

/**
 * Owns what it is told to, with Curator's recipes, at the server whose address is the only argument.
 * Each line of input is "acquire KIND PATH SECONDS" or "release KIND PATH"; each is answered by "true" or "false".
 */
public final class CuratorOwner {
    interface Release {
        void run() throws Exception;
    }

    private final CuratorFramework client;
    private final Map<String, Release> held = new HashMap<>();

    private CuratorOwner(CuratorFramework client) {
        this.client = client;
    }

    private Release lock(InterProcessLock lock, long seconds) throws Exception {
        return lock.acquire(seconds, TimeUnit.SECONDS) ? lock::release : null;
    }

    private Release permit(String path, long seconds) throws Exception {
        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, path, 2);
        Lease lease = semaphore.acquire(seconds, TimeUnit.SECONDS);
        return lease == null ? null : () -> semaphore.returnLease(lease);
    }

    private Release lead(String path, long seconds) throws Exception {
        LeaderLatch latch = new LeaderLatch(client, path, "theirs");
        latch.start();
        if (latch.await(seconds, TimeUnit.SECONDS)) {
            return latch::close;
        }
        latch.close();
        return null;
    }

    private Release acquire(String kind, String path, long seconds) throws Exception {
        switch (kind) {
            case "mutex":
                return lock(new InterProcessMutex(client, path), seconds);
            case "read":
                return lock(new InterProcessReadWriteLock(client, path).readLock(), seconds);
            case "write":
                return lock(new InterProcessReadWriteLock(client, path).writeLock(), seconds);
            case "semaphore":
                return permit(path, seconds);
            case "latch":
                return lead(path, seconds);
            default:
                throw new IllegalArgumentException(kind);
        }
    }

    private boolean obey(String[] words) throws Exception {
        String what = words[1] + " " + words[2];
        if (words[0].equals("release")) {
            held.remove(what).run();
            return true;
        }
        Release release = acquire(words[1], words[2], Long.parseLong(words[3]));
        if (release != null) {
            held.put(what, release);
        }
        return release != null;
    }

    public static void main(String[] arguments) throws Exception {
        try (CuratorFramework client =
                CuratorFrameworkFactory.newClient(arguments[0], 20_000, 5_000, new RetryForever(100))) {
            client.start();
            CuratorOwner owner = new CuratorOwner(client);
            BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = orders.readLine(); line != null; line = orders.readLine()) {
                System.out.println(owner.obey(line.split(" ")));
                System.out.flush();
            }
        }
    }
}
