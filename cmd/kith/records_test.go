package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestLinesAreCountedAndBounded(t *testing.T) {
	long := strings.Repeat("x", 600<<10) // longer than the reader's buffer
	l := newLineReader(strings.NewReader("a\n\n  \n" + long + "\nlast"))
	for _, want := range []struct {
		line string
		n    int
	}{{"a", 1}, {long, 4}, {"last", 5}} {
		got, err := l.next()
		if err != nil || string(got) != want.line || l.n != want.n {
			t.Fatalf("got %.20q, %v at line %d, want %.20q at %d", got, err, l.n, want.line, want.n)
		}
	}
	if _, err := l.next(); err != io.EOF {
		t.Fatalf("got %v", err)
	}
	l = newLineReader(io.MultiReader(strings.NewReader("first\n"), endless{}))
	if _, err := l.next(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.next(); err == nil || !strings.Contains(err.Error(), "line 2 is longer than 33554432 bytes") {
		t.Fatalf("got %v", err)
	}
	if cap(l.buf) > 3*lineMax {
		t.Fatalf("%d bytes for a line of at most %d", cap(l.buf), lineMax)
	}
}

// endless is a line without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func FuzzRecordsComeBackAsTheyWere(f *testing.F) {
	f.Add([]byte("key"), []byte("value"))
	f.Add([]byte("\uFFFD"), []byte(`\ud800`))
	f.Add([]byte{0xff, 0}, []byte{})
	f.Add([]byte("<&>\u2028\n\x00\""), []byte("\xed\xa0\x80"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		line, err := encodeRecord(nil, key, value)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%q is not one line", line)
		}
		k, v, err := decodeRecord(line)
		if err != nil || !bytes.Equal(k, key) || !bytes.Equal(v, value) || k == nil || v == nil {
			t.Fatalf("%q came back as %q and %q, %v", line, k, v, err)
		}
	})
}

func FuzzDecodeRecordNeverRepairs(f *testing.F) {
	f.Add([]byte(`{"key":"a\ud83d\ude00","value":"b"}`))
	f.Add([]byte(`{"key":"a\ud83d","value":"b"}`))
	f.Add([]byte("{\"key\":\"a\xff\",\"value\":\"b\"}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		key, value, err := decodeRecord(line)
		if err != nil {
			return
		}
		again, err := encodeRecord(nil, key, value)
		if err != nil {
			t.Fatal(err)
		}
		k, v, err := decodeRecord(again)
		if err != nil || !bytes.Equal(k, key) || !bytes.Equal(v, value) {
			t.Fatalf("%q reads as %q, %q, and that as %q, %q, %v", line, key, value, k, v, err)
		}
		made := bytes.Count(key, []byte("\uFFFD")) + bytes.Count(value, []byte("\uFFFD"))
		given := bytes.Count(line, []byte("\uFFFD")) + strings.Count(strings.ToLower(string(line)), `\ufffd`)
		if made > given && !bytes.Contains(line, []byte("_base64")) {
			t.Fatalf("%q became %q, %q", line, key, value)
		}
	})
}
