import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;

/**
 * Named checks, run one after the other. Each prints one line, "ok NAME" or "failed NAME: REASON".
 * A check may ask the test that runs this program for something ("? cut"); the answer is one line on stdin.
 */
final class Checks {
    interface Body {
        void run() throws Exception;
    }

    private final Map<String, Body> bodies = new LinkedHashMap<>();
    private final BufferedReader answers =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    void check(String name, Body body) {
        bodies.put(name, body);
    }

    void run() {
        bodies.forEach((name, body) -> {
            try {
                body.run();
                System.out.println("ok " + name);
            } catch (Throwable problem) {
                problem.printStackTrace();
                System.out.println("failed " + name + ": " + problem.toString().replace('\n', ' '));
            }
        });
        System.out.flush();
    }

    /** Asks the test for "close", "open" or "cut" (of the gate) or "restart" (of the server); returns when it is done. */
    void ask(String wish) throws Exception {
        System.out.println("? " + wish);
        System.out.flush();
        equal("done", answers.readLine());
    }

    static void equal(Object expected, Object actual) {
        if (!Objects.deepEquals(expected, actual)) {
            throw new AssertionError("expected <" + expected + ">, got <" + actual + ">");
        }
    }

    static void that(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError("not so: " + what);
        }
    }

    /** Calls until the condition holds; fails after twenty seconds. */
    static void eventually(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (!condition.holds()) {
            that(System.nanoTime() < deadline, what + " (within 20 s)");
            Thread.sleep(20);
        }
    }

    interface Condition {
        boolean holds() throws Exception;
    }
}
