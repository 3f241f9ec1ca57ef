// The Go client go-zookeeper/zk against a server at the address given as the only argument.
//
// Runs named checks one after the other. Each prints one line, "ok NAME" or "failed NAME: REASON". A check may ask the
// test that runs this program for something ("? cut"); the answer is one line on stdin.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	sessionTimeout = 20 * time.Second
	limit          = 20 * time.Second
)

var (
	address string
	answers = bufio.NewReader(os.Stdin)
	roots   int
	open    = zk.WorldACL(zk.PermAll)
)

// problem ends a check; nothing else panics with it.
type problem string

func fail(format string, arguments ...any) {
	panic(problem(fmt.Sprintf(format, arguments...)))
}

func equal(expected, actual any) {
	if !reflect.DeepEqual(expected, actual) {
		fail("expected <%v>, got <%v>", expected, actual)
	}
}

func succeeds(err error) {
	if err != nil {
		fail("unexpected error: %v", err)
	}
}

func failsWith(expected, err error) {
	if !errors.Is(err, expected) {
		fail("expected <%v>, got <%v>", expected, err)
	}
}

func ask(wish string) {
	fmt.Printf("? %s\n", wish)
	answer, err := answers.ReadString('\n')
	succeeds(err)
	equal("done\n", answer)
}

func check(name string, body func()) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
			fmt.Printf("ok %s\n", name)
		case problem:
			fmt.Printf("failed %s: %s\n", name, strings.ReplaceAll(string(reason), "\n", " "))
		default:
			panic(reason)
		}
	}()
	body()
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// connect returns a client that has a session, and its session events from then on.
func connect() (*zk.Conn, <-chan zk.Event) {
	client, events, err := zk.Connect([]string{address}, sessionTimeout, zk.WithLogger(silent{}))
	succeeds(err)
	expectState(events, zk.StateHasSession)
	return client, events
}

func expectState(events <-chan zk.Event, state zk.State) {
	deadline := time.After(limit)
	for {
		select {
		case event := <-events:
			if event.State == state {
				return
			}
		case <-deadline:
			fail("not %v in time", state)
		}
	}
}

func expectEvent(events <-chan zk.Event, kind zk.EventType, path string) {
	select {
	case event := <-events:
		equal(fmt.Sprint(kind, path), fmt.Sprint(event.Type, event.Path))
	case <-time.After(limit):
		fail("no %v of %s in time", kind, path)
	}
}

func newRoot(client *zk.Conn) string {
	roots++
	path, err := client.Create(fmt.Sprintf("/go-%d", roots), nil, zk.FlagPersistent, open)
	succeeds(err)
	return path
}

func create(client *zk.Conn, path string) {
	made, err := client.Create(path, []byte{}, zk.FlagPersistent, open)
	succeeds(err)
	equal(path, made)
}

func dataAndStat() {
	client, _ := connect()
	defer client.Close()
	root := newRoot(client)
	create(client, root+"/n")
	_, created, err := client.Exists(root + "/n")
	succeeds(err)
	equal(created.Czxid, created.Pzxid)
	changed, err := client.Set(root+"/n", []byte("abc"), 0)
	succeeds(err)
	equal([]any{int32(1), int32(3), created.Czxid, created.Mzxid + 1},
		[]any{changed.Version, changed.DataLength, changed.Czxid, changed.Mzxid})
	data, stat, err := client.Get(root + "/n")
	succeeds(err)
	equal([]byte("abc"), data)
	equal(changed, stat)
	names, listed, err := client.Children(root)
	succeeds(err)
	equal([]string{"n"}, names)
	equal(int32(1), listed.NumChildren)
	succeeds(client.Delete(root+"/n", 1))
	there, _, err := client.Exists(root + "/n")
	succeeds(err)
	equal(false, there)
}

func kindsOfZnodes() {
	client, _ := connect()
	defer client.Close()
	root := newRoot(client)
	for number, flags := range []int32{zk.FlagPersistent, zk.FlagEphemeral, zk.FlagSequence, zk.FlagEphemeralSequential} {
		path, err := client.Create(root+"/n", nil, flags, open)
		succeeds(err)
		expected, owner := root+"/n", int64(0)
		if flags&zk.FlagSequence != 0 {
			expected = fmt.Sprintf("%s/n%010d", root, number)
		}
		if flags&zk.FlagEphemeral != 0 {
			owner = client.SessionID()
		}
		equal(expected, path)
		_, stat, err := client.Exists(path)
		succeeds(err)
		equal(owner, stat.EphemeralOwner)
		succeeds(client.Delete(path, 0))
	}
	_, err := client.CreateContainer(root+"/c", nil, zk.FlagContainer, open)
	succeeds(err)
	_, err = client.CreateTTL(root+"/t", nil, zk.FlagTTL, open, time.Hour)
	succeeds(err)
	path, err := client.CreateTTL(root+"/t", nil, zk.FlagPersistentSequentialWithTTL, open, time.Hour)
	succeeds(err)
	equal(root+"/t0000000006", path)
	path, err = client.CreateProtectedEphemeralSequential(root+"/p-", nil, open)
	succeeds(err)
	equal("p-0000000007", path[len(path)-12:])
}

func errorsOfOperations() {
	client, _ := connect()
	defer client.Close()
	root := newRoot(client)
	_, err := client.Create(root+"/e", nil, zk.FlagEphemeral, open)
	succeeds(err)
	_, err = client.Create(root, nil, 0, open)
	failsWith(zk.ErrNodeExists, err)
	_, err = client.Create(root+"/x/y", nil, 0, open)
	failsWith(zk.ErrNoNode, err)
	_, err = client.Create(root+"/e/y", nil, 0, open)
	failsWith(zk.ErrNoChildrenForEphemerals, err)
	failsWith(zk.ErrNotEmpty, client.Delete(root, -1))
	failsWith(zk.ErrBadVersion, client.Delete(root+"/e", 9))
	_, err = client.Set(root, nil, 9)
	failsWith(zk.ErrBadVersion, err)
	_, _, err = client.Get(root + "/x")
	failsWith(zk.ErrNoNode, err)
	_, err = client.SetACL(root, zk.AuthACL(zk.PermAll), -1)
	failsWith(zk.ErrInvalidACL, err)
	_, err = client.IncrementalReconfig(nil, []string{"2"}, -1)
	failsWith(zk.ErrReconfigDisabled, err)
}

func multi() {
	client, _ := connect()
	defer client.Close()
	root := newRoot(client)
	results, err := client.Multi(
		&zk.CreateRequest{Path: root + "/a", Data: []byte("1"), Acl: open},
		&zk.CreateRequest{Path: root + "/s-", Acl: open, Flags: zk.FlagEphemeralSequential},
		&zk.CheckVersionRequest{Path: root + "/a", Version: 0},
		&zk.SetDataRequest{Path: root + "/a", Data: []byte("22"), Version: 0},
		&zk.DeleteRequest{Path: root + "/a", Version: 1},
	)
	succeeds(err)
	equal(5, len(results))
	equal(root+"/a", results[0].String)
	equal(root+"/s-0000000001", results[1].String)
	equal(int32(1), results[3].Stat.Version)
	_, before, err := client.Exists(root)
	succeeds(err)
	results, err = client.Multi(
		&zk.CreateRequest{Path: root + "/b", Acl: open},
		&zk.CheckVersionRequest{Path: root, Version: 9},
		&zk.DeleteRequest{Path: root + "/b", Version: -1},
	)
	failsWith(zk.ErrBadVersion, err)
	equal([]any{nil, zk.ErrBadVersion}, []any{results[0].Error, results[1].Error})
	_, after, err := client.Exists(root)
	succeeds(err)
	equal(before, after)
}

func watches() {
	client, _ := connect()
	defer client.Close()
	other, _ := connect()
	defer other.Close()
	root := newRoot(client)
	path := root + "/n"
	there, _, created, err := client.ExistsW(path)
	succeeds(err)
	equal(false, there)
	_, _, listed, err := client.ChildrenW(root)
	succeeds(err)
	create(other, path)
	expectEvent(created, zk.EventNodeCreated, path)
	expectEvent(listed, zk.EventNodeChildrenChanged, root)
	_, _, changed, err := client.GetW(path)
	succeeds(err)
	_, err = other.Set(path, []byte("x"), -1)
	succeeds(err)
	expectEvent(changed, zk.EventNodeDataChanged, path)
	_, _, deleted, err := client.GetW(path)
	succeeds(err)
	succeeds(other.Delete(path, -1))
	expectEvent(deleted, zk.EventNodeDeleted, path)
}

func watchesAreSetAgain() {
	client, events := connect()
	defer client.Close()
	root := newRoot(client)
	for _, name := range []string{"/data", "/child", "/gone", "/quiet"} {
		create(client, root+name)
	}
	_, _, data, err := client.GetW(root + "/data")
	succeeds(err)
	_, _, child, err := client.ChildrenW(root + "/child")
	succeeds(err)
	_, _, gone, err := client.GetW(root + "/gone")
	succeeds(err)
	_, _, quiet, err := client.GetW(root + "/quiet")
	succeeds(err)
	_, _, made, err := client.ExistsW(root + "/made")
	succeeds(err)
	ask("close")
	expectState(events, zk.StateDisconnected)
	ask("change " + root)
	ask("open")
	expectState(events, zk.StateHasSession)
	expectEvent(data, zk.EventNodeDataChanged, root+"/data")
	expectEvent(child, zk.EventNodeChildrenChanged, root+"/child")
	expectEvent(gone, zk.EventNodeDeleted, root+"/gone")
	expectEvent(made, zk.EventNodeCreated, root+"/made")
	_, err = client.Set(root+"/quiet", nil, -1)
	succeeds(err)
	expectEvent(quiet, zk.EventNodeDataChanged, root+"/quiet")
}

func accessLists() {
	owner, _ := connect()
	defer owner.Close()
	other, _ := connect()
	defer other.Close()
	root := newRoot(owner)
	succeeds(owner.AddAuth("digest", []byte("ann:secret")))
	_, err := owner.Create(root+"/n", nil, 0, zk.AuthACL(zk.PermAll))
	succeeds(err)
	_, _, err = other.Get(root + "/n")
	failsWith(zk.ErrNoAuth, err)
	acl, _, err := owner.GetACL(root + "/n")
	succeeds(err)
	equal(zk.DigestACL(zk.PermAll, "ann", "secret"), acl)
	stat, err := owner.SetACL(root+"/n", zk.WorldACL(zk.PermRead), 0)
	succeeds(err)
	equal(int32(1), stat.Aversion)
	_, _, err = other.Get(root + "/n")
	succeeds(err)
	_, err = other.Set(root+"/n", nil, -1)
	failsWith(zk.ErrNoAuth, err)
}

func locks() {
	one, _ := connect()
	defer one.Close()
	two, _ := connect()
	defer two.Close()
	root := newRoot(one)
	total := 0
	var group sync.WaitGroup
	problems := make(chan error, 40)
	for _, client := range []*zk.Conn{one, two} {
		lock := zk.NewLock(client, root+"/lock", open)
		group.Add(1)
		go func() {
			defer group.Done()
			for turn := 0; turn < 10; turn++ {
				if err := lock.Lock(); err != nil {
					problems <- err
					return
				}
				total++
				if err := lock.Unlock(); err != nil {
					problems <- err
				}
			}
		}()
	}
	group.Wait()
	equal(0, len(problems))
	equal(20, total)
}

func largeValueAndSync() {
	client, _ := connect()
	defer client.Close()
	root := newRoot(client)
	sent := bytes.Repeat([]byte{0xa5, 0, 0xff, '\n'}, 250_000)
	_, err := client.Set(root, sent, -1)
	succeeds(err)
	path, err := client.Sync(root)
	succeeds(err)
	equal(root, path)
	received, _, err := client.Get(root)
	succeeds(err)
	equal(true, bytes.Equal(sent, received))
}

func ephemeralsEndWithTheSession() {
	watcher, _ := connect()
	defer watcher.Close()
	root := newRoot(watcher)
	owner, _ := connect()
	_, err := owner.Create(root+"/e", nil, zk.FlagEphemeral, open)
	succeeds(err)
	_, _, gone, err := watcher.GetW(root + "/e")
	succeeds(err)
	owner.Close()
	expectEvent(gone, zk.EventNodeDeleted, root+"/e")
}

func outlivesARestart() {
	client, events := connect()
	defer client.Close()
	root := newRoot(client)
	session := client.SessionID()
	_, err := client.Create(root+"/e", nil, zk.FlagEphemeral, open)
	succeeds(err)
	ask("restart")
	expectState(events, zk.StateHasSession)
	equal(session, client.SessionID())
	_, stat, err := client.Exists(root + "/e")
	succeeds(err)
	equal(session, stat.EphemeralOwner)
	create(client, root+"/n")
}

func adminWords() {
	client, _ := connect()
	defer client.Close()
	equal([]bool{true}, zk.FLWRuok([]string{address}, limit))
	// The line of the asking connection itself has no session, which this parser takes for an error.
	servers, _ := zk.FLWCons([]string{address}, limit)
	for _, found := range servers[0].Clients {
		if found.Error == nil && found.SessionID == client.SessionID() {
			equal(int32(sessionTimeout/time.Millisecond), found.Timeout)
			return
		}
	}
	fail("cons does not list session %x", client.SessionID())
}

func main() {
	address = os.Args[1]
	check("data and stat", dataAndStat)
	check("kinds of znodes", kindsOfZnodes)
	check("errors of operations", errorsOfOperations)
	check("multi", multi)
	check("watches", watches)
	check("watches are set again", watchesAreSetAgain)
	check("access lists", accessLists)
	check("locks", locks)
	check("large value and sync", largeValueAndSync)
	check("ephemerals end with the session", ephemeralsEndWithTheSession)
	check("outlives a restart", outlivesARestart)
	check("admin words", adminWords)
}
