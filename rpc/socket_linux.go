package rpc

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h.
const tcpUserTimeout = 18

// setUserTimeout closes the connection once sent bytes have waited so long for
// the peer's kernel to take them.
func setUserTimeout(conn *net.TCPConn, limit time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // closed already: whoever reads or writes will say so
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(limit.Milliseconds()))
	})
}

// descriptorsMax gives how many file descriptors the process may have, or 0.
func descriptorsMax() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}

// direct writes to a socket without waiting for it. One goroutine at a time may
// use it.
type direct struct {
	raw syscall.RawConn
	try func(fd uintptr) (done bool) // once, for what follows
	b   []byte
	n   int
	err error
}

// newDirect gives nil for what is no TCP socket.
func newDirect(conn net.Conn) *direct {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.try = func(fd uintptr) bool {
		for {
			if d.n, d.err = syscall.Write(int(fd), d.b); d.err != syscall.EINTR {
				return true
			}
		}
	}
	return d
}

// write writes as much of b as the socket takes now.
func (d *direct) write(b []byte) (n int, err error) {
	d.b, d.n, d.err = b, 0, nil
	if err := d.raw.Write(d.try); err != nil {
		return 0, err
	}
	if d.err == syscall.EAGAIN {
		return 0, nil
	}
	return max(0, d.n), d.err
}
