package topology

import (
	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// The conversation. All records in it are encoded, and decided unless they are a
// vote's Value.
const (
	// pull asks for the record that a node holds.
	pullRoute rpc.Route[pullRequest, pullResponse] = "ring.pull"
	// tell brings a node a decided record, and asks which one it then holds.
	tellRoute rpc.Route[tellRequest, tellResponse] = "ring.tell"
	// vote is a prepare or an accept in the register of one epoch.
	voteRoute rpc.Route[voteRequest, voteResponse] = "ring.vote"
	// sees asks a node whether it reaches a member.
	seesRoute rpc.Route[seesRequest, seesResponse] = "ring.sees"
	// survive is a step of the forced register: see pledge.go.
	surviveRoute rpc.Route[surviveRequest, surviveResponse] = "ring.survive"
)

type pullRequest struct {
	Cluster ring.ClusterID // the asker's; zero for a newcomer
	Epoch   uint64         // that the asker holds; older ones are not sent
}

type pullResponse struct {
	Epoch  uint64
	Record []byte // empty if it is not newer than the asker's
}

type tellRequest struct {
	Record []byte
}

type tellResponse struct {
	Epoch uint64 // that is durable
}

type voteRequest struct {
	Register uint64
	// Base is the decided record before the register's, so that a keeper
	// who has not heard of it can vote.
	Base   []byte
	Accept bool // or else prepare
	Ballot paxos.Ballot
	Value  []byte
}

type voteResponse struct {
	Reply paxos.Reply
}

type seesRequest struct{ Member ring.NodeID }

type seesResponse struct{ Reached bool }

// The steps of a forced register. Their numbers are on the wire.
const (
	stepLook    = 1 // promises nothing
	stepPrepare = 2
	stepAccept  = 3
	stepRelease = 4
)

type surviveRequest struct {
	Cluster ring.ClusterID
	Number  uint64 // of the register; no matter for a look
	Step    uint64
	Ballot  paxos.Ballot
	Value   []byte // to be accepted
}

// surviveResponse is what a member holds, after the step.
type surviveResponse struct {
	OK     bool   // as paxos.Reply has it
	Record []byte // decided
	// Vote is what it has accepted in the ordinary register after Record.
	Vote  paxos.Ballot
	Voted []byte
	// Promised, Accepted and Value are its cell in the forced register after
	// Record, and Bound that it votes in no ordinary one.
	Promised paxos.Ballot
	Accepted paxos.Ballot
	Value    []byte
	Bound    bool
}

func (m *pullRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendBytes(b, m.Cluster[:])
	return wire.AppendUint(b, m.Epoch)
}

func (m *pullRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	s.Fixed(m.Cluster[:])
	m.Epoch = s.Uint()
	return s.End()
}

func (m *pullResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendUint(b, m.Epoch)
	return wire.AppendBytes(b, m.Record)
}

func (m *pullResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Record = s.Bytes()
	return s.End()
}

func (m *tellRequest) AppendWire(b []byte) []byte {
	return wire.AppendBytes(wire.AppendArray(b, 1), m.Record)
}

func (m *tellRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Record = s.Bytes()
	return s.End()
}

func (m *tellResponse) AppendWire(b []byte) []byte {
	return wire.AppendUint(wire.AppendArray(b, 1), m.Epoch)
}

func (m *tellResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	return s.End()
}

func (m *voteRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendUint(b, m.Register)
	b = wire.AppendBytes(b, m.Base)
	b = wire.AppendBool(b, m.Accept)
	b = appendBallot(b, m.Ballot)
	return wire.AppendBytes(b, m.Value)
}

func (m *voteRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Register = s.Uint()
	m.Base = s.Bytes()
	m.Accept = s.Bool()
	m.Ballot = parseBallot(&s)
	m.Value = s.Bytes()
	return s.End()
}

func (m *voteResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 7)
	b = wire.AppendBool(b, m.Reply.OK)
	b = appendBallot(b, m.Reply.Promised)
	b = appendBallot(b, m.Reply.Accepted)
	b = wire.AppendBytes(b, m.Reply.Value)
	return wire.AppendBytes(b, m.Reply.Decided)
}

func (m *voteResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Reply.OK = s.Bool()
	m.Reply.Promised = parseBallot(&s)
	m.Reply.Accepted = parseBallot(&s)
	m.Reply.Value = s.Bytes()
	m.Reply.Decided = s.Bytes()
	return s.End()
}

func (m *seesRequest) AppendWire(b []byte) []byte {
	return wire.AppendBytes(wire.AppendArray(b, 1), m.Member[:])
}

func (m *seesRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	s.Fixed(m.Member[:])
	return s.End()
}

func (m *seesResponse) AppendWire(b []byte) []byte {
	return wire.AppendBool(wire.AppendArray(b, 1), m.Reached)
}

func (m *seesResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Reached = s.Bool()
	return s.End()
}

func (m *surviveRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendBytes(b, m.Cluster[:])
	b = wire.AppendUint(b, m.Number)
	b = wire.AppendUint(b, m.Step)
	b = appendBallot(b, m.Ballot)
	return wire.AppendBytes(b, m.Value)
}

func (m *surviveRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	s.Fixed(m.Cluster[:])
	m.Number = s.Uint()
	m.Step = s.Uint()
	m.Ballot = parseBallot(&s)
	m.Value = s.Bytes()
	return s.End()
}

func (m *surviveResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 11)
	b = wire.AppendBool(b, m.OK)
	b = wire.AppendBytes(b, m.Record)
	b = appendBallot(b, m.Vote)
	b = wire.AppendBytes(b, m.Voted)
	b = appendBallot(b, m.Promised)
	b = appendBallot(b, m.Accepted)
	b = wire.AppendBytes(b, m.Value)
	return wire.AppendBool(b, m.Bound)
}

func (m *surviveResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.OK = s.Bool()
	m.Record = s.Bytes()
	m.Vote = parseBallot(&s)
	m.Voted = s.Bytes()
	m.Promised = parseBallot(&s)
	m.Accepted = parseBallot(&s)
	m.Value = s.Bytes()
	m.Bound = s.Bool()
	return s.End()
}

// A ballot is two fields.
func appendBallot(b []byte, x paxos.Ballot) []byte {
	return wire.AppendBytes(wire.AppendUint(b, x.Round), x.Node[:])
}

func parseBallot(s *wire.Struct) (x paxos.Ballot) {
	x.Round = s.UintMax(paxos.RoundMax)
	s.Fixed(x.Node[:])
	return x
}
