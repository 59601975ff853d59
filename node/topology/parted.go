package topology

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
)

const (
	// partedFresh is for how long others of another history count as being there
	// after they were heard of.
	partedFresh = time.Minute
	// partedTell is how often they are told that there is one.
	partedTell = 10 * time.Second
)

// parting is what this node has heard of another history of its cluster.
type parting struct {
	mu    sync.Mutex // guards the rest
	what  string
	heard time.Time
	told  time.Time
}

// note remembers an error that says so; any other one changes nothing.
func (p *parting) note(log *slog.Logger, err error) {
	if !errors.Is(err, ring.ErrSplit) {
		return
	}
	p.mu.Lock()
	before := p.what
	p.what, p.heard = err.Error(), time.Now()
	p.mu.Unlock()
	if before != err.Error() {
		log.Error("THE RING IS SPLIT: this cluster has two histories, and their members refuse each other; "+
			"decide which one is to stay, save what the others alone have (kith export), and start these with empty directories", "error", err)
	}
}

// tells says that the others are to be told now.
func (p *parting) tells() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.told.IsZero() || now.Sub(p.told) >= partedTell {
		p.told = now
		return true
	}
	return false
}

// Split says that members were heard of lately which follow another history of this
// cluster, and how that came about; empty if none were.
func (t *Topology) Split() string {
	p := &t.parted
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.what == "" || time.Since(p.heard) > partedFresh {
		return ""
	}
	return p.what
}

// wasForced says loudly that a record was forced which this node has now adopted.
func (t *Topology) wasForced(held, next *ring.Record) {
	if held == nil || len(next.Forced) == len(held.Forced) {
		return
	}
	f := next.LastForced()
	t.log.Warn("THE RING WAS FORCED: a majority of its keepers was given up", "epoch", f.Epoch, "base", f.Base,
		"by", f.By, "who", f.Who, "survivors", f.Survivors)
	if next.IsApart(t.cfg.Self.ID) {
		t.log.Error("this member was not among the survivors when the ring was forced, and is no keeper any more: kith join readmits it",
			"epoch", f.Epoch)
	}
}
