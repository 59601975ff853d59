package kv

import (
	"time"

	"github.com/kithdb/kith/quorum"
)

// prefer orders the homes: this node first, then the reachable ones by their
// latency, then the others; o.mu is held.
func (o *getOp) prefer() {
	var rank, p95 [quorum.SeatsMax]time.Duration
	readers := 0
	for i, id := range o.homes {
		if !o.seats.Reads(i) {
			continue
		}
		o.order[readers] = uint8(i)
		readers++
		if id == o.c.cfg.Self {
			rank[i] = -1
			continue
		}
		rank[i], p95[i] = o.c.cfg.Circuits.Latency(id)
		if !o.c.Reachable(id) {
			rank[i], p95[i] = time.Hour, 0
		}
	}
	order := o.order[:readers]
	for i := 1; i < len(order); i++ {
		for j := i; j > 0 && rank[order[j]] < rank[order[j-1]]; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	late := hedgeMin
	for _, i := range order[:o.need] { // who is asked first
		late = max(late, p95[i])
	}
	o.hedgeAt = time.Now().Add(late)
}
