package antientropy

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/kithdb/kith/ring"
)

// Many goroutines of repair go on when one thing happens: a batch is on disk, a
// partition has lost something, a record of the ring was adopted. Which of them
// reads first what another one writes would be the scheduler's. So each steps aside
// for a moment of its own: the first of what it does is done before the next begins,
// all that has happened at once is there for all of them, and simulations replay.

// asideMin and asideMore are the shortest moment, and how much longer one may be.
const (
	asideMin  = 100 * time.Microsecond
	asideMore = 300 * time.Microsecond
)

// aside waits for a moment that is different for every loop, by its name and the
// member that it is about, and every time. It fails with ctx.
func (r *Repair) aside(ctx context.Context, loop string, about ring.NodeID) error {
	h := mixed(r.cfg.Seed, []byte(loop))
	h = mixed(h, about[:])
	now := uint64(time.Now().UnixNano())
	for ; now > 0; now >>= 8 {
		h = mixed(h, []byte{byte(now)})
	}
	h ^= h >> 32 // the low bits of such a sum know little of the high ones
	return sleep(ctx, asideMin+time.Duration(h%uint64(asideMore)))
}

// timeAsID tells apart those who have begun to wait at different times.
func timeAsID(t time.Time) (id ring.NodeID) {
	binary.BigEndian.PutUint64(id[8:], uint64(t.UnixNano()))
	return id
}

// mixed adds bytes to an FNV sum.
func mixed(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return h
}
