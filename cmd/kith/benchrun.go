package main

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/kithdb/kith/client"
)

// bench is one run, as the flags describe it, and what it has counted.
type bench struct {
	concurrency int
	duration    time.Duration
	count       int64
	warmup      time.Duration
	size        int
	reads       float64
	keys        int
	dist        string
	connections string
	noLoad      bool
	r, w        levelFlag

	begun    atomic.Int64 // of measuring, in nanoseconds since 1970; 0 before
	finished atomic.Int64 // operations measured, done or failed
	tickets  atomic.Int64 // operations that may still begin, with count
	mu       sync.Mutex
	first    error // guarded by mu; the first failure
}

// benchReport is the document of bench. Times are in seconds.
type benchReport struct {
	Schema           string           `json:"schema"`
	Concurrency      int              `json:"concurrency"`
	Connections      string           `json:"connections"`
	Size             int              `json:"size"`
	Keys             int              `json:"keys"`
	Dist             string           `json:"dist"`
	ReadShare        float64          `json:"read_share"`
	R                string           `json:"r"`
	W                string           `json:"w"`
	Seconds          float64          `json:"seconds"`
	Operations       int64            `json:"operations"` // done
	Throughput       float64          `json:"throughput"` // done per second
	ClientCPUSeconds float64          `json:"client_cpu_seconds"`
	Reads            benchLatency     `json:"reads"`
	Writes           benchLatency     `json:"writes"`
	Errors           map[string]int64 `json:"errors"` // by code word
}

type benchLatency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Histograms keep microseconds to three digits, up to a minute.
const histogramMax = int64(time.Minute / time.Microsecond)

// caller does one operation after the other.
type caller struct {
	b             *bench
	c             *client.Client
	pick          func() int
	rng           *rand.Rand
	value         []byte
	read, written *hdrhistogram.Histogram
	errors        map[string]int64
}

func (b *bench) caller(i int, c *client.Client) *caller {
	rng := rand.New(rand.NewPCG(uint64(i), 0x6b697468))
	k := &caller{
		b: b, c: c, rng: rng,
		value:   b.value(i),
		read:    hdrhistogram.New(1, histogramMax, 3),
		written: hdrhistogram.New(1, histogramMax, 3),
		errors:  map[string]int64{},
	}
	k.pick = func() int { return rng.IntN(b.keys) }
	if b.dist == "zipfian" && b.keys > 1 {
		zipf := rand.NewZipf(rng, 1.1, 1, uint64(b.keys-1))
		k.pick = func() int { return scatter(zipf.Uint64(), b.keys) }
	}
	return k
}

// scatter spreads the popular ranks over the key space.
func scatter(rank uint64, keys int) int {
	return int((rank * 0x9e3779b97f4a7c15 >> 1) % uint64(keys))
}

func (b *bench) key(i int) []byte { return strconv.AppendInt([]byte("bench:"), int64(i), 10) }

// value is made of bytes that do not compress.
func (b *bench) value(seed int) []byte {
	rng := rand.New(rand.NewPCG(uint64(seed), 0x76616c75))
	v := make([]byte, b.size)
	for i := range v {
		v[i] = byte(rng.Uint32())
	}
	return v
}

// run warms up, measures and reports.
func (b *bench) run(ctx context.Context, clients []*client.Client) *benchReport {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	callers := make([]*caller, b.concurrency)
	var running sync.WaitGroup
	for i := range callers {
		callers[i] = b.caller(i, clients[i%len(clients)])
		running.Go(func() { callers[i].run(ctx) })
	}
	sleep(ctx, b.warmup)
	cpu := processCPU()
	b.tickets.Store(b.count)
	begun := time.Now()
	b.begun.Store(begun.UnixNano())
	if b.duration > 0 {
		sleep(ctx, b.duration)
		cancel()
	}
	running.Wait()
	took := time.Since(begun)
	if b.duration > 0 {
		took = min(took, b.duration)
	}
	return b.report(callers, took, processCPU()-cpu)
}

// run ends with the context or with the count.
func (k *caller) run(ctx context.Context) {
	for ctx.Err() == nil {
		measured := k.b.begun.Load() != 0
		if measured && k.b.count > 0 && k.b.tickets.Add(-1) < 0 {
			return
		}
		reads := k.b.reads > 0 && k.rng.Float64() < k.b.reads
		key := k.b.key(k.pick())
		begun := time.Now()
		var err error
		if reads {
			_, err = k.c.Get(ctx, key, k.b.r.level)
			if errors.Is(err, client.ErrNotFound) {
				err = nil // an answer like any other
			}
		} else {
			_, err = k.c.Put(ctx, key, k.value, k.b.w.level)
		}
		if ctx.Err() != nil {
			return // the end of the run, not of the operation
		}
		if measured {
			k.measured(reads, time.Since(begun), err)
		}
	}
}

func (k *caller) measured(reads bool, took time.Duration, err error) {
	k.b.finished.Add(1)
	if err != nil {
		k.errors[errorKind(err)]++
		k.b.mu.Lock()
		if k.b.first == nil {
			k.b.first = err
		}
		k.b.mu.Unlock()
		return
	}
	h := k.written
	if reads {
		h = k.read
	}
	us := min(max(took.Microseconds(), 1), histogramMax)
	if h.RecordValue(us) != nil {
		panic("bench: latency is out of the bounds that it was cut to")
	}
}

func (b *bench) report(callers []*caller, took, cpu time.Duration) *benchReport {
	read, written := callers[0].read, callers[0].written
	errs := callers[0].errors
	for _, k := range callers[1:] {
		read.Merge(k.read)
		written.Merge(k.written)
		for kind, n := range k.errors {
			errs[kind] += n
		}
	}
	r := &benchReport{
		Schema: "bench/v1", Concurrency: b.concurrency, Connections: b.connections, Size: b.size, Keys: b.keys,
		Dist: b.dist, ReadShare: b.reads, R: b.r.text, W: b.w.text,
		Seconds: took.Seconds(), ClientCPUSeconds: cpu.Seconds(),
		Reads: latencyOf(read), Writes: latencyOf(written), Errors: errs,
	}
	r.Operations = r.Reads.Count + r.Writes.Count
	if took > 0 {
		r.Throughput = float64(r.Operations) / took.Seconds()
	}
	return r
}

func latencyOf(h *hdrhistogram.Histogram) benchLatency {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e6 }
	return benchLatency{
		Count: h.TotalCount(), Mean: h.Mean() / 1e6,
		P50: at(50), P95: at(95), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1e6,
	}
}

func (b *bench) progress() (string, float64) {
	begun, n := b.begun.Load(), b.finished.Load()
	if begun == 0 {
		return "warming up", -1
	}
	took := time.Since(time.Unix(0, begun))
	done := float64(n) / float64(max(b.count, 1))
	if b.duration > 0 {
		done = took.Seconds() / b.duration.Seconds()
	}
	return strconv.FormatFloat(float64(n)/took.Seconds(), 'f', 0, 64) + "/s", done
}

func (b *bench) firstError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func sortedKeys(m map[string]int64) []string { return slices.Sorted(maps.Keys(m)) }
