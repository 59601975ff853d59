package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
)

func journal(n int64) storage.FileDesc {
	return storage.FileDesc{Type: storage.TypeJournal, Num: n}
}

func manifest(n int64) storage.FileDesc {
	return storage.FileDesc{Type: storage.TypeManifest, Num: n}
}

// must stops the test at an error; it gives back the other result.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("unexpected error: %v", err))
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, s storage.Storage, fd storage.FileDesc) []byte {
	t.Helper()
	r := must(s.Open(fd))
	defer r.Close()
	return must(io.ReadAll(r))
}

func TestFileBeingWrittenCanBeRead(t *testing.T) {
	s := disk.New(1).Open()
	w := must(s.Create(journal(1)))
	must(w.Write([]byte("one")))
	r := must(s.Open(journal(1)))
	must(w.Write([]byte("two")))
	b := make([]byte, 6)
	if n, err := r.ReadAt(b, 0); n != 6 || err != nil || string(b) != "onetwo" {
		t.Fatalf("read %q, %d, %v", b, n, err)
	}
	check(t, s.Remove(journal(1)))
	if n, err := r.ReadAt(b, 3); n != 3 || err != io.EOF {
		t.Fatalf("a removed file that is open: read %d, %v", n, err)
	}
	if _, err := s.Open(journal(1)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open of a removed file: %v", err)
	}
}

func TestPowerCutKeepsSyncedBytesAndPartOfTheRest(t *testing.T) {
	lengths := map[int]bool{}
	for seed := range uint64(200) {
		d := disk.New(seed)
		s := d.Open()
		w := must(s.Create(journal(1)))
		must(w.Write([]byte("durable")))
		check(t, w.Sync())
		must(w.Write([]byte("torn")))
		d.PowerCut()
		if _, err := w.Write([]byte("x")); !errors.Is(err, disk.ErrDead) {
			t.Fatalf("write after a power cut: %v", err)
		}
		got := contents(t, d.Open(), journal(1))
		if !bytes.HasPrefix([]byte("durabletorn"), got) || len(got) < len("durable") {
			t.Fatalf("seed %d: %q survived", seed, got)
		}
		lengths[len(got)] = true
	}
	if len(lengths) != len("torn")+1 {
		t.Fatalf("tails survive in %d lengths, want every one of 5", len(lengths))
	}
}

func TestKillKeepsEverythingWritten(t *testing.T) {
	d := disk.New(1)
	s := d.Open()
	w := must(s.Create(journal(1)))
	must(w.Write([]byte("unsynced")))
	d.Kill()
	if err := w.Sync(); !errors.Is(err, disk.ErrDead) {
		t.Fatalf("sync after a kill: %v", err)
	}
	if _, err := s.List(storage.TypeAll); !errors.Is(err, disk.ErrDead) {
		t.Fatalf("list after a kill: %v", err)
	}
	if got := contents(t, d.Open(), journal(1)); string(got) != "unsynced" {
		t.Fatalf("%q survived", got)
	}
}

func TestNameNeverSyncedMayVanish(t *testing.T) {
	seen := map[bool]int{}
	for seed := range uint64(100) {
		d := disk.New(seed)
		s := d.Open()
		must(s.Create(journal(1)))
		synced := must(s.Create(journal(2)))
		check(t, synced.Sync())
		d.PowerCut()
		seen[d.Size(journal(1)) == 0]++
		if d.Size(journal(2)) != 0 {
			t.Fatalf("seed %d: the name of a synced file vanished", seed)
		}
	}
	if seen[true] < 20 || seen[false] < 20 {
		t.Fatalf("kept and lost: %v, want both often", seen)
	}
}

func TestRemovalIsDurableWithTheDirectory(t *testing.T) {
	back := 0
	for seed := range uint64(100) {
		for _, sync := range []bool{false, true} {
			d := disk.New(seed)
			s := d.Open()
			w := must(s.Create(journal(1)))
			must(w.Write([]byte("old")))
			check(t, w.Sync())
			check(t, s.Remove(journal(1)))
			if sync {
				check(t, must(s.Create(manifest(1))).Sync())
			}
			d.PowerCut()
			switch n := d.Size(journal(1)); {
			case n == -1:
			case n == 3 && !sync:
				back++
				if got := contents(t, d.Open(), journal(1)); string(got) != "old" {
					t.Fatalf("the file came back as %q", got)
				}
			default:
				t.Fatalf("seed %d, directory synced %v: size %d", seed, sync, n)
			}
		}
	}
	if back < 20 {
		t.Fatalf("removed files came back in %d of 100 runs, want about half", back)
	}
}

func TestRenameIsAtomicAcrossPowerCuts(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(200) {
		d := disk.New(seed)
		s := d.Open()
		for i, text := range []string{"a", "b"} {
			w := must(s.Create(journal(int64(i + 1))))
			must(w.Write([]byte(text)))
			check(t, w.Sync())
		}
		check(t, s.Rename(journal(1), journal(2)))
		d.PowerCut()
		s = d.Open()
		state := ""
		for _, fd := range d.Files(storage.TypeAll) {
			state += fmt.Sprintf("%d=%s ", fd.Num, contents(t, s, fd))
		}
		outcomes[state]++
	}
	if len(outcomes) != 2 || outcomes["1=a 2=b "] == 0 || outcomes["2=a "] == 0 {
		t.Fatalf("outcomes of a rename: %v", outcomes)
	}
}

func TestFailedSyncNeverPersistsLater(t *testing.T) {
	d := disk.New(1)
	s := d.Open()
	w := must(s.Create(journal(1)))
	d.FailSync(disk.Of(storage.TypeJournal), 1, false, disk.ErrIO)
	must(w.Write([]byte("lost")))
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v, want EIO", err)
	}
	must(w.Write([]byte("kept")))
	check(t, w.Sync())
	if got := contents(t, s, journal(1)); string(got) != "lostkept" {
		t.Fatalf("before the power cut: %q", got)
	}
	d.PowerCut()
	if got := contents(t, d.Open(), journal(1)); string(got) != "\x00\x00\x00\x00kept" {
		t.Fatalf("after the power cut: %q", got)
	}
}

func TestSyncThatFailsAfterPersisting(t *testing.T) {
	d := disk.New(1)
	w := must(d.Open().Create(journal(1)))
	d.FailSync(nil, 1, true, disk.ErrIO)
	must(w.Write([]byte("there")))
	if err := w.Sync(); err == nil {
		t.Fatal("sync succeeded")
	}
	d.PowerCut()
	if got := contents(t, d.Open(), journal(1)); string(got) != "there" {
		t.Fatalf("%q survived", got)
	}
}

func TestCapacityGivesNoSpaceUntilSomethingIsRemoved(t *testing.T) {
	d := disk.New(1)
	s := d.Open()
	w := must(s.Create(journal(1)))
	must(w.Write(make([]byte, 60)))
	w2 := must(s.Create(journal(2)))
	d.SetCapacity(100)
	if n, err := w2.Write(make([]byte, 50)); n != 40 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write over the capacity: %d, %v", n, err)
	}
	if _, err := s.Create(journal(3)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("create on a full disk: %v", err)
	}
	check(t, s.Remove(journal(1)))
	if n, err := w2.Write(make([]byte, 60)); n != 60 || err != nil {
		t.Fatalf("write after a removal: %d, %v", n, err)
	}
	if d.Bytes() != 100 {
		t.Fatalf("%d bytes in use, want 100", d.Bytes())
	}
}

func TestReadOnlyDiskRefusesChangesAndServesReads(t *testing.T) {
	d := disk.New(1)
	s := d.Open()
	w := must(s.Create(journal(1)))
	must(w.Write([]byte("x")))
	d.ReadOnly(true)
	_, errWrite := w.Write([]byte("y"))
	_, errCreate := s.Create(journal(2))
	for _, err := range []error{errWrite, errCreate, w.Sync(), s.Remove(journal(1)),
		s.Rename(journal(1), journal(2)), s.SetMeta(journal(1))} {
		if !errors.Is(err, syscall.EROFS) {
			t.Fatalf("a change gave %v", err)
		}
	}
	if got := contents(t, s, journal(1)); string(got) != "x" {
		t.Fatalf("read %q", got)
	}
	d.Heal()
	check(t, w.Sync())
}

func TestInjectedErrorsEndAfterTheirTimes(t *testing.T) {
	d := disk.New(1)
	s := d.Open()
	d.FailCreate(nil, 1, disk.ErrIO)
	if _, err := s.Create(journal(1)); !errors.Is(err, disk.ErrIO) {
		t.Fatalf("create: %v", err)
	}
	w := must(s.Create(journal(1)))
	d.FailWrite(disk.Every, 2, disk.ErrIO)
	for range 2 {
		if n, err := w.Write([]byte("abc")); err == nil || n > 3 {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	must(w.Write([]byte("abc")))
	d.FailRead(nil, disk.Forever, disk.ErrIO)
	r := must(s.Open(journal(1)))
	for range 3 {
		if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, disk.ErrIO) {
			t.Fatalf("read: %v", err)
		}
	}
	d.FailMeta(1, disk.ErrIO)
	d.FailRemove(nil, 1, disk.ErrIO)
	d.FailRename(nil, 1, disk.ErrIO)
	for _, err := range []error{s.SetMeta(journal(1)), s.Remove(journal(1)), s.Rename(journal(1), journal(2))} {
		if !errors.Is(err, disk.ErrIO) {
			t.Fatalf("got %v", err)
		}
	}
	d.Heal()
	if _, err := r.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatalf("read after Heal: %v", err)
	}
}

func TestSlowSyncHoldsNoLockAndCoversWhatWasWrittenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disk.New(1)
		d.SetTear(disk.TearAll)
		d.SetSyncDelay(func() time.Duration { return time.Second })
		s := d.Open()
		w := must(s.Create(journal(1)))
		must(w.Write([]byte("before")))
		began := time.Now()
		done := make(chan error)
		go func() { done <- w.Sync() }()
		synctest.Wait()
		must(w.Write([]byte("meanwhile")))
		check(t, <-done)
		if took := time.Since(began); took != time.Second {
			t.Fatalf("the sync took %v", took)
		}
		d.PowerCut()
		if got := contents(t, d.Open(), journal(1)); string(got) != "before" {
			t.Fatalf("%q survived", got)
		}
	})
}

func TestPowerCutDuringSlowSyncFailsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disk.New(1)
		d.SetSyncDelay(func() time.Duration { return time.Second })
		w := must(d.Open().Create(journal(1)))
		done := make(chan error)
		go func() { done <- w.Sync() }()
		synctest.Wait()
		d.PowerCut()
		if err := <-done; !errors.Is(err, disk.ErrDead) {
			t.Fatalf("the sync gave %v", err)
		}
	})
}

func TestDiskThatLiesLosesWhatItCalledSynced(t *testing.T) {
	d := disk.New(1)
	d.SetTear(disk.TearAll)
	w := must(d.Open().Create(journal(1)))
	check(t, w.Sync())
	d.Lie(true)
	must(w.Write([]byte("x")))
	check(t, w.Sync())
	d.PowerCut()
	if d.Size(journal(1)) != 0 {
		t.Fatal("it was durable")
	}
}

func TestOneLockAtATime(t *testing.T) {
	d := disk.New(1)
	a, b := d.Open(), d.Open()
	l := must(a.Lock())
	if _, err := b.Lock(); !errors.Is(err, storage.ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	l.Unlock()
	must(b.Lock())
	d.Kill()
	must(d.Open().Lock())
}

func TestDamageIsSeenByNewReadersAndNotBySnapshots(t *testing.T) {
	d := disk.New(1)
	s := d.Open()
	w := must(s.Create(journal(1)))
	must(w.Write([]byte("abcdef")))
	check(t, s.SetMeta(journal(1)))
	backup := d.Snapshot()
	d.Flip(journal(1), -1, 1)
	d.Zero(journal(1), 0, 2)
	if got := contents(t, s, journal(1)); string(got) != "\x00\x00cdeg" {
		t.Fatalf("damaged: %q", got)
	}
	d.Truncate(journal(1), 3)
	if d.Size(journal(1)) != 3 || d.Bytes() != 3 {
		t.Fatalf("truncated: %v", d)
	}
	d.Delete(journal(1))
	if fds := d.Files(storage.TypeAll); len(fds) != 0 {
		t.Fatalf("deleted: %v", fds)
	}
	d.Restore(backup)
	s = d.Open()
	if got := contents(t, s, journal(1)); string(got) != "abcdef" {
		t.Fatalf("restored: %q", got)
	}
	if fd, err := s.GetMeta(); err != nil || fd != journal(1) {
		t.Fatalf("restored meta: %v, %v", fd, err)
	}
	d.DeleteMeta()
	if _, err := s.GetMeta(); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("deleted meta: %v", err)
	}
	d.Wipe()
	if d.Bytes() != 0 || len(d.Files(storage.TypeAll)) != 0 {
		t.Fatalf("wiped: %v", d)
	}
}

func TestSameSeedTearsTheSame(t *testing.T) {
	run := func(seed uint64) string {
		d := disk.New(seed)
		d.SetTear(disk.TearPages)
		s := d.Open()
		for n := range int64(8) {
			w := must(s.Create(journal(n)))
			must(w.Write(bytes.Repeat([]byte{byte(n + 1)}, 20_000)))
		}
		d.PowerCut()
		out := d.String()
		for _, fd := range d.Files(storage.TypeAll) {
			out += fmt.Sprint(bytes.Count(d.Read(fd), []byte{0}))
		}
		return out
	}
	if a, b := run(7), run(7); a != b {
		t.Fatalf("one seed, two outcomes:\n%s\n%s", a, b)
	}
	if run(7) == run(8) {
		t.Fatal("two seeds, one outcome")
	}
}

// LevelDB on this disk behaves as FACTS says it does on real ones: synced puts
// survive power cuts, whatever becomes of the rest.
func TestLevelDBKeepsSyncedPutsAcrossPowerCuts(t *testing.T) {
	for seed := range uint64(60) {
		d := disk.New(seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		want := map[string]string{}
		for range 4 {
			o := &opt.Options{WriteBuffer: 4096, Strict: opt.DefaultStrict | opt.StrictManifest}
			db, err := leveldb.Open(d.Open(), o)
			if ldberrors.IsCorrupted(err) { // a torn manifest
				db, err = leveldb.Recover(d.Open(), o)
			}
			if err != nil {
				t.Fatalf("seed %d: open: %v\n%v\n%v", seed, err, d, d.Lines())
			}
			for key, value := range want {
				if got, err := db.Get([]byte(key), nil); err != nil || string(got) != value {
					t.Fatalf("seed %d: key %s is %q, %v, want %q", seed, key, got, err, value)
				}
			}
			for n := range rng.IntN(200) {
				key, value := fmt.Sprint("s", rng.IntN(100)), fmt.Sprint(seed, n, rng.Uint64())
				if rng.IntN(2) == 0 {
					check(t, db.Put([]byte(key), []byte(value), &opt.WriteOptions{Sync: true}))
					want[key] = value
				} else {
					check(t, db.Put([]byte("u"+key), []byte(value), nil))
				}
			}
			d.PowerCut()
			db.Close()
		}
	}
}
