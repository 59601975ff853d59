package node

import (
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// realWorld is TCP, serf, a directory and the machine's clock.
func realWorld(cfg Config, disk storage.Storage) Env {
	burst := new(rpc.Burst)
	return Env{
		Disk:     disk,
		Burst:    burst,
		Keepsake: fileKeepsake{cfg.Data},
		Now:      time.Now,
		Network: func(self ring.NodeID, cluster func() ring.ClusterID, mux *rpc.Mux) (Network, error) {
			return newTCP(cfg, self, cluster, mux, burst), nil
		},
		Membership: func(m MembershipConfig) (Membership, error) {
			return gossip.Start(gossip.Config{
				ID:          m.ID,
				Name:        m.Name,
				Zone:        m.Zone,
				Bind:        cfg.Gossip,
				RPCAddr:     m.RPCAddr,
				Cluster:     cfg.Cluster,
				Seeds:       cfg.Join,
				Key:         cfg.Key,
				Book:        m.Book,
				Logger:      cfg.Logger,
				ProtocolMin: rpc.Spoken().Min,
				ProtocolMax: rpc.Spoken().Max,
				State:       m.State,
				Seed:        m.Seed,
			})
		},
	}
}

// tcpNetwork is the real network: a server and a client.
type tcpNetwork struct {
	*rpc.Client
	cfg    rpc.TCPConfig
	listen string
	server *rpc.Server
}

// frameMax is at least (N+1) times the largest record, so that a repair can
// always be carried.
func frameMax(cfg Config) int {
	return (ring.ReplicasMax + 1) * (cfg.ValueMax + recordRoom)
}

func newTCP(cfg Config, self ring.NodeID, cluster func() ring.ClusterID, mux *rpc.Mux, burst *rpc.Burst) *tcpNetwork {
	tcp := rpc.TCPConfig{Self: rpc.Peer{ID: self, Addr: cfg.Listen}, Cluster: cluster, Mux: mux, FrameMax: frameMax(cfg), Logger: cfg.Logger, Burst: burst}
	return &tcpNetwork{Client: rpc.NewClient(tcp), cfg: tcp, listen: cfg.Listen}
}

// Listen implements Network.
func (t *tcpNetwork) Listen() (string, error) {
	server, err := rpc.Listen(t.listen, t.cfg)
	if err != nil {
		return "", err
	}
	t.server = server
	return server.Addr(), nil
}

// Close implements Network.
func (t *tcpNetwork) Close() error {
	if t.server != nil {
		t.server.Close()
	}
	t.Client.Close()
	return nil
}
