package rpc

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/wire"
)

// blob is a message of one byte string.
type blob struct{ Data []byte }

func (m *blob) AppendWire(b []byte) []byte {
	return wire.AppendBytes(wire.AppendArray(b, 1), m.Data)
}

func (m *blob) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Data = s.Bytes()
	return s.End()
}

const (
	echo       Route[blob, blob] = "test.echo"
	echoWorker Route[blob, blob] = "test.echo-worker"
)

func echoMux() *Mux {
	m := NewMux(MuxConfig{})
	echo.HandleInline(m, ClassClient, func(c *Call, req *blob) { c.Reply(req) })
	echoWorker.Handle(m, ClassClient, func(_ context.Context, _ Peer, req *blob) (*blob, error) { return req, nil })
	return m
}

// BenchmarkEcho sends 128 bytes there and back, both ends in this process, as
// ../shared/bench does for its peers; cpu-us/op counts both ends.
func BenchmarkEcho(b *testing.B) {
	for _, route := range []Route[blob, blob]{echo, echoWorker} {
		for _, callers := range []int{1, 50, 64} {
			b.Run(fmt.Sprintf("%s/shared/%d", route, callers), func(b *testing.B) { benchEcho(b, route, callers, 1) })
		}
	}
	b.Run("test.echo/own/1", func(b *testing.B) { benchEcho(b, echo, 1, 1) })
	b.Run("test.echo/own/50", func(b *testing.B) { benchEcho(b, echo, 50, 50) })
}

func benchEcho(b *testing.B, route Route[blob, blob], callers, clients int) {
	mux := echoMux()
	server, err := Listen("127.0.0.1:0", TCPConfig{Mux: mux})
	if err != nil {
		b.Fatal(err)
	}
	defer mux.Close()
	defer server.Close()
	to := Peer{Addr: server.Addr()}
	all := make([]*Client, clients)
	for i := range all {
		all[i] = NewClient(TCPConfig{})
		defer all[i].Close()
	}
	req := &blob{Data: bytes.Repeat([]byte("x"), 128)}
	for _, c := range all {
		if _, err := route.Call(context.Background(), c, to, req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			t := all[i%clients]
			for n := i; n < b.N; n += callers {
				if _, err := route.Call(context.Background(), t, to, req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
