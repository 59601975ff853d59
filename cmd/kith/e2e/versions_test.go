package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// both and later are releases to come: one that speaks another protocol too, and one that
// has given up the one of today.
var (
	both  = sync.OnceValues(func() (string, error) { return builtFor("1-2") })
	later = sync.OnceValues(func() (string, error) { return builtFor("2-3") })
)

// builtFor builds kith for a range of protocols, beside the usual one.
func builtFor(protocols string) (string, error) {
	usual, err := binary()
	if err != nil {
		return "", err
	}
	path := usual + "-" + protocols
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X github.com/kithdb/kith/rpc.built="+protocols, "-o", path, "github.com/kithdb/kith/cmd/kith")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building kith for the protocols %s: %w\n%s", protocols, err, out)
	}
	return path, nil
}

// release gives one of them.
func release(t *testing.T, built func() (string, error)) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// turnInto restarts a server with another program.
func (c *cluster) turnInto(i int, bin string) {
	c.t.Helper()
	c.signal(i, syscall.SIGTERM)
	<-c.servers[i].exited
	c.startAs(i, bin)
}

// startAs starts a server with another program.
func (c *cluster) startAs(i int, bin string) {
	c.t.Helper()
	usual := c.bin
	defer func() { c.bin = usual }()
	c.bin = bin
	c.start(i)
}

// Servers are upgraded one by one to a release that speaks another protocol too: nobody is
// refused meanwhile, and clients of each release work. One that has given the first
// protocol up works with these, and no more with clients of the first release.
func TestFault28_ServersAreUpgradedOneByOne(t *testing.T) {
	both, later := release(t, both), release(t, later)
	c := newCluster(t, 3, "--partitions", "64")
	c.startAll()
	k := c.loaded(c.dial(0, 1, 2), 300, 100)
	k.start(8)
	k.goesOn(100)
	for i, s := range c.servers {
		k.during("the upgrade of " + s.name)
		c.turnInto(i, both)
		c.waitReady()
		k.goesOn(100)
	}
	k.end(true)
	for _, bin := range []string{c.bin, both, later} {
		key := filepath.Base(bin)
		env := append(os.Environ(), "KITH_ADDR="+c.addrs())
		for _, args := range [][]string{{"put", key, "v"}, {"get", key}, {"status"}} {
			if r := run(t, bin, env, args...); r.code != 0 {
				t.Errorf("%s %v: exit status %d\n%s%s", key, args, r.code, r.stdout, r.stderr)
			}
		}
	}
	c.turnInto(2, later)
	at := []string{"KITH_ADDR=" + c.servers[2].addr}
	until(t, "it is ready", time.Minute, func() bool {
		return run(t, later, append(at, os.Environ()...), "status", "--wait", "ready", "--timeout", "5s").code == 0
	})
	r := run(t, c.bin, append(at, os.Environ()...), "get", "kith")
	if r.code != 6 || !strings.Contains(r.stderr, "VERSION") || !strings.Contains(r.stderr, "1 to 1") || !strings.Contains(r.stderr, "2 to 3") {
		t.Errorf("a client that is too old: exit status %d\n%s", r.code, r.stderr)
	}
}

// A server of a release that has no protocol in common with the others is refused by
// them, and refuses them. Both log it once; status names it; the others go on.
func TestFault28_AServerOfAnotherProtocolIsNamed(t *testing.T) {
	later := release(t, later)
	c := newCluster(t, 3, "--partitions", "16")
	c.startAll()
	c.turnInto(2, later)
	const problem = "speaks the protocols 2 to 3, and the node that tells this 1 to 1"
	until(t, "status names it", time.Minute, func() bool {
		for _, m := range c.status(0).Members {
			if m.Name == "n3" && m.Reachable {
				return false
			}
		}
		return strings.Contains(c.kith("status", "--format", "json").stdout, problem)
	})
	for i := range 20 {
		c.must("put", fmt.Sprint("k", i), "v")
		c.must("get", fmt.Sprint("k", i))
	}
	for _, name := range []string{"n1", "n3"} {
		text, err := os.ReadFile(filepath.Join(c.dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		for what, most := range map[string]int{"connection to a node refused": 2, "connection of a node refused": 2} {
			n := 0
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, what) && strings.Contains(line, "1 to 1") && strings.Contains(line, "2 to 3") {
					n++
				}
			}
			if n == 0 || n > most {
				t.Errorf("%s: %d lines say %q", name, n, what)
			}
		}
	}
	c.turnInto(2, c.bin)
	c.waitReady()
	for i := range 20 {
		c.must("get", fmt.Sprint("k", i), "--r", "all")
	}
}
