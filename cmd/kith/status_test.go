package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// members makes a status of one member for each state.
func members(states ...string) *client.Status {
	st := &client.Status{Ready: true}
	for i, s := range states {
		st.Members = append(st.Members, client.MemberStatus{Name: "n" + string(rune('1'+i)), State: s, Reachable: s != "unreachable" && s != "lost"})
	}
	return st
}

func TestWaitingForReadyWaitsForAllWhoCanBeReached(t *testing.T) {
	for _, tc := range []struct {
		st   *client.Status
		want string
	}{
		{members("ready", "ready", "standby"), ""},
		{members("ready", "unreachable", "lost"), ""},
		{members("ready", "catching-up"), "n2 is catching-up"},
		{members("recovering", "starting", "ready"), "n1 is recovering, n2 is starting"},
		{members("ready", "failed"), "n2 is failed"},
		{&client.Status{Reason: "no quorum"}, "no quorum"},
		{&client.Status{}, "not ready"},
	} {
		if got := unready(tc.st); got != tc.want {
			t.Errorf("%+v: waits for %q, want %q", tc.st.Members, got, tc.want)
		}
	}
}

func TestProgressOfCatchingUpAddsUpWhoLacksSomething(t *testing.T) {
	st := members("ready", "catching-up", "catching-up", "unreachable")
	for i := range st.Members {
		r := &st.Members[i].Repair
		r.Homes, r.ETA, r.PulledKeys, r.PulledBytes, r.Missing = 100, 7, 50, 1<<20, 9
		if i > 0 {
			r.Behind = 30
		}
		if i == 2 {
			r.Behind, r.Lossy = 100, 30
		}
	}
	text, done := catchingUp(st)
	for _, want := range []string{"60 of 300 copies", "100 keys (2.0 MiB) fetched", "18 writes missing", "about 7s left"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if done != 0.8 {
		t.Errorf("%v done, want 0.8", done)
	}
	st.Members[1].Repair.ETA = -1
	if text, _ = catchingUp(st); strings.Contains(text, "left") {
		t.Errorf("%q says how long it takes, and one member does not know", text)
	}
	if text, done := catchingUp(members("ready", "recovering")); done >= 0 || text != "n2 is recovering" {
		t.Errorf("nobody lacks anything, and progress is %q, %v", text, done)
	}
	if text, done := catchingUp(nil); done >= 0 || text == "" {
		t.Errorf("nobody has answered, and progress is %q, %v", text, done)
	}
}

func TestProgressOfRepairEstimatesWhatIsLeft(t *testing.T) {
	text, done := repairLine(&client.RepairProgress{Partitions: 40, Done: 10, Differences: 3, Bytes: 2048}, 5*time.Second)
	if want := "10 of 40 partitions compared, 3 keys differed, 2.0 KiB moved, about 15.00s left"; text != want || done != 0.25 {
		t.Errorf("%q, %v, want %q", text, done, want)
	}
	if _, done := repairLine(&client.RepairProgress{}, time.Second); done >= 0 {
		t.Errorf("nothing is known, and %v is done", done)
	}
}

func TestTotalOfRepairAddsUpAllMembers(t *testing.T) {
	sum := totalOf([]*repairing{
		{RepairProgress: &client.RepairProgress{Partitions: 5, Done: 5, Differences: 2, Pulled: 1, Bytes: 10, Millis: 30, Anomalies: []string{"a"}}},
		{RepairProgress: &client.RepairProgress{Running: true, Partitions: 7, Done: 3, Skipped: 2, Pushed: 4, Bytes: 5, Millis: 20, Problems: []string{"b"}}},
		{Error: "gone", RepairProgress: &client.RepairProgress{Running: true}},
	})
	if !sum.Running || sum.Partitions != 12 || sum.Done != 8 || sum.Skipped != 2 || sum.Differences != 2 || sum.Pulled != 1 ||
		sum.Pushed != 4 || sum.Bytes != 15 || sum.Millis != 30 || len(sum.Anomalies) != 1 || len(sum.Problems) != 1 {
		t.Errorf("%+v", sum)
	}
}

func TestStatusTellsPeopleOfScans(t *testing.T) {
	st := members("ready", "ready")
	st.Members[0].Repair.Scans = 3 // which found nothing
	st.Members[1].Repair.Scans, st.Members[1].Repair.PulledKeys, st.Members[1].Repair.PulledBytes = 4, 50, 2048
	var out strings.Builder
	a := &app{out: &out, format: formatTable}
	if err := a.printStatus(st); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "n2: has fetched 50 keys (2.0 KiB) since its start to catch up, and others scanned whole partitions for them 4 times") {
		t.Errorf("no word of the scans:\n%s", &out)
	}
	if strings.Contains(out.String(), "n1: ") {
		t.Errorf("who has had no scans is talked about:\n%s", &out)
	}
}

func TestStatusShowsWhatMoves(t *testing.T) {
	st := members("ready", "ready")
	show := func() string {
		var out strings.Builder
		a := &app{out: &out, format: formatTable}
		if err := a.printStatus(st); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if text := show(); strings.Contains(text, "MOVES") || strings.Contains(text, "leaving") {
		t.Errorf("nothing moves, and status says:\n%s", text)
	}
	st.Members[0].MovesIn, st.Members[1].MovesOut, st.Members[1].Membership = 7, 7, "leaving"
	text := show()
	for _, want := range []string{"MOVES", "+7 -0", "+0 -7", "ready, leaving "} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q:\n%s", want, text)
		}
	}
}
