package sim

import (
	"strings"
	"testing"
	"time"
)

// script makes a history by hand: operations one after the other, a second each.
type script struct {
	*History
	at time.Time
}

func newScript() *script {
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return &script{History: &History{began: at}, at: at}
}

func (s *script) add(o Op) *Op {
	o.Key, o.Began, o.Ended = "k", s.at, s.at.Add(time.Second)
	s.at = s.at.Add(2 * time.Second)
	s.ops = append(s.ops, &o)
	return &o
}

func (s *script) put(value string, after *Op, outcome Outcome) *Op {
	return s.add(Op{Value: value, After: after, Strict: true, Outcome: outcome})
}

func (s *script) remove(value string, after *Op, outcome Outcome) *Op {
	return s.add(Op{Value: value, Delete: true, After: after, Strict: true, Outcome: outcome})
}

func (s *script) get(saw ...string) *Op {
	return s.add(Op{Read: true, Strict: true, Outcome: Done, Saw: saw})
}

// A context that a put returned covers what the put had seen, and perhaps the put.
func TestChainedPutsMayReplaceEachOtherAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		final []string
		want  string
	}{
		{[]string{"b", "x"}, ""},
		{[]string{"a", "b", "x"}, ""},
		{[]string{"b"}, "acknowledged x is lost"},
		{[]string{"a", "x"}, "acknowledged b is lost"},
		{[]string{"b", "o", "x"}, "o is shown beside b, which had seen it"},
	} {
		s := newScript()
		s.put("o", nil, Done)
		read := s.get("o")
		s.put("x", read, Done)
		a := s.put("a", read, Done)
		s.put("b", a.Next().Op, Done)
		errorIs(t, Check(s.History, map[string][]string{"k": c.final}), c.want)
	}
}

// What expires is there for its time, and hides for good what it had replaced.
func TestValuesLiveForTheirTime(t *testing.T) {
	const at = 10 * time.Second // of the last read, after the put has ended
	for _, c := range []struct {
		ttl     time.Duration
		outcome Outcome
		wrong   bool // clocks
		saw     []string
		want    string
	}{
		{ttl: 0, outcome: Done, saw: []string{"a"}},
		{ttl: 0, outcome: Done, want: "acknowledged o is lost"},
		{ttl: time.Hour, outcome: Done, saw: []string{"a"}},
		{ttl: time.Hour, outcome: Done, want: "acknowledged a is lost"},
		{ttl: time.Hour, outcome: Done, wrong: true},
		{ttl: time.Second, outcome: Done},
		{ttl: time.Second, outcome: Done, saw: []string{"a"}, want: "a is shown at 00:00:15.000, which had expired"},
		{ttl: time.Second, outcome: Done, wrong: true, saw: []string{"a"}},
		// It may have been minted three seconds after its deadline.
		{ttl: 8 * time.Second, outcome: Unknown, saw: []string{"a"}},
		{ttl: 6 * time.Second, outcome: Unknown, saw: []string{"a"}, want: "which had expired"},
		{ttl: time.Second, outcome: Done, saw: []string{"o"}, want: "o is there, which acknowledged a had seen"},
	} {
		s := newScript()
		if !c.wrong {
			s.late = 3 * time.Second
		}
		s.put("o", nil, Done)
		read := s.get("o")
		a := s.add(Op{Value: "a", After: read, Strict: true, Outcome: c.outcome, TTL: c.ttl})
		a.Deadline = a.Ended
		s.at = a.Ended.Add(at)
		read = s.get(c.saw...)
		s.final = map[string]span{"k": {read.Began, read.Ended}}
		errorIs(t, Check(s.History, map[string][]string{"k": c.saw}), c.want)
	}
}

// Where clocks are right, a put that its client gave up is minted soon or never.
func TestLatePutsAreNoExcuseWhereClocksAreRight(t *testing.T) {
	for _, c := range []struct {
		late   time.Duration
		minted time.Duration // of the late one, after its deadline
		final  []string
		want   string
	}{
		{late: 0, minted: 9 * time.Second, final: []string{"a"}},
		{late: 3 * time.Second, final: []string{"x"}},
		{late: 3 * time.Second, minted: 2 * time.Second, final: []string{"a", "x"}},
		{late: 3 * time.Second, final: []string{"a"}, want: "acknowledged x is lost"},
		{late: 3 * time.Second, minted: 9 * time.Second, final: []string{"a", "x"}, want: "a was minted 9s after"},
	} {
		s := newScript()
		s.late, s.minted = c.late, map[string]time.Time{}
		a := s.put("a", nil, Unknown)
		a.Deadline = a.Ended
		s.minted["a"] = a.Deadline.Add(c.minted)
		s.at = s.at.Add(5 * time.Second)
		s.put("x", nil, Done)
		errorIs(t, Check(s.History, map[string][]string{"k": c.final}), c.want)
	}
}

// errorIs wants an error that has a text, or none.
func errorIs(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// histories are what a checker may come to see of one key, and what it must say.
var histories = map[string]struct {
	play  func(s *script)
	final []string
	want  string // of the error; empty for none
}{
	"acknowledged put is there":    {func(s *script) { s.put("a", nil, Done) }, []string{"a"}, ""},
	"acknowledged put is lost":     {func(s *script) { s.put("a", nil, Done) }, nil, "acknowledged a is lost"},
	"unknown put may be there":     {func(s *script) { s.put("a", nil, Unknown) }, []string{"a"}, ""},
	"unknown put may be nowhere":   {func(s *script) { s.put("a", nil, Unknown) }, nil, ""},
	"refused put is there":         {func(s *script) { s.put("a", nil, Refused) }, []string{"a"}, "a is shown, which was refused"},
	"value out of nothing":         {func(s *script) { s.put("a", nil, Done) }, []string{"a", "b"}, "b is shown, which nobody put"},
	"value twice":                  {func(s *script) { s.put("a", nil, Done) }, []string{"a", "a"}, "twice"},
	"replaced by one that saw it":  {func(s *script) { s.put("a", nil, Done); s.put("b", s.get("a"), Done) }, []string{"b"}, ""},
	"replaced and there again":     {func(s *script) { s.put("a", nil, Done); s.put("b", s.get("a"), Done) }, []string{"a", "b"}, "a is shown beside b, which had seen it"},
	"replaced by an unknown one":   {func(s *script) { s.put("a", nil, Done); s.put("b", s.get("a"), Unknown) }, []string{"b"}, ""},
	"unknown one replaced nothing": {func(s *script) { s.put("a", nil, Done); s.put("b", s.get("a"), Unknown) }, []string{"a"}, ""},
	"both lost by an unknown one":  {func(s *script) { s.put("a", nil, Done); s.put("b", s.get("a"), Unknown) }, nil, "acknowledged a is lost"},
	"back after it was replaced":   {func(s *script) { s.put("a", nil, Done); s.put("b", s.get("a"), Done) }, []string{"a"}, "acknowledged b is lost"},
	"lost beside one that saw it not": {func(s *script) {
		r := s.get()
		s.put("a", nil, Done)
		s.put("b", r, Done)
	}, []string{"b"}, "acknowledged a is lost"},
	"siblings of one read": {func(s *script) {
		r := s.get()
		s.put("a", r, Done)
		s.put("b", r, Done)
	}, []string{"a", "b"}, ""},
	"seen through another": {func(s *script) {
		s.put("a", nil, Done)
		s.put("b", s.get("a"), Done)
		s.put("c", s.get("b"), Done)
	}, []string{"c"}, ""},
	"blind put replaces what it met":  {func(s *script) { s.put("a", nil, Done); s.put("b", nil, Done) }, []string{"b"}, ""},
	"blind put meets nothing":         {func(s *script) { s.put("a", nil, Done); s.put("b", nil, Done) }, []string{"a", "b"}, ""},
	"blind put cannot see the future": {func(s *script) { s.put("a", nil, Done); s.put("b", nil, Done) }, []string{"a"}, "acknowledged b is lost"},
	"read shows less than an earlier one": {func(s *script) {
		r := s.get()
		s.put("a", r, Unknown)
		s.get("a")
		s.get()
	}, []string{"a"}, "went backwards"},
	"read misses an acknowledged put": {func(s *script) {
		s.put("a", s.get(), Done)
		s.get()
	}, []string{"a"}, "went backwards"},
	"weak read may show less": {func(s *script) {
		s.put("a", s.get(), Done)
		s.add(Op{Read: true, Outcome: Done})
	}, []string{"a"}, ""},
	"read shows what was replaced": {func(s *script) {
		s.put("a", s.get(), Done)
		r := s.get("a")
		s.put("b", r, Done)
		s.get("a")
	}, []string{"b"}, "went backwards"},
	"deleted value is gone": {func(s *script) {
		s.put("a", nil, Done)
		s.remove("d", s.get("a"), Done)
		s.get()
	}, nil, ""},
	"deleted value comes back": {func(s *script) {
		s.put("a", nil, Done)
		s.remove("d", s.get("a"), Done)
	}, []string{"a"}, "a is there, which acknowledged d had seen"},
	"deleted value comes back in a read": {func(s *script) {
		s.put("a", nil, Done)
		s.remove("d", s.get("a"), Done)
		s.get("a")
	}, nil, "went backwards"},
	"value hidden by a refused delete": {func(s *script) {
		s.put("a", nil, Done)
		s.remove("d", s.get("a"), Refused)
	}, nil, "acknowledged a is lost"},
	"value that the delete had not seen": {func(s *script) {
		r := s.get()
		s.put("a", r, Done)
		s.remove("d", r, Done)
	}, nil, "acknowledged a is lost"},
	"refused value in a read": {func(s *script) {
		s.put("a", nil, Refused)
		s.get("a")
	}, nil, "which was refused"},
}

func TestCheckersFindWhatBreaksAPromise(t *testing.T) {
	for name, c := range histories {
		s := newScript()
		c.play(s)
		err := Check(s.History, map[string][]string{"k": c.final})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestCheckNeedsEveryKey(t *testing.T) {
	s := newScript()
	s.put("a", nil, Done)
	if err := Check(s.History, nil); err == nil {
		t.Fatal("a key that was not read in the end passed")
	}
}
