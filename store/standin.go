package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// ErrStandInsFull: the stand-ins that are kept have reached
// Options.StandInBytesMax.
var ErrStandInsFull = errors.New("too many stand-ins are kept")

// standing is something to do with a stand-in.
type standing struct {
	link link
	in   *StandIn // to be kept; nil: the stand-in is to be dropped
	was  []byte   // if it is still this
	sink MergeSink
}

// StandIn keeps a record for its home, merged with what is kept for it already.
// It returns at once; in.Sink learns what becomes of it, as with Merge.
func (s *Store) StandIn(in *StandIn) {
	st := &standing{in: in, sink: in.Sink}
	if err := s.admit(&st.link, in.Partition, in.Record.Key, len(in.Encoded)); err != nil {
		in.Sink.Committed(err)
		return
	}
	st.link.key = appendStandInKey(nil, in.Home, in.Partition, in.Record.Key)
	s.enqueue(item{stand: st})
}

// DropStandIn removes a record that was kept, unless it has changed since
// StandIns gave it. It returns when that is on disk.
func (s *Store) DropStandIn(in *StandIn) error {
	done := make(doneSink, 1)
	st := &standing{was: in.Encoded, sink: done}
	if err := s.admit(&st.link, in.Partition, in.Record.Key, 0); err != nil {
		return err
	}
	st.link.key = appendStandInKey(nil, in.Home, in.Partition, in.Record.Key)
	s.enqueue(item{stand: st})
	return <-done
}

// doneSink hands the outcome to who waits.
type doneSink chan error

// Committed implements MergeSink.
func (d doneSink) Committed(err error) { d <- err }

// applyStandIn keeps or drops a stand-in with the batch that is built.
func (c *committer) applyStandIn(st *standing) {
	var err error
	if st.in == nil {
		err = c.dropStandIn(st)
	} else {
		err = c.keepStandIn(st)
	}
	if err != nil {
		c.complete(item{stand: st}, err)
		return
	}
	// What changed nothing waits too: for the batch under way that made it
	// so.
	c.building.ops = append(c.building.ops, item{stand: st})
}

func (c *committer) keepStandIn(st *standing) error {
	kept, err := c.keptStandIn(st.link.key)
	if err != nil {
		return err
	}
	next := st.in.Encoded
	var old version.Record
	if kept != nil {
		old, err = version.Parse(kept)
		switch {
		case err != nil:
			c.standInLost(st.in.Home, st.in.Partition, st.in.Record.Key, err)
			c.building.put([]byte(metaLosses), c.vouch.encoded())
			old = version.Record{}
		case old.Dominates(&st.in.Record):
			return nil
		case !st.in.Record.Dominates(&old):
			rec := version.Merge(st.in.Record, old)
			if err := checkBounds(&rec); err != nil {
				return err
			}
			next = rec.Append(make([]byte, 0, rec.Size()))
		}
	}
	if err := Refused(c.endings.of(st.in.Partition), &st.in.Record, func(d version.Dot) bool { return holds(&old, d) }); err != nil {
		return err
	}
	size := c.standInBytes.Load() + c.building.standInBytes
	if c.writing != nil {
		size += c.writing.standInBytes
	}
	if grown := len(next) - len(kept); grown > 0 && size+int64(grown) > c.options.StandInBytesMax {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrStandInsFull, size, c.options.StandInBytesMax)
	}
	c.building.putStandIn(string(st.link.key), slices.Clone(next), kept)
	return nil
}

func (c *committer) dropStandIn(st *standing) error {
	kept, err := c.keptStandIn(st.link.key)
	if err == nil && kept != nil && bytes.Equal(kept, st.was) {
		c.building.putStandIn(string(st.link.key), nil, kept)
	}
	return err
}

// keptStandIn finds the newest state of a stand-in, nil if there is none.
func (c *committer) keptStandIn(key []byte) ([]byte, error) {
	if b, ok := c.building.stands[string(key)]; ok {
		return b, nil
	}
	if c.writing != nil {
		if b, ok := c.writing.stands[string(key)]; ok {
			return b, nil
		}
	}
	b, err := c.engine.db.Get(key, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		c.rotten(err)
		return nil, fmt.Errorf("%w: stand-in %.64q: %w", ErrCorrupt, key[standInKeySize:], err)
	}
	return b, nil
}

// putStandIn changes a stand-in, to none if next is nil.
func (b *batch) putStandIn(key string, next, kept []byte) {
	if b.stands == nil {
		b.stands = make(map[string][]byte)
	}
	b.stands[key] = next
	if kept != nil {
		b.standIns--
		b.standInBytes -= standInSize(key, kept)
	}
	if next == nil {
		b.delete([]byte(key))
		return
	}
	b.put([]byte(key), next)
	b.standIns++
	b.standInBytes += standInSize(key, next)
}

func standInSize[T string | []byte](key T, record []byte) int64 { return int64(len(key) + len(record)) }

// standInLost says that a record kept for another home is damaged.
func (s *Store) standInLost(home ring.NodeID, p ring.Partition, key []byte, cause error) {
	s.vouch.note("stand-in for member %s, partition %d, key %.64q: %v", home, p, key, cause)
	s.logger.Error("a stand-in was damaged and is lost", "home", home, "partition", p, "key", fmt.Sprintf("%.64q", key), "error", cause)
}
