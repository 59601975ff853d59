package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/hashicorp/memberlist"

	"github.com/kithdb/kith/ring"
)

// Bounds of what a node says about itself. Together they fit the 512 bytes
// that gossip gives to every member.
const (
	NameMax    = 64  // bytes of Config.Name
	ZoneMax    = 64  // bytes of Config.Zone
	AddrMax    = 261 // bytes of an address: a DNS name, a colon, a port
	ReadyMax   = 24  // bytes of State.Ready; Announce cuts what is longer
	ClusterMax = 64  // bytes of Config.Cluster
	SeedsMax   = 256 // number of Config.Seeds
)

// Config says who a node is and where it listens. Only ID, Bind, RPCAddr and
// Cluster are required.
type Config struct {
	// ID is the node's own; it is also its name in gossip.
	ID ring.NodeID
	// Name and Zone are labels for people and for placement, at most NameMax
	// and ZoneMax bytes.
	Name, Zone string
	// Bind is the HOST:PORT where gossip listens, on UDP and TCP. An empty
	// host means every interface, port 0 any free port; Addr then tells which.
	Bind string
	// Advertise is the HOST:PORT that others shall use, where it differs from
	// Bind. Port 0 means the port of Bind.
	Advertise string
	// RPCAddr is the HOST:PORT of this node's RPC, told to the others.
	RPCAddr string
	// Cluster is the cluster's name, 1 to ClusterMax bytes. Nodes of another
	// name are not heard.
	Cluster string
	// Seeds are HOST:PORT of any members. Names are resolved on every try.
	Seeds []string
	// Resolver looks names up. Nil: what the system has.
	Resolver Resolver
	// Key encrypts gossip with AES: 16, 24 or 32 bytes. Empty: plain text.
	Key []byte
	// Book keeps the peers over a restart. Nil: they are forgotten.
	Book Book
	// Transport replaces the real sockets; the simulator gives its own. Bind
	// is then not used.
	Transport memberlist.NodeAwareTransport
	// Logger gets what people should know. Nil: slog.Default.
	Logger *slog.Logger
	// ProtocolMin and ProtocolMax are the RPC versions that this node speaks.
	ProtocolMin, ProtocolMax uint8
	// State is what the node tells before the first Announce.
	State State
	// Seed is where this node's chance comes from. Zero: drawn at random.
	Seed uint64
}

// Resolver gives the addresses of a name, until ctx ends; *net.Resolver satisfies it.
type Resolver interface {
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
}

func (cfg *Config) check() error {
	if cfg.ID.IsZero() {
		return errors.New("gossip: the node ID is zero")
	}
	if len(cfg.Name) > NameMax {
		return fmt.Errorf("gossip: name %q has %d bytes, at most %d are allowed", cfg.Name, len(cfg.Name), NameMax)
	}
	if len(cfg.Zone) > ZoneMax {
		return fmt.Errorf("gossip: zone %q has %d bytes, at most %d are allowed", cfg.Zone, len(cfg.Zone), ZoneMax)
	}
	if n := len(cfg.Cluster); n < 1 || n > ClusterMax {
		return fmt.Errorf("gossip: cluster name %q has %d bytes, want 1 to %d", cfg.Cluster, n, ClusterMax)
	}
	if len(cfg.RPCAddr) > AddrMax {
		return fmt.Errorf("gossip: RPC address has %d bytes, at most %d are allowed", len(cfg.RPCAddr), AddrMax)
	}
	if _, _, err := splitAddr(cfg.RPCAddr); err != nil {
		return fmt.Errorf("gossip: RPC address: %w", err)
	}
	switch len(cfg.Key) {
	case 0, 16, 24, 32:
	default:
		return fmt.Errorf("gossip: the key has %d bytes, want 16, 24 or 32", len(cfg.Key))
	}
	if cfg.ProtocolMin > cfg.ProtocolMax {
		return fmt.Errorf("gossip: protocol range %d to %d is empty", cfg.ProtocolMin, cfg.ProtocolMax)
	}
	if len(cfg.Seeds) > SeedsMax {
		return fmt.Errorf("gossip: %d seeds, at most %d are allowed", len(cfg.Seeds), SeedsMax)
	}
	for _, seed := range cfg.Seeds {
		host, port, err := splitAddr(seed)
		if err != nil {
			return fmt.Errorf("gossip: seed: %w", err)
		}
		if host == "" || port == 0 {
			return fmt.Errorf("gossip: seed %q needs a host and a port", seed)
		}
	}
	return nil
}

func splitAddr(addr string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want HOST:PORT", addr)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: port %q is not a number from 0 to 65535", addr, digits)
	}
	return host, int(n), nil
}

// shorten gives IPv4 its four-byte form: memberlist compares addresses byte by
// byte, and the two forms of one address would be a conflict.
func shorten(ip net.IP) net.IP {
	if v4 := ip.To4(); v4 != nil {
		return v4
	}
	return ip
}

func joinAddr(ip net.IP, port int) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(port))
}
