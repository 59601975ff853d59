package node

import (
	"runtime"

	"github.com/kithdb/kith/rpc"
)

// gathering is the burst of the store's committer. Whoever is about to give it
// work does so first, so that more of it is done, and sent, at once.
type gathering struct{ *rpc.Burst }

// Begin implements store.Burst.
func (g gathering) Begin() {
	runtime.Gosched()
	g.Burst.Begin()
}
