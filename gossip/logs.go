package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// noticesMax is how many lines may wait for a slow log; more are counted
	// and dropped. Gossip never waits for a log: some lines are born under
	// memberlist's lock.
	noticesMax = 256
	// repeatTime is how long a line of one kind keeps others of it back.
	repeatTime = time.Minute
	// kindsMax bounds the memory of kinds; a flood of new ones starts it anew.
	kindsMax = 256
	// limitedMax is how many lines of all limited kinds go out in repeatTime:
	// a stranger can make up kinds, and must not fill the disk with them.
	limitedMax = 60
)

// notices is the way to the log for this package and for the libraries under
// it.
type notices struct {
	out   *slog.Logger
	queue chan notice
	stop  chan struct{}
	done  chan struct{}

	// foreignName is told of a peer of another cluster name.
	foreignName func(name, from string)

	mu      sync.Mutex // guards what follows
	kinds   map[string]*kind
	window  time.Time // when the count of said began
	said    int
	dropped int
}

type notice struct {
	level slog.Level
	text  string
	args  []any
}

// kind is what was said lately of one matter.
type kind struct {
	last time.Time
	kept int // lines held back since
}

func newNotices(out *slog.Logger, foreignName func(name, from string)) *notices {
	n := &notices{
		out:         out,
		queue:       make(chan notice, noticesMax),
		stop:        make(chan struct{}),
		done:        make(chan struct{}),
		foreignName: foreignName,
		kinds:       make(map[string]*kind),
	}
	go n.run()
	return n
}

func (n *notices) Info(text string, args ...any)  { n.put(notice{slog.LevelInfo, text, args}) }
func (n *notices) Warn(text string, args ...any)  { n.put(notice{slog.LevelWarn, text, args}) }
func (n *notices) Debug(text string, args ...any) { n.put(notice{slog.LevelDebug, text, args}) }

// Limited says a line at most once in repeatTime for each key, and then how
// many were held back; and all limited lines together at most limitedMax times.
func (n *notices) Limited(level slog.Level, key, text string, args ...any) {
	if !n.out.Enabled(context.Background(), level) {
		return
	}
	if kept, ok := n.allow(key, time.Now()); ok {
		if kept > 0 {
			args = append(args[:len(args):len(args)], "held_back", kept)
		}
		n.put(notice{level, text, args})
	}
}

// allow says whether a line of this kind may go out now, and how many of its
// kind were held back before.
func (n *notices) allow(key string, now time.Time) (kept int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.kinds[key]
	if k != nil && now.Sub(k.last) < repeatTime {
		k.kept++
		return 0, false
	}
	if now.Sub(n.window) >= repeatTime {
		n.window, n.said = now, 0
	}
	if n.said >= limitedMax {
		n.dropped++
		return 0, false
	}
	n.said++
	if k == nil {
		if len(n.kinds) >= kindsMax {
			clear(n.kinds)
		}
		k = &kind{}
		n.kinds[key] = k
	}
	kept = k.kept
	k.last, k.kept = now, 0
	return kept, true
}

func (n *notices) put(line notice) {
	if !n.out.Enabled(context.Background(), line.level) {
		return
	}
	select {
	case n.queue <- line:
	default:
		n.mu.Lock()
		n.dropped++
		n.mu.Unlock()
	}
}

func (n *notices) run() {
	defer close(n.done)
	for {
		select {
		case line := <-n.queue:
			n.write(line)
		case <-n.stop:
			for {
				select {
				case line := <-n.queue:
					n.write(line)
				default:
					return
				}
			}
		}
	}
}

func (n *notices) write(line notice) {
	n.mu.Lock()
	dropped := n.dropped
	n.dropped = 0
	n.mu.Unlock()
	if dropped > 0 {
		line.args = append(line.args[:len(line.args):len(line.args)], "lines_dropped", dropped)
	}
	n.out.Log(context.Background(), line.level, line.text, line.args...)
}

// close writes what is left and ends the goroutine. Later lines are lost.
func (n *notices) close() {
	close(n.stop)
	<-n.done
}

// library is the logger that serf and memberlist get.
func (n *notices) library() *log.Logger { return log.New(libraryLog{n}, "", 0) }

// libraryLog turns the lines of serf and memberlist into ours.
type libraryLog struct{ n *notices }

var (
	fromText  = regexp.MustCompile(`from[=:] ?(\S+)`)
	labelText = regexp.MustCompile(`unacceptable label ("(?:[^"\\]|\\.)*")`)
	// changing is what differs between two lines of one kind.
	changing = regexp.MustCompile(`[0-9a-f]*[0-9][0-9a-f.:]*|"[^"]*"|'[^']*'|\[[^\]]*\]`)
)

// lineMax cuts lines that a stranger can make long.
const lineMax = 400

func (l libraryLog) Write(p []byte) (int, error) {
	line := string(bytes.TrimSpace(p[:min(len(p), lineMax)]))
	level, text := levelOf(line)
	if level < slog.LevelWarn {
		if l.n.out.Enabled(context.Background(), slog.LevelDebug) {
			l.n.Debug(text)
		}
		return len(p), nil
	}
	l.n.complaint(level, text)
	return len(p), nil
}

// levelOf reads the mark in front of a line. What the libraries call INFO is
// detail to us.
func levelOf(line string) (slog.Level, string) {
	mark, rest, ok := strings.Cut(line, "] ")
	if !ok || !strings.HasPrefix(mark, "[") {
		return slog.LevelWarn, line
	}
	switch mark[1:] {
	case "DEBUG", "INFO":
		return slog.LevelDebug, rest
	default:
		return slog.LevelWarn, rest
	}
}

// complaint says a warning of the libraries in our words, if we have any.
func (n *notices) complaint(level slog.Level, text string) {
	from := "unknown"
	if m := fromText.FindStringSubmatch(text); m != nil {
		from = m[1]
	}
	if m := labelText.FindStringSubmatch(text); m != nil && m[1] != `""` {
		name, err := strconv.Unquote(m[1])
		if err != nil {
			name = m[1] // cut in the middle: a long one
		}
		n.foreignName(name, from)
		n.Limited(level, "label "+name, "refused a node of another cluster name", "their_name", name, "from", from)
		return
	}
	for _, known := range knownLines {
		if strings.Contains(text, known.part) {
			if known.say != "" {
				n.Limited(level, known.say, known.say, "from", from, "detail", text)
			} else {
				n.Debug(text)
			}
			return
		}
	}
	n.Limited(level, changing.ReplaceAllString(text, "*"), "gossip library", "detail", text)
}

// notOurs is said of whatever does not speak our protocol; one kind, so that a
// port scanner fills no log.
const notOurs = "something that is not a node of this cluster speaks to the gossip port"

// knownLines are what the libraries say of matters that have a plain name. An
// empty sentence: the matter is ordinary, or this package reports it itself.
var knownLines = []struct{ part, say string }{
	{"Shutdown without a Leave", ""},
	{errForeign.Error(), ""},
	{errContested.Error(), ""},
	{errStale.Error(), ""},
	{errEarly.Error(), ""},
	{"Refuting", ""},
	{"Conflicting address for", "two processes announce the same member; the one at the new address is refused"},
	{"Name conflict for", ""},
	{"conflicts with another node", ""},
	{"Node name conflicts", ""},
	{"No installed keys could decrypt", sayOtherKey},
	{"no installed keys could decrypt", sayOtherKey},
	{"encryption is configured but remote state is not encrypted", sayTheyArePlain},
	{"remote state is encrypted and encryption is not configured", sayTheyEncrypt},
	{"Decrypt packet failed", sayOtherKey},
	{"unacceptable label", notOurs},
	{"label header", notOurs},
	{"cannot decode label", notOurs},
	{"invalid msgType", notOurs},
	{"failed to receive", notOurs},
	{"Failed to receive", notOurs},
	{"msg type", notOurs},
	{"missing message type", notOurs},
	{"invalid checksum", notOurs},
	{"Failed to read remote state", notOurs},
	{"Failed to decode", notOurs},
	{"Failed to decompress", notOurs},
	{"UDP packet too short", notOurs},
	{errTags.Error(), notOurs},
	{"Was able to connect to", "a peer answers on TCP but not on UDP: is UDP filtered?"},
	{"Failed fallback TCP ping", ""},
	{"Failed to send", ""},
	{"Push/Pull with", ""},
	{"use of closed network connection", ""},
}
