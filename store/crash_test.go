package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

func TestFault36_PowerCutLosesNothingAcknowledged(t *testing.T) {
	crashes(t, func(d *disk.Disk) { d.PowerCut() })
}

func TestFault18_KillLosesNothingAcknowledged(t *testing.T) {
	crashes(t, func(d *disk.Disk) { d.Kill() })
}

// crashes stops stores that are writing, and looks for what was acknowledged.
// An ordinary crash is no loss, whatever it tears.
func crashes(t *testing.T, crash func(d *disk.Disk)) {
	for seed := range uint64(runs(60, 4000)) {
		h := &history{r: rand.New(rand.NewPCG(seed, 1)), valMx: 4000, parts: 3}
		d := disk.New(seed)
		d.SetTear(disk.Tear(h.r.IntN(3)))
		for round := range 4 {
			s := mustOpen(t, d.Open(), crashOptions())
			if health := s.Health(); health.LossyAll || len(health.Losses) > 0 {
				t.Fatalf("seed %d round %d: lossy after a crash: %+v\n%v", seed, round, health, d)
			}
			if silent, loud := h.missing(s); len(silent) > 0 || loud > 0 {
				t.Fatalf("seed %d round %d: lost %q, %d unreadable\n%v", seed, round, silent, loud, d)
			}
			n := 1 + h.r.IntN(60)
			if h.r.IntN(4) == 0 {
				n *= 8 // tables are written and compacted meanwhile
			}
			h.load(s, n)
			crash(d)
			_ = s.Close() // of a dead disk
			h.settle()
		}
	}
}

// crashOptions flush and compact often. Not under the race detector: when its
// files fail, or are closed under a flush, goleveldb sends on channels that it
// has closed, and recovers from that on purpose; the detector reports it.
func crashOptions() store.Options {
	o := small()
	if raceBuild {
		o.WriteBuffer = 4 << 20
	}
	return o
}
