package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// examined is what doctor finds of a ring of three, a, b and c, some of whom are away or
// cannot be dialed by the others.
func examined(t *testing.T, replicas int, away []int, undialed int) []finding {
	t.Helper()
	r := testRing(t, 16, replicas, "", "", "")
	st := &client.Status{Ready: len(away) == 0}
	reached := map[ring.NodeID]*client.Reached{}
	for i, m := range r.Members {
		gone := slices.Contains(away, i)
		st.Members = append(st.Members, client.MemberStatus{Name: m.Name, ID: m.ID.String(), State: "ready", Reachable: !gone && i != undialed})
		if gone || i == undialed {
			continue
		}
		told := &client.Reached{ID: m.ID, Name: m.Name}
		for j, o := range r.Members {
			if j == i {
				continue
			}
			p := api.ReachedPeer{ID: o.ID, Name: o.Name, Addr: "10.0.0.9:7600", Gossip: !slices.Contains(away, j)}
			if j == undialed || slices.Contains(away, j) {
				p.Error = "unreachable: i/o timeout"
			}
			told.Peers = append(told.Peers, p)
		}
		reached[m.ID] = told
	}
	return examine(st, r, reached)
}

func foundText(all []finding) string {
	var out bytes.Buffer
	a := &app{out: &out, format: formatTable}
	if err := a.printFindings(all); err != nil {
		out.WriteString(err.Error())
	}
	return out.String()
}

func TestDoctorSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		what     string
		replicas int
		away     []int
		undialed int
		says     []string
		not      []string
	}{
		{"all is well", 3, nil, -1, []string{"ok    serving", "ok    dial: 3 of 3", "ok    keepers: 3 of 3", "ok    copies", "ok    members: 3 of 3"}, []string{"FAIL"}},
		{"one is away", 3, []int{1}, -1, []string{"FAIL  serving", "FAIL  dial", "FAIL  keepers: 2 of 3", "can be changed meanwhile"}, []string{"force-epoch", "FAIL  copies"}},
		{"a majority is away", 3, []int{1, 2}, -1, []string{"FAIL  keepers: 1 of 3", "force-epoch --survivors", "only one copy"}, []string{"no copy can be reached"}},
		{"the only copies are away", 1, []int{1}, -1, []string{"no copy can be reached", "neither read nor written", "replicas is 1"}, nil},
		{"one cannot be dialed", 3, nil, 2, []string{"at 10.0.0.9:7600, where", "i/o timeout", "gossip believes that it runs", "NAT", "--listen"}, nil},
	} {
		text := foundText(examined(t, c.replicas, c.away, c.undialed))
		for _, want := range c.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: it does not say %q:\n%s", c.what, want, text)
			}
		}
		for _, bad := range c.not {
			if strings.Contains(text, bad) {
				t.Errorf("%s: it says %q:\n%s", c.what, bad, text)
			}
		}
	}
}

func TestDoctorSaysWhoHasAnAddressNow(t *testing.T) {
	r := testRing(t, 16, 3, "", "", "")
	st, at := &client.Status{Ready: true}, "10.0.0.9:7600"
	reached := map[ring.NodeID]*client.Reached{}
	for i, m := range r.Members {
		st.Members = append(st.Members, client.MemberStatus{Name: m.Name, ID: m.ID.String(), State: "ready", Reachable: i > 0})
		if i > 0 {
			reached[m.ID] = &client.Reached{ID: m.ID, Peers: []api.ReachedPeer{{ID: r.Members[0].ID, Addr: at, Error: "wrong node", Gossip: true}}}
		}
	}
	away, want := r.Members[0].ID.String(), "b has that address now: if a"
	st.Members[0].Address = at
	if text := foundText(examine(st, r, reached)); strings.Contains(text, want) || !strings.Contains(text, "NAT") {
		t.Errorf("nobody else has its address:\n%s", text)
	}
	st.Members[1].Address = at
	if text := foundText(examine(st, r, reached)); !strings.Contains(text, want) || !strings.Contains(text, "kith remove "+away) || strings.Contains(text, "NAT") {
		t.Errorf("b has its address:\n%s", text)
	}
}

func TestDoctorEndsWithACheckThatFailed(t *testing.T) {
	a := &app{out: new(bytes.Buffer), format: formatJSON}
	var failed *exitError
	if err := a.printFindings([]finding{{"a", true, "w", ""}, {"b", false, "w", "d"}}); !errors.As(err, &failed) || failed.status != exitBroken {
		t.Errorf("something was found: %v", err)
	}
	if err := a.printFindings([]finding{{"a", true, "w", ""}}); err != nil {
		t.Errorf("nothing was found: %v", err)
	}
}
