package ring

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// WeightDefault is the weight of a member that states none.
const WeightDefault = 1

// MemberState says what part a member takes in the table. It has nothing to do
// with whether the member can be reached.
type MemberState uint8

// The states. Their numbers are on the wire and on disk.
const (
	// Standby knows the ring and coordinates requests, but is home of nothing.
	Standby MemberState = 1
	// Active takes its share of the table.
	Active MemberState = 2
	// Leaving is home of what has not been moved away yet, and of nothing
	// else.
	Leaving MemberState = 3
	// Lost has lost its disk and does not come back: it has its slots until
	// somebody takes its place, and fulfils nothing for them.
	Lost MemberState = 4
	// Retreating is like Leaving, but on standby in the end: its joining was
	// taken back.
	Retreating MemberState = 5
)

// String gives the state as one word.
func (s MemberState) String() string {
	switch s {
	case Standby:
		return "standby"
	case Active:
		return "active"
	case Leaving:
		return "leaving"
	case Lost:
		return "lost"
	case Retreating:
		return "retreating"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Member is one node of the cluster, as the ring record knows it.
type Member struct {
	ID NodeID
	// Name is a label for people, at most NameMax bytes; it may be empty.
	Name string
	// Zone is what fails together: a rack, a data centre; at most NameMax
	// bytes. Members that name none share the zone "".
	Zone string
	// Weight is the member's part of the table in relation to the others.
	// Where a record is made, 0 stands for WeightDefault.
	Weight uint16
	State  MemberState
}

// prepared is the member as a new record takes it in.
func (m Member) prepared(state MemberState) Member {
	if m.Weight == 0 {
		m.Weight = WeightDefault
	}
	m.State = state
	return m
}

func (m *Member) validate() error {
	if m.ID.IsZero() {
		return fmt.Errorf("member %q: zero ID", m.Name)
	}
	if err := validateName(m.Name); err != nil {
		return fmt.Errorf("member %s: name: %w", m.ID.Short(), err)
	}
	if err := validateName(m.Zone); err != nil {
		return fmt.Errorf("member %s: zone: %w", m.ID.Short(), err)
	}
	if m.Weight == 0 {
		return fmt.Errorf("member %s: weight 0, want 1 to 65535", m.ID.Short())
	}
	if m.State < Standby || m.State > Retreating {
		return fmt.Errorf("member %s: unknown %v", m.ID.Short(), m.State)
	}
	return nil
}

// validateName holds for names of clusters, members and zones: they are printed.
func validateName(s string) error {
	if len(s) > NameMax {
		return fmt.Errorf("%d bytes, at most %d", len(s), NameMax)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%q has a character that cannot be printed", s)
		}
	}
	return nil
}
