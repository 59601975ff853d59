package wire

import "fmt"

// DepthMax is how deep messages nest at the most.
const DepthMax = 8

// NodesMax is how many items a message that is decoded by reflection has at the
// most: an item of one byte may become a struct of some hundred.
const NodesMax = 1 << 17

// Check says whether b is exactly one well-formed msgpack item, at most
// DepthMax deep and of at most nodes items, in which no count or length claims
// more than there is. It neither recurses nor allocates, whatever b holds.
func Check(b []byte, nodes int) error {
	var (
		open  [DepthMax]uint64 // items still to come, by depth
		depth = 0
		r     = Reader{b: b}
	)
	for count := 1; ; count++ {
		if count > nodes {
			return fmt.Errorf("%w: more than %d items", ErrMalformed, nodes)
		}
		children, ok := r.item()
		if !ok {
			return ErrMalformed
		}
		if children > uint64(len(r.b)) {
			return fmt.Errorf("%w: %d items in %d bytes", ErrMalformed, children, len(r.b))
		}
		if children > 0 {
			if depth == DepthMax {
				return fmt.Errorf("%w: deeper than %d", ErrMalformed, DepthMax)
			}
			open[depth] = children
			depth++
			continue
		}
		for depth > 0 {
			open[depth-1]--
			if open[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			break
		}
	}
	if len(r.b) > 0 {
		return fmt.Errorf("%w: %d bytes behind its end", ErrMalformed, len(r.b))
	}
	return nil
}

// item passes over the head of one item and what is not an item itself, and
// gives the number of items inside.
func (r *Reader) item() (children uint64, ok bool) {
	switch k := r.kind(); {
	case k < 0x80 || k >= 0xe0 || k == 0xc0 || k == 0xc2 || k == 0xc3:
	case k&0xf0 == 0x80:
		children = 2 * uint64(k&0x0f)
	case k&0xf0 == 0x90:
		children = uint64(k & 0x0f)
	case k&0xe0 == 0xa0:
		r.take(uint64(k & 0x1f))
	case k == 0xc4 || k == 0xd9:
		r.take(r.number(1))
	case k == 0xc5 || k == 0xda:
		r.take(r.number(2))
	case k == 0xc6 || k == 0xdb:
		r.take(r.number(4))
	case k == 0xc7:
		r.take(r.number(1) + 1)
	case k == 0xc8:
		r.take(r.number(2) + 1)
	case k == 0xc9:
		r.take(r.number(4) + 1)
	case k == 0xca || k == 0xce || k == 0xd2:
		r.take(4)
	case k == 0xcb || k == 0xcf || k == 0xd3:
		r.take(8)
	case k == 0xcc || k == 0xd0:
		r.take(1)
	case k == 0xcd || k == 0xd1:
		r.take(2)
	case k >= 0xd4 && k <= 0xd8:
		r.take(1 + 1<<(k-0xd4))
	case k == 0xdc:
		children = r.number(2)
	case k == 0xdd:
		children = r.number(4)
	case k == 0xde:
		children = 2 * r.number(2)
	case k == 0xdf:
		children = 2 * r.number(4)
	default:
		r.fail()
	}
	return children, !r.bad
}
