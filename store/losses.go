package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
)

// losses is what is known to be lost; it is kept under metaLosses.
type losses struct {
	// All says that every partition has lost something, but for those in
	// Mended; else it is those in Partitions.
	All        bool             `json:"all"`
	Partitions []ring.Partition `json:"partitions"`
	// Sentences say what was lost, until nothing is lossy any longer.
	Sentences []string `json:"sentences"`
	// Mended has a bit for each partition that was repaired since All.
	Mended []byte `json:"mended,omitempty"`
	// Meta says that metadata may have been lost at some time, such as votes.
	// Nobody has a copy of them, so it is true for ever.
	Meta bool `json:"meta,omitempty"`
	// Marked is the number of the latest mark of a loss that is known here.
	Marked uint32 `json:"marked,omitempty"`
	// Format is that of what is on disk: below lossFormat, Meta was not told
	// from All.
	Format int `json:"format,omitempty"`
}

// Bounds of losses: they are written whole, and are read by people.
const (
	lossSentencesMax  = 64
	lossPartitionsMax = 64

	lossFormat = 1
)

// say adds a sentence, once: what is found again and again leaves room for the rest.
func (l *losses) say(format string, args ...any) {
	sentence := fmt.Sprintf(format, args...)
	if len(l.Sentences) < lossSentencesMax && !slices.Contains(l.Sentences, sentence) {
		l.Sentences = append(l.Sentences, sentence)
	}
}

// loseAll notes that anything may be lost, metadata too.
func (l *losses) loseAll(format string, args ...any) {
	l.Meta = true
	l.loseEvery(format, args...)
}

// loseEvery notes a loss in every partition.
func (l *losses) loseEvery(format string, args ...any) {
	l.All = true
	l.Partitions, l.Mended = nil, nil
	l.say(format, args...)
}

// lose notes a loss in one partition. Where many are lost, all are.
func (l *losses) lose(p ring.Partition, format string, args ...any) {
	if l.add(p) {
		l.say(format, args...)
	}
}

// add is lose without a sentence. It is false where all are lost for it.
func (l *losses) add(p ring.Partition) bool {
	switch {
	case l.All:
		l.setMended(p, false)
	case slices.Contains(l.Partitions, p):
	case len(l.Partitions) < lossPartitionsMax:
		l.Partitions = append(l.Partitions, p)
	default:
		l.loseEvery("more than %d partitions are damaged", lossPartitionsMax)
		return false
	}
	return true
}

// mend notes that a partition was repaired.
func (l *losses) mend(p ring.Partition) {
	if l.All {
		l.setMended(p, true)
		return
	}
	if i := slices.Index(l.Partitions, p); i >= 0 {
		l.Partitions = slices.Delete(l.Partitions, i, i+1)
	}
	if len(l.Partitions) == 0 {
		l.Sentences = nil
	}
}

// settle ends the loss of all once every partition below count is repaired: there
// are no others.
func (l *losses) settle(count int) {
	if !l.All || len(l.Mended) == 0 {
		return
	}
	for p := range ring.Partition(count) {
		if l.has(p) {
			return
		}
	}
	l.All, l.Mended, l.Sentences = false, nil, nil
}

// has says that the partition is lossy.
func (l *losses) has(p ring.Partition) bool {
	if l.All {
		return int(p/8) >= len(l.Mended) || l.Mended[p/8]&(1<<(p%8)) == 0
	}
	return slices.Contains(l.Partitions, p)
}

// none says that nothing is lossy.
func (l *losses) none() bool { return !l.All && len(l.Partitions) == 0 }

func (l *losses) setMended(p ring.Partition, mended bool) {
	if mended && len(l.Mended) == 0 {
		l.Mended = make([]byte, ring.SlotCount/8)
	}
	switch {
	case mended:
		l.Mended[p/8] |= 1 << (p % 8)
	case int(p/8) < len(l.Mended):
		l.Mended[p/8] &^= 1 << (p % 8)
	}
}

// clone copies the losses.
func (l *losses) clone() losses {
	out := *l
	out.Partitions = slices.Clone(l.Partitions)
	out.Sentences = slices.Clone(l.Sentences)
	out.Mended = slices.Clone(l.Mended)
	return out
}

// join adds what other knows. It says whether that was more.
func (l *losses) join(other losses) bool {
	more := other.Meta && !l.Meta
	l.Meta = l.Meta || other.Meta
	if other.All && !l.All {
		own := l.Partitions
		l.All, l.Partitions, l.Mended = true, nil, slices.Clone(other.Mended)
		for _, p := range own {
			l.setMended(p, false)
		}
		more = true
	}
	for p := range ring.Partition(ring.SlotCount) {
		if other.has(p) && !l.has(p) {
			l.add(p)
			more = true
		}
	}
	for _, s := range other.Sentences {
		if !slices.Contains(l.Sentences, s) {
			l.say("%s", s)
			more = true
		}
	}
	return more
}

func (l *losses) encode() []byte {
	l.Format = lossFormat
	b, err := json.Marshal(l)
	if err != nil {
		panic("store: losses cannot be encoded: " + err.Error())
	}
	return b
}

// parseLosses reads what encode wrote, now or before partitions could be
// repaired one by one.
func parseLosses(b []byte) (losses, error) {
	var l losses
	if err := json.Unmarshal(b, &l); err != nil {
		return losses{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if l.All {
		l.Meta, l.Partitions = l.Meta || l.Format < lossFormat, nil
	}
	if len(l.Mended) != 0 && len(l.Mended) != ring.SlotCount/8 {
		return losses{}, fmt.Errorf("%w: %d bytes say what was repaired", ErrCorrupt, len(l.Mended))
	}
	for _, p := range l.Partitions {
		if p >= ring.SlotCount {
			return losses{}, fmt.Errorf("%w: partition %d", ErrCorrupt, p)
		}
	}
	return l, nil
}
