package node

import (
	"fmt"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

// storedBook keeps the peer book in the store's meta part, so that it lives and
// dies with the data.
type storedBook struct{ store *store.Store }

const bookName = "peers"

// Load implements gossip.Book.
func (b storedBook) Load() ([]gossip.Entry, error) {
	raw, err := b.store.Meta(bookName)
	if err != nil || raw == nil {
		return nil, err
	}
	entries, err := parseBook(raw)
	if err != nil {
		return nil, fmt.Errorf("the peer book is not one that this program knows: %w: %s", err, newerHint)
	}
	return entries, nil
}

func parseBook(raw []byte) ([]gossip.Entry, error) {
	r := wire.NewReader(raw)
	n := r.Array()
	if n > gossip.EntriesMax {
		return nil, fmt.Errorf("%d entries: at most %d", n, gossip.EntriesMax)
	}
	entries := make([]gossip.Entry, n)
	for i := range entries {
		e := &entries[i]
		s := r.Struct()
		s.Fixed(e.ID[:])
		addrs := s.Array()
		if addrs > gossip.AddrsMax {
			return nil, fmt.Errorf("%d addresses of %s: at most %d", addrs, e.ID.Short(), gossip.AddrsMax)
		}
		for range addrs {
			e.Addrs = append(e.Addrs, r.String())
		}
		s.Fixed(e.Cluster[:])
		if ms := s.Int(); ms != 0 {
			e.Seen = time.UnixMilli(ms)
		}
		if err := s.End(); err != nil {
			return nil, err
		}
	}
	return entries, r.Err()
}

// Save implements gossip.Book.
func (b storedBook) Save(entries []gossip.Entry) error {
	raw := wire.AppendArray(nil, len(entries))
	for _, e := range entries {
		raw = wire.AppendArray(raw, 4)
		raw = wire.AppendBytes(raw, e.ID[:])
		raw = wire.AppendArray(raw, len(e.Addrs))
		for _, a := range e.Addrs {
			raw = wire.AppendString(raw, a)
		}
		raw = wire.AppendBytes(raw, e.Cluster[:])
		var ms int64
		if !e.Seen.IsZero() {
			ms = e.Seen.UnixMilli()
		}
		raw = wire.AppendInt(raw, ms)
	}
	return b.store.SetMeta(bookName, raw)
}
