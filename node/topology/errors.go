package topology

import (
	"errors"
	"fmt"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/rpc"
)

// Why a record or a request was refused. All but ErrUnconfirmed, ErrFounderLost
// and ErrReplace cross the wire.
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

	// ErrUnconfirmed: the change is decided and will stand, but a majority
	// of the new keepers is not known to store it yet.
	ErrUnconfirmed = errors.New("decided, but not known to be stored by a majority of the keepers")
	// ErrFounderLost: this node has founded a cluster of a name that is in
	// use.
	ErrFounderLost = errors.New("a cluster of this name exists already")
	// ErrReplace: this node cannot take the place of the member that it was
	// told to replace, and never will.
	ErrReplace = errors.New("cannot take the place")
)

// errClient answers who is no node and would change the ring.
var errClient = fmt.Errorf("%w: it came from a client, not from a node", ErrBadProposal)

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
}
