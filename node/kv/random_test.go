package kv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/sim/network"
)

// TestRandomFaultsAgainstTheOracle has clients write and read a few keys through
// any node, with and without contexts and at any level, under cuts, pauses,
// crashes and new ring records. In the end, when all is well again, sim.Check
// holds what every key shows against what the clients were told.
func TestRandomFaultsAgainstTheOracle(t *testing.T) {
	seeds := seedsOf(30, 2000)
	told := map[sim.Outcome]int{}
	for seed := range uint64(seeds) {
		inSeededWorld(t, seed, 5, 3, func(w *world) {
			r := &randomRun{w: w, seed: seed, history: sim.NewHistory(), epoch: w.record.Epoch, asks: anyLevels}
			r.run()
			for _, o := range []sim.Outcome{sim.Done, sim.Refused, sim.Unknown} {
				told[o] += r.history.Count(o)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d done, %d refused, %d unknown", told[sim.Done], told[sim.Refused], told[sim.Unknown])
	if told[sim.Refused] == 0 || told[sim.Unknown] == 0 || told[sim.Done] < 10*seeds {
		t.Error("the faults do not bite")
	}
}

type randomRun struct {
	w       *world
	seed    uint64
	history *sim.History
	asks    asks
	epoch   uint64
	paused  []int
	down    []int
}

// asks are what clients ask for: each once for every time that it stands there.
type asks struct{ reads, writes []asking }

// asking is a level, in a zone or where the coordinator is. Strict ones meet each other:
// such reads never go backwards, and see all such writes.
type asking struct {
	level  api.Level
	zone   string
	strict bool
}

// anyLevels are those of a cluster without zones; lastingLevels leave out writes that may
// be given up with one home that is away.
var (
	quorums       = []asking{{level: 2, strict: true}, {level: 3, strict: true}, {level: api.Quorum, strict: true}, {level: api.Quorum, strict: true}, {level: api.All, strict: true}, {level: api.Default, strict: true}}
	anyLevels     = asks{reads: append(quorums[:6:6], asking{level: api.One}), writes: append(quorums[:6:6], asking{level: api.One})}
	lastingLevels = asks{reads: anyLevels.reads, writes: quorums}
)

const (
	randomKeys    = 4
	randomClients = 4
	randomOps     = 30
)

func randomKey(i int) string { return fmt.Sprint("key-", i) }

func (r *randomRun) run() {
	r.w.net.SetDefault(network.Link{
		Latency: time.Millisecond, Jitter: 4 * time.Millisecond,
		Loss: 0.01, Reset: 0.002, Duplicate: 0.02, Late: 0.01, LateBy: 20 * time.Second,
	})
	for i, h := range r.w.nodes {
		chance := rand.New(rand.NewPCG(r.seed, uint64(100+i)))
		var turn sync.Mutex
		h.disk.SetSyncDelay(func() time.Duration {
			turn.Lock()
			defer turn.Unlock()
			return time.Duration(chance.IntN(20)) * time.Millisecond
		})
	}
	var clients sync.WaitGroup
	for i := range randomClients {
		clients.Go(func() { r.client(i, rand.New(rand.NewPCG(r.seed, uint64(i+1)))) })
	}
	over := make(chan struct{})
	go func() { clients.Wait(); close(over) }()
	chance := rand.New(rand.NewPCG(r.seed, 0))
	for faults := true; faults; {
		select {
		case <-over:
			faults = false
		case <-time.After(time.Duration(chance.IntN(3000)) * time.Millisecond):
			r.fault(chance)
		}
	}
	r.heal()
	r.w.net.SetDefault(network.Link{Latency: time.Millisecond})
	time.Sleep(time.Minute)
	if r.epoch > r.w.record.Epoch {
		r.w.adopt(r.w.ring(r.epoch, r.w.everyone()...), 0)
	}
	r.check()
}

// fault does something bad, or ends it.
func (r *randomRun) fault(chance *rand.Rand) {
	w, i := r.w, chance.IntN(len(r.w.nodes))
	switch chance.IntN(9) {
	case 0, 1:
		var halves [2][]string
		for _, h := range w.nodes {
			side := chance.IntN(2)
			halves[side] = append(halves[side], h.host.Name())
		}
		w.net.Partition(halves[0], halves[1])
	case 2:
		w.net.Cut(w.nodes[i].host.Name(), w.nodes[chance.IntN(len(w.nodes))].host.Name())
	case 3:
		if !slices.Contains(r.down, i) && !slices.Contains(r.paused, i) {
			r.paused = append(r.paused, i)
			w.nodes[i].host.Pause()
		}
	case 4:
		if len(r.down) == 0 && !slices.Contains(r.paused, i) {
			r.down = append(r.down, i)
			w.nodes[i].host.Crash()
			if chance.IntN(2) == 0 {
				w.nodes[i].disk.PowerCut()
			}
			w.halt(i)
		}
	case 5:
		// The same homes at a new epoch, which one node knows.
		if !slices.Contains(r.down, i) && w.nodes[i].store.Health().Failed == nil {
			r.epoch++
			if err := w.nodes[i].rings.adopt(w.ring(r.epoch, r.w.everyone()...)); err != nil {
				// Its disk has failed meanwhile. It may hold the fence without
				// the record, which nobody knows until the end.
				w.t.Logf("seed %d: %v", r.seed, err)
			}
		}
	case 6:
		w.nodes[i].disk.FailSync(disk.Of(storage.TypeJournal), 1, chance.IntN(2) == 0, syscall.EIO)
	default:
		r.heal()
	}
}

func (r *randomRun) heal() {
	r.w.net.Heal()
	for _, h := range r.w.nodes {
		h.disk.Heal()
	}
	for _, i := range r.paused {
		r.w.nodes[i].host.Resume()
	}
	for _, i := range r.down {
		r.w.revive(i)
	}
	r.paused, r.down = nil, nil
}

// read is what a client knows of a key.
type read struct {
	op      *sim.Op
	context []byte
}

func (r *randomRun) client(i int, chance *rand.Rand) {
	name := fmt.Sprint("c", i)
	known := map[string]read{}
	for n := range randomOps {
		time.Sleep(time.Duration(chance.IntN(500)) * time.Millisecond)
		key, via := randomKey(chance.IntN(randomKeys)), chance.IntN(len(r.w.nodes))
		if chance.IntN(2) == 0 {
			a := r.asks.reads[chance.IntN(len(r.asks.reads))]
			o := &sim.Op{Client: name, Key: key, Strict: a.strict, Read: true}
			if resp := r.get(r.history.Begin(o), via, a); resp != nil {
				known[key] = read{o, resp.Context}
			}
			continue
		}
		a := r.asks.writes[chance.IntN(len(r.asks.writes))]
		o := &sim.Op{Client: name, Key: key, Strict: a.strict, Value: fmt.Sprintf("%s.%d", name, n)}
		req := api.PutRequest{Key: []byte(key), W: a.level, Zone: a.zone}
		if k := known[key]; k.op != nil && chance.IntN(5) > 0 {
			o.After, req.Context = k.op, k.context
			o.Delete = chance.IntN(5) == 0
		}
		if req.Delete = o.Delete; !o.Delete {
			req.Value = []byte(o.Value)
		}
		r.put(r.history.Begin(o), via, req)
	}
}

func (r *randomRun) get(o *sim.Op, via int, a asking) *api.GetResponse {
	resp, err := r.w.getIn(via, a.zone, o.Key, a.level)
	if err != nil {
		r.history.End(o, sim.Refused, nil, err.Error())
		return nil
	}
	r.history.End(o, sim.Done, liveValues(resp), fmt.Sprintf("through %d: %+v", via, resp.Receipt))
	return resp
}

func liveValues(resp *api.GetResponse) (live []string) {
	for _, v := range resp.Values {
		if !v.Tombstone {
			live = append(live, string(v.Data))
		}
	}
	return live
}

func (r *randomRun) put(o *sim.Op, via int, req api.PutRequest) {
	resp, err := r.w.put(via, req)
	var remote *rpc.RemoteError
	switch {
	case err == nil:
		r.history.End(o, sim.Done, nil, fmt.Sprintf("through %d: %+v", via, resp.Receipt))
	case !errors.Is(err, api.ErrUnknown) && (rpc.NotSent(err) || errors.As(err, &remote)):
		r.history.End(o, sim.Refused, nil, fmt.Sprintf("through %d: %v", via, err))
	default:
		r.history.End(o, sim.Unknown, nil, fmt.Sprintf("through %d: %v", via, err))
	}
}

// check reads every key at all homes, through every node.
func (r *randomRun) check() {
	final := map[string][]string{}
	for i := range randomKeys {
		key := randomKey(i)
		for via := range r.w.nodes {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			resp, err := api.Get.Call(ctx, r.w.client, rpc.Peer{Addr: r.w.nodes[via].peer.Addr}, &api.GetRequest{Key: []byte(key), R: api.All})
			cancel()
			if err != nil {
				r.w.t.Errorf("seed %d: %s through node %d in the end: %v", r.seed, key, via, err)
				return
			}
			live := liveValues(resp)
			slices.Sort(live)
			if via > 0 && !slices.Equal(live, final[key]) {
				r.w.t.Errorf("seed %d: %s shows %v, through node %d %v", r.seed, key, final[key], via, live)
			}
			final[key] = live
		}
		homes := r.w.homesIn(r.w.record, key)
		first := r.w.own(homes[0], key)
		for _, h := range homes[1:] {
			if own := r.w.own(h, key); (own == nil) != (first == nil) || own != nil && !own.Equal(first) {
				r.w.t.Errorf("seed %d: %s differs at node %d after a read of all homes", r.seed, key, h)
			}
		}
	}
	if err := sim.Check(r.history, final); err != nil {
		r.w.t.Errorf("seed %d: %v", r.seed, err)
	}
}
