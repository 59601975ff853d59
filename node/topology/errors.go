package topology

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Why a record or a request was refused. All but ErrUnconfirmed, ErrForced,
// ErrForcing, ErrFounderLost and ErrReplace cross the wire.
var (
	// ErrNotJoined: the node holds no ring record yet.
	ErrNotJoined = errors.New("not a member of any cluster yet")
	// ErrOtherCluster: the record or the peer belongs to another cluster.
	ErrOtherCluster = errors.New("another cluster")
	// ErrDiverged: two different records claim to be decided for one epoch,
	// or one does not follow the one before it. Never seen where the disks
	// keep what they synced.
	ErrDiverged = errors.New("ring records have diverged")
	// ErrNotKeeper: a vote was asked of a node that has none.
	ErrNotKeeper = errors.New("not a keeper of this epoch")
	// ErrAbstains: the keeper's disk lost data, perhaps a vote with it.
	ErrAbstains = errors.New("keeper has lost data and does not vote")
	// ErrBadProposal: the request for a vote breaks a rule that the message
	// names.
	ErrBadProposal = errors.New("bad proposal")
	// ErrPledged: the member takes part in forcing the ring, and does nothing
	// that would contradict it. It ends once that is repeated and done.
	ErrPledged = errors.New("pledged to a forced ring")

	// ErrUnconfirmed: the change is decided and will stand, but a majority
	// of the new keepers is not known to store it yet.
	ErrUnconfirmed = errors.New("decided, but not known to be stored by a majority of the keepers")
	// ErrForced: the ring may not be forced so; the message says why. Nothing was
	// changed.
	ErrForced = errors.New("the ring is not forced")
	// ErrForcing: some of the survivors have accepted the forced record, and not
	// all are known to. Nobody else can change the ring until that is repeated.
	ErrForcing = errors.New("the ring is being forced, and that has to be repeated")
	// ErrFounderLost: this node has founded a cluster of a name that is in
	// use.
	ErrFounderLost = errors.New("a cluster of this name exists already")
	// ErrReplace: this node cannot take the place of the member that it was
	// told to replace, and never will.
	ErrReplace = errors.New("cannot take the place")
)

// errClient answers who is no node and would change the ring.
var errClient = fmt.Errorf("%w: it came from a client, not from a node", ErrBadProposal)

// MissingError says which keepers have not voted where too few did.
type MissingError struct {
	// Names of those who are missing, of so many Keepers.
	Names   []string
	Keepers int
	// Survivors are the names of the members that can be reached, sorted.
	Survivors []string
	err       error
}

// Error names them.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%d of %d keepers do not vote: %s: %v", len(e.Names), e.Keepers, strings.Join(e.Names, ", "), e.err)
}

// Unwrap gives the cause.
func (e *MissingError) Unwrap() error { return e.err }

// withMissing has an error of a proposal name the keepers that did not vote, if that is
// why it failed.
func (t *Topology) withMissing(r *ring.Record, err error) error {
	var undecided *paxos.UndecidedError
	if !errors.As(err, &undecided) || len(undecided.Acceptors) != len(r.Keepers) {
		return err
	}
	var missing []ring.NodeID
	for i, failed := range undecided.Acceptors {
		if failed != nil {
			missing = append(missing, r.Keepers[i])
		}
	}
	if 2*len(missing) < len(r.Keepers) {
		return err
	}
	e := &MissingError{Names: memberNames(r, missing), Keepers: len(r.Keepers), err: err}
	view := t.cfg.Membership.View()
	for i := range r.Members {
		id := r.Members[i].ID
		if p := view.Peer(id); id == t.cfg.Self.ID || p != nil && p.Alive && t.cfg.Reached(id) && !slices.Contains(missing, id) {
			e.Survivors = append(e.Survivors, memberNames(r, []ring.NodeID{id})...)
		}
	}
	slices.Sort(e.Names)
	slices.Sort(e.Survivors)
	return e
}

// Unsent says of an error of Propose that too few keepers answered for any of them to
// be asked to accept the change: it will not come to stand.
func Unsent(err error) bool {
	var undecided *paxos.UndecidedError
	return errors.As(err, &undecided) && !undecided.Sent
}

func init() {
	rpc.RegisterError(200, ErrNotJoined)
	rpc.RegisterError(201, ErrOtherCluster)
	rpc.RegisterError(202, ErrDiverged)
	rpc.RegisterError(203, ErrNotKeeper)
	rpc.RegisterError(204, ErrAbstains)
	rpc.RegisterError(205, ErrBadProposal)
	rpc.RegisterError(206, ErrPledged)
}
