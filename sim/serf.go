package sim

import (
	"cmp"
	"errors"
	"fmt"
	"net"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/serfnet"
)

// gossipPort is where machines gossip in the world of real serf, beside the
// address that they answer requests at.
const gossipPort = "7946"

// gossipAddr is the gossip address of the machine that answers requests at addr.
func gossipAddr(addr string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("address %q: want IP:PORT: %w", addr, err)
	}
	return net.JoinHostPort(host, gossipPort), nil
}

// membership gives the starting node what the options say: a member of the
// scripted world, or serf.
func (m *Machine) membership(cfg node.Config) func(node.MembershipConfig) (node.Membership, error) {
	if !m.cluster.opts.Serf {
		return m.join
	}
	return func(self node.MembershipConfig) (node.Membership, error) { return m.gossip(cfg, self) }
}

// gossip starts serf as a real node does, over the simulated network.
func (m *Machine) gossip(cfg node.Config, self node.MembershipConfig) (node.Membership, error) {
	seeds := make([]string, len(cfg.Join))
	for i, addr := range cfg.Join {
		var err error
		if seeds[i], err = gossipAddr(addr); err != nil {
			return nil, fmt.Errorf("join: %w", err)
		}
	}
	at, err := gossipAddr(self.RPCAddr)
	if err != nil {
		return nil, err
	}
	transport, err := serfnet.Listen(m.host, at)
	if err != nil {
		return nil, err
	}
	c, err := gossip.Start(gossip.Config{
		ID:          self.ID,
		Name:        self.Name,
		Zone:        self.Zone,
		RPCAddr:     self.RPCAddr,
		Cluster:     cmp.Or(cfg.Cluster, node.ClusterDefault),
		Seeds:       seeds,
		Key:         cfg.Key,
		Book:        self.Book,
		Transport:   transport,
		Logger:      cfg.Logger,
		ProtocolMin: rpc.ProtocolMin,
		ProtocolMax: rpc.ProtocolMax,
		State:       self.State,
		Seed:        self.Seed,
	})
	if err != nil {
		return nil, errors.Join(err, transport.Shutdown())
	}
	return c, nil
}
