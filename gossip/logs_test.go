package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAKindOfLineIsSaidOnceAMinuteAndThenCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logText{}
		n := newNotices(out.logger(), nil)
		defer n.close()
		library := n.library()
		stranger := func(i int) {
			library.Printf("[ERR] memberlist: failed to receive: bad %d from=10.0.0.9:%d", i, 40000+i)
		}
		for i := range 100 {
			stranger(i)
			library.Printf("[WARN] serf: queue depth: %d", i)
		}
		synctest.Wait()
		if got := len(out.lines("")); got != 2 {
			t.Errorf("%d lines:\n%s", got, strings.Join(out.lines(""), ""))
		}
		time.Sleep(repeatTime)
		stranger(1)
		synctest.Wait()
		if got := out.lines("held_back=99"); len(got) != 1 || !strings.Contains(got[0], notOurs) {
			t.Errorf("lines: %s", out.lines(""))
		}
	})
}

func TestOrdinaryLinesOfTheLibrariesStayDetails(t *testing.T) {
	out := &logText{}
	n := newNotices(out.logger(), nil)
	for _, line := range []string{
		"[INFO] serf: EventMemberJoin: x", "[DEBUG] memberlist: Stream connection", "[WARN] serf: Shutdown without a Leave",
	} {
		n.library().Print(line)
	}
	n.library().Print("[ERR] memberlist: something new")
	n.close()
	if got := out.lines(""); len(got) != 1 || !strings.Contains(got[0], "something new") {
		t.Errorf("lines: %s", got)
	}
}

func TestAHostileNameOfAClusterIsQuotedAndBounded(t *testing.T) {
	out := &logText{}
	var names []string
	n := newNotices(out.logger(), func(name, from string) { names = append(names, name+" "+from) })
	n.library().Printf("[ERR] memberlist: discarding stream with unacceptable label %q: from=10.0.0.1:5", "a\"b\nlevel=ERROR")
	n.library().Print("[ERR] " + strings.Repeat("x", 10*lineMax))
	n.close()
	lines := out.lines("")
	if len(lines) != 2 || len(lines[1]) > 2*lineMax {
		t.Fatalf("lines: %q", lines)
	}
	if len(names) != 1 || !strings.HasSuffix(names[0], " 10.0.0.1:5") {
		t.Errorf("names: %q", names)
	}
}

func TestAFloodOfKindsIsBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logText{}
		n := newNotices(out.logger(), func(string, string) {})
		defer n.close()
		for i := range 3 * kindsMax {
			n.library().Printf("[ERR] memberlist: discarding stream with unacceptable label \"c%d\": from=10.0.0.1:5", i)
			synctest.Wait() // the log keeps up: the bound is not its queue's
		}
		if got := len(out.lines("")); got != limitedMax {
			t.Errorf("%d lines", got)
		}
		time.Sleep(repeatTime)
		n.library().Print("[ERR] memberlist: failed to receive: x from=10.0.0.9:1")
		synctest.Wait()
		if got := out.lines(notOurs); len(got) != 1 || !strings.Contains(got[0], "lines_dropped=") {
			t.Errorf("after the flood: %s", got)
		}
	})
}

// stuck is a log that hangs until it is let go.
type stuck struct {
	slog.Handler
	free chan struct{}
}

func (s stuck) Handle(ctx context.Context, r slog.Record) error {
	<-s.free
	return s.Handler.Handle(ctx, r)
}

func TestAHangingLogHoldsNobodyUp(t *testing.T) {
	out := &logText{}
	s := stuck{out.logger().Handler(), make(chan struct{})}
	n := newNotices(slog.New(s), nil)
	for i := range 3 * noticesMax {
		n.Info(fmt.Sprintf("line %d", i)) // would hang here
	}
	close(s.free)
	n.close()
	if got := len(out.lines("")); got < noticesMax || got > noticesMax+1 {
		t.Errorf("%d lines", got)
	}
	if len(out.lines("lines_dropped=")) == 0 {
		t.Error("nobody tells that lines were dropped")
	}
}
