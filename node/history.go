package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
)

// The history of the ring is for people. It has what this node has seen: of records
// that came too fast one after the other, what they changed together. What was not
// put on disk before a crash is missing.

const (
	historyName = "history" // in the store's meta part
	// historyMax is how many changes are kept, linesMax how many lines of each.
	historyMax = 256
	linesMax   = 16
	// historyEvery is how often what was seen is put on disk at most.
	historyEvery = 5 * time.Second
)

// history keeps in words what the latest records have changed.
type history struct {
	node *Node

	mu      sync.Mutex
	changes []api.RingChange // guarded by mu; oldest first
}

func openHistory(n *Node) (*history, error) {
	h := &history{node: n}
	raw, err := n.store.Meta(historyName)
	if err != nil || raw == nil {
		return h, err
	}
	if h.changes, err = parseHistory(raw); err != nil {
		// It is for people alone: a node is not stopped for it.
		n.cfg.Logger.Warn("the history of the ring cannot be read and begins anew", "error", err)
		h.changes = nil
	}
	return h, nil
}

// run watches the record.
func (h *history) run(ctx context.Context) error {
	seen, dirty := h.node.topology.Current(), false
	for {
		changed := h.node.topology.Changed()
		if r := h.node.topology.Current(); r != nil && r != seen {
			if seen != nil {
				h.add(r.Epoch, r.Changes(seen))
				dirty = true
			}
			seen = r
		}
		var save <-chan time.Time
		timer := time.NewTimer(historyEvery)
		if dirty {
			save = timer.C
		}
		select {
		case <-changed:
		case <-save:
			h.save()
			dirty = false
		case <-ctx.Done():
			timer.Stop()
			if dirty {
				h.save()
			}
			return nil
		}
		timer.Stop()
	}
}

func (h *history) add(epoch uint64, said []string) {
	if len(said) > linesMax {
		rest := len(said) - linesMax + 1
		said = append(said[:linesMax-1:linesMax-1], fmt.Sprintf("and %d changes more", rest))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, api.RingChange{Epoch: epoch, Time: h.node.env.Now().UnixMilli(), Said: said})
	if over := len(h.changes) - historyMax; over > 0 {
		h.changes = append([]api.RingChange(nil), h.changes[over:]...)
	}
}

func (h *history) all() []api.RingChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]api.RingChange(nil), h.changes...)
}

func (h *history) save() {
	if err := h.node.store.SetMeta(historyName, appendHistory(nil, h.all())); err != nil {
		h.node.cfg.Logger.Warn("the history of the ring is not on disk", "error", err)
	}
}

// serve answers who asks for the history.
func (h *history) serve(context.Context, rpc.Peer, *api.HistoryRequest) (*api.HistoryResponse, error) {
	return &api.HistoryResponse{Changes: h.all()}, nil
}

func appendHistory(b []byte, changes []api.RingChange) []byte {
	b = wire.AppendArray(b, len(changes))
	for i := range changes {
		c := &changes[i]
		b = wire.AppendArray(b, 3)
		b = wire.AppendUint(b, c.Epoch)
		b = wire.AppendInt(b, c.Time)
		b = wire.AppendArray(b, len(c.Said))
		for _, line := range c.Said {
			b = wire.AppendString(b, line)
		}
	}
	return b
}

func parseHistory(raw []byte) ([]api.RingChange, error) {
	r := wire.NewReader(raw)
	n := r.Array()
	if n > historyMax {
		return nil, fmt.Errorf("history of %d changes: at most %d", n, historyMax)
	}
	changes := make([]api.RingChange, n)
	for i := range changes {
		c := &changes[i]
		s := r.Struct()
		c.Epoch, c.Time = s.Uint(), s.Int()
		lines := s.Array()
		if lines > linesMax {
			return nil, fmt.Errorf("history: %d lines of one change: at most %d", lines, linesMax)
		}
		for range lines {
			c.Said = append(c.Said, r.String())
		}
		if err := s.End(); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
	}
	return changes, r.Err()
}
