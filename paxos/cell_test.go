package paxos

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func genBallot() *rapid.Generator[Ballot] {
	return rapid.Custom(func(t *rapid.T) Ballot {
		return Ballot{rapid.Uint64Range(1, 4).Draw(t, "round"), Node{byte(rapid.IntRange(0, 2).Draw(t, "node"))}}
	})
}

func genCell() *rapid.Generator[Cell] {
	return rapid.Custom(func(t *rapid.T) Cell {
		var c Cell
		for range rapid.IntRange(0, 4).Draw(t, "requests") {
			b := genBallot().Draw(t, "ballot")
			if rapid.Bool().Draw(t, "prepare") {
				c, _ = c.Prepare(b)
			} else {
				c, _ = c.Accept(b, []byte{byte(b.Round), b.Node[0]})
			}
		}
		return c
	})
}

func TestCellKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, b := genCell().Draw(t, "cell"), genBallot().Draw(t, "ballot")
		if !c.valid() {
			t.Fatalf("invalid cell %+v", c)
		}
		p, r := c.Prepare(b)
		if want := b.Compare(c.Promised) > 0; r.OK != want {
			t.Fatalf("prepare %v at promise %v: %v", b, c.Promised, r.OK)
		}
		if r.OK && (p.Promised != b || r.Accepted != c.Accepted || !bytes.Equal(r.Value, c.Value) || p.Accepted != c.Accepted) {
			t.Fatalf("promised %+v, replied %+v", p, r)
		}
		a, r := c.Accept(b, []byte{byte(b.Round), b.Node[0]})
		if want := b.Compare(c.Promised) >= 0; r.OK != want {
			t.Fatalf("accept %v at promise %v: %v", b, c.Promised, r.OK)
		}
		if r.OK && (a.Promised != b || a.Accepted != b || !a.valid()) {
			t.Fatalf("accepted %+v", a)
		}
		if !r.OK && (r.Promised != c.Promised || a.Promised != c.Promised || a.Accepted != c.Accepted) {
			t.Fatal("a refusal changes the cell or does not name the promise")
		}
	})
}

func TestCellRefusesBadInput(t *testing.T) {
	c, _ := Cell{}.Accept(Ballot{2, Node{1}}, []byte("a"))
	for name, r := range map[string]func() (Cell, Reply){
		"prepare without ballot":        func() (Cell, Reply) { return Cell{}.Prepare(Ballot{}) },
		"prepare over the last round":   func() (Cell, Reply) { return Cell{}.Prepare(Ballot{RoundMax + 1, Node{}}) },
		"accept without ballot":         func() (Cell, Reply) { return Cell{}.Accept(Ballot{}, []byte("v")) },
		"accept over the last round":    func() (Cell, Reply) { return Cell{}.Accept(Ballot{RoundMax + 1, Node{}}, []byte("v")) },
		"accept without value":          func() (Cell, Reply) { return Cell{}.Accept(Ballot{1, Node{1}}, nil) },
		"another value under a ballot":  func() (Cell, Reply) { return c.Accept(c.Accepted, []byte("b")) },
		"the promised ballot once more": func() (Cell, Reply) { return c.Prepare(c.Promised) },
	} {
		if _, r := r(); r.OK {
			t.Errorf("%s: taken", name)
		}
	}
	if again, r := c.Accept(c.Accepted, []byte("a")); !r.OK || again.Accepted != c.Accepted {
		t.Error("a repeated accept is refused")
	}
}

func TestParseCellReadsWhatAppendWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genCell().Draw(t, "cell")
		b := c.Append([]byte("x"))[1:]
		got, err := ParseCell(b, 2)
		if err != nil || got.Promised != c.Promised || got.Accepted != c.Accepted || !bytes.Equal(got.Value, c.Value) {
			t.Fatalf("%+v, %v", got, err)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "mask"))
		if _, err := ParseCell(b, 2); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("damaged: %v", err)
		}
	})
}

func FuzzParseCell(f *testing.F) {
	c, _ := Cell{}.Accept(Ballot{3, Node{1}}, []byte("value"))
	f.Add(c.Append(nil), false)
	f.Add(Cell{}.Append(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = bytes.Clone(b)
		if mend && len(b) >= cellFixed {
			// The checksum keeps a fuzzer out; write a right one.
			whole := Cell{Value: b[cellFixed:]}.Append(nil)
			copy(whole[5:cellFixed], b[5:cellFixed])
			b = resum(whole)
		}
		c, err := ParseCell(b, 64)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if len(c.Value) > 64 || !bytes.Equal(c.Append(nil), b) {
			t.Fatalf("%x read as %+v", b, c)
		}
	})
}
