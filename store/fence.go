package store

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
)

// fences are the epochs below which a partition takes no counted request. They
// only rise. Anyone reads them; the committer raises them, in commit order.
type fences [ring.SlotCount]atomic.Uint64

func (f *fences) raise(p int, epoch uint64) {
	if epoch > f[p].Load() {
		f[p].Store(epoch)
	}
}

// encode writes all fences up to the last one that is not zero.
func (f *fences) encode() []byte {
	n := len(f)
	for n > 0 && f[n-1].Load() == 0 {
		n--
	}
	b := binary.AppendUvarint(nil, uint64(n))
	for i := range n {
		b = binary.AppendUvarint(b, f[i].Load())
	}
	return b
}

func parseFences(b []byte) ([]uint64, error) {
	if len(b) == 0 {
		return nil, nil
	}
	f := fields{b: b}
	n := f.uvarint()
	if n > ring.SlotCount {
		return nil, fmt.Errorf("%w: %d fences", ErrCorrupt, n)
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = f.uvarint()
	}
	if f.bad || len(f.b) > 0 {
		return nil, fmt.Errorf("%w: fences", ErrCorrupt)
	}
	return out, nil
}
