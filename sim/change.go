package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
)

// RingFaults are what operators do to the ring, while clients read and write and
// other faults befall the cluster: new machines become members, members leave, are
// removed when they are dead, and replaced, get another weight, and what was begun
// is taken back.
func RingFaults() []Fault {
	return []Fault{joins, leaves, removes, replaces, weights, aborts, contradicts}
}

// ResizeFaults are what operators do to the number of homes that each key has.
func ResizeFaults() []Fault { return []Fault{resizes} }

const (
	// spareMax is how many machines more than in the beginning there may be.
	spareMax = 3
	// operatorMax is how long an operator waits for an answer.
	operatorMax = 20 * time.Second
	// standbyMax is how long an operator waits for a new machine to stand by.
	standbyMax = 10 * time.Second
	// answered is told of what an operator was answered.
	answered = "answer"
	// homesMax is the most homes of a key that operators of random stories want.
	homesMax = 5
)

var (
	// joins starts an empty machine that becomes a member and takes its share.
	joins = Fault{"join", func(c *Cluster, _ *rand.Rand) (string, func() error) {
		m, err := c.newcomer(false)
		if m == nil {
			return "no machine is free", func() error { return err }
		}
		return m.Name, func() error { return err }
	}}
	leaves = onMember("leave", func(c *Cluster, rng *rand.Rand, id ring.NodeID) {
		c.order(rng, api.ChangeRequest{Verb: api.VerbLeave, Member: id.String()})
	})
	weights = onMember("weight", func(c *Cluster, rng *rand.Rand, id ring.NodeID) {
		c.order(rng, api.ChangeRequest{Verb: api.VerbWeight, Member: id.String(), Number: 1 + rng.IntN(4)})
	})
	aborts = onMember("abort", func(c *Cluster, rng *rand.Rand, id ring.NodeID) {
		req := api.ChangeRequest{Verb: api.VerbAbort, Member: id.String()}
		if rng.IntN(2) == 0 {
			req.Member = ""
		}
		c.order(rng, req)
	})
	// contradicts has two operators at two machines want different things at the same
	// time.
	contradicts = onMember("contradiction", func(c *Cluster, rng *rand.Rand, id ring.NodeID) {
		other := c.member(rng)
		wishes := []api.ChangeRequest{
			{Verb: api.VerbLeave, Member: id.String()},
			{Verb: api.VerbJoin, Member: id.String()},
			{Verb: api.VerbAbort, Member: id.String()},
			{Verb: api.VerbWeight, Member: id.String(), Number: 1 + rng.IntN(4)},
			{Verb: api.VerbLeave, Member: other.String()},
		}
		for _, i := range rng.Perm(len(wishes))[:2] {
			c.order(rng, wishes[i])
		}
	})
)

// resizes has the number of homes of each key changed, up or down; sometimes two operators
// want that at the same time. Where a disk may be lost no key has only one home.
var resizes = Fault{"replicas", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	fewest := 1
	if c.loses {
		fewest = 2
	}
	var wanted []string
	for range pick(rng, 1, 1, 1, 2) {
		n := fewest + rng.IntN(homesMax-fewest+1)
		c.order(rng, api.ChangeRequest{Verb: api.VerbReplicas, Number: n})
		wanted = append(wanted, fmt.Sprint(n))
	}
	return strings.Join(wanted, " and "), nil
}}

// replaces has a new machine, which stands by, take over what a member has. If the
// others don't reach that one, it is given up with all that it has: so it is always
// the one that may lose something.
var replaces = Fault{"replacement", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	m := c.breaking()
	if m.makesUp() {
		return m.Name + " has lost enough already", nil
	}
	with, err := c.newcomer(true)
	if with == nil || err != nil {
		return "no machine is free", func() error { return err }
	}
	old, id := m.ID(), with.ID()
	m.removed = append(m.removed, old)
	via, host := c.running(rng), c.host()
	c.operators.Go(func() {
		for deadline := time.Now().Add(standbyMax); !c.isMember(id); rest(context.Background(), 100*time.Millisecond) {
			if time.Now().After(deadline) {
				return // it stands by, and does no harm
			}
		}
		c.call(host, via, api.ChangeRequest{Verb: api.VerbReplace, Member: old.String(), With: id.String()})
	})
	return fmt.Sprint(m.Name, " by ", with.Name), nil
}}

// removes has a machine die for good, with its disk. An operator has it removed, and
// an empty one takes its place in the rack. Where it was not removed, it takes the
// place of the lost member instead.
var removes = Fault{"removal", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	m := c.breaking()
	if !m.mayLose() {
		return m.Name + " has nothing to lose now", nil
	}
	old := m.ID()
	m.LoseDisk()
	m.removed = append(m.removed, old)
	via, host := c.running(rng), c.host()
	ctx, cancel := context.WithCancel(context.Background())
	c.operators.Go(func() {
		for range 3 { // whom the others have not missed yet is not removed
			rest(ctx, 3*time.Second)
			if ctx.Err() != nil || c.call(host, via, api.ChangeRequest{Verb: api.VerbRemove, Member: old.String()}) == nil {
				return
			}
		}
	})
	return m.Name, func() error {
		cancel()
		m.lookUp()
		return m.revive()
	}
}}

// onMember makes a fault that an active member is meant by.
func onMember(name string, begin func(c *Cluster, rng *rand.Rand, id ring.NodeID)) Fault {
	return Fault{name, func(c *Cluster, rng *rand.Rand) (string, func() error) {
		id := c.member(rng)
		begin(c, rng, id)
		return c.nameOf(id), nil
	}}
}

// member draws an active member of the newest record.
func (c *Cluster) member(rng *rand.Rand) ring.NodeID {
	r := c.rings.At(c.rings.Last())
	active := slices.DeleteFunc(slices.Clone(r.Members), func(m ring.Member) bool { return m.State != ring.Active })
	return active[rng.IntN(len(active))].ID
}

func (c *Cluster) isMember(id ring.NodeID) bool { return c.rings.At(c.rings.Last()).Member(id) != nil }

// running draws a machine whose process is there, to be asked.
func (c *Cluster) running(rng *rand.Rand) rpc.Peer {
	order := rng.Perm(len(c.Machines))
	for _, i := range order {
		if c.Machines[i].Running() {
			return c.Machines[i].Peer()
		}
	}
	return c.Machines[order[0]].Peer() // it does not answer
}

// order has an operator ask for a change, through a machine that is drawn.
func (c *Cluster) order(rng *rand.Rand, req api.ChangeRequest) {
	via, host := c.running(rng), c.host()
	c.operators.Go(func() { c.call(host, via, req) })
}

// call asks for a change and tells what the answer was.
func (c *Cluster) call(host *network.Host, via rpc.Peer, req api.ChangeRequest) error {
	ctx, cancel := context.WithTimeout(context.Background(), operatorMax)
	defer cancel()
	resp, err := api.Change.Call(ctx, host, via, &req)
	answer := "unknown"
	switch {
	case err == nil:
		answer = fmt.Sprintf("done at epoch %d", resp.Epoch)
	case errors.Is(err, api.ErrRefused), errors.Is(err, api.ErrBadRequest), errors.Is(err, api.ErrUnavailable), errors.Is(err, api.ErrNotReady), errors.Is(err, rpc.ErrUnreachable):
		answer = "refused: " + err.Error()
	default:
		answer += ": " + err.Error()
	}
	whom := req.Member
	if req.Verb == api.VerbReplicas {
		whom = fmt.Sprint(req.Number)
	}
	if id, parsed := ring.ParseNodeID(whom); parsed == nil {
		whom = c.nameOf(id)
	}
	fmt.Fprintf(c.log, "operator: %v %s through %s: %s\n", req.Verb, whom, via.Addr, answer)
	c.tell(Told{At: time.Now(), Fault: answered, Note: fmt.Sprintf("to %v %s: %s", req.Verb, whom, answer)})
	return err
}

// Change asks a machine for a change of the ring, as an operator does.
func (c *Cluster) Change(machine int, req api.ChangeRequest) (*api.ChangeResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), operatorMax)
	defer cancel()
	return api.Change.Call(ctx, c.probe(), c.Machines[machine].Peer(), &req)
}

// newcomer starts an empty machine: one whose node is no member any more, or one
// more. It is nil if there are too many already.
func (c *Cluster) newcomer(standby bool) (*Machine, error) {
	i := slices.IndexFunc(c.Machines, func(m *Machine) bool { return m.retired })
	if i < 0 {
		if i = len(c.Machines); i >= c.opts.Nodes+spareMax {
			return nil, nil
		}
		c.Spare()
	}
	m := c.Machines[i]
	return m, m.Arrive(standby)
}
