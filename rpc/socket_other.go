//go:build !linux

package rpc

import (
	"net"
	"time"
)

// setUserTimeout has no equal here: keep-alives and the stall checks must do.
func setUserTimeout(*net.TCPConn, time.Duration) {}

// descriptorsMax is not known here.
func descriptorsMax() int { return 0 }

// direct writes to a socket without waiting for it; not here.
type direct struct{}

func newDirect(net.Conn) *direct { return nil }

func (*direct) write([]byte) (int, error) { return 0, nil }
