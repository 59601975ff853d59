package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// recordJSON is one line of import and export.
type recordJSON struct {
	keyText
	valueText
}

// encodeRecord gives a record as one line, with its newline.
func encodeRecord(b []byte, key, value []byte) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	err := e.Encode(recordJSON{keyOf(key), valueOf(value)})
	return buf.Bytes(), err
}

// decodeRecord reads one line. Whatever encoding/json would repair silently is
// refused: a key must not become another one.
func decodeRecord(line []byte) (key, value []byte, err error) {
	if !utf8.Valid(line) {
		return nil, nil, errors.New("not UTF-8: use key_base64 and value_base64 for other bytes")
	}
	if bytes.HasPrefix(line, []byte("\ufeff")) {
		return nil, nil, errors.New("begins with a byte order mark: save the text without one")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var r recordJSON
	if err := d.Decode(&r); err != nil {
		return nil, nil, plainJSON(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, errors.New("more than one JSON value on the line")
	}
	if err := checkNames(line); err != nil {
		return nil, nil, err
	}
	replaced := bytes.Count(line, []byte("\uFFFD")) + strings.Count(strings.ToLower(string(line)), `\ufffd`)
	for _, s := range []*string{r.Key, r.Value} {
		if s != nil {
			replaced -= strings.Count(*s, "\uFFFD")
		}
	}
	if replaced < 0 {
		return nil, nil, errors.New("half of a surrogate pair (\\ud800 to \\udfff alone) is no character: use key_base64 and value_base64")
	}
	if key, err = oneOf("key", r.Key, r.KeyBase64); err != nil {
		return nil, nil, err
	}
	if value, err = oneOf("value", r.Value, r.ValueBase64); err != nil {
		return nil, nil, err
	}
	return key, value, nil
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
		case "key", "key_base64", "value", "value_base64":
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

func oneOf(name string, text *string, encoded *[]byte) ([]byte, error) {
	switch {
	case text != nil && encoded != nil:
		return nil, fmt.Errorf("both %q and %q", name, name+"_base64")
	case text != nil:
		return []byte(*text), nil
	case encoded != nil:
		return *encoded, nil
	}
	return nil, fmt.Errorf("no %q", name)
}

// plainJSON words the mistakes that people make.
func plainJSON(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("want a JSON object, got %s", kind.Value)
	case errors.As(err, &kind):
		field := kind.Field[strings.LastIndexByte(kind.Field, '.')+1:]
		return fmt.Errorf("%q: want text, got %s", field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("JSON ends too early")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
