package rpc

import (
	"encoding"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/kithdb/kith/rpc/wire"
)

// AppendMessage appends the encoding of a request or response to b: what a
// Transport puts on its wire, and Mux.Serve takes as a body.
func AppendMessage(b []byte, msg any) ([]byte, error) { return encode(b, msg) }

// encode appends msg to b: by its own AppendWire, or by reflection as an array
// of its fields.
func encode(b []byte, msg any) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = b, fmt.Errorf("encode %T: %w: panic: %v", msg, ErrInternal, p)
		}
	}()
	if m, ok := msg.(wire.Appender); ok {
		return m.AppendWire(b), nil
	}
	w := appenders.Get().(*appender)
	defer appenders.Put(w)
	w.b = b
	w.enc.Reset(w)
	w.enc.UseArrayEncodedStructs(true)
	if err := w.enc.Encode(msg); err != nil {
		return b, fmt.Errorf("encode %T: %w", msg, err)
	}
	out, w.b = w.b, nil
	return out, nil
}

// appender is an encoder that appends to a slice.
type appender struct {
	b   []byte
	enc *msgpack.Encoder
}

var appenders = sync.Pool{New: func() any { return &appender{enc: msgpack.NewEncoder(nil)} }}

// Write appends p.
func (w *appender) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// WriteByte appends c.
func (w *appender) WriteByte(c byte) error {
	w.b = append(w.b, c)
	return nil
}

// decode reads msg, a pointer, from the whole of b. Byte slices of messages that
// parse themselves point into b.
func decode(b []byte, msg any) error {
	return decodeWith(wire.NewReader(b), msg)
}

// decodeWith is decode with the caller's reader.
func decodeWith(r *wire.Reader, msg any) error {
	b := r.Rest()
	if m, ok := msg.(wire.Parser); ok {
		if err := m.ParseWire(r); err != nil {
			return fmt.Errorf("%T of %d bytes: %w", msg, len(b), err)
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("%T of %d bytes: %w", msg, len(b), err)
		}
		if n := len(r.Rest()); n > 0 {
			return fmt.Errorf("%T of %d bytes: %w: %d bytes behind its end", msg, len(b), wire.ErrMalformed, n)
		}
		return nil
	}
	if err := wire.Check(b, wire.NodesMax); err != nil {
		return fmt.Errorf("%T of %d bytes: %w", msg, len(b), err)
	}
	if err := wire.Decode(r, msg); err != nil {
		return fmt.Errorf("%T of %d bytes: %w", msg, len(b), err)
	}
	return nil
}

// checkType panics if values of t are decoded by reflection into an interface:
// then the sender would choose what is built.
func checkType(route string, t reflect.Type) {
	if implements[wire.Parser](t) {
		return
	}
	walkType(route, t, 0)
}

func implements[I any](t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[I]())
}

func walkType(route string, t reflect.Type, depth int) {
	switch {
	case depth > 2*wire.DepthMax:
		panic(fmt.Sprintf("rpc: route %s: type %v is recursive or too deep", route, t))
	case t.Kind() == reflect.Interface:
		panic(fmt.Sprintf("rpc: route %s: a field is of interface type %v", route, t))
	case t == reflect.TypeFor[time.Time](), implements[encoding.BinaryUnmarshaler](t), implements[encoding.TextUnmarshaler](t):
		return
	case t.Kind() == reflect.Chan, t.Kind() == reflect.Func, t.Kind() == reflect.Complex64, t.Kind() == reflect.Complex128,
		t.Kind() == reflect.Uintptr, t.Kind() == reflect.UnsafePointer:
		panic(fmt.Sprintf("rpc: route %s: a field is of type %v", route, t))
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		walkType(route, t.Elem(), depth+1)
	case reflect.Map:
		walkType(route, t.Key(), depth+1)
		walkType(route, t.Elem(), depth+1)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.Anonymous || f.Tag.Get("msgpack") != "" {
				panic(fmt.Sprintf("rpc: route %s: field %s of %v is embedded or has a msgpack tag", route, f.Name, t))
			}
			if f.IsExported() {
				walkType(route, f.Type, depth+1)
			}
		}
	}
}
