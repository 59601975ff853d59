package gossip

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// hold opens a stream and says nothing.
func hold(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(conn) })
	return conn
}

func TestFault16_StrangersOnTheGossipPort(t *testing.T) {
	began := time.Now()
	text := &logText{}
	cfg := config(1)
	cfg.Logger = text.logger()
	a := start(t, cfg)
	other := config(2)
	other.Seeds = []string{a.Addr()}
	b := start(t, other)
	sees(t, a, soon, 1, 2)
	sees(t, b, soon, 1, 2)
	before := a.View().Peers

	rng := rand.New(rand.NewPCG(1, 2))
	streamJunk(t, rng, a.Addr())
	client := tls.Client(hold(t, a.Addr()), &tls.Config{InsecureSkipVerify: true})
	if err := client.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if err := client.Handshake(); err == nil {
		t.Error("TLS with a gossip port")
	}
	packetJunk(t, rng, a.Addr())

	waitUntil(t, "a line about strangers", soon, func() bool { return len(text.lines(notOurs)) > 0 })
	// The two still hear each other: a new state arrives after all the junk.
	b.Announce(State{Epoch: 7})
	waitView(t, a, "the state of node 2", soon, func(v *View) bool { return v.Peer(nodeID(2)).State.Epoch == 7 })
	if len(a.View().Peers) != len(before) || len(b.View().Peers) != len(before) {
		t.Errorf("a stranger became a peer: %+v", a.View().Peers)
	}
	// One line of a kind in repeatTime, and a few kinds.
	most := 1 + int(time.Since(began)/repeatTime)
	if lines := text.lines("WARN"); len(lines) > 3*most {
		t.Errorf("%d warnings, want a few at most:\n%s", len(lines), strings.Join(lines, ""))
	}
	if lines := text.lines(notOurs); len(lines) > most {
		t.Errorf("%d lines about strangers, want %d at most:\n%s", len(lines), most, strings.Join(lines, ""))
	}
	healthy(t, a)
	healthy(t, b)
}

func junk(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// streamJunk opens streams that say what no node says; none may be left open.
func streamJunk(t *testing.T, rng *rand.Rand, addr string) {
	t.Helper()
	for i := range 50 {
		conn := hold(t, addr)
		message := junk(rng, 1+rng.IntN(3000))
		switch i % 3 {
		case 0:
			message = append([]byte("\xf4\x04kith"), message...) // as if from one of us
		case 1:
			message = []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		if _, err := conn.Write(message); err != nil {
			continue // closed by the other side already: as it should be
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(soon)); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := conn.Read(make([]byte, 512)); err != nil {
				var late net.Error
				if errors.As(err, &late) && late.Timeout() {
					t.Fatal("a stranger's stream was left open")
				}
				break
			}
		}
	}
}

// packetJunk sends packets that no node sends.
func packetJunk(t *testing.T, rng *rand.Rand, addr string) {
	t.Helper()
	udp, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer drop(udp)
	for i := range 200 {
		message := junk(rng, 1+rng.IntN(1400))
		if i%2 == 0 {
			message = append([]byte("\xf4\x04kith"), message...)
		}
		if i%10 == 0 {
			message = junk(rng, 31_000)
		}
		if _, err := udp.Write(message); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFault48_ACopiedDataDirectoryIsRefusedAndTheOriginalUnharmed(t *testing.T) {
	for _, through := range []string{"another member", "the original"} {
		t.Run(through, func(t *testing.T) {
			state := State{Cluster: clusterID(1), Epoch: 3, Ready: "ready"}
			cfg := config(1)
			cfg.State = state
			a := start(t, cfg)
			cfg = config(2)
			cfg.State = state
			cfg.Seeds = []string{a.Addr()}
			original := start(t, cfg)
			sees(t, a, soon, 1, 2)
			sees(t, original, soon, 1, 2)
			waitUntil(t, "the original is settled", soon, original.judge.settled.Load)

			text := &logText{}
			cfg.Logger = text.logger()
			cfg.RPCAddr = "127.0.0.1:9999"
			cfg.Seeds = []string{a.Addr()}
			if through == "the original" {
				cfg.Seeds = []string{original.Addr()}
			}
			duplicate := start(t, cfg)
			select {
			case err := <-duplicate.Failed():
				if !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), original.Addr()) {
					t.Errorf("error %v, want ErrDuplicate that names %s", err, original.Addr())
				}
			case <-time.After(soon):
				t.Fatalf("the duplicate goes on; its view: %+v", duplicate.View().Peers)
			}
			if n := len(duplicate.View().Peers); n != 1 {
				t.Errorf("the duplicate merged %d peers", n-1)
			}
			for _, n := range []*Cluster{a, original} {
				healthy(t, n)
				p := n.View().Peer(nodeID(2))
				if !p.Alive || p.GossipAddr != original.Addr() || p.RPCAddr != "127.0.0.1:9002" {
					t.Errorf("node 2 as %s sees it: %+v", n.cfg.ID.Short(), p)
				}
			}
			original.Announce(State{Cluster: clusterID(1), Epoch: 4})
			waitView(t, a, "a new state of the original", soon, func(v *View) bool { return v.Peer(nodeID(2)).State.Epoch == 4 })
		})
	}
}

func TestFault14_ANewAddressIsTakenWhileTheOldOneStillLeadsToTheNode(t *testing.T) {
	t.Parallel() // it waits for the others to notice, in real time
	cfg := config(1)
	a := start(t, cfg)
	cfg = config(2)
	port := lasting(t)
	cfg.Bind = "0.0.0.0:" + port
	cfg.Advertise = "127.0.0.2:0"
	cfg.Seeds = []string{a.Addr()}
	b := start(t, cfg)
	sees(t, a, soon, 1, 2)
	sees(t, b, soon, 1, 2)
	closed(t, b)

	// Both addresses reach the same socket, so nobody misses the old one.
	cfg.Advertise = "127.0.0.3:" + port
	cfg.State.Epoch = 5
	b = start(t, cfg)
	waitView(t, a, "node 2 at its new address", 90*time.Second, func(v *View) bool {
		p := v.Peer(nodeID(2))
		return p.Alive && p.GossipAddr == b.Addr() && p.State.Epoch == 5
	})
	healthy(t, b)
	sees(t, b, soon, 1, 2)
}

func key(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }

func TestFault50_TheWrongClusterIsRefusedInPlainWordsOnBothSides(t *testing.T) {
	for name, c := range map[string]struct {
		here, there func(*Config)
		says        string // the joiner
		logs        string // the one that is joined
	}{
		"another cluster ID": {
			func(c *Config) { c.State.Cluster = clusterID(1) },
			func(c *Config) { c.State.Cluster = clusterID(2) },
			errForeign.Error(), errForeign.Error(),
		},
		"another name": {
			func(c *Config) { c.Cluster = "prod" },
			func(c *Config) { c.Cluster = "test" },
			`a cluster of another name than "test"`, "refused a node of another cluster name",
		},
		"another key": {
			func(c *Config) { c.Key = key('a') },
			func(c *Config) { c.Key = key('b') },
			sayOtherKey, sayOtherKey,
		},
		"a key here only": {
			func(c *Config) { c.Key = key('a') },
			func(*Config) {},
			sayTheyEncrypt, sayTheyArePlain,
		},
		"a key there only": {
			func(*Config) {},
			func(c *Config) { c.Key = key('b') },
			sayTheyArePlain, sayTheyEncrypt,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := &logText{}
			cfg := config(1)
			cfg.Logger = text.logger()
			c.here(&cfg)
			a := start(t, cfg)
			cfg = config(2)
			cfg.Seeds = []string{a.Addr()}
			c.there(&cfg)
			b := start(t, cfg)
			waitUntil(t, "the joiner is told why", soon, func() bool {
				err := b.JoinError()
				return err != nil && strings.Contains(err.Error(), c.says)
			})
			waitUntil(t, "the other side tells too", soon, func() bool { return len(text.lines(c.logs)) > 0 })
			for _, n := range []*Cluster{a, b} {
				if len(n.View().Peers) != 1 || len(n.serf.Members()) != 1 {
					t.Errorf("node %s merged: %+v", n.cfg.ID.Short(), n.View().Peers)
				}
				healthy(t, n)
			}
			switch name {
			case "another cluster ID":
				wantForeign(t, a, b)
				wantForeign(t, b, a)
			case "another name":
				if f := a.Foreign(); len(f) != 1 || f[0].ClusterName != "test" || hostOf(f[0].Addr) != "127.0.0.1" {
					t.Errorf("foreign: %+v", f)
				}
			}
		})
	}
}

func wantForeign(t *testing.T, at, other *Cluster) {
	t.Helper()
	f := at.Foreign()
	if len(f) != 1 || f[0].ID != other.cfg.ID || f[0].Addr != other.Addr() || f[0].Name != other.cfg.Name ||
		f[0].RPCAddr != other.cfg.RPCAddr || f[0].Cluster != other.cfg.State.Cluster || f[0].Seen.IsZero() {
		t.Errorf("foreign at %s: %+v", at.cfg.ID.Short(), f)
	}
}

func TestTheSameKeyJoinsAndAnotherIsNotHeard(t *testing.T) {
	cfg := config(1)
	cfg.Key = key('a')
	a := start(t, cfg)
	cfg = config(2)
	cfg.Key = key('a')
	cfg.Seeds = []string{a.Addr()}
	b := start(t, cfg)
	sees(t, a, soon, 1, 2)
	sees(t, b, soon, 1, 2)
}

func TestANewcomerTakesOneSideOnly(t *testing.T) {
	g := &guard{log: newNotices(new(logText).logger(), nil)}
	defer g.log.close()
	g.own.Store(new(ring.ClusterID))
	g.sides.Store(new(ring.ClusterID))
	if !g.belongs(ring.ClusterID{}) || !g.belongs(clusterID(1)) {
		t.Fatal("a newcomer refuses its first cluster")
	}
	if g.belongs(clusterID(2)) {
		t.Error("a newcomer takes two sides")
	}
	g.settleSide(&View{Peers: []Peer{{ID: nodeID(3), Alive: true, State: State{Cluster: clusterID(1)}}}})
	if g.belongs(clusterID(2)) {
		t.Error("the side changed while its member is alive")
	}
	g.settleSide(&View{Peers: []Peer{{ID: nodeID(3), State: State{Cluster: clusterID(1)}}}})
	if !g.belongs(clusterID(2)) {
		t.Error("the side stays after its members have gone")
	}
	own := clusterID(3)
	g.own.Store(&own)
	if g.belongs(clusterID(2)) || !g.belongs(clusterID(3)) || !g.belongs(ring.ClusterID{}) {
		t.Error("a member does not keep to its own cluster")
	}
}
