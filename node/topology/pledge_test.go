package topology

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

// This is a model of the forced register, on the rules of pledge.go. Attempts name any
// sets of survivors, die at any point, and their messages arrive at any later time.

// weak breaks one rule each.
type weak struct {
	majority bool // more than half of the survivors are enough
	forgets  bool // what others may have decided is not looked for
	unbound  bool // accepts do not need a promise of all
	loose    bool // a release frees those who have accepted, too
}

type forceModel struct {
	weak
	r       *rand.Rand
	base    *ring.Record
	pledges []*pledge
	tries   [4]*forceTry
	late    []lateForce
	decided map[string][]ring.NodeID // record to those who had to accept it
	serial  int
	story   []string
}

type forceTry struct {
	survivors []ring.NodeID
	request   surviveRequest
	unsent    []int
	cells     map[int]paxos.Cell
	oks       int
}

type lateForce struct {
	request surviveRequest
	to      int
}

func newForceModel(seed uint64, w weak) *forceModel {
	m := &forceModel{weak: w, r: rand.New(rand.NewPCG(seed, 9)), decided: map[string][]ring.NodeID{}, pledges: make([]*pledge, 5)}
	members := make([]ring.Member, 5)
	for i := range members {
		members[i] = ring.Member{ID: ring.NodeID{byte(i + 1)}}
	}
	r, err := ring.Found(ring.ClusterID{1}, "model", members[0], 1, 1)
	if err == nil {
		r, err = r.WithTable(members)
	}
	if err != nil {
		panic(err)
	}
	m.base = r
	return m
}

func (m *forceModel) id(i int) ring.NodeID { return m.base.Members[i].ID }

// begin names a set that shares somebody with every other one: the first member, or both
// of two others... any two sets of three of five.
func (m *forceModel) begin() *forceTry {
	t := &forceTry{}
	for _, i := range m.r.Perm(5)[:3] {
		t.survivors = append(t.survivors, m.id(i))
	}
	slices.SortFunc(t.survivors, ring.NodeID.Compare)
	highest := uint64(m.r.IntN(3)) // what a look has told, which may be old
	for _, p := range m.pledges {
		if p != nil && m.r.IntN(4) > 0 {
			highest = max(highest, p.cell.Promised.Round)
		}
	}
	m.serial++
	t.send(m, surviveRequest{Number: 1, Step: stepPrepare, Ballot: paxos.Ballot{Round: highest + 1, Node: paxos.Node{byte(m.serial), byte(m.serial >> 8)}}})
	return t
}

func (t *forceTry) send(m *forceModel, req surviveRequest) {
	for _, k := range t.unsent {
		m.late = append(m.late, lateForce{t.request, k})
	}
	t.request, t.unsent, t.oks, t.cells = req, nil, 0, map[int]paxos.Cell{}
	for _, id := range t.survivors {
		t.unsent = append(t.unsent, int(id[0])-1)
	}
}

// arrive is Topology.survive without disk.
func (m *forceModel) arrive(req surviveRequest, to int) (paxos.Cell, bool) {
	held := m.pledges[to]
	if m.loose && req.Step == stepRelease && held != nil && held.cell.Promised == req.Ballot {
		m.pledges[to] = nil
		return paxos.Cell{}, true
	}
	if m.unbound && req.Step == stepAccept && held != nil {
		held.cell.Promised, held.released = req.Ballot, false
	}
	reply, store, err := held.ballot(m.id(to), m.base, &req)
	if err != nil {
		return paxos.Cell{}, false
	}
	if reply.OK {
		m.pledges[to] = &store
		if again, err := parsePledge(store.encode()); err != nil || !bytes.Equal(again.encode(), store.encode()) {
			panic(fmt.Sprint("a pledge is not read as it was written: ", err))
		}
	}
	if reply.OK && req.Step == stepAccept {
		m.story = append(m.story, fmt.Sprintf("%d accepts %s under %v", to+1, label(req.Value), req.Ballot))
	}
	return store.cell, reply.OK
}

func label(value []byte) string {
	f, err := parseForced(value)
	if err != nil {
		return err.Error()
	}
	return f.record.LastForced().Who
}

func (m *forceModel) step(i int) string {
	if len(m.late) > 0 && m.r.IntN(6) == 0 {
		at := m.r.IntN(len(m.late))
		l := m.late[at]
		m.late = slices.Delete(m.late, at, at+1)
		m.arrive(l.request, l.to)
		return m.count(l.request)
	}
	t := m.tries[i]
	if t == nil {
		m.tries[i] = m.begin()
		return ""
	}
	if m.r.IntN(12) == 0 || len(t.unsent) == 0 { // it dies, or gives up
		if t.request.Step == stepPrepare && m.r.IntN(2) == 0 {
			release := t.request
			release.Step = stepRelease
			t.send(m, release)
		} else if m.loose && m.r.IntN(2) == 0 {
			release := surviveRequest{Number: 1, Step: stepRelease, Ballot: t.request.Ballot}
			t.send(m, release)
		}
		for _, k := range t.unsent {
			m.late = append(m.late, lateForce{t.request, k})
		}
		m.tries[i] = nil
		return ""
	}
	to := t.unsent[0]
	t.unsent = t.unsent[1:]
	cell, ok := m.arrive(t.request, to)
	wrong := m.count(t.request)
	if !ok || m.r.IntN(10) == 0 { // refused, or the reply is lost
		return wrong
	}
	t.oks++
	t.cells[to] = cell
	need := len(t.survivors)
	if m.majority {
		need = need/2 + 1
	}
	if t.request.Step == stepPrepare && t.oks >= need {
		m.accept(t)
	}
	return wrong
}

// accept is the choice of forcer.prepare.
func (m *forceModel) accept(t *forceTry) {
	cells := make([]paxos.Cell, len(t.survivors))
	for i, id := range t.survivors {
		cells[i] = t.cells[int(id[0])-1]
	}
	var found *forced
	if !m.forgets {
		var err error
		if found, err = chosen(t.survivors, cells); err != nil {
			panic(err) // all sets share somebody
		}
	}
	if found == nil {
		m.serial++
		r, err := m.base.WithForced(ring.Forced{Epoch: uint64(100 + m.serial), By: t.survivors[0], Who: fmt.Sprint("v", m.serial), Survivors: t.survivors})
		if err != nil {
			panic(err)
		}
		found = &forced{record: r, encoded: r.Encode()}
	}
	value := &forced{t.survivors, found.record, found.encoded}
	t.send(m, surviveRequest{Number: 1, Step: stepAccept, Ballot: t.request.Ballot, Value: value.encode()})
}

// count decides by the definition: all have accepted, under one ballot.
func (m *forceModel) count(req surviveRequest) string {
	if req.Step != stepAccept {
		return ""
	}
	f, err := parseForced(req.Value)
	if err != nil {
		panic(err)
	}
	yes := 0
	for _, id := range f.quorum {
		if p := m.pledges[int(id[0])-1]; p != nil && p.cell.Accepted == req.Ballot {
			yes++
		}
	}
	if yes < len(f.quorum) && !(m.majority && yes > len(f.quorum)/2) {
		return ""
	}
	m.decided[string(f.encoded)] = f.quorum
	if len(m.decided) > 1 {
		return "two records are forced"
	}
	return ""
}

func walkForce(seed uint64, w weak) (m *forceModel, wrong string) {
	m = newForceModel(seed, w)
	at := 0
	for range 150 {
		if m.r.IntN(6) == 0 {
			at = m.r.IntN(len(m.tries))
		}
		if wrong = m.step(at); wrong != "" {
			return m, wrong
		}
	}
	return m, ""
}

func TestSetsOfSurvivorsThatShareAMemberForceOneRecord(t *testing.T) {
	n, decided := runs(500), 0
	for seed := range uint64(n) {
		m, wrong := walkForce(seed, weak{})
		if wrong != "" {
			t.Fatalf("seed %d: %s\n%s", seed, wrong, strings.Join(m.story, "\n"))
		}
		decided += len(m.decided)
	}
	if decided < n/4 {
		t.Fatalf("%d records forced in %d walks: the model looks at nothing", decided, n)
	}
	t.Logf("%d of %d walks came to a record", decided, n)
}

func TestModelSeesBrokenRulesOfForcing(t *testing.T) {
	for name, broken := range map[string]weak{
		"a majority of the survivors is enough":          {majority: true},
		"what may be decided is not looked for":          {forgets: true},
		"who has not promised may accept":                {unbound: true},
		"who has accepted is released, and forgets that": {loose: true},
	} {
		t.Run(name, func(t *testing.T) {
			seen(t, func(seed uint64) string { _, wrong := walkForce(seed, broken); return wrong })
		})
	}
}
