package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress tells people how far long work is: a bar on a terminal, elsewhere a
// line every 10 s.
type progress struct {
	w        io.Writer
	terminal bool
	line     func() (text string, done float64) // done is 0 to 1, negative if unknown
	stop     chan struct{}
	ended    sync.WaitGroup
}

const (
	progressRedraw = 200 * time.Millisecond
	progressLines  = 10 * time.Second
	barWidth       = 24
)

// watch shows line from now on, until close.
func (a *app) watch(line func() (string, float64)) *progress {
	p := &progress{w: a.errs, terminal: isTerminal(a.errs), line: line, stop: make(chan struct{})}
	p.ended.Go(p.run)
	return p
}

func (p *progress) run() {
	every := progressLines
	if p.terminal {
		every = progressRedraw
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.show()
		case <-p.stop:
			if p.terminal {
				fmt.Fprint(p.w, "\r\x1b[K") // the summary follows
			}
			return
		}
	}
}

func (p *progress) show() {
	text, done := p.line()
	if !p.terminal {
		if done >= 0 {
			text = fmt.Sprintf("%3.0f%%  %s", 100*done, text)
		}
		fmt.Fprintln(p.w, text)
		return
	}
	if done >= 0 {
		full := int(min(done, 1) * barWidth)
		text = fmt.Sprintf("[%s%s] %3.0f%%  %s", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), 100*done, text)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
}

// close ends the display and waits for it.
func (p *progress) close() {
	close(p.stop)
	p.ended.Wait()
}
