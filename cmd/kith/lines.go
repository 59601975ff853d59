package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// lineMax bounds a line of input: the largest value that any cluster takes in
// base64, or in text with an escape here and there.
const lineMax = 32 << 20

// lineReader reads lines of bounded length and counts them.
type lineReader struct {
	r     *bufio.Reader
	n     int   // lines read
	bytes int64 // read in all
	buf   []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 256<<10)}
}

// next gives the next line that is not blank, without its newline, valid until
// the next call. It ends with io.EOF.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lineReader) line() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.bytes += int64(len(part))
		if len(l.buf)+len(part) > lineMax {
			return nil, fmt.Errorf("line %d is longer than %d bytes", l.n+1, lineMax)
		}
		if err == nil && len(l.buf) == 0 {
			l.n++
			return part, nil
		}
		l.buf = append(l.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(l.buf) > 0:
		case err != nil:
			return nil, err
		}
		l.n++
		return l.buf, nil
	}
}
