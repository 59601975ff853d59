package report

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kithdb/kith/sim/trace"
)

// browser is a headless Chromium that looks at one page, and hears what it says.
type browser struct {
	ctx context.Context

	mu       sync.Mutex // guards all below
	said     []string   // errors and what the policy refused
	requests []string
}

// open shows a run's report from a file, as a user does, in a tab of its own.
func open(t *testing.T, chromium context.Context, run *trace.Run, wide int64, scheme string) *browser {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(write(t, run)), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, end := chromedp.NewContext(chromium)
	t.Cleanup(end)
	ctx, end = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(end)
	b := &browser{ctx: ctx}
	chromedp.ListenTarget(ctx, b.hear)
	b.do(t,
		chromedp.ActionFunc(func(ctx context.Context) error { return log.Enable().Do(ctx) }),
		network.Enable(),
		screen(wide),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.Navigate((&url.URL{Scheme: "file", Path: file}).String()),
	)
	return b
}

func screen(wide int64) chromedp.Action {
	return emulation.SetDeviceMetricsOverride(wide, 900, 1, wide < 500)
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		b.said = append(b.said, fmt.Sprint("console: ", len(e.Args)))
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		b.said = append(b.said, e.Entry.Text)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

func (b *browser) do(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func eval[T any](t *testing.T, b *browser, script string) T {
	t.Helper()
	var v T
	b.do(t, chromedp.Evaluate(script, &v))
	return v
}

// quiet holds that the page raised no error and asked for nothing but itself.
func (b *browser) quiet(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(b.said, "\n"))
	}
	if len(b.requests) != 1 || !strings.HasPrefix(b.requests[0], "file://") {
		t.Errorf("the page asks for %q, want itself only", b.requests)
	}
}

const wider = `document.documentElement.scrollWidth - innerWidth`

// These tests run where KITH_CHROMIUM is the path of a Chromium.
func TestPageInABrowser(t *testing.T) {
	path := os.Getenv("KITH_CHROMIUM")
	if path == "" {
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.WSURLReadTimeout(2*time.Minute)) // a busy machine starts it slowly
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	defer end()
	chromium, end := chromedp.NewContext(ctx)
	defer end()
	if err := chromedp.Run(chromium); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	for name, f := range map[string]func(*testing.T, context.Context){
		"FitsEveryScreen":       testFitsEveryScreen,
		"HasTwoThemes":          testHasTwoThemes,
		"ReadsOutAMoment":       testReadsOutAMoment,
		"TellsEventsByKeyboard": testTellsEventsByKeyboard,
		"KeepsStrangersOut":     testKeepsStrangersOut,
		"AlignsAllCharts":       testAlignsAllCharts,
		"PrintsEverything":      testPrintsEverything,
	} {
		t.Run(name, func(t *testing.T) { f(t, chromium) })
	}
}

func testFitsEveryScreen(t *testing.T, chromium context.Context) {
	large := shape{seed: 7, nodes: 100, ops: 20_000, length: 10 * time.Minute}
	for _, run := range []*trace.Run{made(usual()), made(large), hostile(), {}} {
		b := open(t, chromium, run, 1280, "light")
		for _, wide := range []int64{320, 390, 768, 1280} {
			b.do(t, screen(wide))
			if over := eval[int](t, b, wider); over > 0 {
				t.Errorf("%q: %d points wider than a screen of %d", run.Title, over, wide)
			}
		}
		b.quiet(t)
	}
}

func testHasTwoThemes(t *testing.T, chromium context.Context) {
	const paper = `getComputedStyle(document.documentElement).backgroundColor`
	for _, scheme := range []string{"light", "dark"} {
		b := open(t, chromium, made(usual()), 1280, scheme)
		before := eval[string](t, b, paper)
		b.do(t, chromedp.Evaluate(`document.getElementById('theme').click()`, nil))
		after := eval[string](t, b, paper)
		lightness := func(s string) (sum int) {
			var r, g, bl int
			if _, err := fmt.Sscanf(s, "rgb(%d, %d, %d)", &r, &g, &bl); err != nil {
				t.Fatalf("colour %q: %v", s, err)
			}
			return r + g + bl
		}
		if light := lightness(before) > 600; light != (scheme == "light") {
			t.Errorf("a %s system gets paper %s", scheme, before)
		}
		if (lightness(before) > 600) == (lightness(after) > 600) {
			t.Errorf("the button changes %s to %s: the same theme", before, after)
		}
		b.quiet(t)
	}
}

func testReadsOutAMoment(t *testing.T, chromium context.Context) {
	b := open(t, chromium, made(usual()), 1280, "light")
	const sums = `[...document.querySelectorAll('.sum[data-sum]')].map(e => e.textContent)`
	rest := eval[[]string](t, b, sums)
	// A third of the way into the minute, by keyboard: in the middle of the cut.
	b.do(t, chromedp.Evaluate(`{ const c = document.getElementById('cursor'); c.focus(); c.value = 333; }`, nil), chromedp.KeyEvent(kb.ArrowRight))
	if now := eval[string](t, b, `document.getElementById('now').textContent`); now != "20.0 s" {
		t.Errorf("the moment is %q, want 20.0 s", now)
	}
	then := eval[[]string](t, b, sums)
	if then[0] != "up, sees 2 of 4" {
		t.Errorf("lane of a says %q during the cut, want: up, sees 2 of 4", then[0])
	}
	for i := range then {
		if then[i] == rest[i] {
			t.Errorf("margin %d says %q both at rest and at a moment", i, then[i])
		}
	}
	b.do(t, chromedp.KeyEvent(kb.Escape))
	if back := eval[[]string](t, b, sums); strings.Join(back, "|") != strings.Join(rest, "|") {
		t.Errorf("after escape the margins say %q, want %q", back, rest)
	}
	b.quiet(t)
}

func testTellsEventsByKeyboard(t *testing.T, chromium context.Context) {
	b := open(t, chromium, made(usual()), 390, "light")
	b.do(t, chromedp.Evaluate(`document.querySelector('.event').focus()`, nil), chromedp.KeyEvent(kb.Tab))
	tip := eval[string](t, b, `document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent`)
	if !strings.Contains(tip, "cut a b c | d e") {
		t.Errorf("the second sign tells %q, want the cut", tip)
	}
	b.do(t, chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Enter))
	if at := eval[string](t, b, `location.hash`); at != "#e1" {
		t.Errorf("a second press goes to %q, want #e1", at)
	}
	b.quiet(t)
}

// What strangers wrote does nothing but stand there.
func testKeepsStrangersOut(t *testing.T, chromium context.Context) {
	b := open(t, chromium, hostile(), 1280, "light")
	if ran := eval[bool](t, b, `'owned' in window`); ran {
		t.Error("a stranger's script ran")
	}
	if n := eval[int](t, b, `document.querySelectorAll('script').length`); n != 2 {
		t.Errorf("%d script elements, want the data and ours", n)
	}
	if n := eval[int](t, b, `document.querySelectorAll('img, iframe, b[onclick], form').length`); n != 0 {
		t.Errorf("%d elements of a stranger", n)
	}
	b.quiet(t)
}

// One moment is at one place in all charts, whatever the screen.
func testAlignsAllCharts(t *testing.T, chromium context.Context) {
	for _, wide := range []int64{390, 1280} {
		b := open(t, chromium, made(usual()), wide, "light")
		edges := eval[[]float64](t, b, `[...new Set([...document.querySelectorAll('.plot, .ticks, .blocks, .arcs')].flatMap(e => {
			const r = e.getBoundingClientRect(); return [Math.round(r.left), Math.round(r.right)] }))]`)
		if len(edges) != 2 {
			t.Errorf("at %d the charts have the edges %v, want two", wide, edges)
		}
		b.quiet(t)
	}
}

func testPrintsEverything(t *testing.T, chromium context.Context) {
	b := open(t, chromium, made(usual()), 1280, "dark")
	b.do(t, chromedp.Evaluate(`for (const d of document.querySelectorAll('details')) d.open = false; dispatchEvent(new Event('beforeprint'))`, nil),
		emulation.SetEmulatedMedia().WithMedia("print"))
	if shut := eval[int](t, b, `document.querySelectorAll('details:not([open])').length`); shut > 0 {
		t.Errorf("%d parts stay folded on paper", shut)
	}
	if paper := eval[string](t, b, `getComputedStyle(document.documentElement).backgroundColor`); paper != "rgb(253, 253, 250)" {
		t.Errorf("paper is %s, want the light one", paper)
	}
	b.quiet(t)
}
