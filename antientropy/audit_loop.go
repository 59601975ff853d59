package antientropy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

const (
	// auditSlices is in how many parts the partitions are audited within
	// Config.AuditEvery.
	auditSlices = 16
	// auditBatch is how many roots go into one message.
	auditBatch = 64
	// problemsMax bounds the sentences of a response.
	problemsMax = 100
)

// auditSoon has a partition audited with all homes that can be reached, without
// waiting for its turn. It never blocks.
func (r *Repair) auditSoon(p ring.Partition) {
	a := &r.auditing
	a.mu.Lock()
	a.urgent[p] = struct{}{}
	a.mu.Unlock()
	a.soon.up()
}

// takeUrgent gives and forgets the urgent partitions, sorted.
func (a *auditing) takeUrgent() []ring.Partition {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]ring.Partition, 0, len(a.urgent))
	for p := range a.urgent {
		out = append(out, p)
	}
	clear(a.urgent)
	slices.Sort(out)
	return out
}

// auditLoop audits every partition of this node with every other home of it once in
// Config.AuditEvery, urgent ones at once, and those that an operator asks for. It
// ends with ctx.
func (r *Repair) auditLoop(ctx context.Context) error {
	var jobs sync.WaitGroup
	defer jobs.Wait()
	jobs.Go(func() { r.jobLoop(ctx) })
	chance := rand.New(rand.NewPCG(r.cfg.Seed, 0x6175646974)) // "audit"
	for slice := 0; ; slice = (slice + 1) % auditSlices {
		wait := r.cfg.AuditEvery / auditSlices
		wait = wait*3/4 + time.Duration(chance.Int64N(int64(wait/2)+1))
		turn := time.NewTimer(wait)
		for due := false; !due; {
			// After a long audit both may have come; what is urgent goes first,
			// always, so that simulations replay.
			select {
			case <-r.auditing.soon:
				r.auditUrgent(ctx)
				continue
			default:
			}
			select {
			case <-ctx.Done():
				turn.Stop()
				return ctx.Err()
			case <-r.auditing.soon:
				r.auditUrgent(ctx)
			case <-turn.C:
				due = true
			}
		}
		var some []ring.Partition
		for i, p := range r.mine() {
			if i%auditSlices == slice {
				some = append(some, p)
			}
		}
		r.auditAll(ctx, some, nil)
	}
}

// auditUrgent audits what is urgent and what is due, when all has been named that
// becomes so at once.
func (r *Repair) auditUrgent(ctx context.Context) {
	if r.aside(ctx, "urgent", r.cfg.Self) != nil {
		return
	}
	r.auditAll(ctx, r.auditing.takeUrgent(), nil)
	due := r.auditing.takeDue()
	for _, id := range sortedIDs(due) {
		some := slices.DeleteFunc(slices.Sorted(maps.Keys(due[id])), func(p ring.Partition) bool {
			rec := r.current()
			return rec.HomeIndex(p, r.cfg.Self) < 0 || rec.HomeIndex(p, id) < 0
		})
		r.auditBatches(ctx, id, some, func(batch []ring.Partition, out auditOutcome, err error) {
			again := batch
			if err == nil {
				again = nil
				for _, s := range out.Skipped {
					again = append(again, s.p)
				}
			}
			for _, p := range again {
				r.auditing.owe(id, p)
			}
		})
	}
}

// mine are the partitions that this node is a home of, in order.
func (r *Repair) mine() []ring.Partition {
	rec := r.current()
	if rec == nil {
		return nil
	}
	var out []ring.Partition
	for p := range ring.Partition(rec.Partitions) {
		if rec.HomeIndex(p, r.cfg.Self) >= 0 {
			out = append(out, p)
		}
	}
	return out
}

// auditAll audits partitions with every other home of them, all homes at the same
// time. report is told, from any goroutine, what came of each batch with one home.
func (r *Repair) auditAll(ctx context.Context, partitions []ring.Partition, report func([]ring.Partition, auditOutcome, error)) {
	rec := r.current()
	if rec == nil {
		return
	}
	by := map[ring.NodeID][]ring.Partition{}
	for _, p := range partitions {
		if rec.HomeIndex(p, r.cfg.Self) < 0 {
			continue
		}
		for _, id := range r.others(rec, p) {
			by[id] = append(by[id], p)
		}
	}
	var running sync.WaitGroup
	for _, m := range rec.Members { // sorted: simulations replay
		if len(by[m.ID]) > 0 {
			running.Go(func() { r.auditBatches(ctx, m.ID, by[m.ID], report) })
		}
	}
	running.Wait()
}

// auditBatches audits partitions with one home, some at a time.
func (r *Repair) auditBatches(ctx context.Context, with ring.NodeID, partitions []ring.Partition, report func([]ring.Partition, auditOutcome, error)) {
	for batch := range slices.Chunk(partitions, auditBatch) {
		var out auditOutcome
		err := ctx.Err()
		if err == nil && !r.reachable(with) {
			err = fmt.Errorf("%s: %w", r.nameOf(with), rpc.ErrUnreachable)
		}
		if err == nil {
			out, err = r.auditWith(ctx, with, batch, false)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Debug("audit", "with", with.Short(), "error", err)
		}
		if report != nil {
			report(batch, out, err)
		}
	}
}

// nameOf is what people call a member.
func (r *Repair) nameOf(id ring.NodeID) string {
	if rec := r.cfg.Rings.Current(); rec != nil {
		if m := rec.Member(id); m != nil && m.Name != "" {
			return m.Name + " (" + id.Short() + ")"
		}
	}
	return id.Short()
}

// auditJob is an audit that an operator asked for.
type auditJob struct {
	partitions []ring.Partition

	mu       sync.Mutex // guards what follows
	began    time.Time
	response api.RepairResponse
	left     map[ring.Partition]int // homes to audit with
	failed   map[ring.Partition]bool
}

// errPartition says that a partition cannot be audited here.
var errPartition = errors.New("no audit of this partition here")

// Audit implements Engine. partition is a number below the ring's, of which this
// node is a home, or api.AllPartitions.
func (r *Repair) Audit(partition int) (api.RepairResponse, error) {
	rec := r.current()
	if rec == nil {
		return api.RepairResponse{}, fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	partitions := r.mine()
	if partition != api.AllPartitions {
		if partition < 0 || partition >= rec.Partitions {
			return api.RepairResponse{}, fmt.Errorf("%w: %w: %d, want 0 to %d", api.ErrBadRequest, errPartition, partition, rec.Partitions-1)
		}
		if rec.HomeIndex(ring.Partition(partition), r.cfg.Self) < 0 {
			return api.RepairResponse{}, fmt.Errorf("%w: %w: partition %d at epoch %d", api.ErrNotHome, errPartition, partition, rec.Epoch)
		}
		partitions = []ring.Partition{ring.Partition(partition)}
	}
	a := &r.auditing
	a.mu.Lock()
	job := a.job
	if job == nil || !job.running() {
		job = newAuditJob(partitions, time.Now())
		a.job = job
		a.asked.up()
	}
	a.mu.Unlock()
	return job.progress(), nil
}

// Audited implements Engine.
func (r *Repair) Audited() api.RepairResponse {
	a := &r.auditing
	a.mu.Lock()
	job := a.job
	a.mu.Unlock()
	if job == nil {
		return api.RepairResponse{Anomalies: []string{}, Problems: []string{}}
	}
	return job.progress()
}

// jobLoop runs the jobs of operators, one at a time, until ctx ends.
func (r *Repair) jobLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.auditing.asked:
		}
		r.auditing.mu.Lock()
		job := r.auditing.job
		r.auditing.mu.Unlock()
		if rec := r.current(); rec != nil {
			job.expect(func(p ring.Partition) int { return len(r.others(rec, p)) })
		}
		r.auditAll(ctx, job.partitions, job.report)
		job.end(time.Now())
	}
}

func newAuditJob(partitions []ring.Partition, now time.Time) *auditJob {
	return &auditJob{
		partitions: partitions, began: now, left: map[ring.Partition]int{}, failed: map[ring.Partition]bool{},
		response: api.RepairResponse{Running: true, Partitions: len(partitions), Anomalies: []string{}, Problems: []string{}},
	}
}

func (j *auditJob) running() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.response.Running
}

// progress is how far the job is.
func (j *auditJob) progress() api.RepairResponse {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.response
	out.Anomalies, out.Problems = slices.Clone(out.Anomalies), slices.Clone(out.Problems)
	if out.Running {
		out.Millis = time.Since(j.began).Milliseconds()
	}
	return out
}

// expect says with how many homes each partition is audited.
func (j *auditJob) expect(homes func(ring.Partition) int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range j.partitions {
		if j.left[p] = homes(p); j.left[p] == 0 {
			j.response.Done++ // the only copy
		}
	}
}

// report takes what came of some partitions with one home.
func (j *auditJob) report(batch []ring.Partition, out auditOutcome, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := &j.response
	r.Differences += out.Differences
	r.Pulled += out.Pulled
	r.Pushed += out.Pushed
	r.Bytes += out.Bytes
	r.Anomalies = append(r.Anomalies, out.Anomalies[:min(len(out.Anomalies), anomaliesMax-len(r.Anomalies))]...)
	if err != nil {
		j.problem(err)
		for _, p := range batch {
			j.failed[p] = true
		}
	}
	for _, s := range out.Skipped {
		j.problem(s.why)
		j.failed[s.p] = true
	}
	for _, p := range batch {
		if j.left[p]--; j.left[p] > 0 {
			continue
		}
		r.Done++
		if j.failed[p] {
			r.Skipped++
		}
	}
}

// problem keeps a sentence once; mu is held.
func (j *auditJob) problem(err error) {
	if text := err.Error(); len(j.response.Problems) < problemsMax && !slices.Contains(j.response.Problems, text) {
		j.response.Problems = append(j.response.Problems, text)
	}
}

// end closes the job. What it did not get to counts as skipped.
func (j *auditJob) end(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.response.Skipped += j.response.Partitions - j.response.Done
	j.response.Running = false
	j.response.Millis = now.Sub(j.began).Milliseconds()
}
