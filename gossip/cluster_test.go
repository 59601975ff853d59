package gossip

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

const soon = 20 * time.Second

func TestNodesMeetThroughOneSeedAndTellTheirState(t *testing.T) {
	a := start(t, config(1))
	cfg := config(2)
	cfg.Seeds = []string{a.Addr()}
	b := start(t, cfg)
	cfg = config(3)
	cfg.Seeds = []string{b.Addr()}
	c := start(t, cfg)
	for _, n := range []*Cluster{a, b, c} {
		sees(t, n, soon, 1, 2, 3)
	}

	state := State{Cluster: clusterID(1), Epoch: 1 << 40, Digest: [8]byte{1, 2, 3, 0, 255}, Ready: "ready"}
	a.Announce(state)
	if got := a.View().Peer(nodeID(1)).State; got != state {
		waitView(t, a, "the own state", soon, func(v *View) bool { return v.Peer(nodeID(1)).State == state })
	}
	for _, n := range []*Cluster{b, c} {
		waitView(t, n, "the state of node 1", soon, func(v *View) bool { return v.Peer(nodeID(1)).State == state })
	}
	want := Peer{
		ID: nodeID(1), Name: "n1", Zone: "z", RPCAddr: "127.0.0.1:9001", GossipAddr: a.Addr(),
		Alive: true, State: state, ProtocolMin: 1, ProtocolMax: 2,
	}
	for _, n := range []*Cluster{a, b, c} {
		if got := *n.View().Peer(nodeID(1)); got != want {
			t.Errorf("node 1 as %s sees it:\n got %+v\nwant %+v", n.cfg.ID.Short(), got, want)
		}
	}
}

func TestTheNewestOfManyStatesIsToldAndAnnounceNeverBlocks(t *testing.T) {
	a := start(t, config(1))
	cfg := config(2)
	cfg.Seeds = []string{a.Addr()}
	b := start(t, cfg)
	sees(t, a, soon, 1, 2)
	sees(t, b, soon, 1, 2)
	const last = 20_000
	for epoch := range uint64(last + 1) {
		a.Announce(State{Cluster: clusterID(1), Epoch: epoch})
	}
	waitView(t, b, "the newest epoch", soon, func(v *View) bool { return v.Peer(nodeID(1)).State.Epoch == last })
	if told := b.View().Peer(nodeID(1)).State.Epoch; told != last {
		t.Errorf("epoch %d after the newest %d", told, last)
	}
}

func TestARestartedNodeComesBackByItsBookWithoutSeeds(t *testing.T) {
	a := start(t, config(1))
	cfg := config(2)
	cfg.Seeds = []string{a.Addr()}
	book := &memBook{}
	cfg.Book = book
	cfg.Bind = "127.0.0.1:" + lasting(t)
	b := start(t, cfg)
	sees(t, b, soon, 1, 2)
	waitUntil(t, "node 1 is in the book of node 2", soon, func() bool { return slices.Contains(book.ids(), nodeID(1)) })
	closed(t, b)

	cfg.Seeds = nil
	b = start(t, cfg)
	sees(t, b, soon, 1, 2)
	run := b.run
	waitUntil(t, "node 1 knows the new life of node 2", soon, func() bool {
		for _, m := range a.serf.Members() {
			if got, err := decodeTags(m.Tags[tagKey]); m.Name == nodeID(2).String() && err == nil && got.run == run {
				return true
			}
		}
		return false
	})
	sees(t, a, soon, 1, 2)
}

func TestTheLongestTagsFitAndTravel(t *testing.T) {
	cfg := config(1)
	cfg.Name = strings.Repeat("n", NameMax)
	cfg.Zone = strings.Repeat("z", ZoneMax)
	cfg.RPCAddr = strings.Repeat("h", AddrMax-6) + ":65535"
	cfg.ProtocolMax = 255
	cfg.State = State{Cluster: clusterID(9), Epoch: 1<<64 - 1, Ready: strings.Repeat("r", ReadyMax)}
	a := start(t, cfg)
	other := config(2)
	other.Seeds = []string{a.Addr()}
	b := start(t, other)
	sees(t, b, soon, 1, 2)
	got := b.View().Peer(nodeID(1))
	if got.Name != cfg.Name || got.Zone != cfg.Zone || got.RPCAddr != cfg.RPCAddr || got.State != cfg.State {
		t.Errorf("got %+v", got)
	}
}

func TestStartRefusesWhatIsOutOfBounds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"no ID":           {func(c *Config) { c.ID = ring.NodeID{} }, "node ID is zero"},
		"long name":       {func(c *Config) { c.Name = strings.Repeat("x", NameMax+1) }, "has 65 bytes, at most 64"},
		"long zone":       {func(c *Config) { c.Zone = strings.Repeat("x", ZoneMax+1) }, "has 65 bytes, at most 64"},
		"long RPC":        {func(c *Config) { c.RPCAddr = strings.Repeat("x", AddrMax) + ":1" }, "at most 261"},
		"no RPC":          {func(c *Config) { c.RPCAddr = "" }, "want HOST:PORT"},
		"no cluster":      {func(c *Config) { c.Cluster = "" }, "want 1 to 64"},
		"long cluster":    {func(c *Config) { c.Cluster = strings.Repeat("x", ClusterMax+1) }, "want 1 to 64"},
		"key length":      {func(c *Config) { c.Key = make([]byte, 15) }, "want 16, 24 or 32"},
		"protocols":       {func(c *Config) { c.ProtocolMin = 3 }, "protocol range 3 to 2"},
		"seed":            {func(c *Config) { c.Seeds = []string{"host"} }, "want HOST:PORT"},
		"seed port":       {func(c *Config) { c.Seeds = []string{"host:0"} }, "needs a host and a port"},
		"bind":            {func(c *Config) { c.Bind = "127.0.0.1" }, "want HOST:PORT"},
		"bind port":       {func(c *Config) { c.Bind = "127.0.0.1:70000" }, "0 to 65535"},
		"foreign address": {func(c *Config) { c.Bind = "203.0.113.7:0" }, "listen at 203.0.113.7:0"},
		"advertise all":   {func(c *Config) { c.Advertise = "0.0.0.0:1" }, "others cannot reach"},
		"book":            {func(c *Config) { c.Book = brokenBook{} }, "load the peer book: on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(1)
			c.spoil(&cfg)
			got, err := Start(cfg)
			if err == nil {
				closed(t, got)
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

type brokenBook struct{}

func (brokenBook) Load() ([]Entry, error) { return nil, errors.New("on fire") }
func (brokenBook) Save([]Entry) error     { return nil }

func TestBindTakesANameAndNeverWidensIt(t *testing.T) {
	cfg := config(1)
	cfg.Bind = "localhost:0"
	c := start(t, cfg)
	host := hostOf(c.Addr())
	if host != "127.0.0.1" && host != "::1" {
		t.Errorf("localhost became %s", c.Addr())
	}
}

func TestAdvertiseIsWhatOthersSee(t *testing.T) {
	cfg := config(1)
	cfg.Bind = "127.0.0.1:0"
	cfg.Advertise = "127.0.0.2:0"
	c := start(t, cfg)
	if host := hostOf(c.Addr()); host != "127.0.0.2" {
		t.Errorf("address %s", c.Addr())
	}
	if c.View().Peer(nodeID(1)).GossipAddr != c.Addr() {
		t.Errorf("own entry %+v", c.View().Peers)
	}
}

func TestCloseEndsAtOnceWithStrangersConnected(t *testing.T) {
	before := runtime.NumGoroutine()
	cfg := config(1)
	cfg.Seeds = []string{"127.0.0.1:1", "192.0.2.1:7946"} // refused, silent
	c := start(t, cfg)
	for range 20 {
		hold(t, c.Addr())
	}
	waitUntil(t, "the strangers are let in", soon, func() bool {
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		return c.net.incoming == 20
	})
	closed(t, c)
	closed(t, c) // again: nothing happens
	c.Announce(State{})
	c.Forget(nodeID(7))
	// memberlist waits ten seconds for a silent stranger; Close must not.
	waitUntil(t, "no goroutine is left", 5*time.Second, func() bool { return runtime.NumGoroutine() <= before })
}

func TestAnAbsentSeedIsToldInPlainWords(t *testing.T) {
	cfg := config(1)
	text := &logText{}
	cfg.Logger = text.logger()
	cfg.Seeds = []string{"127.0.0.1:1"}
	c := start(t, cfg)
	waitUntil(t, "a join error", soon, func() bool { return c.JoinError() != nil })
	if got := fmt.Sprint(c.JoinError()); !strings.Contains(got, "join 127.0.0.1:1: nothing listens there") {
		t.Errorf("error %q", got)
	}
	waitUntil(t, "a line in the log", soon, func() bool { return len(text.lines("not joined; trying on")) == 1 })
}
