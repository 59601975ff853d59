package node

import (
	"fmt"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// replicas is the wish that every key has so many homes.
func replicas(number int) (wish, error) {
	if number < 1 || number > ring.ReplicasMax {
		return nil, fmt.Errorf("%w: %d replicas: a key has 1 to %d homes", api.ErrBadRequest, number, ring.ReplicasMax)
	}
	return func(r *ring.Record) (*ring.Record, error) {
		active := 0
		for i := range r.Members {
			if r.Members[i].State == ring.Active {
				active++
			}
		}
		if active < number {
			return nil, refused("%d homes of each key need as many active members, and there are %d: first start another server with --join, or have one on standby join (kith join)", number, active)
		}
		return r.WithReplicas(number)
	}, nil
}

// fewerOrMore is the wish that a change of the number of homes is taken back; nil if
// none is under way that could be.
func fewerOrMore(r *ring.Record) wish {
	before := r.Before
	if before == 0 || before == r.Replicas {
		return nil
	}
	return func(r *ring.Record) (*ring.Record, error) {
		if r.Before == 0 && r.Replicas != before {
			return nil, refused("every key has %d homes by now: the change has come to its end; kith replicas %d sets it back", r.Replicas, before)
		}
		w, err := replicas(before)
		if err != nil {
			return nil, err
		}
		return w(r)
	}
}
