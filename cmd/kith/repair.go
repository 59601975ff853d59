package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

const (
	// repairPause lies between two looks at an audit.
	repairPause = 500 * time.Millisecond
	// repairLook bounds one look at one member.
	repairLook = 5 * time.Second
	// repairPatience is how many looks in a row may fail before a member counts
	// as lost on the way.
	repairPatience = 5
)

// repairFlags are those of repair.
type repairFlags struct {
	partition int
	wait      bool
}

func (a *app) repairCommand() *cobra.Command {
	f := &repairFlags{}
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Compare all copies now, and mend what differs",
		Long: `Have every member compare its copies with those of the other homes now, and
mend what differs. Copies are compared and mended all the time without this; it is
for those who want to be sure, or who want to see it.

Each member counts what it has seen: a key that differs between two members is
counted by both. An anomaly is a difference that should have been mended before.

With --wait, wait until all are done, as long as it takes or until --timeout if
that is given, and then show a summary. The exit status is 9 if members could not
be asked or partitions were skipped, because a home of theirs is away or is still
being filled.`,
		Example: `  kith repair
  kith repair --wait
  kith repair --partition 17 --wait --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.partition < client.AllPartitions || f.partition >= ring.SlotCount {
				return usagef("--partition %d: want 0 to %d", f.partition, ring.SlotCount-1)
			}
			ctx := cmd.Context()
			if f.wait && cmd.Flags().Changed("timeout") {
				limited, cancel := context.WithTimeout(ctx, a.timeout)
				defer cancel()
				ctx = limited
			}
			return a.repair(ctx, f)
		},
	}
	cmd.Flags().IntVar(&f.partition, "partition", client.AllPartitions, "only this partition; -1 is all")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until all are done")
	return cmd
}

// repairing is one member's audit as scripts see it.
type repairing struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Address string `json:"address"`
	// Error says why the member could not be asked, or no more.
	Error string `json:"error,omitempty"`
	*client.RepairProgress

	client   *client.Client
	failures int
}

// repairJSON is the document of repair.
type repairJSON struct {
	Schema    string                `json:"schema"`
	Partition int                   `json:"partition"` // -1 is all
	Waited    bool                  `json:"waited"`
	Complete  bool                  `json:"complete"` // nobody was missing, nothing was skipped
	Total     client.RepairProgress `json:"total"`
	Members   []*repairing          `json:"members"`
}

func (a *app) repair(ctx context.Context, f *repairFlags) error {
	members, err := a.repairers(ctx, f.partition)
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range members {
			if m.client != nil {
				m.client.Close()
			}
		}
	}()
	each(members, func(m *repairing) { a.startRepair(ctx, m, f.partition) })
	if f.wait {
		if err := a.waitRepair(ctx, members); err != nil {
			return err
		}
	}
	return a.printRepair(f, members)
}

// each does something for all members at once.
func each(members []*repairing, do func(*repairing)) {
	var all sync.WaitGroup
	for _, m := range members {
		all.Go(func() { do(m) })
	}
	all.Wait()
}

// repairers are the members that have copies to compare, sorted by name.
func (a *app) repairers(ctx context.Context, partition int) ([]*repairing, error) {
	st, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	if partition >= st.Partitions && st.Partitions > 0 {
		return nil, usagef("--partition %d: the cluster has 0 to %d", partition, st.Partitions-1)
	}
	homes, err := a.homeIDs(ctx, partition)
	if err != nil {
		return nil, err
	}
	var out []*repairing
	for _, s := range st.Members {
		if s.Homes == 0 || homes != nil && !slices.Contains(homes, s.ID) {
			continue
		}
		m := &repairing{Name: cmp.Or(s.Name, s.ID[:min(8, len(s.ID))]), ID: s.ID, Address: s.Address, RepairProgress: new(client.RepairProgress)}
		if !s.Reachable || s.Address == "" {
			m.Error = "cannot be reached"
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("repair: no member has copies yet: %w", client.ErrNotReady)
	}
	slices.SortFunc(out, func(x, y *repairing) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return out, nil
}

// homeIDs are the homes of one partition; nil stands for all.
func (a *app) homeIDs(ctx context.Context, partition int) ([]string, error) {
	if partition == client.AllPartitions {
		return nil, nil
	}
	view, err := a.ringView(ctx)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, id := range view.Record.Homes(ring.Partition(partition)) {
		ids = append(ids, id.String())
	}
	return ids, nil
}

func (a *app) startRepair(ctx context.Context, m *repairing, partition int) {
	if m.Error != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, repairLook)
	defer cancel()
	var err error
	m.client, err = client.Dial(ctx, []string{m.Address}, client.Direct(), client.WithTimeout(repairLook))
	var now *client.RepairProgress
	if err == nil {
		now, err = m.client.StartRepair(ctx, partition)
	}
	if err != nil {
		m.Error = err.Error()
		return
	}
	m.RepairProgress = now
}

// waitRepair looks until nobody works any more.
func (a *app) waitRepair(ctx context.Context, members []*repairing) error {
	begun := time.Now()
	var mu sync.Mutex // guards shown
	shown := totalOf(members)
	p := a.watch(func() (string, float64) {
		mu.Lock()
		defer mu.Unlock()
		return repairLine(&shown, time.Since(begun))
	})
	defer p.close()
	for slices.ContainsFunc(members, working) {
		t := time.NewTimer(repairPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return &exitError{exitWait, fmt.Errorf("not done after %v; the audit goes on without this command", a.timeout), "see kith repair"}
		}
		each(members, func(m *repairing) { m.look(ctx) })
		mu.Lock()
		shown = totalOf(members)
		mu.Unlock()
	}
	return nil
}

func working(m *repairing) bool { return m.Error == "" && m.Running }

// look asks how far the member is.
func (m *repairing) look(ctx context.Context) {
	if !working(m) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, repairLook)
	defer cancel()
	now, err := m.client.Repaired(ctx)
	switch {
	case err == nil:
		m.RepairProgress, m.failures = now, 0
	case m.failures >= repairPatience:
		m.Error = "does not answer any more: " + err.Error()
	default:
		m.failures++
	}
}

// totalOf adds up all members.
func totalOf(members []*repairing) client.RepairProgress {
	sum := client.RepairProgress{Anomalies: []string{}, Problems: []string{}}
	for _, m := range members {
		sum.Running = sum.Running || m.Error == "" && m.Running
		sum.Partitions += m.Partitions
		sum.Done += m.Done
		sum.Skipped += m.Skipped
		sum.Differences += m.Differences
		sum.Pulled += m.Pulled
		sum.Pushed += m.Pushed
		sum.Bytes += m.Bytes
		sum.Millis = max(sum.Millis, m.Millis)
		sum.Anomalies = append(sum.Anomalies, m.Anomalies...)
		sum.Problems = append(sum.Problems, m.Problems...)
	}
	return sum
}

// repairLine is progress for people.
func repairLine(p *client.RepairProgress, since time.Duration) (string, float64) {
	text := fmt.Sprintf("%d of %d partitions compared, %d keys differed, %s moved", p.Done, p.Partitions, p.Differences, byteSize(p.Bytes))
	if p.Partitions == 0 {
		return text, -1
	}
	done := float64(p.Done) / float64(p.Partitions)
	if p.Done > 0 && p.Done < p.Partitions {
		text += ", about " + duration(time.Duration(float64(since)*(1-done)/done).Round(time.Second)) + " left"
	}
	return text, done
}

func (a *app) printRepair(f *repairFlags, members []*repairing) error {
	sum, missing := totalOf(members), 0
	for _, m := range members {
		if m.Error != "" {
			missing++
		}
	}
	complete := missing == 0 && sum.Skipped == 0
	var err error
	if a.format == formatJSON {
		for _, m := range members {
			if m.Anomalies == nil {
				m.Anomalies = []string{}
			}
			if m.Problems == nil {
				m.Problems = []string{}
			}
		}
		err = a.writeJSON(repairJSON{"repair/v1", f.partition, f.wait, complete, sum, members})
	} else {
		err = a.repairTable(f, members, &sum)
	}
	if err != nil || complete {
		return err
	}
	return &exitError{exitBroken, fmt.Errorf("not all was compared: %d members could not be asked, %d partitions were skipped", missing, sum.Skipped),
		"see kith status, and try again when all members are ready"}
}

func (a *app) repairTable(f *repairFlags, members []*repairing, sum *client.RepairProgress) error {
	rows := [][]string{{"MEMBER", "STATE", "PARTITIONS", "COMPARED", "SKIPPED", "DIFFERED", "PULLED", "PUSHED", "BYTES", "TOOK"}}
	row := func(name, state string, p *client.RepairProgress) {
		rows = append(rows, []string{name, state, fmt.Sprint(p.Partitions), fmt.Sprint(p.Done), fmt.Sprint(p.Skipped),
			fmt.Sprint(p.Differences), fmt.Sprint(p.Pulled), fmt.Sprint(p.Pushed), byteSize(p.Bytes), duration(time.Duration(p.Millis) * time.Millisecond)})
	}
	for _, m := range members {
		state := "done"
		switch {
		case m.Error != "":
			state = "missing"
		case m.Running:
			state = "running"
		}
		row(m.Name, state, m.RepairProgress)
	}
	if len(members) > 1 {
		row("all", "", sum)
	}
	if err := a.table(rows); err != nil {
		return err
	}
	for _, m := range members {
		if m.Error != "" {
			fmt.Fprintf(a.out, "%s: %s\n", m.Name, m.Error)
		}
		for _, why := range m.Problems {
			fmt.Fprintf(a.out, "%s: skipped: %s\n", m.Name, why)
		}
		for _, why := range m.Anomalies {
			fmt.Fprintf(a.out, "%s: anomaly: %s\n", m.Name, why)
		}
	}
	if sum.Running && !f.wait {
		a.hint("the audit goes on; kith repair --wait joins it and shows how it ends")
	}
	return nil
}
