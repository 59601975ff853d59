package main

import (
	"context"
	"io"
)

// input is a reader whose wait ends with a context: a terminal or a pipe may say
// nothing for ever, and an interrupt must not wait for it. What is read after
// that is lost. For one caller at a time.
type input struct {
	ctx  context.Context
	from io.Reader
	buf  []byte
	rest []byte // read and not yet given
	err  error  // that came with rest
	read chan int
}

func newInput(ctx context.Context, from io.Reader) *input {
	return &input{ctx: ctx, from: from, buf: make([]byte, 256<<10), read: make(chan int, 1)}
}

// Read implements io.Reader. The goroutine that it leaves behind when the context
// ends lives until from answers, or the program is over.
func (r *input) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, r.ctx.Err()
	}
	if len(r.rest) == 0 && r.err == nil {
		var err error
		go func() {
			var n int
			n, err = r.from.Read(r.buf)
			r.read <- n
		}()
		select {
		case n := <-r.read:
			r.rest, r.err = r.buf[:n], err
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) == 0 {
		return n, r.err
	}
	return n, nil
}
