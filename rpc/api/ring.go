package api

import (
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Routes about who has which share of the keys. Any client may call them on any
// member.
const (
	// Change has a change of the membership decided, and answers once a
	// majority of the keepers stores it. What follows from it, the moves of
	// slots, goes on behind the answer: see Moves. It is done, refused (with
	// ErrRefused, ErrBadRequest, ErrNotReady or ErrUnavailable) or ErrUnknown.
	Change rpc.Route[ChangeRequest, ChangeResponse] = "ring.change"
	// Force goes on without keepers that are gone for good: the survivors agree
	// on the next record by themselves. It is done, refused, or ErrUnknown: then it
	// has to be repeated.
	Force rpc.Route[ForceRequest, ChangeResponse] = "ring.force"
	// Plan says what a change would do, and does nothing.
	Plan rpc.Route[ChangeRequest, PlanResponse] = "ring.plan"
	// Moves says how far the moves of slots are.
	Moves rpc.Route[MovesRequest, MovesResponse] = "ring.moves"
	// History says in words what the latest ring records have changed.
	History rpc.Route[HistoryRequest, HistoryResponse] = "ring.history"
)

// Verb is one change of the membership.
type Verb uint8

// The verbs. Their numbers are on the wire.
const (
	// VerbJoin gives a member on standby, or one that was about to leave, its
	// share.
	VerbJoin Verb = 1
	// VerbLeave has a member hand its share over; with nothing left it is no
	// member any more.
	VerbLeave Verb = 2
	// VerbRemove gives a member up that is dead for good: its slots go to the
	// others, and its ID never comes back.
	VerbRemove Verb = 3
	// VerbReplace gives all slots of a member to another one, With, that is on
	// standby.
	VerbReplace Verb = 4
	// VerbWeight sets the weight, Number, of a member.
	VerbWeight Verb = 5
	// VerbReplicas sets how many homes a key has, to Number. Slots are added and
	// taken away behind the answer.
	VerbReplicas Verb = 6
	// VerbAbort takes back what was begun for a member, or for all of them.
	VerbAbort Verb = 7
)

// String is the verb as one word.
func (v Verb) String() string {
	switch v {
	case VerbJoin:
		return "join"
	case VerbLeave:
		return "leave"
	case VerbRemove:
		return "remove"
	case VerbReplace:
		return "replace"
	case VerbWeight:
		return "weight"
	case VerbReplicas:
		return "replicas"
	case VerbAbort:
		return "abort"
	}
	return fmt.Sprintf("verb %d", uint8(v))
}

// ChangeRequest asks for a change of the membership.
type ChangeRequest struct {
	Verb Verb // says which of the others mean something
	// Member is a name, an ID, or at least the first 8 digits of one. Empty is
	// the node that is asked, for VerbJoin and VerbLeave; for VerbAbort it is
	// everybody.
	Member string
	// With is who takes the place, for VerbReplace; named like Member.
	With string
	// Number is the weight, 1 to 65,535, or the number of replicas.
	Number int
	// DataLost accepts, for VerbRemove and VerbReplace, that keys are lost for good of
	// which nobody else who is there has a whole copy.
	DataLost bool
}

// ChangeResponse says what was decided. Its JSON is part of the contract of the
// verbs' --format json.
type ChangeResponse struct {
	// Epoch of a decided record in which the change stands.
	Epoch uint64 `json:"epoch"`
	// Changed is false if it stood already.
	Changed bool `json:"changed"`
	// Said are the words for what the decided record changed.
	Said []string `json:"said"`
}

// ForceRequest asks the survivors to go on. It is sent to one of them.
type ForceRequest struct {
	// Cluster is the cluster's ID, 32 hexadecimal digits, to be sure which one is
	// meant.
	Cluster string
	// Survivors are names, IDs, or at least the first 8 digits of IDs of members, the
	// one that is asked among them.
	Survivors []string
	// Who asks, at most 64 bytes, for the ring's history.
	Who string
}

// PlanResponse is where a change would lead.
type PlanResponse struct {
	// Epoch is that of the record that was planned from.
	Epoch uint64
	// Slots is how many would change hands, those under way included; Least
	// is how many would have to whatever the plan.
	Slots, Least int
	// Bytes is what that would take through the network, as far as members
	// say what they hold.
	Bytes uint64
	// Seconds is for how long, by the rate at which slots move now; 0 is
	// unknown.
	Seconds float64
	// Members are in the order of the record's.
	Members []MemberPlan
}

// MemberPlan is one member's part of a plan, in slots.
type MemberPlan struct {
	ID     ring.NodeID
	Name   string // for people
	Zone   string // empty for none
	State  string // active, standby, leaving, retreating or lost, after the change
	Weight uint16 // as after the change
	// Now and Then are its slots before and after; In and Out those that it
	// gets and gives.
	Now, Then, In, Out int
	// Share is what it should have, before rounding.
	Share float64
}

// MovesRequest asks for the moves.
type MovesRequest struct {
	// Local asks for what the node itself knows and does, without asking those
	// that drive the other moves.
	Local bool
}

// MovesResponse is how far the moves are.
type MovesResponse struct {
	Epoch uint64 // of the record that the moves stand in
	// Queued moves have not begun, Running ones have; Done is how many have
	// ended since the node that answers started.
	Queued, Running, Done int
	// Bytes were pulled for moves since the members started, at Rate a second
	// lately.
	Bytes, Rate uint64
	// Seconds until nothing is left to move, as an estimate; 0 is unknown.
	Seconds float64
	// Moves are those of the record, sorted by partition.
	Moves []MoveStatus
}

// MoveStatus is one move.
type MoveStatus struct {
	Partition ring.Partition
	Slot      uint8       // which home of the partition moves, from 0
	From, To  ring.NodeID // no From adds a slot, no To takes it away
	// Phase is plan, dual, read-new or back.
	Phase string
	// Keys and Bytes were pulled in this phase. Of is about how many keys the
	// source holds; 0 is unknown. Where little is missing, only that is pulled.
	Keys, Bytes, Of uint64
	// Waits says why the move does not go on; empty if it does.
	Waits string
}

// HistoryRequest asks for what has changed.
type HistoryRequest struct{}

// HistoryResponse has the latest changes that the node that answers has adopted,
// oldest first.
type HistoryResponse struct {
	Changes []RingChange // one for each record
}

// RingChange is one record's.
type RingChange struct {
	Epoch uint64 `json:"epoch"` // of the record
	// Time is when the node that answers adopted it, in milliseconds since
	// 1970.
	Time int64 `json:"time"`
	// Said are lines for people.
	Said []string `json:"said"`
}
