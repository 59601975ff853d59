package topology

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/kithdb/kith/ring"
)

// aside waits for a short moment that is another one for each who calls Learn, by when
// and about whom: many wait for one record, and do not go on at one instant.
func (t *Topology) aside(ctx context.Context, began time.Time, from ring.NodeID) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(from[:], uint64(began.UnixNano())))
	timer := time.NewTimer(wakeMin + time.Duration(binary.BigEndian.Uint64(sum[:])%uint64(wakeMore)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
