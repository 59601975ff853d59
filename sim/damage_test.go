package sim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// lostData says that a member of a machine's name has a problem, as another one
// tells it, that speaks of a loss.
func lostData(t *testing.T, c *sim.Cluster, asked int, victim *sim.Machine) bool {
	t.Helper()
	for _, m := range must(c.Status(asked)).Members {
		named := slices.ContainsFunc(m.Problems, func(p string) bool {
			return strings.Contains(p, "are gone") || strings.Contains(p, "damaged")
		})
		if m.Name == victim.Name && named { // it may have lost its ID too, and be a newcomer
			return true
		}
	}
	return false
}

// damaged breaks synced bytes of one machine that is down, and wants them
// missed: the machine stays away, or comes back and says that it lost data. No
// quorum read shows less than was acknowledged either way.
func damaged(t *testing.T, seed uint64, harm func(*sim.Machine, *rand.Rand) string) {
	in(t, sim.Options{Seed: seed}, func(t *testing.T, c *sim.Cluster) {
		h := sim.NewHistory()
		clients := direct(c, h)
		defer closeAll(clients)
		victim := int(seed % 5)
		for n := range 60 {
			want(t, clients[n%5].Put(fmt.Sprintf("k%d", n), nil, client.Quorum, 5*time.Second), sim.Done)
		}
		m := c.Machines[victim]
		m.Stop()
		check(t, m.Start()) // part of it is in tables now
		check(t, c.WaitReady(time.Minute))
		for n := range 60 {
			want(t, clients[n%5].Put(fmt.Sprintf("l%d", n), nil, client.Quorum, 5*time.Second), sim.Done)
		}
		m.Kill()
		what := harm(m, c.Chance("harm"))
		if err := m.Start(); err != nil {
			t.Logf("%s: stays away: %v", what, err)
		} else {
			other := (victim + 1) % 5
			waitUntil(t, time.Minute, what+": nobody says that data was lost", func() bool { return lostData(t, c, other, m) })
		}
		time.Sleep(10 * time.Second)
		for _, key := range h.Keys() {
			for i, cl := range clients {
				if !c.Machines[i].Running() {
					continue
				}
				read := cl.Get(key, client.Quorum, 10*time.Second)
				if read.Outcome != sim.Done || len(read.Saw) != 1 {
					t.Fatalf("%s: %v\n%s", what, read, h.Story(key))
				}
			}
		}
	})
}

func anyOf(m *sim.Machine, rng *rand.Rand, t storage.FileType) storage.FileDesc {
	fds := m.Disk.Files(t)
	for range 50 {
		if fd := fds[rng.IntN(len(fds))]; m.Disk.Size(fd) > 200 {
			return fd
		}
	}
	return fds[len(fds)-1]
}

func TestFault33_FlippedBitsAreNamedAndNeverServed(t *testing.T) {
	for _, seed := range seeds(6) {
		damaged(t, seed, func(m *sim.Machine, rng *rand.Rand) string {
			kind := []storage.FileType{storage.TypeJournal, storage.TypeManifest}[rng.IntN(2)]
			fd := anyOf(m, rng, kind)
			off := rng.IntN(m.Disk.Size(fd) * 3 / 4)
			m.Disk.Flip(fd, off, 1<<rng.IntN(8))
			return fmt.Sprintf("bit flipped at %d of %v", off, fd)
		})
	}
}

func TestFault34_TruncatedAndZeroedFilesAreNamed(t *testing.T) {
	for _, seed := range seeds(6) {
		damaged(t, seed, func(m *sim.Machine, rng *rand.Rand) string {
			fd := anyOf(m, rng, storage.TypeJournal)
			half := m.Disk.Size(fd) / 2
			if rng.IntN(2) == 0 {
				m.Disk.Truncate(fd, half)
				return fmt.Sprintf("%v cut to %d", fd, half)
			}
			m.Disk.Zero(fd, half/2, min(512, half))
			return fmt.Sprintf("zeros at %d of %v", half/2, fd)
		})
	}
}

func TestFault35_DeletedFilesAreNamed(t *testing.T) {
	for _, seed := range seeds(6) {
		damaged(t, seed, func(m *sim.Machine, rng *rand.Rand) string {
			fd := anyOf(m, rng, []storage.FileType{storage.TypeTable, storage.TypeManifest, storage.TypeJournal}[rng.IntN(3)])
			m.Disk.Delete(fd)
			return fmt.Sprintf("%v deleted", fd)
		})
	}
}
