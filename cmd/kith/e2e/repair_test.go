package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// keyCount is how many keys the tests of repair write; KITH_E2E_KEYS=100000 is the
// size that is promised.
func keyCount(t *testing.T) int {
	text := os.Getenv("KITH_E2E_KEYS")
	if text == "" {
		return 5_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 {
		t.Fatalf("KITH_E2E_KEYS=%s: want a number, 100 or more", text)
	}
	return n
}

// world is what every home must hold: no value stands for a deleted key.
type world map[string][]byte

func (w world) keys() [][]byte {
	out := make([][]byte, 0, len(w))
	for k := range w {
		out = append(out, []byte(k))
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

func numbered(i int) []byte { return fmt.Appendf(nil, "key-%06d", i) }

// write puts all, or deletes where there is no value, and keeps what was done.
func (w world) write(t *testing.T, cl *client.Client, puts []client.Put) {
	t.Helper()
	for batch := range slices.Chunk(puts, 500) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		for i, wrote := range cl.PutAll(ctx, batch) {
			if wrote.Err != nil {
				t.Fatalf("write %s: %v", batch[i].Key, wrote.Err)
			}
			w[string(batch[i].Key)] = batch[i].Value
		}
		cancel()
	}
}

func values(from, to int, word string) []client.Put {
	var puts []client.Put
	for i := from; i < to; i++ {
		puts = append(puts, client.Put{Key: numbered(i), Value: fmt.Appendf(nil, "%s of %d %s", word, i, strings.Repeat("·", i%300))})
	}
	return puts
}

func deletes(from, to int) []client.Put {
	var puts []client.Put
	for i := from; i < to; i++ {
		puts = append(puts, client.Put{Key: numbered(i), Delete: true})
	}
	return puts
}

// homes gives, for each server, the keys that it is a home of, once the first one
// sees all homes.
func (c *cluster) homes(w world) [][][]byte {
	c.t.Helper()
	view, err := c.dial(0).Ring(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	places := map[ring.NodeID]int{}
	until(c.t, "all homes are servers that the first one reaches", time.Minute, func() bool {
		clear(places)
		for _, m := range c.status(0).Members {
			for i, s := range c.servers {
				if id, err := ring.ParseNodeID(m.ID); err == nil && m.Name == s.name && m.Reachable {
					places[id] = i
				}
			}
		}
		for p := range ring.Partition(view.Record.Partitions) {
			for _, id := range view.Record.Homes(p) {
				if _, ok := places[id]; !ok {
					return false
				}
			}
		}
		return true
	})
	out := make([][][]byte, len(c.servers))
	for _, k := range w.keys() {
		for _, id := range view.Record.Homes(view.Record.PartitionOf(k)) {
			out[places[id]] = append(out[places[id]], k)
		}
	}
	return out
}

// local counts the keys of which a server's own copy is not what it must be, and
// describes the first. A copy that does not count for reads is wrong, too.
func (c *cluster) local(w world, i int, keys [][]byte) (wrong int, first string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cl, err := client.Dial(ctx, []string{c.servers[i].addr}, client.Direct())
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	own, err := cl.Status(ctx)
	if err != nil {
		return len(keys), err.Error()
	}
	miss := func(k []byte, format string, args ...any) {
		if wrong++; first == "" {
			first = fmt.Sprintf("%s at %s: ", k, c.servers[i].name) + fmt.Sprintf(format, args...)
		}
	}
	for batch := range slices.Chunk(keys, 500) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		for j, r := range cl.GetAll(ctx, batch, client.One) {
			k, want := batch[j], w[string(batch[j])]
			by := r.Result.Receipt.Answered
			switch {
			case r.Err != nil && !errors.Is(r.Err, client.ErrNotFound):
				miss(k, "%v", r.Err)
			case len(by) != 1 || by[0].String() != own.Node:
				miss(k, "answered by %v", by)
			case !bytes.Equal(r.Result.Value, want) || (want == nil) != (r.Result.Value == nil):
				miss(k, "has %.40q, want %.40q", r.Result.Value, want)
			case len(r.Result.Siblings) > 1:
				miss(k, "has %d siblings", len(r.Result.Siblings))
			}
		}
		cancel()
	}
	return wrong, first
}

// equal waits until every home's own copy of every key is what it must be.
func (c *cluster) equal(w world, limit time.Duration) {
	c.t.Helper()
	homes := c.homes(w)
	last := ""
	deadline := time.Now().Add(limit)
	for i := range c.servers {
		for {
			wrong, first := c.local(w, i, homes[i])
			if wrong == 0 {
				break
			}
			last = fmt.Sprintf("%d of %d copies at %s differ: %s", wrong, len(homes[i]), c.servers[i].name, first)
			if time.Now().After(deadline) {
				c.t.Fatalf("not equal within %v: %s", limit, last)
			}
		}
	}
}

// audited runs kith repair to its end, and gives its total.
func (c *cluster) audited() client.RepairProgress {
	c.t.Helper()
	var doc struct {
		Complete bool                  `json:"complete"`
		Total    client.RepairProgress `json:"total"`
	}
	out := c.must("repair", "--wait", "--timeout", "3m", "--format", "json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil || !doc.Complete {
		c.t.Fatalf("kith repair: %v\n%s", err, out)
	}
	return doc.Total
}

func (c *cluster) memberOf(via, i int) client.MemberStatus {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	st, err := c.dial(via).Status(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range st.Members {
		if m.Name == c.servers[i].name && m.Reachable {
			return m
		}
	}
	return client.MemberStatus{}
}

// filled starts five servers and writes the keys.
func filled(t *testing.T, extra ...string) (*cluster, world, *client.Client, int) {
	c := newCluster(t, 5, extra...)
	c.startAll()
	w, n := world{}, keyCount(t)
	cl := c.dial(0, 1, 2, 3)
	w.write(t, cl, values(0, n, "first"))
	return c, w, cl, n
}

// change overwrites a fifth of the keys, deletes a twentieth and creates as many.
func (w world) change(t *testing.T, cl *client.Client, n int) (changed int) {
	w.write(t, cl, values(0, n/5, "second"))
	w.write(t, cl, deletes(n/5, n/5+n/20))
	w.write(t, cl, values(n, n+n/20, "late"))
	return n/5 + n/20 + n/20
}

// TestAServerThatWasAwayPullsWhatItHasMissed: it is ready within seconds, without
// anybody's help, every home's own copy is right, and it has fetched its share of
// what was changed and not of what there is.
func TestAServerThatWasAwayPullsWhatItHasMissed(t *testing.T) {
	c, w, cl, n := filled(t)
	c.signal(4, syscall.SIGTERM)
	<-c.servers[4].exited
	c.waitDown(0, "n5")
	changed := w.change(t, cl, n)
	c.start(4)
	begun := time.Now()
	c.waitReady()
	t.Logf("ready after %v", time.Since(begun))
	m := c.memberOf(0, 4)
	share := int64(changed) * 3 / 5
	t.Logf("%d keys changed, about %d of them its share; it has pulled %d keys, %d bytes", changed, share, m.Repair.PulledKeys, m.Repair.PulledBytes)
	if m.Repair.PulledKeys > share*3/2 {
		t.Errorf("it has pulled %d keys, and its share of what was changed is about %d", m.Repair.PulledKeys, share)
	}
	c.equal(w, time.Minute)
	if sum := c.audited(); sum.Differences != 0 || len(sum.Anomalies) != 0 {
		t.Errorf("an audit finds %d keys that differ: %v", sum.Differences, sum.Anomalies)
	}
}

// TestALostDiskIsReplaced: an empty directory takes the lost server's place, and
// is filled; nothing is lost, and nothing that was deleted comes back.
func TestALostDiskIsReplaced(t *testing.T) {
	c, w, cl, n := filled(t)
	w.change(t, cl, n)
	lost := c.memberOf(0, 4)
	c.kill(4)
	found := c.servers[4].data + "-found-again"
	if err := os.Rename(c.servers[4].data, found); err != nil {
		t.Fatal(err)
	}
	c.servers[4].args = append(c.servers[4].args, "--replace", lost.ID[:8])
	c.start(4)
	until(t, "the newcomer has the place", time.Minute, func() bool {
		m := c.memberOf(0, 4)
		return m.ID != "" && m.ID != lost.ID && m.Homes == lost.Homes
	})
	c.waitReady()
	c.equal(w, time.Minute)
	if sum := c.audited(); sum.Differences != 0 {
		t.Errorf("an audit finds %d keys that differ: %v", sum.Differences, sum.Anomalies)
	}
	for _, m := range c.status(0).Members {
		if m.ID == lost.ID && m.Reachable {
			t.Errorf("the lost member is still there: %+v", m)
		}
	}
	if r := c.kith("export"); r.code != 0 || strings.Count(r.stdout, "\n") != n {
		t.Errorf("export: exit status %d, %d keys, want %d", r.code, strings.Count(r.stdout, "\n"), n)
	}
	c.signal(4, syscall.SIGTERM)
	<-c.servers[4].exited
	c.start(4) // the same command again does nothing
	c.waitReady()
	ports := freePorts(t, 2)
	r := c.kith("server", "--data", found, "--listen", ports[0], "--gossip", ports[1], "--join", c.servers[0].gossip)
	if r.code != 1 || !strings.Contains(r.stderr, "another node has taken its place") || !strings.Contains(r.stderr, "empty directory") {
		t.Errorf("the lost member comes back: exit status %d\n%s", r.code, r.stderr)
	}
}

// TestFault34_FlippedBytesAreNamedAndMended: a server whose tables have rotted says
// so, and is filled again from the others.
func TestFault34_FlippedBytesAreNamedAndMended(t *testing.T) {
	c, w, cl, n := filled(t, "--scrub-every", "1m")
	c.signal(4, syscall.SIGTERM)
	<-c.servers[4].exited
	c.start(4) // what lay in its journal goes to tables
	c.waitReady()
	w.change(t, cl, n)
	c.signal(4, syscall.SIGTERM)
	<-c.servers[4].exited
	tables, err := filepath.Glob(filepath.Join(c.servers[4].data, "db", "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("there are no tables: %v", err)
	}
	for range 50 {
		flip(t, tables[rand.IntN(len(tables))])
	}
	c.start(4)
	c.waitReady()
	c.equal(w, 3*time.Minute) // reading finds what the scrub has not come to
	until(t, "the damage is named", 2*time.Minute, func() bool {
		log, err := os.ReadFile(filepath.Join(c.dir, "n5.log"))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(log, []byte("a table is damaged"))
	})
	c.waitReady()
	c.equal(w, time.Minute)
	if r := c.kith("export"); r.code != 0 || strings.Count(r.stdout, "\n") != n {
		t.Errorf("export: exit status %d, %d keys, want %d", r.code, strings.Count(r.stdout, "\n"), n)
	}
}

// flip changes one byte of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at, b := rand.Int64N(info.Size()), []byte{0}
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= byte(1 + rand.IntN(255))
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestALostDiskIsReplacedDuringWrites: nothing that was acknowledged before,
// meanwhile or behind the change of homes is lost.
func TestALostDiskIsReplacedDuringWrites(t *testing.T) {
	c := newCluster(t, 5)
	c.startAll()
	s := c.storm(8)
	until(t, "writes go on", time.Minute, func() bool { return s.count.Load() > 500 })
	lost := c.memberOf(0, 4)
	c.kill(4)
	if err := os.RemoveAll(c.servers[4].data); err != nil {
		t.Fatal(err)
	}
	c.servers[4].args = append(c.servers[4].args, "--replace", lost.ID)
	c.start(4)
	until(t, "the newcomer has the place", time.Minute, func() bool {
		m := c.memberOf(0, 4)
		return m.ID != "" && m.ID != lost.ID && m.Homes == lost.Homes
	})
	before := s.count.Load()
	until(t, "writes go on at the new homes", time.Minute, func() bool { return s.count.Load() > before+500 })
	c.waitReady()
	s.end()
	c.check(s)
	if sum := c.audited(); len(sum.Anomalies) != 0 {
		t.Errorf("anomalies: %v", sum.Anomalies)
	}
	// Also what only two homes have: another one goes.
	c.kill(3)
	c.waitDown(0, "n4")
	c.check(s)
}
