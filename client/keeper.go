package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// The keeper is the client's one goroutine: it finds out which nodes answer
// and keeps the view of the ring fresh. Calls only leave hints for it.

// tick is how often the keeper looks for nodes that leave requests waiting, and
// the most often that it asks for the ring.
const tick = 250 * time.Millisecond

// keep runs until Close.
func (c *Client) keep() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var probes sync.WaitGroup
	defer probes.Wait()
	defer cancel()
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		ticked := false
		select {
		case <-c.closed:
			return
		case <-c.wake:
		case <-t.C:
			ticked = true
		}
		now, v := time.Now(), c.view.Load()
		for _, n := range v.nodes {
			if ticked && n.stuck() {
				n.down.Store(true)
			}
			if n.due(now) {
				n.probing.Store(true)
				probes.Go(func() { c.probe(ctx, n) })
			}
		}
		founded := v.record != nil && v.record.Founded()
		if ticked && (c.stale.Load() || !founded) && !c.refreshing.Swap(true) {
			c.stale.Store(false)
			probes.Go(func() { c.refresh(ctx) })
		}
	}
}

// probe asks a node that is down for the ring: it is up again if it answers.
func (c *Client) probe(ctx context.Context, n *node) {
	defer n.probing.Store(false)
	if err := c.learn(ctx, n, time.Now().Add(probeTimeout)); err != nil {
		n.failed(time.Now())
		return
	}
	n.probeWait = 0
	n.down.Store(false)
}

// refresh asks nodes that answer until one has sent the ring.
func (c *Client) refresh(ctx context.Context) {
	defer c.refreshing.Store(false)
	v := c.view.Load()
	var t tried
	for !c.isClosed() {
		n := v.pick(-1, &t, int(c.turn.Add(1)))
		if n == nil {
			return // probes go on, and whoever answers one sends the ring
		}
		t.add(n)
		if n.probing.Load() {
			continue // it is being asked
		}
		if c.learn(ctx, n, time.Now().Add(probeTimeout)) == nil {
			return
		}
	}
}

// learn takes over what a node knows of the ring.
func (c *Client) learn(ctx context.Context, n *node, deadline time.Time) error {
	begun := time.Now()
	req := api.RingRequest{Epoch: c.view.Load().epoch}
	var resp api.RingResponse
	if err := send(ctx, c, api.Ring, n, &req, &resp, deadline); err != nil {
		return err
	}
	return c.adopt(&resp, begun)
}

// adopt makes the view from an answer to what was asked at begun, unless a newer
// one is there already.
func (c *Client) adopt(resp *api.RingResponse, begun time.Time) error {
	var record *ring.Record
	if len(resp.Record) > 0 {
		r, err := ring.Decode(resp.Record)
		if err != nil {
			return fmt.Errorf("ring record of epoch %d: %w", resp.Epoch, err)
		}
		if err := c.pin(r.Cluster); err != nil {
			return err
		}
		record = r
	}
	c.clock.read(resp.Now, begun)
	slices.SortFunc(resp.Members, func(a, b api.MemberAddress) int { return a.ID.Compare(b.ID) })
	for {
		old := c.view.Load()
		newer := record
		if newer == nil || newer.Epoch < old.epoch {
			newer = old.record
		}
		old.fill(resp.Members)
		if newer == old.record && sameAddresses(old.members, resp.Members) {
			return nil
		}
		if newer == old.record && resp.Epoch < old.epoch {
			return nil // addresses from a node that is behind
		}
		fresh := old.next(newer, resp.Members, c.seeds, c.cfg.direct, c.cfg.zone)
		if c.view.CompareAndSwap(old, fresh) {
			return nil
		}
	}
}

// sameAddresses says that two answers lead to the same connections.
func sameAddresses(a, b []api.MemberAddress) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].Addr != b[i].Addr {
			return false
		}
	}
	return true
}

// dialWait is how long Dial waits for one address before it asks the next one
// beside it.
const dialWait = 300 * time.Millisecond

// learnFirst asks the seeds for the ring, each a little after the one before
// or as soon as that has failed, until one answers.
func (c *Client) learnFirst(ctx context.Context) error {
	deadline, own := ctx.Deadline()
	if !own {
		deadline = time.Now().Add(c.cfg.timeout)
	}
	ctx, cancel := context.WithCancel(ctx)
	nodes := c.view.Load().nodes
	type answer struct {
		from *node
		err  error
	}
	answers := make(chan answer, len(nodes))
	mute := make(map[string]bool) // addresses that were asked and have not answered
	var asked sync.WaitGroup
	defer asked.Wait()
	defer cancel()
	ask := func(n *node) {
		mute[n.peer.Addr] = true
		asked.Go(func() {
			err := c.learn(ctx, n, deadline)
			if err != nil {
				n.down.Store(!errors.Is(err, ErrNotReady))
				err = fmt.Errorf("%s: %w", n.name, err)
			}
			answers <- answer{n, err}
		})
	}
	ask(nodes[0])
	begun, waiting := 1, 1
	pause := time.NewTimer(dialWait)
	defer pause.Stop()
	var errs []error
	newcomer := false
	for waiting > 0 {
		select {
		case a := <-answers:
			if a.err == nil || errors.Is(a.err, ErrNotReady) {
				delete(mute, a.from.peer.Addr)
			}
			if a.err == nil {
				c.avoid(mute)
				return nil
			}
			newcomer = newcomer || errors.Is(a.err, ErrNotReady)
			waiting--
			errs = append(errs, a.err)
		case <-pause.C:
		}
		if begun < len(nodes) {
			ask(nodes[begun])
			begun++
			waiting++
			pause.Reset(dialWait)
		}
	}
	if newcomer {
		return nil // it has no ring yet; the keeper goes on asking
	}
	return dialError(errs)
}

// avoid takes the nodes at some addresses out of the first choices until they
// answer a probe.
func (c *Client) avoid(addrs map[string]bool) {
	for _, n := range c.view.Load().nodes {
		if addrs[n.peer.Addr] {
			c.suspect(n)
		}
	}
}

// dialError tells why no seed has answered. Unreachable seeds are named; one
// that answered with more than silence gives the error its kind.
func dialError(errs []error) error {
	cause := errors.Join(errs...)
	for _, err := range errs {
		if !silent(err) && !errors.Is(err, rpc.ErrNotSent) && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("dial: %w", cause)
		}
	}
	return fmt.Errorf("dial: %w: %w", ErrUnavailable, cause)
}

// frameMax bounds a message: a record of the largest values that a cluster can
// be set to take, with siblings.
const frameMax = (ring.ReplicasMax + 1) * ValueMax

// Bounds of connectTime.
const (
	connectMin = 250 * time.Millisecond
	connectMax = 3 * time.Second
)

// connectTime is how long a call waits for a connection, and then for the
// handshake: a part of its time, so that a write whose bytes could not leave can
// still go elsewhere.
func connectTime(timeout time.Duration) time.Duration {
	return min(max(timeout/3, connectMin), connectMax)
}

// dialer is the transport over TCP.
func (c *Client) dialer() *rpc.Client {
	return rpc.NewClient(rpc.TCPConfig{
		Cluster:          c.ClusterID,
		Connections:      c.cfg.connections,
		FrameMax:         frameMax,
		DialTimeout:      connectTime(c.cfg.timeout),
		HandshakeTimeout: connectTime(c.cfg.timeout),
	})
}
