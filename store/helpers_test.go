package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func TestMain(m *testing.M) {
	// goleveldb drains its pool for a second after it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// outcome is a sink that remembers.
type outcome struct {
	mu        sync.Mutex
	record    []byte
	dot       version.Dot
	siblings  int
	minted    bool
	committed bool
	err       error
	done      chan struct{}
}

func newOutcome() *outcome { return &outcome{done: make(chan struct{})} }

func (o *outcome) Minted(record []byte, dot version.Dot, _ version.Context, siblings int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.minted || o.committed {
		panic("Minted after Minted or Committed")
	}
	o.minted, o.record, o.dot, o.siblings = true, record, dot, siblings
}

func (o *outcome) Committed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.committed {
		panic("Committed twice")
	}
	o.committed, o.err = true, err
	close(o.done)
}

func (o *outcome) Read(record []byte, err error) {
	o.record = record
	o.Committed(err)
}

func (o *outcome) wait() error {
	<-o.done
	return o.err
}

func (o *outcome) isDone() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

func small() store.Options {
	return store.Options{CacheBytes: 1 << 20, WriteBuffer: 128 << 10, RecordMax: 64 << 10}
}

// open opens a store that is closed with the test.
func open(t testing.TB, disk storage.Storage, o store.Options) *store.Store {
	t.Helper()
	s := mustOpen(t, disk, o)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// bubble runs a test in virtual time, until goleveldb's last goroutine is gone.
func bubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(2 * time.Second) })
		test(t)
	})
}

func mustOpen(t testing.TB, disk storage.Storage, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(disk, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func blind(p ring.Partition, key, value string) *store.Put {
	return &store.Put{Partition: p, Epoch: 1, Key: []byte(key), Value: []byte(value),
		ValueDigest: version.DigestOf([]byte(value)), Blind: true, Stamp: version.StampAt(time.Now())}
}

func start(s *store.Store, p *store.Put) *outcome {
	o := newOutcome()
	p.Sink = o
	s.Put(p)
	return o
}

func startMerge(s *store.Store, p ring.Partition, encoded []byte) *outcome {
	r, err := version.Parse(encoded)
	if err != nil {
		panic(err)
	}
	o := newOutcome()
	s.Merge(&store.Merge{Partition: p, Record: r, Encoded: encoded, Sink: o})
	return o
}

func mustPut(t testing.TB, s *store.Store, p ring.Partition, key, value string) *outcome {
	t.Helper()
	o := start(s, blind(p, key, value))
	if err := o.wait(); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return o
}

// get parses what is stored; an absent key has no siblings.
func get(t testing.TB, s *store.Store, p ring.Partition, key string) version.Record {
	t.Helper()
	r, err := tryGet(s, p, key)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return r
}

func tryGet(s *store.Store, p ring.Partition, key string) (version.Record, error) {
	b, err := s.Get(p, []byte(key))
	if err != nil || b == nil {
		return version.Record{Key: []byte(key)}, err
	}
	return version.Parse(b)
}

func values(r version.Record) (out []string) {
	for _, s := range r.Siblings {
		out = append(out, string(s.Value))
	}
	return out
}

func wantValues(t testing.TB, r version.Record, want ...string) {
	t.Helper()
	if got := values(r); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("key %q holds %q, want %q", r.Key, got, want)
	}
}

func wantError(t rapid.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// until waits for a condition that Health changes bring about.
func until(t rapid.TB, s *store.Store, what string, ok func(h store.Health) bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		changed := s.Changed()
		if ok(s.Health()) {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("never: %s; health %+v", what, s.Health())
		}
	}
}

// eventually waits for what a background task brings about.
func eventually(t rapid.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 30_000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("never: %s", what)
}

// slow makes every sync take some time.
func slow(d *disk.Disk, wait time.Duration) {
	d.SetSyncDelay(func() time.Duration { return wait })
}

// recordFrom encodes a record that another home has minted.
func recordFrom(actor version.Actor, key, value string) []byte {
	d := version.Dot{Actor: actor, Seq: 1}
	r := version.Record{Key: []byte(key)}
	r = r.Put(nil, version.NewSibling(d, version.StampAt(time.Now()), 0, []byte(value)))
	return r.Append(nil)
}

// replaceQuietly is rewrite for a store that was closed, and leaves nothing in the
// journal that shows.
func replaceQuietly(t testing.TB, d *disk.Disk, key, value []byte) {
	t.Helper()
	db, err := leveldb.Open(d.Open(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Put(key, value, &opt.WriteOptions{Sync: true}), db.CompactRange(util.Range{}), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes a database behind the store's back.
func rewrite(t testing.TB, d *disk.Disk, key, value []byte) {
	t.Helper()
	db, err := leveldb.Open(d.Open(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Put(key, value, &opt.WriteOptions{Sync: true}), db.Close()); err != nil {
		t.Fatal(err)
	}
}
