package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports come from below the ranges that kernels give to outgoing connections and
// to listeners without a wish, so that nobody gets one by chance while a server
// is down.
const (
	portFirst = 12000
	portEnd   = 32000
	// Ports are given in rows of this many. Whoever listens on the last one of a
	// row owns the row.
	row = 100
)

// Ports is a row of ports on loopback that tests may use, TCP and UDP.
type Ports struct {
	First int // the others follow
	claim net.Listener
}

// FindPorts gives n ports in a row, 1 to 99, that nobody listens on and that no
// other caller gets, in this process or another one, until Close.
func FindPorts(n int) (*Ports, error) {
	if n < 1 || n >= row {
		return nil, fmt.Errorf("%d ports in a row: want 1 to %d", n, row-1)
	}
	for range 1000 {
		first := portFirst + row*rand.IntN((portEnd-portFirst)/row)
		claim, err := listen(first + row - 1)
		if err != nil {
			continue
		}
		if free(first, n) {
			return &Ports{First: first, claim: claim}, nil
		}
		claim.Close()
	}
	return nil, fmt.Errorf("no %d free ports in a row between %d and %d", n, portFirst, portEnd)
}

// Addr is the i-th address.
func (p *Ports) Addr(i int) string { return loopback(p.First + i) }

// Close gives the ports back.
func (p *Ports) Close() error { return p.claim.Close() }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func listen(port int) (net.Listener, error) { return net.Listen("tcp", loopback(port)) }

func free(first, n int) bool {
	for i := range n {
		l, err := listen(first + i)
		if err != nil {
			return false
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			l.Close()
			return false
		}
		if errors.Join(l.Close(), u.Close()) != nil {
			return false
		}
	}
	return true
}
