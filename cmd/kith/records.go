package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kithdb/kith/client"
)

// recordOut is one line of export.
type recordOut struct {
	keyText
	valueText
	// Expires is in milliseconds since 1970.
	Expires *int64 `json:"expires,omitempty"`
}

// recordIn is one line of import.
type recordIn struct {
	Key         *string `json:"key"`
	KeyBase64   *string `json:"key_base64"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64"`
	Expires     *int64  `json:"expires"`
	// TTL is a duration, for files that people write.
	TTL *string `json:"ttl"`
}

// encodeRecord gives a record as one line, with its newline. A zero expires is
// left out.
func encodeRecord(b []byte, key, value []byte, expires time.Time) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	r := recordOut{keyText: keyOf(key), valueText: valueOf(value)}
	if !expires.IsZero() {
		ms := expires.UnixMilli()
		r.Expires = &ms
	}
	err := e.Encode(r)
	return buf.Bytes(), err
}

// decodeRecord reads one line. Whatever encoding/json or base64 would repair
// silently is refused: a key must not become another one.
func decodeRecord(line []byte) (client.Put, error) {
	r, err := parseRecord(line)
	if err != nil {
		return client.Put{}, err
	}
	var put client.Put
	if put.Key, err = oneOf("key", r.Key, r.KeyBase64); err != nil {
		return client.Put{}, err
	}
	if put.Value, err = oneOf("value", r.Value, r.ValueBase64); err != nil {
		return client.Put{}, err
	}
	switch {
	case r.Expires != nil && r.TTL != nil:
		return client.Put{}, errors.New(`both "expires" and "ttl"`)
	case r.Expires != nil && *r.Expires < 1:
		return client.Put{}, fmt.Errorf(`"expires": %d: want milliseconds since 1970`, *r.Expires)
	case r.Expires != nil:
		put.Expires = time.UnixMilli(*r.Expires)
	case r.TTL != nil:
		if put.TTL, err = parseTTL(*r.TTL); err != nil {
			return client.Put{}, fmt.Errorf(`"ttl": %q: %w`, *r.TTL, err)
		}
	}
	return put, nil
}

// parseRecord reads the fields of a line.
func parseRecord(line []byte) (r recordIn, err error) {
	if !utf8.Valid(line) {
		return r, errors.New("not UTF-8: use key_base64 and value_base64 for other bytes")
	}
	if bytes.HasPrefix(line, []byte("\ufeff")) {
		return r, errors.New("begins with a byte order mark: save the text without one")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, plainJSON(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return r, errors.New("more than one JSON value on the line")
	}
	if err := checkNames(line); err != nil {
		return r, err
	}
	if halfSurrogate(line) {
		return r, errors.New("half of a surrogate pair (\\ud800 to \\udfff alone) is no character: use key_base64 and value_base64")
	}
	return r, nil
}

// halfSurrogate finds an escape in valid JSON that stands for no character;
// encoding/json would put U+FFFD in its place.
func halfSurrogate(line []byte) bool {
	high := false // an escape is before, of the first half of a pair
	for i := 0; i < len(line); i++ {
		unit := uint64(0)
		if line[i] == '\\' {
			if i++; line[i] == 'u' {
				unit, _ = strconv.ParseUint(string(line[i+1:i+5]), 16, 16)
				i += 4
			}
		}
		low := unit >= 0xdc00 && unit < 0xe000
		if low != high {
			return true
		}
		high = unit >= 0xd800 && unit < 0xdc00
	}
	return high
}

// checkNames refuses fields that encoding/json takes for others: it does not tell
// Key from key, and of two with one name it keeps the last. line is an object
// with no other object in it.
func checkNames(line []byte) error {
	seen := make(map[string]bool, 2)
	for rest := line; ; {
		_, text, ok := bytes.Cut(rest, []byte{'"'})
		if !ok {
			return nil
		}
		n := stringLength(text)
		rest = bytes.TrimLeft(text[min(n+1, len(text)):], " \t\r\n")
		if !bytes.HasPrefix(rest, []byte{':'}) {
			continue // a value
		}
		name := string(text[:n])
		switch name {
		case "key", "key_base64", "value", "value_base64", "expires", "ttl":
		default:
			return fmt.Errorf("unknown field %q", name)
		}
		if seen[name] {
			return fmt.Errorf("%q comes twice", name)
		}
		seen[name] = true
	}
}

// stringLength is where the JSON text ends that b begins with.
func stringLength(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}

// oneOf is the key or the value, as text or in base64.
func oneOf(name string, text, encoded *string) ([]byte, error) {
	switch {
	case text != nil && encoded != nil:
		return nil, fmt.Errorf("both %q and %q", name, name+"_base64")
	case text != nil:
		return []byte(*text), nil
	case encoded != nil:
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil || base64.StdEncoding.EncodeToString(b) != *encoded {
			return nil, fmt.Errorf("%q: %.64q: want base64 with padding, and nothing else", name+"_base64", *encoded)
		}
		return b, nil
	}
	return nil, fmt.Errorf("no %q", name)
}

// parseTTL reads a duration that a value may live.
func parseTTL(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("want a duration such as 90s, 10m or 24h")
	}
	if d < time.Millisecond || d > client.TTLMax {
		return 0, errors.New("want 1ms to 876000h, which is 100 years")
	}
	return d, nil
}

// plainJSON words the mistakes that people make.
func plainJSON(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("want a JSON object, got %s", kind.Value)
	case errors.As(err, &kind):
		field := kind.Field[strings.LastIndexByte(kind.Field, '.')+1:]
		if field == "expires" {
			return fmt.Errorf("%q: want whole milliseconds since 1970, got %s", field, kind.Value)
		}
		return fmt.Errorf("%q: want text, got %s", field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("JSON ends too early")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
