package quorum

import (
	"fmt"

	"github.com/kithdb/kith/ring"
)

// Seats are the members that one record asks about one partition, and for what.
// Every home has the seat of its slot; the target of a move, which takes part from
// PhaseDual on, has the one behind the last slot. A move that takes a slot away has no
// target.
//
// A write counts when it would by the homes as they are and by the homes as they
// will be. While both rows need the same, that is to say that the two ends of a
// move count as one home, and only if both have acknowledged: what counts is met
// by every read of either row, whichever the move comes to. A read asks one row:
// that of now, or in PhaseReadNew the one that will be. Each row has the need of its own
// length: a majority of three is two, one of four is three. Where the number of homes
// changes, reads need both rows, too, in the move's last phase.
//
// Seats are a plain value that shares memory with the record.
type Seats struct {
	record *ring.Record
	homes  []ring.NodeID
	move   *ring.Move // nil unless it takes part
}

// SeatsOf finds the seats. The partition has homes: the record is founded.
func SeatsOf(r *ring.Record, p ring.Partition) Seats {
	s := Seats{record: r, homes: r.Homes(p)}
	if len(s.homes) == 0 {
		panic(fmt.Sprintf("quorum: partition %d has no homes", p))
	}
	if m := r.MoveOf(p); m != nil && m.Phase != ring.PhasePlan {
		s.move = m
	}
	return s
}

// Len is the number of seats, at most SeatsMax.
func (s *Seats) Len() int {
	if s.hasTarget() {
		return len(s.homes) + 1
	}
	return len(s.homes)
}

// hasTarget says that the last seat is that of a move's target.
func (s *Seats) hasTarget() bool { return s.move != nil && !s.move.Shrinks() }

// Slots is the number of homes.
func (s *Seats) Slots() int { return len(s.homes) }

// Readers is how many seats are asked by reads.
func (s *Seats) Readers() int { return ones(s.reading()) }

// Member is who has the seat, 0 to Len-1.
func (s *Seats) Member(seat int) ring.NodeID {
	if seat == len(s.homes) && s.hasTarget() {
		return s.move.To
	}
	return s.homes[seat]
}

// Members are who has the seats, in their order. The slice may be the record's: do
// not change it.
func (s *Seats) Members() []ring.NodeID {
	if !s.hasTarget() {
		return s.homes
	}
	members := make([]ring.NodeID, 0, len(s.homes)+1)
	return append(append(members, s.homes...), s.move.To)
}

// SeatOf is the member's seat; -1 if it has none.
func (s *Seats) SeatOf(id ring.NodeID) int {
	for seat := range s.Len() {
		if s.Member(seat) == id {
			return seat
		}
	}
	return -1
}

// Reads says that the seat's member is asked by reads. All of them take writes.
func (s *Seats) Reads(seat int) bool { return s.reading()&(1<<seat) != 0 }

// now is the row of the table, then the one after the move, reading the one that
// answers reads; a bit for each seat.
func (s *Seats) now() uint8 { return 1<<len(s.homes) - 1 }

func (s *Seats) then() uint8 {
	if s.move == nil {
		return s.now()
	}
	row := s.now()
	if !s.move.Grows() {
		row &^= 1 << s.move.Slot
	}
	if s.hasTarget() {
		row |= 1 << len(s.homes)
	}
	return row
}

// reading are the seats that reads ask; both rows, where they need both.
func (s *Seats) reading() uint8 {
	if s.move != nil && s.move.Phase == ring.PhaseReadNew {
		return s.then()
	}
	return s.now()
}

// readsBoth says that a read needs both rows: in the last phase of a move after which
// the partition has another number of homes. One of the rows contains the other.
func (s *Seats) readsBoth() bool {
	return s.move != nil && (s.move.Shrinks() || s.move.Grows() && s.move.Phase == ring.PhaseReadNew)
}

// Write makes the tally of a write at a level, for somebody in a zone; the zone
// matters for level 252 only. The error says what the level asks for that there
// is not, as in "9 of 3 homes".
//
// A read that has found copies which differ writes its merge back by this tally, at
// its own level, before it is answered: a later read may ask the other row.
func (s *Seats) Write(level uint8, zone string) (Tally, error) {
	var t Tally
	err := s.demand(&t, s.now(), level, zone)
	if err == nil && s.move != nil {
		err = s.demand(&t, s.then(), level, zone)
	}
	return t, err
}

// Read makes the tally of a read: see Write.
func (s *Seats) Read(level uint8, zone string) (Tally, error) {
	var t Tally
	err := s.demand(&t, s.reading(), level, zone)
	if err == nil && s.readsBoth() {
		err = s.demand(&t, s.now()&s.then(), level, zone)
	}
	return t, err
}

// demand adds what a level asks of a row.
func (s *Seats) demand(t *Tally, row uint8, level uint8, zone string) error {
	switch level {
	case levelLocal:
		near := s.within(row, zone)
		if near == 0 {
			return fmt.Errorf("a quorum in zone %q, where the partition has no home", zone)
		}
		t.zonal = true
		t.add(near, Majority(ones(near)))
		return nil
	case levelEach:
		t.zonal = true
		for seen := uint8(0); seen != row; {
			near := s.within(row, s.zone(first(row&^seen)))
			t.add(near, Majority(ones(near)))
			seen |= near
		}
		return nil
	}
	least, err := Resolve(level, ones(row))
	if err != nil {
		return err
	}
	t.add(row, least)
	return nil
}

// within are the seats of a row whose members are in a zone.
func (s *Seats) within(row uint8, zone string) (near uint8) {
	for seat := range s.Len() {
		if row&(1<<seat) != 0 && s.zone(seat) == zone {
			near |= 1 << seat
		}
	}
	return near
}

func (s *Seats) zone(seat int) string { return s.record.Member(s.Member(seat)).Zone }

// ZoneCount is what one operation asks for in one zone, and has.
type ZoneCount struct {
	Zone string
	// Need of the Homes there must count, Got do.
	Need, Got, Homes int
}

// lacks is how many more must count.
func (z *ZoneCount) lacks() int { return z.Need - z.Got }

// Zones are what a tally of these seats, made at a level in zones, asks for in each
// zone, in the order of the homes; nil at other levels. While a slot moves, a zone's
// count is that of the row which lacks more there, or else needs more.
func (s *Seats) Zones(t *Tally) (zones []ZoneCount) {
	if !t.zonal {
		return nil
	}
next:
	for _, n := range t.needs[:t.count] {
		z := ZoneCount{Zone: s.zone(first(n.seats)), Need: int(n.least), Got: ones(n.seats & t.acked), Homes: ones(n.seats)}
		for i := range zones {
			if was := &zones[i]; was.Zone == z.Zone {
				if z.lacks() > was.lacks() || z.lacks() == was.lacks() && z.Need > was.Need {
					*was = z
				}
				continue next
			}
		}
		zones = append(zones, z)
	}
	return zones
}
