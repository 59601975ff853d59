package kv

import (
	"fmt"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// What a call asks for: how many homes, or which, and in whose zone.

// checkLevel refuses what no ring record could give. What a zone has is known with the
// record of an attempt only.
func checkLevel(what string, level api.Level, zone string, homes int) error {
	if len(zone) > ring.NameMax {
		return fmt.Errorf("%w: zone of %d bytes: a zone has up to %d", api.ErrBadRequest, len(zone), ring.NameMax)
	}
	if level == api.LocalQuorum || level == api.EachQuorum {
		return nil
	}
	if _, err := quorum.Resolve(uint8(level), homes); err != nil {
		return fmt.Errorf("%w: %s: %w", api.ErrBadRequest, what, err)
	}
	return nil
}

// callersZone is the zone that LocalQuorum means: the one that the request names or
// else this node's own. A node that has none while others have is near to nobody.
func (c *Coordinator) callersZone(r *ring.Record, what string, level api.Level, named string) (string, error) {
	if level != api.LocalQuorum || named != "" {
		return named, nil
	}
	self := r.Member(c.cfg.Self)
	if self == nil {
		return "", fmt.Errorf("%w: %s: a quorum in the caller's zone: the request names none, and the node that was asked is no member yet", api.ErrBadRequest, what)
	}
	if self.Zone == "" {
		for i := range r.Members {
			if m := &r.Members[i]; m.Zone != "" {
				return "", fmt.Errorf("%w: %s: a quorum in the caller's zone: neither the request nor the node that was asked names one, and others do, such as %q",
					api.ErrBadRequest, what, m.Zone)
			}
		}
	}
	return self.Zone, nil
}

// nearZone is the zone whose homes this node asks first; ok is false if it has none.
func (c *Coordinator) nearZone(r *ring.Record) (zone string, ok bool) {
	if self := r.Member(c.cfg.Self); self != nil {
		zone = self.Zone
	}
	return zone, zone != ""
}

// reads and writes are the tallies of no answers that calls of a level begin with, and
// the caller's zone.
func (c *Coordinator) reads(s *quorum.Seats, r *ring.Record, level api.Level, named string) (quorum.Tally, string, error) {
	zone, err := c.callersZone(r, "R", level, named)
	if err != nil {
		return quorum.Tally{}, "", err
	}
	t, err := s.Read(uint8(level), zone)
	if err != nil {
		err = fmt.Errorf("%w: R: %w", api.ErrBadRequest, err)
	}
	return t, zone, err
}

func (c *Coordinator) writes(s *quorum.Seats, r *ring.Record, level api.Level, named string) (quorum.Tally, string, error) {
	zone, err := c.callersZone(r, "W", level, named)
	if err != nil {
		return quorum.Tally{}, "", err
	}
	t, err := s.Write(uint8(level), zone)
	if err != nil {
		err = fmt.Errorf("%w: W: %w", api.ErrBadRequest, err)
	}
	return t, zone, err
}

// countsOf says in a receipt what a tally asked for, and in which zones it had what.
func countsOf(receipt *api.Receipt, s *quorum.Seats, t *quorum.Tally) {
	receipt.Need = uint8(t.Need())
	zones := s.Zones(t)
	if zones == nil {
		return
	}
	receipt.Need = 0
	receipt.Zones = make([]api.ZoneReceipt, len(zones))
	for i, z := range zones {
		receipt.Zones[i] = api.ZoneReceipt{Zone: z.Zone, Need: uint8(z.Need), Got: uint8(z.Got), Homes: uint8(z.Homes)}
		receipt.Need += uint8(z.Need)
	}
}

// unmet says of whom a tally has not had enough: of everybody who would have counted,
// and at levels that ask anywhere of everybody, what became of it.
func (c *Coordinator) unmet(op string, s *quorum.Seats, t *quorum.Tally, reason func(seat int) string) *quorum.UnmetError {
	var homes []quorum.HomeError
	zonal := s.Zones(t) != nil
	view := c.cfg.Members.View()
	for seat, id := range s.Members() {
		if zonal && !t.Counts(seat) {
			continue
		}
		h := quorum.HomeError{ID: id, Reason: reason(seat)}
		if p := view.Peer(id); p != nil {
			h.Name = p.Name
		}
		homes = append(homes, h)
	}
	return s.Unmet(t, op, homes)
}
