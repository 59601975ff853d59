package processes

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

const (
	// RepairMax is how long it may take after the last fault until all homes have
	// equal copies, though nobody reads a key.
	RepairMax = time.Minute
	// auditMax is how long one comparison of all copies may take.
	auditMax = time.Minute
	// forgetMax is how long it may take until what is deleted or expired is
	// forgotten: a minute, and then what searching and confirming takes.
	forgetMax = 4 * time.Minute
)

// inspect asks one node what all homes hold of a key. It reads nothing and repairs
// nothing.
func (p *play) inspect(via int, key string) (*client.Inspection, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen, err := p.direct[via].Inspect(ctx, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("inspect %q via %s: %w", key, p.names[via], err)
	}
	return seen, nil
}

// equal says which key has copies that differ, as one node sees it who reaches all
// homes, or who still keeps something for a home.
func (p *play) equal(via int) error {
	for _, key := range p.history.Keys() {
		seen, err := p.inspect(via, key)
		if err != nil {
			return err
		}
		if !seen.Equal || len(seen.Copies) != replicas {
			return fmt.Errorf("%d copies of %q: %s", len(seen.Copies), key, strings.Join(seen.Why, "; "))
		}
	}
	s, err := p.status(via)
	if err != nil {
		return err
	}
	for _, m := range s.Members {
		if m.Repair.StandIns > 0 || m.Repair.Missing > 0 || m.Repair.Behind > 0 {
			return fmt.Errorf("%s keeps %d records for other homes, lacks %d writes, and %d of its partitions are behind",
				m.Name, m.Repair.StandIns, m.Repair.Missing, m.Repair.Behind)
		}
	}
	return nil
}

// repaired waits until copies are equal, without a read.
func (p *play) repaired(name string, via int) error {
	return p.until(name, RepairMax, func() error { return p.equal(via) })
}

// audited has every node compare the roots of all its partitions with those of
// their other homes, and wants them to be equal.
func (p *play) audited(name string) error {
	started := make([]bool, len(p.names))
	differences, skipped := int64(0), 0
	var said []string
	err := p.until(name, auditMax, func() error {
		differences, skipped, said = 0, 0, nil
		for i, node := range p.names {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			ask := p.direct[i].Repaired
			if !started[i] {
				ask = func(ctx context.Context) (*client.RepairProgress, error) {
					return p.direct[i].StartRepair(ctx, client.AllPartitions)
				}
			}
			progress, err := ask(ctx)
			cancel()
			if err != nil {
				return fmt.Errorf("audit at %s: %w", node, err)
			}
			started[i] = true
			if progress.Running {
				return fmt.Errorf("%s has audited %d of %d partitions", node, progress.Done, progress.Partitions)
			}
			differences += progress.Differences
			skipped += progress.Skipped
			said = append(append(said, progress.Anomalies...), progress.Problems...)
		}
		return nil
	})
	p.check("all roots are equal when "+name, err == nil && differences == 0 && skipped == 0 && len(said) == 0,
		"%d keys differ, %d partitions were skipped: %s", differences, skipped, strings.Join(said, "; "))
	return err
}

// shown reads the copies of all homes, one by one, and wants them to be what became
// of each key, and what the oracle has.
func (p *play) shown(when string, fates []*fate, want func(k *kind) string) error {
	final, err := sim.ReadHomes(p.history, p.readers(), p.homes, settleMax)
	p.check("all homes show the same "+when, err == nil, "%s", text(err))
	if err != nil {
		return err
	}
	for promise, broken := range sim.Judge(p.history, final) {
		p.check(fmt.Sprintf("%s, %s", promise, when), false, "%s", text(broken.Err))
		p.key = broken.Key
	}
	for _, f := range fates {
		got, wanted := f.shows(final[f.key]), want(f.kind)
		p.answered(Question{when, f.kind.name, "what all homes show"}, answer(got), answer(wanted), f.key)
	}
	return nil
}

// readers are clients of every node whose reads are no part of the history.
func (p *play) readers() []*sim.Client {
	readers := make([]*sim.Client, len(p.names))
	for i, c := range p.direct {
		readers[i] = sim.Record(c.Client, p.names[i], nil)
	}
	return readers
}

// forgotten waits until no home has a record any more of what nobody can read.
func (p *play) forgotten(via int, fates []*fate) error {
	return p.until("forgotten", forgetMax, func() error {
		for _, f := range fates {
			if f.kind.finally() != nobodys {
				continue
			}
			seen, err := p.inspect(via, f.key)
			if err != nil {
				return err
			}
			for _, c := range seen.Copies {
				if c.Found || c.Error != "" {
					return fmt.Errorf("%s still has %q, which is dead (%s)", c.Name, f.key, c.Error)
				}
			}
		}
		s, err := p.status(via)
		if err != nil {
			return err
		}
		for _, m := range s.Members {
			if m.Repair.Tombstones > 0 {
				return fmt.Errorf("%s waits with %d dead records: %s", m.Name, m.Repair.Tombstones, strings.Join(m.Repair.Blocked, "; "))
			}
		}
		return nil
	})
}

// mendedWithoutSurprise wants catch-up to have brought everything: what only an
// audit found is an anomaly, and named.
func (p *play) mendedWithoutSurprise(via int) error {
	s, err := p.status(via)
	if err != nil {
		return err
	}
	for _, m := range s.Members {
		p.check(m.Name+" has met no anomaly", m.Repair.Anomalies == 0, "%d: %s", m.Repair.Anomalies, m.Repair.LastAnomaly)
	}
	return nil
}
