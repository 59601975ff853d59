package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// A data directory that was restored from an old backup is whole, and lacks what
// was acknowledged since. Its files cannot show that; its peers can. Every start
// counts up a number in the directory, and members tell each other the number of
// their life when they meet. One that hears of a later life of its own, or of
// another life with its number, has gone back in time.

// helloRoute tells a peer which life of this node it meets.
const helloRoute rpc.Route[helloRequest, helloResponse] = "node.hello"

const (
	livesName = "lives"
	// livesMax bounds the members whose lives are kept.
	livesMax = ring.MembersMax

	helloRetry   = time.Second
	helloTimeout = 2 * time.Second
)

// life is one run of a node: the number of its start, and a nonce that tells two
// runs of one number apart.
type life struct {
	Boot  uint64
	Nonce uint64
}

// after says that now can be the life that a peer meets which has met known.
func (now life) after(known life) bool {
	return known.Boot < now.Boot || known == now
}

type helloRequest struct{ Life life }

// helloResponse is the life of the asker that the peer had met before.
type helloResponse struct{ Known life }

// AppendWire implements wire.Appender.
func (m *helloRequest) AppendWire(b []byte) []byte { return m.Life.append(b) }

// ParseWire implements wire.Parser.
func (m *helloRequest) ParseWire(r *wire.Reader) error { return m.Life.parse(r) }

// AppendWire implements wire.Appender.
func (m *helloResponse) AppendWire(b []byte) []byte { return m.Known.append(b) }

// ParseWire implements wire.Parser.
func (m *helloResponse) ParseWire(r *wire.Reader) error { return m.Known.parse(r) }

func (l life) append(b []byte) []byte {
	return wire.AppendUint(wire.AppendUint(wire.AppendArray(b, 2), l.Boot), l.Nonce)
}

func (l *life) parse(r *wire.Reader) error {
	s := r.Struct()
	l.Boot, l.Nonce = s.Uint(), s.Uint()
	return s.End()
}

// lives are the latest lives of the members that this node has met, and its own.
type lives struct {
	node *Node
	own  life

	mu  sync.Mutex
	met map[ring.NodeID]life // guarded by mu
}

func openLives(n *Node, nonce uint64) (*lives, error) {
	l := &lives{node: n, own: life{n.store.Boot(), nonce}, met: map[ring.NodeID]life{}}
	raw, err := n.store.Meta(livesName)
	if err != nil || raw == nil {
		return l, err
	}
	r := wire.NewReader(raw)
	count := r.Array()
	if count > livesMax {
		return nil, fmt.Errorf("lives of %d members: at most %d", count, livesMax)
	}
	for range count {
		var id ring.NodeID
		var met life
		s := r.Struct()
		s.Fixed(id[:])
		if s.More() {
			met.parse(r)
		}
		if err := s.End(); err != nil {
			return nil, fmt.Errorf("lives: %w", err)
		}
		l.met[id] = met
	}
	return l, r.Err()
}

// meet answers a peer, after its life is on disk here.
func (l *lives) meet(_ context.Context, from rpc.Peer, req *helloRequest) (*helloResponse, error) {
	l.mu.Lock()
	known, ok := l.met[from.ID]
	news := !from.ID.IsZero() && (!ok && len(l.met) < livesMax || ok && known.Boot < req.Life.Boot)
	if news {
		l.met[from.ID] = req.Life
	}
	raw := l.encode()
	l.mu.Unlock()
	if news {
		if err := l.node.store.SetMeta(livesName, raw); err != nil {
			return nil, fmt.Errorf("keeping the life of %s: %w", from.ID.Short(), err)
		}
	}
	return &helloResponse{Known: known}, nil
}

// encode is called with l.mu held. A later call's bytes include an earlier one's.
func (l *lives) encode() []byte {
	b := wire.AppendArray(nil, len(l.met))
	for id, met := range l.met {
		b = wire.AppendBytes(wire.AppendArray(b, 2), id[:])
		b = met.append(b)
	}
	return b
}

// run greets every member once, as soon as it can be reached.
func (l *lives) run(ctx context.Context) error {
	greeted := map[ring.NodeID]bool{}
	for {
		changed := l.node.members.Changed()
		missing := false
		for _, p := range l.node.members.View().Peers {
			if p.ID == l.node.id || greeted[p.ID] || !p.Alive || p.RPCAddr == "" {
				continue
			}
			done, err := l.greet(ctx, rpc.Peer{ID: p.ID, Addr: p.RPCAddr})
			if err != nil {
				return err
			}
			greeted[p.ID] = done
			missing = missing || !done
		}
		var retry <-chan time.Time
		if missing {
			retry = time.After(helloRetry)
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return nil
		}
	}
}

// greet tells a peer about this life. It is done once the peer has answered.
func (l *lives) greet(ctx context.Context, to rpc.Peer) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	resp, err := helloRoute.Call(ctx, l.node.guard, to, &helloRequest{l.own})
	if err != nil {
		return false, nil // it is greeted again
	}
	if l.own.after(resp.Known) || l.node.store.Health().LossyAll {
		return true, nil
	}
	why := fmt.Sprintf("member %s has met start %d of this node, and this is start %d: the data directory was restored from an old backup",
		to.ID.Short(), resp.Known.Boot, l.own.Boot)
	return true, l.node.store.DeclareLoss(why)
}
