package wire

import (
	"bytes"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"time"
)

// Decode reads v, a pointer, from what github.com/vmihailenco/msgpack/v5 wrote
// with structs as arrays, by reflection. Unlike that library it bears structs
// that have more fields than it knows, or fewer: the missing ones become zero.
// It never decodes into interfaces, and copies what it keeps. What is read must
// have passed Check.
func Decode(r *Reader, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		panic(fmt.Sprintf("wire: decode into %T, which is no pointer", v))
	}
	r.value(p.Elem())
	return r.Err()
}

var timeType = reflect.TypeFor[time.Time]()

// null passes over a nil, if it is next.
func (r *Reader) null() bool {
	if len(r.b) == 0 || r.b[0] != 0xc0 {
		return false
	}
	r.b = r.b[1:]
	return true
}

// value reads one item into v.
func (r *Reader) value(v reflect.Value) {
	if r.null() {
		v.SetZero()
		return
	}
	if v.Type() == timeType {
		v.Set(reflect.ValueOf(r.time()))
		return
	}
	if r.own(v) {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := r.Int()
		if v.OverflowInt(n) {
			r.fail()
			return
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := r.Uint()
		if v.OverflowUint(n) {
			r.fail()
			return
		}
		v.SetUint(n)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(r.float())
	case reflect.String:
		v.SetString(r.String())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(v.Elem())
	case reflect.Slice:
		r.slice(v)
	case reflect.Array:
		r.array(v)
	case reflect.Map:
		r.mapping(v)
	case reflect.Struct:
		r.fields(v)
	default:
		panic(fmt.Sprintf("wire: decode into %v", v.Type()))
	}
}

// own lets types that write themselves as bytes or text read themselves.
func (r *Reader) own(v reflect.Value) bool {
	if !v.CanAddr() {
		return false
	}
	switch u := v.Addr().Interface().(type) {
	case encoding.BinaryUnmarshaler:
		if b := r.Bytes(); !r.bad && u.UnmarshalBinary(bytes.Clone(b)) != nil {
			r.fail()
		}
	case encoding.TextUnmarshaler:
		if s := r.String(); !r.bad && u.UnmarshalText([]byte(s)) != nil {
			r.fail()
		}
	default:
		return false
	}
	return true
}

func (r *Reader) slice(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if b := r.Bytes(); !r.bad {
			v.SetBytes(bytes.Clone(b))
		}
		return
	}
	n := r.Array()
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := 0; i < n && !r.bad; i++ {
		r.value(v.Index(i))
	}
}

func (r *Reader) array(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		r.Fixed(v.Slice(0, v.Len()).Bytes())
		return
	}
	if n := r.Array(); n != v.Len() {
		r.fail()
		return
	}
	for i := 0; i < v.Len() && !r.bad; i++ {
		r.value(v.Index(i))
	}
}

func (r *Reader) mapping(v reflect.Value) {
	var n uint64
	switch k := r.kind(); {
	case k&0xf0 == 0x80:
		n = uint64(k & 0x0f)
	case k == 0xde:
		n = r.number(2)
	case k == 0xdf:
		n = r.number(4)
	default:
		r.fail()
	}
	if 2*n > uint64(len(r.b)) {
		r.fail()
	}
	if r.bad {
		return
	}
	t := v.Type()
	m := reflect.MakeMapWithSize(t, int(n))
	for ; n > 0 && !r.bad; n-- {
		key, item := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		r.value(key)
		r.value(item)
		m.SetMapIndex(key, item)
	}
	v.Set(m)
}

func (r *Reader) fields(v reflect.Value) {
	s := r.Struct()
	t := v.Type()
	for i := range v.NumField() {
		if !t.Field(i).IsExported() {
			continue
		}
		if !s.More() {
			v.Field(i).SetZero()
			continue
		}
		r.value(v.Field(i))
	}
	_ = s.End() // Decode returns it
}

func (r *Reader) float() float64 {
	switch r.kind() {
	case 0xca:
		return float64(math.Float32frombits(uint32(r.number(4))))
	case 0xcb:
		return math.Float64frombits(r.number(8))
	}
	r.fail()
	return 0
}

// time reads msgpack's timestamp.
func (r *Reader) time() time.Time {
	size := uint64(0)
	switch r.kind() {
	case 0xd6:
		size = 4
	case 0xd7:
		size = 8
	case 0xc7:
		size = r.number(1)
	}
	if kind := r.number(1); kind != 0xff { // type -1
		r.fail()
	}
	switch size {
	case 4:
		return time.Unix(int64(r.number(4)), 0)
	case 8:
		n := r.number(8)
		return time.Unix(int64(n&(1<<34-1)), int64(n>>34))
	case 12:
		nanos := r.number(4)
		return time.Unix(int64(r.number(8)), int64(nanos))
	}
	r.fail()
	return time.Time{}
}
