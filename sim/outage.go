package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
)

// OutageFaults befall all machines at one moment: what only memory had is nowhere any
// more, so that nobody can make up for a write that was acknowledged too early.
func OutageFaults() []Fault { return []Fault{outage} }

// outageMax is the longest that machines run on disks that fail, before their power
// does.
const outageMax = time.Second

// outage is the end of the power of all machines. Half of them begin with disks that
// fail: the next fsync of every journal does, and loses what it was to make durable.
var outage = Fault{"outage", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	var up []*Machine
	for _, m := range c.Machines {
		if m.Running() {
			up = append(up, m)
		}
	}
	fails, after := rng.IntN(2) == 0, time.Duration(rng.Int64N(int64(outageMax)))
	note := fmt.Sprintf("%d machines", len(up))
	if fails {
		for _, m := range up {
			m.Disk.FailSync(disk.Of(storage.TypeJournal), 1, false, disk.ErrIO)
		}
		rest(context.Background(), after)
		note += ", whose disks have failed"
	}
	for _, m := range up {
		m.Disk.SetTear(disk.Tear(rng.IntN(3)))
		m.PowerCut()
	}
	return note, func() error {
		for _, i := range rng.Perm(len(up)) {
			if err := up[i].revive(); err != nil {
				return err
			}
			rest(context.Background(), time.Duration(rng.Int64N(int64(time.Second))))
		}
		return nil
	}
}}
