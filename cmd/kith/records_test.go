package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
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
	f.Add([]byte("key"), []byte("value"), int64(0))
	f.Add([]byte("\uFFFD"), []byte(`\ud800`), int64(1))
	f.Add([]byte{0xff, 0}, []byte{}, int64(1_900_000_000_123))
	f.Add([]byte("<&>\u2028\n\x00\""), []byte("\xed\xa0\x80"), int64(1<<62))
	f.Fuzz(func(t *testing.T, key, value []byte, ms int64) {
		var expires time.Time
		if ms > 0 {
			expires = time.UnixMilli(ms)
		}
		line, err := encodeRecord(nil, key, value, expires)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%q is not one line", line)
		}
		put, err := decodeRecord(line)
		if err != nil || !bytes.Equal(put.Key, key) || !bytes.Equal(put.Value, value) || put.Key == nil || put.Value == nil ||
			!put.Expires.Equal(expires) || put.TTL != 0 {
			t.Fatalf("%q came back as %+v, %v", line, put, err)
		}
	})
}

func FuzzDecodeRecordNeverRepairs(f *testing.F) {
	f.Add([]byte(`{"key":"a\ud83d\ude00","value":"b"}`))
	f.Add([]byte(`{"key":"a\ud83d","value":"b"}`))
	f.Add([]byte("{\"key\":\"a\xff\",\"value\":\"b\"}"))
	f.Add([]byte(`{"key":"a","value":"b","expires":1900000000123}`))
	f.Add([]byte(`{"key":"a","value":"b","ttl":"10m"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		put, err := decodeRecord(line)
		if err != nil {
			return
		}
		again, err := encodeRecord(nil, put.Key, put.Value, put.Expires)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeRecord(again)
		if err != nil || !bytes.Equal(back.Key, put.Key) || !bytes.Equal(back.Value, put.Value) || !back.Expires.Equal(put.Expires) {
			t.Fatalf("%q reads as %+v, and that as %+v, %v", line, put, back, err)
		}
		made := bytes.Count(put.Key, []byte("\uFFFD")) + bytes.Count(put.Value, []byte("\uFFFD"))
		given := bytes.Count(line, []byte("\uFFFD")) + strings.Count(strings.ToLower(string(line)), `\ufffd`)
		if made > given && !bytes.Contains(line, []byte("_base64")) {
			t.Fatalf("%q became %+v", line, put)
		}
	})
}

func TestRecordsSayHowLongTheyLive(t *testing.T) {
	for _, c := range []struct {
		line    string
		expires int64
		ttl     time.Duration
		err     string
	}{
		{`{"key":"k","value":"v","expires":1900000000123}`, 1900000000123, 0, ""},
		{`{"key":"k","value":"v","ttl":"1h30m"}`, 0, 90 * time.Minute, ""},
		{`{"key":"k","value":"v","ttl":"1h","expires":1900000000123}`, 0, 0, `both "expires" and "ttl"`},
		{`{"key":"k","value":"v","expires":0}`, 0, 0, `"expires": 0: want milliseconds since 1970`},
		{`{"key":"k","value":"v","expires":"soon"}`, 0, 0, `"expires": want whole milliseconds since 1970, got string`},
		{`{"key":"k","value":"v","expires":1.5}`, 0, 0, `"expires": want whole milliseconds since 1970, got number 1.5`},
		{`{"key":"k","value":"v","ttl":5}`, 0, 0, `"ttl": want text, got number`},
		{`{"key":"k","value":"v","ttl":"soon"}`, 0, 0, `"ttl": "soon": want a duration such as 90s, 10m or 24h`},
		{`{"key":"k","value":"v","ttl":"0s"}`, 0, 0, `"ttl": "0s": want 1ms to 876000h, which is 100 years`},
		{`{"key":"k","value":"v","ttl":"1s","ttl":"2s"}`, 0, 0, `"ttl" comes twice`},
	} {
		put, err := decodeRecord([]byte(c.line))
		switch {
		case c.err != "":
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v, want %s", c.line, err, c.err)
			}
		case err != nil || put.TTL != c.ttl || c.expires == 0 != put.Expires.IsZero() || c.expires != 0 && put.Expires.UnixMilli() != c.expires:
			t.Errorf("%s: %+v, %v", c.line, put, err)
		}
	}
}
