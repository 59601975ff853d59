package rpc

import (
	"log/slog"
	"time"

	"github.com/kithdb/kith/ring"
)

// Defaults and bounds of TCPConfig.
const (
	frameDefault       = 20 << 20
	inFlightDefault    = 64 << 20
	connsDefault       = 16384
	connsPerIPDefault  = 8192
	dialTimeDefault    = 5 * time.Second
	handshakeTime      = 5 * time.Second // default, and what a listener gives
	inFlightPerConnMax = 1 << 20         // requests that wait for answers on a connection
)

// TCPConfig sets up either end of TCP. The zero value is a client that talks to
// any cluster.
type TCPConfig struct {
	// Self is this node: its ID, and the address at which others reach it.
	// A client has no ID.
	Self Peer
	// Cluster gives the cluster that this side belongs to, or that a client
	// is pinned to; zero if it is not known yet. It is called often, must
	// not block, and may turn from zero to a value. nil is never known.
	Cluster func() ring.ClusterID
	// Mux answers the requests that a Server receives.
	Mux *Mux
	// Logger gets what a Server has to say, and which peers a Client has no version in
	// common with; nil for nothing.
	Logger *slog.Logger
	// Protocols are the versions that this side speaks; zero is Spoken.
	Protocols Protocols

	// FrameMax bounds a message with its header, in bytes; 0 is 20 MiB. All
	// nodes of a cluster should have the same.
	FrameMax int
	// InFlightMax bounds the bytes of requests to one peer that wait for an
	// answer, and of answers that wait for one connection to take them; 0 is
	// 64 MiB. A frame is always taken when there is no other.
	InFlightMax int64
	// Connections to each peer for messages below 64 KiB; 0 is 1. Larger ones
	// have one connection of their own.
	Connections int
	// DialTimeout bounds the wait for a TCP connection; 0 is 5 s, which
	// peers that are seconds away need.
	DialTimeout time.Duration
	// HandshakeTimeout bounds the wait for the peer's part of the handshake
	// after that; 0 is 5 s. A process that is stopped takes connections and
	// stays silent.
	HandshakeTimeout time.Duration
	// Burst, optional, is shared by those that send much at once, and by the
	// Server and the Client of one node: see Burst. A Server without it has
	// its own.
	Burst *Burst
	// Connected is told of every connection that a Client has made: which
	// node of which cluster answered. It must not block. nil is allowed.
	Connected func(to Peer, node ring.NodeID, cluster ring.ClusterID)

	// ConnsMax and ConnsPerIPMax bound a Server's connections; 0 is 16,384
	// and 8,192, and never more than half of the file descriptors that the
	// process may have, in all.
	ConnsMax, ConnsPerIPMax int
}

func (c TCPConfig) withDefaults() TCPConfig {
	if c.Cluster == nil {
		c.Cluster = func() ring.ClusterID { return ring.ClusterID{} }
	}
	if c.Mux == nil {
		c.Mux = NewMux(MuxConfig{})
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Protocols == (Protocols{}) {
		c.Protocols = Spoken()
	}
	orElse(&c.FrameMax, frameDefault)
	orElse(&c.InFlightMax, inFlightDefault)
	orElse(&c.Connections, 1)
	orElse(&c.DialTimeout, dialTimeDefault)
	orElse(&c.HandshakeTimeout, handshakeTime)
	orElse(&c.ConnsMax, connsDefault)
	orElse(&c.ConnsPerIPMax, connsPerIPDefault)
	if most := descriptorsMax() / 2; most > 0 {
		c.ConnsMax = min(c.ConnsMax, most)
	}
	return c
}

func orElse[T int | int64 | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}
