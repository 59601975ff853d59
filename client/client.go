package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Client talks to one cluster. Make it with Dial; Close it after use.
type Client struct {
	cfg       config
	seeds     []string
	transport rpc.Transport
	owned     *rpc.Client // the transport, if it is this client's to close

	view    atomic.Pointer[view]
	cluster atomic.Pointer[ring.ClusterID] // pinned
	clock   clock
	turn    atomic.Uint32 // spreads requests that have no home to go to

	stale  atomic.Bool   // there may be a newer ring, newer addresses, or set clocks
	wake   chan struct{} // the keeper has a node to probe
	closed chan struct{}
	once   sync.Once

	refreshing atomic.Bool
	tasks      sync.WaitGroup
}

// Dial makes a client of the cluster that the addresses belong to, each
// HOST:PORT of a node's --listen. It asks them until one answers with the
// ring, and fails with ErrUnavailable and every address's reason if none does
// by the deadline: the context's, or else the one of WithTimeout. A cluster
// that is not founded yet can be dialled; its data calls are refused with
// ErrNotReady meanwhile.
func Dial(ctx context.Context, addrs []string, opts ...Option) (*Client, error) {
	cfg := config{timeout: TimeoutDefault, connections: ConnectionsDefault}
	for _, o := range opts {
		o(&cfg)
	}
	seeds, err := checkAddrs(addrs)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:       cfg,
		seeds:     seeds,
		transport: cfg.transport,
		wake:      make(chan struct{}, 1),
		closed:    make(chan struct{}),
	}
	if c.transport == nil {
		t := c.dialer()
		c.transport, c.owned = t, t
	}
	c.view.Store(seedView(seeds))
	if err := c.learnFirst(ctx); err != nil {
		c.Close()
		return nil, err
	}
	c.tasks.Go(c.keep)
	return c, nil
}

// Close ends the client's connections and goroutines and waits for them. Calls
// that are under way fail: writes among them have an unknown outcome. A second
// Close does nothing. The error is always nil.
func (c *Client) Close() error {
	c.once.Do(func() {
		close(c.closed)
		if c.owned != nil {
			c.owned.Close()
		}
		c.tasks.Wait()
	})
	return nil
}

// ClusterID is the cluster that the client belongs to from its first answer
// on; zero while no node has told one.
func (c *Client) ClusterID() ring.ClusterID {
	if id := c.cluster.Load(); id != nil {
		return *id
	}
	return ring.ClusterID{}
}

// pin makes id the client's cluster, or says that another one is.
func (c *Client) pin(id ring.ClusterID) error {
	if id.IsZero() {
		return nil
	}
	c.cluster.CompareAndSwap(nil, &id)
	if have := *c.cluster.Load(); have != id {
		return fmt.Errorf("node of cluster %s, the client's is %s: %w", id, have, ErrWrongCluster)
	}
	return nil
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// poke wakes the keeper.
func (c *Client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// suspect takes a node out of the first choices until it answers a probe.
func (c *Client) suspect(n *node) {
	if !n.down.Swap(true) {
		c.stale.Store(true)
		c.poke()
	}
}

func checkAddrs(addrs []string) ([]string, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("no address to dial: %w", ErrBadRequest)
	}
	var out []string
	var errs []error
	for _, a := range addrs {
		a = strings.TrimSpace(a)
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			errs = append(errs, fmt.Errorf("address %q is not HOST:PORT: %w", a, ErrBadRequest))
			continue
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, errors.Join(errs...)
}
