package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// checker writes and reads at quorum without a pause, and knows what every read must
// give at least. Each key has one writer, who counts up: a read may give no less than
// what was acknowledged before it began, nor less than an earlier read gave.
type checker struct {
	t    *testing.T
	cl   *client.Client
	pad  []byte
	keys []checkedKey

	stop chan struct{}
	done sync.WaitGroup

	acked atomic.Int64 // writes
	reads atomic.Int64

	mu       sync.Mutex // guards the rest
	wrong    []string   // broken promises; the first few
	failures []string   // refused and unknown calls; the first few
	refused  int
	unknown  int
	took     map[string][]time.Duration // by what went on at the time
	now      string
}

// checkedKey is what is known of one key.
type checkedKey struct {
	acked atomic.Int64 // the latest number that was acknowledged
	tried atomic.Int64 // the latest that was sent
	seen  atomic.Int64 // the latest that was read
}

const fewMessages = 20

// loaded writes every key once, and gives the checker of them.
func (c *cluster) loaded(cl *client.Client, keys, size int) *checker {
	c.t.Helper()
	k := &checker{t: c.t, cl: cl, pad: bytes.Repeat([]byte{'.'}, size), keys: make([]checkedKey, keys), stop: make(chan struct{}), took: map[string][]time.Duration{}, now: "idle"}
	var puts []client.Put
	for i := range keys {
		puts = append(puts, client.Put{Key: numbered(i), Value: k.value(1)})
	}
	world{}.write(c.t, cl, puts)
	for i := range k.keys {
		k.keys[i].acked.Store(1)
		k.keys[i].tried.Store(1)
	}
	return k
}

// bytes is how much all keys and their values are, once.
func (k *checker) bytes() int64 {
	return int64(len(k.keys)) * int64(len(numbered(0))+len(k.value(1)))
}

// value is a number with what makes it as large as real ones.
func (k *checker) value(n int64) []byte { return fmt.Appendf(nil, "%d %s", n, k.pad) }

func numberOf(value []byte) (int64, error) {
	text, _, _ := bytes.Cut(value, []byte(" "))
	return strconv.ParseInt(string(text), 10, 64)
}

// start begins with so many callers at once.
func (k *checker) start(callers int) {
	for w := range callers {
		r := rand.New(rand.NewPCG(uint64(w), 1))
		k.done.Go(func() {
			for {
				select {
				case <-k.stop:
					return
				default:
				}
				// Every caller writes its own keys, and reads all of them.
				own := w + callers*r.IntN(len(k.keys)/callers)
				k.write(own)
				k.read(own)
				k.read(r.IntN(len(k.keys)))
			}
		})
	}
}

// during names what goes on from now on.
func (k *checker) during(what string) {
	k.mu.Lock()
	k.now = what
	k.mu.Unlock()
}

func (k *checker) timed(call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	begun := time.Now()
	err := call(ctx)
	took := time.Since(begun)
	k.mu.Lock()
	k.took[k.now] = append(k.took[k.now], took)
	k.mu.Unlock()
	return err
}

func (k *checker) write(i int) {
	key := &k.keys[i]
	n := key.tried.Add(1)
	err := k.timed(func(ctx context.Context) error {
		_, err := k.cl.Put(ctx, numbered(i), k.value(n))
		return err
	})
	if err != nil {
		k.failed(err)
		return
	}
	key.acked.Store(n)
	k.acked.Add(1)
}

func (k *checker) read(i int) {
	key := &k.keys[i]
	least := max(key.acked.Load(), key.seen.Load())
	var got client.Result
	err := k.timed(func(ctx context.Context) (err error) {
		got, err = k.cl.Get(ctx, numbered(i))
		return err
	})
	if err != nil && client.Refused(err) && !isNotFound(err) {
		k.failed(err)
		return
	}
	k.reads.Add(1)
	n, parsed := numberOf(got.Value)
	switch most := key.tried.Load(); {
	case err != nil:
		k.broken("%s: %v, and %d was acknowledged or read before", numbered(i), err, least)
	case parsed != nil:
		k.broken("%s: has the value %.40q", numbered(i), got.Value)
	case n < least:
		k.broken("%s: reads %d, and %d was acknowledged or read before, by %v", numbered(i), n, least, got.Receipt)
	case n > most:
		k.broken("%s: reads %d, and only %d were written", numbered(i), n, most)
	}
	for old := key.seen.Load(); n > old && !key.seen.CompareAndSwap(old, n); old = key.seen.Load() {
	}
}

func (k *checker) failed(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if client.Unknown(err) {
		k.unknown++
	} else {
		k.refused++
	}
	if len(k.failures) < fewMessages {
		k.failures = append(k.failures, k.now+": "+err.Error())
	}
}

func (k *checker) broken(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.wrong) < fewMessages {
		k.wrong = append(k.wrong, k.now+": "+fmt.Sprintf(format, args...))
	}
}

// goesOn waits until so many more writes were acknowledged.
func (k *checker) goesOn(writes int64) {
	k.t.Helper()
	before := k.acked.Load()
	until(k.t, "writes go on", time.Minute, func() bool { return k.acked.Load() >= before+writes })
}

// end stops all callers and reads every key once more. What is wrong is an error of the
// test, and what was refused or unknown is one if nothing has failed on purpose.
func (k *checker) end(planned bool) {
	k.t.Helper()
	close(k.stop)
	k.done.Wait()
	k.during("at the end")
	k.readAll()
	k.t.Logf("%d writes acknowledged, %d reads, %d refused, %d unknown", k.acked.Load(), k.reads.Load(), k.refused, k.unknown)
	for _, w := range k.wrong {
		k.t.Errorf("WRONG: %s", w)
	}
	for _, f := range k.failures {
		if planned {
			k.t.Errorf("not done: %s", f)
		} else {
			k.t.Logf("not done: %s", f)
		}
	}
}

// readAll reads all keys at quorum.
func (k *checker) readAll() {
	k.t.Helper()
	keys := make([][]byte, len(k.keys))
	for i := range keys {
		keys[i] = numbered(i)
	}
	at := 0
	for batch := range slices.Chunk(keys, 500) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		for _, r := range k.cl.GetAll(ctx, batch) {
			key := &k.keys[at]
			n, parsed := numberOf(r.Result.Value)
			least, most := max(key.acked.Load(), key.seen.Load()), key.tried.Load()
			if r.Err != nil || parsed != nil || n < least || n > most {
				k.broken("%s: reads %.20q, %v; want %d to %d", numbered(at), r.Result.Value, r.Err, least, most)
			}
			at++
		}
		cancel()
	}
}

// latencies logs how long calls took while something went on, beside the idle time.
func (k *checker) latencies(during ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := func(what string, q float64) time.Duration {
		all := k.took[what]
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return all[int(q*float64(len(all)-1))]
	}
	for _, what := range append([]string{"idle"}, during...) {
		k.t.Logf("%-24s %7d calls, p50 %7.2fms, p99 %7.2fms, %4.1f times the idle p99", what, len(k.took[what]),
			p(what, 0.5).Seconds()*1e3, p(what, 0.99).Seconds()*1e3, float64(p(what, 0.99))/float64(max(1, p("idle", 0.99))))
	}
}
