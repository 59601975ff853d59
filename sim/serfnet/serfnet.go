// Package serfnet has real serf run over the simulated network.
//
// It owns memberlist's Transport on a socket of a simulated process: what cuts,
// pauses, loss and crashes do to the process's requests they do to its gossip.
// It adds no goroutine and no wait of its own, and everything ends with Shutdown.
//
// It does not promise to replay: serf and memberlist draw from sources that no
// seed reaches, and what happens at one instant has no order.
package serfnet

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/kithdb/kith/sim/network"
)

const (
	// packetsMax is how many packets may wait for memberlist to take them; it
	// waits for nothing itself, so that more is a flood and is lost.
	packetsMax = 1024
	// streamsMax is how many opened streams may wait likewise.
	streamsMax = 128
)

// Transport carries the gossip of one process. All methods may be called by
// anyone at any time, also after Shutdown.
type Transport struct {
	socket  *network.Socket
	ip      net.IP
	port    int
	packets chan *memberlist.Packet
	streams chan net.Conn
}

var (
	_ memberlist.NodeAwareTransport = (*Transport)(nil)
	_ network.Handler               = (*Transport)(nil)
)

// Listen binds a socket of the host at IP:PORT.
func Listen(host *network.Host, addr string) (*Transport, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: want IP:PORT: %w", addr, err)
	}
	t := &Transport{
		ip: at.Addr().AsSlice(), port: int(at.Port()),
		packets: make(chan *memberlist.Packet, packetsMax),
		streams: make(chan net.Conn, streamsMax),
	}
	if t.socket, err = host.Bind(addr, t); err != nil {
		return nil, err
	}
	return t, nil
}

// Datagram implements network.Handler.
func (t *Transport) Datagram(from string, body []byte) {
	select {
	case t.packets <- &memberlist.Packet{Buf: body, From: address(from), Timestamp: time.Now()}:
	default:
	}
}

// Stream implements network.Handler.
func (t *Transport) Stream(conn net.Conn) bool {
	select {
	case t.streams <- conn:
		return true
	default:
		return false
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return t.ip, t.port, nil }

// PacketCh implements memberlist.Transport.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return time.Now(), t.socket.Send(addr, b)
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *Transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// DialTimeout implements memberlist.Transport.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.socket.Dial(addr, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *Transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// Shutdown implements memberlist.Transport.
func (t *Transport) Shutdown() error {
	t.socket.Close()
	return nil
}

// address is where a packet came from.
type address string

// Network implements net.Addr.
func (a address) Network() string { return "udp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }
