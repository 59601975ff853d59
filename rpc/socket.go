package rpc

import (
	"net"
	"time"
)

const (
	// userTimeout bounds how long the peer's machine may take nothing.
	userTimeout = 15 * time.Second
	// stallTime bounds how long one write, or the silence of a connection
	// whose requests expire, may last.
	stallTime = 5 * time.Second
)

// keepAlive finds out within 25 s that an idle connection's peer is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// tune sets what every connection of either side needs.
func tune(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(keepAlive) // a closed one fails at its next use
	setUserTimeout(tcp, userTimeout)
}
