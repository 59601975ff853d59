package antientropy

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// genEnds draws ends of actors, sorted.
func genEnds(t *rapid.T, closed bool) (ends []store.Ending) {
	for i, a := range genDots(t) {
		ends = append(ends, store.Ending{Actor: version.Actor(i + 1), Closed: closed, Dots: a.Ranges})
	}
	return ends
}

func someEnds(closed bool) []store.Ending {
	return []store.Ending{{Actor: 3, Closed: closed, Dots: []store.Range{{First: 1, Last: 4}, {First: 6, Last: 6}}}, {Actor: 4, Closed: closed}}
}

func FuzzEndRequest(f *testing.F) {
	fuzzMessage(f, func() message { return new(endRequest) }, &endRequest{Epoch: 1, Partition: 2, Look: true, Ends: someEnds(false)})
}

func FuzzEndResponse(f *testing.F) {
	fuzzMessage(f, func() message { return new(endResponse) },
		&endResponse{Epoch: 1, Word: endLossy, Ends: []endAnswer{{true, someEnds(false)[0], []store.Range{{First: 2, Last: 3}}}, {false, someEnds(true)[1], nil}}})
}

func FuzzClocksResponseWithEnds(f *testing.F) {
	fuzzMessage(f, func() message { return new(clocksResponse) },
		&clocksResponse{Era: 1, Now: 2, Clocks: []partitionClock{{3, someClock()}}, Ends: []partitionEnds{{3, someEnds(true)}}})
}

// What the one who asks must not say is refused: that an actor is closed, or the same
// one twice.
func TestClosingMessagesAreChecked(t *testing.T) {
	for _, ends := range [][]store.Ending{
		someEnds(true), {{Actor: 4}, {Actor: 3}}, {{Actor: 3}, {Actor: 3}}, {{Actor: 0}},
		{{Actor: 3, Dots: []store.Range{{First: 4, Last: 4}, {First: 2, Last: 2}}}}, make([]store.Ending, endsMax+1),
	} {
		m := &endRequest{Ends: ends}
		if new(endRequest).ParseWire(wire.NewReader(m.AppendWire(nil))) == nil {
			t.Errorf("taken: %.3v", ends)
		}
	}
	for _, all := range [][]partitionEnds{{{3, someEnds(false)}}, {{4, someEnds(true)}, {3, someEnds(true)}}} {
		m := &clocksResponse{Ends: all}
		if new(clocksResponse).ParseWire(wire.NewReader(m.AppendWire(nil))) == nil {
			t.Errorf("taken: %v", all)
		}
	}
}
