package report

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"github.com/kithdb/kith/sim/trace"
)

// attacks are what a stranger may write into a name, a key or a value.
var attacks = []string{
	`</script><script>window.owned=1</script>`,
	`"><img src=x onerror="window.owned=1">`,
	`'onmouseover='window.owned=1`,
	`<iframe src="https://example.org/"></iframe>`,
	`</style><b onclick=owned>`,
	`{{.Replay}} ${owned} <!-- ]]> -->`,
	"javascript:window.owned=1",
	"\u202egnp.exe\u202c \u2066isolated\u2069 \u200f\u200b\ufeff",
	"שלום עולם",
	"nul\x00 bell\a esc\x1b[31m bad\xff\xfe line\u2028end",
	"a" + strings.Repeat("\u0301", 200),
	strings.Repeat("long", 3000),
	"expression(owned); background:url(https://example.org/)",
}

// hostile is a run in which every text is an attack.
func hostile() *trace.Run { return hostileOf(attacks) }

func hostileOf(texts []string) *trace.Run {
	n := 0
	next := func() string {
		n++
		return texts[n%len(texts)]
	}
	run := &trace.Run{
		Title: next(), Text: next() + "\n# " + next() + "\r\n\t" + next(), World: next(), Replay: next(),
		Length: 10 * time.Second, Replicas: 3,
	}
	for range texts {
		run.Nodes = append(run.Nodes, trace.Node{Name: next(), Zone: next()})
		n += 2
	}
	name := func(i int) string { return run.Nodes[i%len(run.Nodes)].Name }
	for i := range 3 * len(texts) {
		at := time.Duration(i) * 250 * time.Millisecond
		kinds := []string{"cut", "heal", "crash", "start", "isolate", "partition", "note", next()}
		run.Events = append(run.Events, trace.Event{
			At: at, Kind: kinds[i%len(kinds)], Nodes: []string{name(i), next()},
			From: []string{name(i)}, To: []string{name(i + 1), name(i + 2)}, Note: next(),
		})
		run.Ops = append(run.Ops, trace.Op{
			At: at, Took: time.Millisecond, Client: next(), Via: name(i), Side: next(), Kind: next(), Key: texts[0],
			Value: next(), Level: next(), Outcome: trace.Outcome(next()), Stale: i%2 == 0, Behind: time.Second, Note: next(),
		}, trace.Op{At: at, Kind: "get", Level: next(), Outcome: trace.Done, Stale: i%3 == 0, Behind: at, Key: texts[0]})
		s := trace.Sample{At: at, Keys: 9, Differ: i % 4}
		for j := range run.Nodes {
			s.Nodes = append(s.Nodes, trace.NodeSample{State: texts[(i/5+j)%len(texts)], Sees: []bool{i%2 == 0, true}})
		}
		run.Samples = append(run.Samples, s)
		run.Checks = append(run.Checks, trace.Check{Name: next(), OK: i%2 == 0, Detail: next(), Line: i % 4})
		run.Story.Lines = append(run.Story.Lines, fmt.Sprintf("  %d.0 to %d.5  %s", i, i, next()))
	}
	run.Story.Key = texts[0]
	return run
}

// allowed are the elements of the page and their attributes; any other would be
// a stranger's.
var allowed = map[string]string{
	"html": "lang", "head": "", "meta": "charset name content http-equiv", "title": "", "style": "", "body": "class",
	"svg":    "width height class style viewbox preserveaspectratio aria-hidden",
	"symbol": "id viewbox", "path": "class d transform", "circle": "class cx cy r", "use": "href", "g": "transform",
	"header": "", "main": "", "section": "id class aria-labelledby aria-label", "p": "class", "span": "class title style aria-hidden",
	"button": "id type hidden", "h1": "", "h2": "id", "h3": "id", "bdi": "class", "div": "class id style role aria-label hidden data-row data-sum aria-hidden",
	"table": "class", "thead": "", "tbody": "", "tr": "class id", "th": "scope", "td": "class", "i": "class style data-tip", "b": "class",
	"ul": "class", "ol": "class", "li": "class id", "a": "href class style data-tip aria-label", "small": "", "sub": "",
	"output": "id for", "input": "id type min max value step aria-label hidden", "details": "open", "summary": "", "time": "", "code": "id", "em": "",
	"script": "type id",
}

// held holds the page's structure: our elements, our attributes, local links,
// one script, no unseen marks.
func structure(t testing.TB, page string) (text string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	scripts := 0
	ids := map[string]bool{}
	var links []string
	var b strings.Builder
	for n := range doc.Descendants() {
		switch n.Type {
		case html.TextNode:
			if n.Parent.Data != "script" && n.Parent.Data != "style" {
				b.WriteString(n.Data + "\n")
			}
		case html.CommentNode:
			t.Errorf("a comment: %q", n.Data)
		case html.ElementNode:
			attributes, known := allowed[n.Data]
			if !known {
				t.Fatalf("element <%s> is not ours", n.Data)
			}
			if n.Data == "script" {
				scripts++
			}
			for _, a := range n.Attr {
				if !strings.Contains(" "+attributes+" ", " "+strings.ToLower(a.Key)+" ") {
					t.Fatalf("attribute %s=%q of <%s> is not ours", a.Key, a.Val, n.Data)
				}
				switch a.Key {
				case "id":
					if ids[a.Val] {
						t.Errorf("id %q twice", a.Val)
					}
					ids[a.Val] = true
				case "href":
					links = append(links, a.Val)
				case "style":
					if strings.ContainsAny(a.Val, `"'\<{}`) || strings.Contains(a.Val, "url") || strings.Contains(a.Val, "Zgotmpl") {
						t.Errorf("style %q", a.Val)
					}
				}
				b.WriteString(a.Val + "\n")
			}
		}
	}
	if scripts != 2 {
		t.Errorf("%d scripts, want the data and ours", scripts)
	}
	for _, l := range links {
		if !strings.HasPrefix(l, "#") || !ids[l[1:]] {
			t.Errorf("link %q leads nowhere on the page", l)
		}
	}
	for _, r := range b.String() {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.C) || r == unicode.ReplacementChar {
			t.Fatalf("rune %U is on the page, and nobody sees it", r)
		}
	}
	return b.String()
}

func TestStrangersTextIsOnlyText(t *testing.T) {
	page := write(t, hostile())
	text := structure(t, page)
	for _, want := range []string{attacks[0], attacks[1], "שלום עולם", `\u{202e}gnp.exe`, `bad\xff\xfe`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told as it was written", want)
		}
	}
	if strings.Contains(text, "ZgotmplZ") {
		t.Error("a template refused a value")
	}
	if most := 1 << 20; len(page) > most {
		t.Errorf("%d bytes, want at most %d", len(page), most)
	}
}

func FuzzStrangersTextIsOnlyText(f *testing.F) {
	for _, a := range attacks {
		f.Add(a, "k")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		structure(t, write(t, hostileOf([]string{a, b, a + b})))
	})
}
