package store

import (
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"

	"github.com/kithdb/kith/store/version"
)

// applyPut mints a dot and puts the record into the batch, or refuses.
func (c *committer) applyPut(p *Put) {
	next, prev, dot, err := c.mint(p)
	if err != nil {
		c.complete(item{put: p}, err)
		return
	}
	if prev.absent() {
		c.building.newKeys++
	}
	c.building.putRecord(p.Partition, p.link.hash, next, prev)
	c.building.ops = append(c.building.ops, item{put: p})
	p.Sink.Minted(next.encoded, dot, next.rec.Seen, len(next.rec.Siblings))
}

// mint checks a put and makes its record. The dot counts as minted only if there
// is no error.
func (c *committer) mint(p *Put) (next, prev *entry, dot version.Dot, err error) {
	if fence := c.fences[p.Partition].Load(); p.Epoch < fence {
		return nil, nil, dot, fmt.Errorf("%w: partition %d: %d < %d", ErrFenced, p.Partition, p.Epoch, fence)
	}
	if err := c.drops.intact(p.Partition, p.link.mark); err != nil {
		return nil, nil, dot, err
	}
	if !p.NotAfter.IsZero() {
		if late := c.options.Now().Sub(p.NotAfter); late > c.options.ClockSlack {
			return nil, nil, dot, fmt.Errorf("%w: by %v", ErrExpired, late)
		}
	}
	prev, _, err = c.lookup(p.Partition, &p.link)
	if err != nil {
		return nil, nil, dot, err
	}
	if p.Blind && len(prev.rec.Siblings) >= SiblingsBlindMax {
		return nil, nil, dot, fmt.Errorf("%w: key %.64q has %d", ErrTooManySiblings, p.Key, len(prev.rec.Siblings))
	}
	if !p.Blind {
		if err := c.checkContext(p); err != nil {
			return nil, nil, dot, err
		}
		if prev, err = c.withValues(p.Partition, &p.link, prev, p.Context); err != nil {
			return nil, nil, dot, err
		}
	}
	m := c.actors.of(p.Partition)
	dot = version.Dot{Actor: m.actor, Seq: m.last + 1}
	s := version.Sibling{Dot: dot, Tombstone: p.Tombstone, Stamp: p.Stamp}
	if !p.Tombstone {
		s.Expiry, s.Value, s.ValueSize, s.ValueDigest = p.Expiry, p.Value, uint32(len(p.Value)), p.ValueDigest
	}
	var rec version.Record
	if p.Blind {
		// It has seen all that is stored, and replaces it.
		rec = version.Record{Seen: prev.rec.Seen.With(dot), Siblings: []version.Sibling{s}}
	} else {
		rec = prev.rec.Put(p.Context, s)
	}
	rec.Key = p.Key
	if err := checkBounds(&rec); err != nil {
		return nil, nil, dot, err
	}
	next, err = c.encode(&p.link, prev, rec)
	if err != nil {
		return nil, nil, dot, err
	}
	if n := len(next.encoded); n > c.options.RecordMax && n > prev.recordSize() {
		return nil, nil, dot, fmt.Errorf("%w: key %.64q: %d bytes with all siblings, limit %d",
			ErrTooLarge, p.Key, n, c.options.RecordMax)
	}
	m.last = dot.Seq
	return next, prev, dot, nil
}

// checkContext refuses a context that no store can have given out.
func (c *committer) checkContext(p *Put) error {
	own := c.actors.current(p.Partition)
	for i, d := range p.Context {
		if d.Seq == 0 || i > 0 && d.Actor <= p.Context[i-1].Actor {
			return fmt.Errorf("%w: not in order", ErrBadContext)
		}
		if d.Actor == own.actor && d.Seq > own.last {
			return fmt.Errorf("%w: number %d of %d", ErrBadContext, d.Seq, own.last)
		}
	}
	return nil
}

// checkBounds refuses a record that could not be read again.
func checkBounds(r *version.Record) error {
	if len(r.Seen) > version.SeenMax {
		return fmt.Errorf("%w: key %.64q: context of %d actors, limit %d", ErrTooLarge, r.Key, len(r.Seen), version.SeenMax)
	}
	if len(r.Siblings) > version.SiblingsMax {
		return fmt.Errorf("%w: key %.64q has %d, limit %d", ErrTooManySiblings, r.Key, len(r.Siblings), version.SiblingsMax)
	}
	return nil
}

// lookup finds the newest state of a key: in the batch that is built, in the
// one that is written, or what is committed. in is nil for committed state.
func (c *committer) lookup(p ring.Partition, l *link) (e *entry, in *batch, err error) {
	if e := c.building.newest[string(l.key)]; e != nil {
		return e, c.building, nil
	}
	if c.writing != nil {
		if e := c.writing.newest[string(l.key)]; e != nil {
			return e, c.writing, nil
		}
	}
	if l.warm != nil && l.gen == c.cache.generation(l.hash) {
		return l.warm, nil, nil
	}
	e, gen := c.cache.peek(l.hash, l.key)
	if e != nil {
		return e, nil, nil
	}
	// It was found, and changed since, and went from the cache.
	e, err = c.load(p, l.key)
	if err != nil {
		return nil, nil, err
	}
	c.cache.add(l.hash, e, gen)
	return e, nil, nil
}

// withValues returns e with the values of the siblings that a write which has
// seen ctx leaves standing.
func (c *committer) withValues(p ring.Partition, l *link, e *entry, ctx version.Context) (*entry, error) {
	if e.full || !survivorsLackValues(e, ctx) {
		return e, nil
	}
	return c.load(p, l.key)
}

func survivorsLackValues(e *entry, ctx version.Context) bool {
	if e.full || e.absent() {
		return false
	}
	for i := range e.rec.Siblings {
		if s := &e.rec.Siblings[i]; s.ValueSize > 0 && !ctx.Covers(s.Dot) {
			return true
		}
	}
	return false
}

// encode makes the entry of a record that holds its values.
func (c *committer) encode(l *link, prev *entry, rec version.Record) (*entry, error) {
	for i := range rec.Siblings {
		if s := &rec.Siblings[i]; int(s.ValueSize) != len(s.Value) {
			return nil, fmt.Errorf("%w: key %.64q: value of %d bytes is not at hand", ErrCorrupt, rec.Key, s.ValueSize)
		}
	}
	var encoded []byte
	if n := rec.Size(); n > headerOnlyAbove {
		encoded = rec.Append(make([]byte, 0, n))
	} else {
		c.scratch = rec.Append(c.scratch[:0])
		encoded = slices.Clone(c.scratch)
	}
	return adopt(l, prev, rec, encoded), nil
}

// adopt makes an entry that refers to nothing but its own bytes. It may write to
// the siblings of rec.
func adopt(l *link, prev *entry, rec version.Record, encoded []byte) *entry {
	e := &entry{key: prev.key, encoded: encoded, full: true}
	if e.key == "" {
		e.key = string(l.key)
	}
	at := len(encoded)
	for i := range rec.Siblings {
		at -= len(rec.Siblings[i].Value)
	}
	for i := range rec.Siblings {
		s := &rec.Siblings[i]
		if n := len(s.Value); n > 0 {
			s.Value = encoded[at : at+n : at+n]
			at += n
		}
	}
	rec.Key = version.KeyOf(encoded)
	e.rec = rec
	return e
}
