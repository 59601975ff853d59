package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// fieldsOf lists the names of a document's fields, those of nested objects with
// dots.
func fieldsOf(t *testing.T, doc []byte) string {
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				names[prefix+k] = true
				walk(prefix+k+".", x)
			}
		case []any:
			for _, x := range v {
				walk(prefix, x)
			}
		}
	}
	walk("", v)
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}

func TestJSONFieldNamesAreAContract(t *testing.T) {
	result := client.Result{
		Value:    []byte("v"),
		Expires:  time.Unix(1, 0),
		Siblings: []client.Sibling{{Value: []byte("v"), Winner: true, Expires: time.Unix(1, 0)}, {Value: []byte{0xff}}, {Deleted: true}},
		Context:  client.Context("c"),
		Receipt:  client.Receipt{Answered: []ring.NodeID{{1}}},
	}
	// Every partition is about to move from the one member to the other.
	record := then(t)(testRing(t, 4, 1, "").WithSuccessor(ring.NodeID{1}, ring.Member{ID: ring.NodeID{2}}))
	status := &client.Status{Reason: "r", Members: []client.MemberStatus{{}}}
	for _, tc := range []struct {
		name string
		doc  func(a *app) error
		want string
	}{
		{"get", func(a *app) error { return a.writeJSON(gotOf([]byte("k"), true, result)) },
			"context expires found key receipt receipt.answered receipt.coordinator receipt.epoch receipt.got receipt.need receipt.repaired " +
				"receipt.siblings receipt.sloppy schema siblings siblings.deleted siblings.expires siblings.time siblings.value siblings.value_base64 siblings.winner value"},
		{"get of bytes", func(a *app) error {
			return a.writeJSON(gotOf([]byte{0xff}, true, client.Result{Value: []byte{0xfe}}))
		},
			"context found key_base64 receipt receipt.answered receipt.coordinator receipt.epoch receipt.got receipt.need receipt.repaired " +
				"receipt.siblings receipt.sloppy schema siblings value_base64"},
		{"status", func(a *app) error { return a.printStatus(status) },
			"cluster cluster_id epoch members members.address members.clock_offset members.disk members.epoch members.gossip members.homes " +
				"members.id members.keeper members.keys members.membership members.moves_in members.moves_out members.name members.problems members.reachable members.records " +
				"members.repair members.repair.anomalies members.repair.audited members.repair.behind members.repair.closed members.repair.closing members.repair.differences members.repair.eta " +
				"members.repair.forgotten members.repair.homes members.repair.lossy members.repair.missing members.repair.pulled_bytes " +
				"members.repair.pulled_keys members.repair.rotten members.repair.scans members.repair.scrubbed members.repair.stand_in_bytes members.repair.stand_ins " +
				"members.repair.tombstones members.state members.syncs members.version members.zone " +
				"node partitions ready reason replicas schema"},
		{"inspect", func(a *app) error {
			dots := []api.DotInfo{{}}
			return a.printInspect([]byte("k"), &client.Inspection{Why: []string{""}, Copies: []client.InspectedCopy{
				{StandsInFor: "h", Error: "e", Digest: "d", Seen: dots, Incorporated: dots, Siblings: []client.InspectedSibling{{Digest: "d"}}},
			}})
		}, "copies copies.counts_for_read copies.digest copies.error copies.found copies.incorporated copies.incorporated.actor " +
			"copies.incorporated.seq copies.member copies.name copies.seen copies.seen.actor copies.seen.seq copies.siblings " +
			"copies.siblings.actor copies.siblings.expired copies.siblings.expiry copies.siblings.seq copies.siblings.size " +
			"copies.siblings.stamp copies.siblings.tombstone copies.siblings.value_digest copies.siblings.written " +
			"copies.stands_in_for epoch equal key partition schema slot why"},
		{"why", func(a *app) error { return a.printWhy([]byte("k"), &client.Inspection{Why: []string{""}}) },
			"equal key schema why"},
		{"ring", func(a *app) error { return a.printRing(client.RingView{Record: record}) },
			"bounds bounds.balanced bounds.distinct bounds.farthest bounds.farthest_slots bounds.join_bound bounds.join_slots bounds.least bounds.slots bounds.zones_uneven " +
				"cluster cluster_id epoch members members.first members.homes members.id members.keeper members.name members.quota members.state members.weight members.zone " +
				"partitions replicas schema"},
		{"ring of a key", func(a *app) error { return a.printHomes(client.RingView{Record: record}, []byte("k")) },
			"epoch homes homes.address homes.alive homes.id homes.name homes.zone key move move.from move.phase move.slot move.to partition schema slot"},
		{"changes of the ring", func(a *app) error {
			return a.writeJSON(changeJSON{"", "replace", "m", "w", 1, "done", withSaid(&client.RingOutcome{}), true})
		},
			"changed epoch member number outcome said schema verb waited with"},
		{"ring plan", func(a *app) error {
			return a.printPlan(&client.RingRequest{Member: "m", With: "w", Number: 1}, &client.RingPlan{Members: []api.MemberPlan{{}}})
		},
			"bytes epoch farthest_now farthest_then least member members members.id members.in members.name members.now members.out members.quota members.state " +
				"members.then members.weight members.zone number schema seconds slots verb with"},
		{"ring moves", func(a *app) error {
			return a.printMoves(&movesFlags{}, record, &client.RingMoves{Moves: []client.RingMove{{Waits: "w"}}})
		},
			"bytes done epoch moves moves.bytes moves.from moves.keys moves.of moves.partition moves.phase moves.slot moves.to moves.waits queued rate running schema seconds slots"},
		{"ring history", func(a *app) error { return a.printHistory(&client.RingHistory{Changes: []api.RingChange{{}}}) },
			"changes changes.epoch changes.said changes.time schema"},
		{"doctor", func(a *app) error { return a.printFindings([]finding{{"c", true, "w", "d"}}) },
			"findings findings.check findings.do findings.ok findings.what ok schema"},
		{"import", func(a *app) error { return a.printImport(importSummary{}) },
			"done records refused schema seconds unknown"},
		{"bench", func(a *app) error { return a.printBench(&benchReport{Errors: map[string]int64{"UNKNOWN": 1}}) },
			"client_cpu_seconds concurrency connections dist errors errors.UNKNOWN keys operations r read_share reads reads.count reads.max reads.mean " +
				"reads.p50 reads.p95 reads.p99 reads.p999 schema seconds size throughput w writes writes.count writes.max writes.mean writes.p50 writes.p95 writes.p99 writes.p999"},
		{"version", func(a *app) error {
			b := build()
			b.Revision = "r"
			return a.writeJSON(b)
		}, "go modified platform revision schema version"},
	} {
		var out bytes.Buffer
		a := &app{out: &out, format: formatJSON}
		if err := tc.doc(a); err != nil {
			t.Fatal(err)
		}
		if got := fieldsOf(t, out.Bytes()); got != tc.want {
			t.Errorf("%s has the fields\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}

// planned is a member's part of a plan.
func planned(now, then int, share float64) api.MemberPlan {
	return api.MemberPlan{ID: ring.NodeID{1}, Now: now, Then: then, Share: share}
}

func TestExitStatusesTellTheOutcomesApart(t *testing.T) {
	unmet := &quorum.UnmetError{Op: "put", Need: 2, Got: 1, Slots: 3, Homes: []quorum.HomeError{{ID: ring.NodeID{1}, Name: "b", Reason: "unreachable"}}}
	put := func(outcome client.Outcome, err error) error {
		return &client.Error{Op: "put", Key: []byte("k"), Outcome: outcome, Err: err}
	}
	for _, tc := range []struct {
		err    error
		status int
		says   string
	}{
		{nil, 0, ""},
		{errors.New("strange"), 1, "strange (UNEXPECTED)"},
		{usagef("wrong flag"), 2, "wrong flag (USAGE)"},
		{put(0, fmt.Errorf("value: %w", client.ErrTooLarge)), 2, "TOO_LARGE"},
		{put(0, client.ErrBadRequest), 2, "BAD_REQUEST"},
		{&client.Error{Op: "get", Key: []byte("k"), Err: client.ErrNotFound}, 3, `get "k": not found (NOT_FOUND)`},
		{put(0, client.ErrTooManySiblings), 4, "--context"},
		{&client.Error{Op: opChange, Err: fmt.Errorf("leave: %w", client.ErrRefused)}, 6, "nothing was changed"},
		{&client.Error{Op: opChange, Outcome: client.OutcomeUnknown, Err: errors.New("late")}, 5, "may or may not stand"},
		{put(client.OutcomeUnknown, fmt.Errorf("%w: %w", api.ErrUnknown, unmet)), 5, "b 01000000: unreachable"},
		{put(client.OutcomeUnknown, fmt.Errorf("%w: %w", api.ErrUnknown, context.DeadlineExceeded)), 5, "may or may not have been done"},
		{put(0, fmt.Errorf("%w: %w", api.ErrUnavailable, unmet)), 6, "nothing was written"},
		{put(0, client.ErrNotReady), 6, "NOT_READY"},
		{put(0, client.ErrStorage), 6, "STORAGE"},
		{put(0, rpc.ErrOverloaded), 8, "OVERLOADED"},
		{&exitError{exitWait, errors.New("not ready"), ""}, 124, "not ready"},
	} {
		var errs bytes.Buffer
		a := &app{errs: &errs}
		if got := a.exit(context.Background(), tc.err); got != tc.status || !strings.Contains(errs.String(), tc.says) {
			t.Errorf("%v: exit status %d, want %d; said %q, want %q", tc.err, got, tc.status, errs.String(), tc.says)
		}
	}
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	a := &app{errs: &bytes.Buffer{}}
	if got := a.exit(interrupted, put(0, context.Canceled)); got != 130 {
		t.Errorf("interrupted: %d", got)
	}
	if got := a.exit(interrupted, put(client.OutcomeUnknown, context.Canceled)); got != 5 {
		t.Errorf("interrupted while a write was under way: %d, want 5", got)
	}
}

func TestStatusShowsTroubleFirst(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, format: formatTable}
	err := a.printStatus(&client.Status{Cluster: "c", Reason: "two are missing", Members: []client.MemberStatus{
		{Name: "fine", ID: "0123456789", State: "ready", Reachable: true},
		{Name: "ill", State: "ready", Reachable: true, Problems: []string{"clock is 3h ahead"}},
		{Name: "gone", State: "unreachable"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	text := out.String()
	gone, ill, fine := strings.Index(text, "gone"), strings.Index(text, "ill "), strings.Index(text, "fine")
	if !(0 < gone && gone < ill && ill < fine) {
		t.Errorf("in the order %d, %d, %d:\n%s", gone, ill, fine, text)
	}
	for _, want := range []string{"NOT READY: two are missing", "2 of 3 members reachable", "ill: clock is 3h ahead"} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
}

func TestProgressIsLinesWhenNobodyWatches(t *testing.T) {
	var w bytes.Buffer
	done := 0.25
	p := &progress{w: &w, line: func() (string, float64) { return "5 done", done }}
	p.show()
	p.terminal = true
	p.show()
	done, p.terminal = -1, false
	p.show()
	want := " 25%  5 done\n" + "\r\x1b[K[######------------------]  25%  5 done" + "5 done\n"
	if w.String() != want {
		t.Errorf("got %q, want %q", w.String(), want)
	}
}

func TestSizesReadAsTheyAreShown(t *testing.T) {
	for _, n := range []int64{0, 1, 1023, 1 << 10, 3 << 20, 5 << 30, 1<<20 + 1} {
		s := sizeFlag(n)
		var again sizeFlag
		if err := again.Set(s.String()); err != nil || again != s {
			t.Errorf("%d is shown as %s and read as %d, %v", n, s.String(), again, err)
		}
	}
	for _, bad := range []string{"", "-1", "1GB", "9999999GiB", "1.5MiB", "KiB"} {
		if err := new(sizeFlag).Set(bad); err == nil {
			t.Errorf("%q is no size", bad)
		}
	}
}

func TestNextStepsCallTheProgramAsItWasCalled(t *testing.T) {
	for arg0, want := range map[string]string{
		"kith": "kith", "kith.exe": "kith", "./kith": "./kith", "bin/kith": "bin/kith", "/usr/bin/kith": "/usr/bin/kith",
	} {
		if got := typed(arg0); got != want {
			t.Errorf("%s: got %s, want %s", arg0, got, want)
		}
	}
}
