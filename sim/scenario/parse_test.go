package scenario_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/kithdb/kith/sim/scenario"
)

// plain takes from a scenario what its text alone has: names, lines, comments.
func plain(s *scenario.Scenario) *scenario.Scenario {
	out := *s
	out.Name, out.Text = "", ""
	out.Loads, out.Steps, out.Expects = nil, nil, nil
	out.Keys = nil
	for _, k := range s.Keys {
		k.Line = 0
		out.Keys = append(out.Keys, k)
	}
	for _, l := range s.Loads {
		l.Line = 0
		out.Loads = append(out.Loads, l)
	}
	for _, st := range s.Steps {
		st.Line = 0
		out.Steps = append(out.Steps, st)
	}
	for _, e := range s.Expects {
		e.Line = 0
		out.Expects = append(out.Expects, e)
	}
	return &out
}

// again parses what a scenario prints, and wants the same scenario.
func again(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *scenario.Scenario) {
	t.Helper()
	text := s.String()
	back, err := scenario.Parse("again", text)
	if err != nil {
		t.Fatalf("what was printed does not parse: %v\n%s", err, text)
	}
	if !reflect.DeepEqual(plain(s), plain(back)) {
		t.Fatalf("printed and parsed again it is another scenario:\n%s\n%#v\n%#v", text, plain(s), plain(back))
	}
	if twice := back.String(); twice != text {
		t.Fatalf("printed again it is another text:\n%s\n%s", text, twice)
	}
}

func TestLibraryPrintsAndParsesAgain(t *testing.T) {
	for _, s := range scenario.Library() {
		t.Run(s.Name, func(t *testing.T) { again(t, s) })
	}
}

func TestLibraryTellsAStoryEach(t *testing.T) {
	all := scenario.Library()
	if len(all) < 15 {
		t.Errorf("%d scenarios, want at least 15", len(all))
	}
	for _, s := range all {
		if len(s.Story) < 4 || s.Story[1] != "" || !strings.HasSuffix(s.Title(), ".") {
			t.Errorf("%s: want a title, an empty line and a story in the leading comment: %q", s.Name, s.Story)
		}
		if len(s.Expects) == 0 {
			t.Errorf("%s expects nothing", s.Name)
		}
		for _, line := range strings.Split(s.Text, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of %d bytes: %s", s.Name, len(line), line)
			}
		}
	}
}

const head = "cluster a b c\n"

// mistakes are texts, and what their errors say.
var mistakes = map[string]string{
	"":                                              "want a line cluster",
	"# only a comment":                              "want a line cluster",
	"cluster a a":                                   "line 1: cluster: node a is there twice",
	"cluster a,b c/d":                               `line 1: cluster: node "c/d": want 1 to 64 letters`,
	"cluster all":                                   "all is no name",
	head + "key k homes a b":                        "line 2: 2 homes: a key has 3",
	head + "key k at a b c":                         "want key KEY homes, and the nodes",
	head + "repair":                                 "line 2: repair: want at least one of audit=, scrub=, forget=",
	head + "repair scrub=1s":                        "scrub=1s: want at least 1m",
	head + "repair audit=1ms":                       "audit=1ms: want at least 1s",
	head + "records k":                              "want records KEY -> some, or none",
	head + "records k -> few":                       `"few": want some, none`,
	head + "replace a for 1s":                       "replace is not undone",
	head + "cluster d":                              "line 2: cluster stands in line 1 already",
	head + "replicas 4":                             "4 replicas on 3 nodes",
	head + "replicas none":                          `line 2: replicas: "none": want a whole number from 1 to`,
	head + "replicas 3 4":                           `"4" is too much`,
	head + "at 1s replicas 8":                       `"8": want a whole number from 1 to 7`,
	head + "replicas 8 -> ok":                       `"8": want a whole number from 1 to 7`,
	head + "at 1s replicas":                         "want a whole number from 1 to 7",
	head + "partitions 12":                          "partitions 12: want a power of two",
	head + "zone x a\nzone y a":                     "node a stands in zone x and in zone y",
	head + "zone x d":                               "node d is not in the cluster: it has a b c",
	head + "network":                                "line 2: network: want at least one of latency=",
	head + "network late=5%":                        "late= and lateby= go together",
	head + "network loss=101%":                      `loss= "101%": want 0% to 100%`,
	head + "load x":                                 "line 2: load x from 0s has no end: add at TIME end",
	head + "load x rate=5":                          `rate= rate "5": want 0.01/s to 1000/s`,
	head + "load x keys=1001":                       `keys= "1001": want a whole number from 1 to 1000`,
	head + "load x speed=1":                         "option speed= is not known here: want blind, clients=",
	head + "load x keys=1 keys=2":                   "option keys= is there twice",
	head + "load x blind context":                   "blind and context exclude each other",
	head + "load x direct":                          "direct: want at NODE",
	head + "load x rate=50/s keys=1 reads=0% to=1m": "line 2: loads of about 3000 puts a key of k: want at most 1000",
	head + "load x rate=50/s keys=4 reads=0% blind to=1m": "line 2: loads of about 750 blind puts a key of k: want at most 300",
	head + "load x to=1s from=2s":                         "to=1s is not after from=2s",
	head + "load x r=4\nat 1s end":                        "line 2: level 4: a key has 3 homes",
	head + "load x r=most":                                `r= level "most": want one, quorum, all or 1 to`,
	head + "load x rate=1000/s to=1m":                     "loads of about 60000 operations: want at most 20000",
	head + "load x to=1s\nload x to=1s":                   "line 3: load x is there twice",
	head + "frobnicate a":                                 `line 2: no line begins with "frobnicate": want cluster, spare, zone,`,
	head + "at 10 cut a | b":                              `line 2: at: time "10": want a number and a unit`,
	head + "at 2h cut a | b":                              "line 2: at: time 2h: want 0s to 1h",
	head + "at 5s heal\nat 4s heal":                       "line 3: at 4s: the step before is at 5s",
	head + "at 5s load x":                                 `line 2: at: no step begins with "load": want cut, isolate,`,
	"cluster full":                                        `node "full": the word means something else here`,
	head + "at 5s":                                        "line 2: at: want something to do",
	head + "cut a b":                                      "want two sides with | between",
	head + "cut a | a":                                    "node a is on both sides",
	head + "cut a |":                                      "line 2: cut:",
	head + "cut a -> a b":                                 "node a is on both sides",
	head + "cut a | all":                                  "all has no other side",
	head + "cut a | x":                                    "line 2: node x is not in the cluster: it has a b c",
	head + "heal for 5s":                                  "heal is not undone: leave out for 5s",
	head + "flap a | b every=1s":                          "want for TIME at the end",
	head + "flap a | b for 1s":                            "want every= at the end",
	head + "kill":                                         `line 2: kill: want at least one node`,
	head + "kill a all":                                   "all stands alone",
	head + "powercut a tear=half":                         `tear= "half": want prefix, all, pages`,
	head + "rolling stop all down=9s":                     "every=5s: want more than down=9s",
	head + "link a b":                                     "want what the link is like",
	head + "link a latency=9":                             `latency= time "9"`,
	head + "disk a explode":                               `want sync-error, full, slow`,
	head + "disk a full delay=1s":                         "option delay= is not known here: want room=",
	head + "clock a 1h":                                   `"1h": want a sign`,
	head + "clock a +48h":                                 `clock "+48h": want -24h to +24h`,
	head + "clock a":                                      "want nodes, and how wrong",
	head + "view a sees a up":                             "node a sees itself",
	head + "view a is up":                                 "want view NODE sees NODE up",
	head + "put a k":                                      `line 2: put: value "": want 1 to 64`,
	head + "put a k v\nput b k v":                         "line 3: value v is put to k in line 2 already",
	head + "put a k v after=r":                            "after=r: no line before has as=r",
	head + "get a j as=r\nput a k v after=r":              "after=r: that was a read of j, not of k",
	head + "delete a k":                                   "want after=READ",
	head + "get a k as=r\nget a k as=r":                   "read r is there twice",
	head + "put a k v -> v":                               "-> v: want ok, refused, unknown, or failed",
	head + "put a k refused":                              "the word means something else here",
	head + "get d k":                                      "node d is not in the cluster",
	head + "wait 0s":                                      "want more than 0s",
	head + "at 1s end\nat 2s end":                         "line 3: end stands in line 2 already",
	head + "heal now":                                     `line 2: "now" is too much`,
	head + "expect":                                       "line 2: expect:",
	head + "expect reads shine":                           `"shine": want succeed, are, or take at most TIME`,
	head + "expect reads are fine":                        `"fine": want refused, unknown, failed, stale`,
	head + "expect reads succeed 120%":                    `"120%": want 0% to 100%`,
	head + "expect reads by x succeed":                    "line 2: there is no load x",
	head + "expect reads on all succeed":                  "all: want the nodes by name",
	head + "expect writes are stale":                      "writes are not stale: want reads",
	head + "expect reads succeed from 5s to 5s":           "to 5s is not after from 5s",
	head + "expect reads at 4 succeed":                    "level 4: a key has 3 homes",
	head + "expect at least 0 reads succeed":              "want a whole number from 1 to",
	head + "expect siblings of k v":                       "want siblings of KEY:",
	head + "expect a is named":                            "want NODE is named for WORD",
	head + "wait 40m\nwait 40m":                           "the script lasts 1h20m: want at most 1h",
	strings.Repeat("#", scenario.TextMax+1):               "a scenario has at most 65536",
}

// Every mistake is told with its line, the word and what is wanted.
func TestErrorsNameTheLineAndTheBound(t *testing.T) {
	for text, want := range mistakes {
		s, err := scenario.Parse("it", text)
		if err == nil {
			t.Errorf("%q parses:\n%v", text, s)
		} else if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "it: ") {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestAllMistakesOfATextAreTold(t *testing.T) {
	_, err := scenario.Parse("it", "cluster a b\ncut a\n\nkill\nheal")
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("want lines 2 and 4: %v", err)
	}
}

// Lists of nodes have commas or blanks between, wherever they stand.
func TestListsHaveCommasOrBlanks(t *testing.T) {
	with := func(sep string) string {
		list := "a" + sep + "b"
		return "cluster " + list + sep + "c\nzone z " + list + "\nload x at " + list + " direct rate=5/s\ncut " + list + " | c\nkill " + list +
			"\nlink " + list + " -> c loss=1%\ndisk " + list + " slow\nclock " + list + " +1m\nat 5s end\nexpect reads on side " + list + " where held succeed\n"
	}
	commas, err := scenario.Parse("commas", with(","))
	if err != nil {
		t.Fatal(err)
	}
	blanks, err := scenario.Parse("blanks", with(" "))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(plain(commas), plain(blanks)) {
		t.Errorf("%v\n%v", commas, blanks)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range scenario.Library() {
		f.Add(s.Text)
	}
	f.Add("cluster a b\nlink a | b loss=0.07% bandwidth=3KB for 1m30s\nclock a b -90m\nview b sees a up\nget a k r=1 timeout=1s -> x y\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := scenario.Parse("fuzzed", text)
		if err == nil {
			again(t, s)
		}
	})
}
