package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/client"
)

const (
	importBatchMax   = 1024
	importWorkersMax = 1024
	// importBytes bounds the records in memory.
	importBytes = 64 << 20
	// importBatchBytes ends a batch early.
	importBatchBytes = 1 << 20
	// importIdle ends a batch when its input pauses.
	importIdle = 200 * time.Millisecond
)

// importer reads records and writes them in batches. Every key belongs to one
// worker, which has one batch under way: so records of a key keep their order.
type importer struct {
	client  *client.Client
	w       levelFlag
	options []client.CallOption // beside w
	workers int
	batch   int
	timeout time.Duration // of each batch
	log     *outcomeLog   // nil for none

	read                   atomic.Int64 // bytes
	done, refused, unknown atomic.Int64
	mu                     sync.Mutex
	first                  error // guarded by mu; the first that was not done
}

// run ends when every record that was read has an outcome. Its error is about
// the input.
func (im *importer) run(ctx context.Context, in io.Reader) error {
	memory := newBudget(importBytes)
	queues := make([]chan client.Put, im.workers)
	var workers sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan client.Put, im.batch)
		workers.Go(func() { im.work(ctx, queues[i], memory) })
	}
	defer workers.Wait()
	defer func() {
		for _, q := range queues {
			close(q)
		}
	}()
	seed := maphash.MakeSeed()
	lines := newLineReader(in)
	for ctx.Err() == nil {
		line, err := lines.next()
		im.read.Store(lines.bytes)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		put, err := decodeRecord(line)
		if err == nil && len(put.Key) == 0 {
			err = errors.New("key is empty")
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", lines.n, err)
		}
		memory.take(len(put.Key) + len(put.Value))
		queues[maphash.Bytes(seed, put.Key)%uint64(len(queues))] <- put
	}
	return nil
}

// work writes the records of one queue.
func (im *importer) work(ctx context.Context, queue <-chan client.Put, memory *budget) {
	var batch []client.Put
	held := 0
	keys := make(map[string]bool, im.batch)
	flush := func() {
		im.write(ctx, batch)
		memory.give(held)
		batch, held = batch[:0], 0
		clear(keys)
	}
	idle := time.NewTimer(importIdle)
	defer idle.Stop()
	for {
		select {
		case p, ok := <-queue:
			if !ok {
				flush()
				return
			}
			if keys[string(p.Key)] {
				flush() // one after the other
			}
			keys[string(p.Key)] = true
			batch = append(batch, p)
			if held += len(p.Key) + len(p.Value); len(batch) >= im.batch || held >= importBatchBytes {
				flush()
			}
		case <-idle.C:
			flush()
		}
		idle.Reset(importIdle)
	}
}

// write does one batch and counts its outcomes.
func (im *importer) write(ctx context.Context, batch []client.Put) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, im.timeout)
	defer cancel()
	for i, r := range im.client.PutAll(ctx, batch, append(im.options[:len(im.options):len(im.options)], im.w.level)...) {
		outcome := "done"
		switch {
		case r.Err == nil:
			im.done.Add(1)
		case client.Unknown(r.Err):
			outcome = "unknown"
			im.unknown.Add(1)
		default:
			outcome = "refused"
			im.refused.Add(1)
		}
		if r.Err != nil {
			im.mu.Lock()
			if im.first == nil {
				im.first = r.Err
			}
			im.mu.Unlock()
		}
		if im.log != nil {
			im.log.add(batch[i].Key, outcome, r.Err)
		}
	}
	if im.log != nil {
		im.log.flush()
	}
}

func (im *importer) counts() importSummary {
	s := importSummary{Schema: "import/v1", Done: im.done.Load(), Refused: im.refused.Load(), Unknown: im.unknown.Load()}
	s.Records = s.Done + s.Refused + s.Unknown
	return s
}

func (im *importer) firstError() error {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.first
}

// outcomeLog keeps what became of each record, a JSON object a line.
type outcomeLog struct {
	mu  sync.Mutex
	f   *os.File
	w   *bufio.Writer // guarded by mu
	enc *json.Encoder // guarded by mu; writes to w
	err error         // guarded by mu; the first
}

func newOutcomeLog(f *os.File) *outcomeLog {
	l := &outcomeLog{f: f, w: bufio.NewWriter(f)}
	l.enc = json.NewEncoder(l.w)
	l.enc.SetEscapeHTML(false)
	return l
}

func (l *outcomeLog) add(key []byte, outcome string, cause error) {
	line := struct {
		keyText
		Outcome string `json:"outcome"`
		Error   string `json:"error,omitempty"`
	}{keyText: keyOf(key), Outcome: outcome}
	if cause != nil {
		line.Error = cause.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(l.enc.Encode(line))
}

// flush hands what was added to the operating system, so that it outlives this
// process.
func (l *outcomeLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(l.w.Flush())
}

// note keeps the first error; l.mu is held.
func (l *outcomeLog) note(err error) {
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("--log: %w", err)
	}
}

func (l *outcomeLog) close() error {
	l.flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(l.f.Close())
	return l.err
}
