package processes

import (
	"errors"
	"fmt"
	"slices"
)

// keysPerKind of each sort of homes: one is written to before the cut is noticed,
// the other one after that.
const keysPerKind = 2

// tellSplit: both sides of a split write at w=one, and nobody reads until all
// copies are equal.
func tellSplit(p *play) error {
	p.history.ClocksRight()
	few, many := []int{0, 1}, []int{2, 3, 4}
	var fates []*fate
	for _, n := range []int{1, 2} {
		some, err := p.fates(keysPerKind, fmt.Sprintf("%d of %d homes here", n, replicas), kinds,
			func(homes []int) bool { return among(homes, few) == n },
			func(homes []int) [2]int { return [2]int{firstIn(homes, few), firstIn(homes, many)} })
		if err != nil {
			return err
		}
		fates = append(fates, some...)
	}
	p.key = fates[0].key
	if err := p.partition(few, many); err != nil {
		return err
	}
	if err := p.befallAll(fates, p.noticed); err != nil {
		return err
	}
	return p.repairs(fates)
}

// tellDeaf: first what one node sends to another one is lost, and copies become
// equal although it stays so. Then one node hears nobody, until the heal.
func tellDeaf(p *play) error {
	p.history.ClocksRight()
	const mute, deaf, reachesAll = 0, 4, 1
	together := heard()
	brief := slices.DeleteFunc(slices.Clone(together), func(k kind) bool { return k.lasts() })
	fates, err := p.fates(keysPerKind, "one way", brief,
		func(homes []int) bool { return slices.Contains(homes, mute) && slices.Contains(homes, deaf) },
		func([]int) [2]int { return [2]int{mute, deaf} })
	if err != nil {
		return err
	}
	p.key = fates[0].key
	later, err := p.fates(keysPerKind, "deaf to all", together,
		func(homes []int) bool { return slices.Contains(homes, deaf) },
		func(homes []int) [2]int { return [2]int{deaf, firstIn(homes, others(deaf))} })
	if err != nil {
		return err
	}
	if err := p.oneWay(mute, deaf); err != nil {
		return err
	}
	if err := p.befallAll(fates, p.noticed); err != nil {
		return err
	}
	if err := p.repaired("equal while one way is cut", reachesAll); err != nil {
		return err
	}
	if err := p.shown("one way cut", fates, func(k *kind) string { return k.want }); err != nil {
		return err
	}
	for _, i := range others(deaf) {
		if err := p.oneWay(i, deaf); err != nil {
			return err
		}
	}
	noticed := func() error { return p.settled("noticed that one is deaf", NoticeMax) }
	if err := p.befallAll(later, noticed); err != nil {
		return err
	}
	return p.repairs(append(fates, later...))
}

// tellMute: one node hears all others, and nobody hears it, until the heal.
func tellMute(p *play) error {
	p.history.ClocksRight()
	const mute = 2
	fates, err := p.fates(keysPerKind, "mute", heard(),
		func(homes []int) bool { return slices.Contains(homes, mute) },
		func(homes []int) [2]int { return [2]int{mute, firstIn(homes, others(mute))} })
	if err != nil {
		return err
	}
	p.key = fates[0].key
	for _, i := range others(mute) {
		if err := p.oneWay(mute, i); err != nil {
			return err
		}
	}
	if err := p.befallAll(fates, p.noticed); err != nil {
		return err
	}
	return p.repairs(fates)
}

// heard are the kinds that can end in one way only even if one side hears of the
// other one.
func heard() []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.apart })
}

// befallAll does to all keys what shall become of them: to half of them at once,
// to the others when the cut was noticed, and at the very end what has to last.
// What lives for a moment is gone when it returns.
func (p *play) befallAll(fates []*fate, noticed func() error) error {
	var atOnce, then, lasts []*fate
	for i, f := range fates {
		switch {
		case f.kind.lasts():
			lasts = append(lasts, f)
		case i%keysPerKind == 0:
			atOnce = append(atOnce, f)
		default:
			then = append(then, f)
		}
	}
	for _, f := range atOnce {
		if err := p.befall(f); err != nil {
			return err
		}
	}
	if err := noticed(); err != nil {
		return err
	}
	for _, f := range then {
		if err := p.befall(f); err != nil {
			return err
		}
	}
	p.expired(mayfly)
	for _, f := range lasts {
		if err := p.befall(f); err != nil {
			return err
		}
	}
	return nil
}

// repairs heals the network and wants all copies to become equal by themselves, to
// be what became of each key, and so to stay: also when everything has expired that
// does, and when what is dead was forgotten.
func (p *play) repairs(fates []*fate) error {
	const via = 0
	if err := p.heal(); err != nil {
		return err
	}
	if err := p.repaired("equal", via); err != nil {
		return err
	}
	if err := p.shown("equal", fates, func(k *kind) string { return k.want }); err != nil {
		return err
	}
	if err := p.audited("audited"); err != nil {
		return err
	}
	if err := errors.Join(p.healed(), p.mendedWithoutSurprise(via)); err != nil {
		return err
	}
	p.expired(lasting)
	if err := p.shown("expired", fates, (*kind).finally); err != nil {
		return err
	}
	if err := p.forgotten(via, fates); err != nil {
		return err
	}
	if err := p.shown("forgotten", fates, (*kind).finally); err != nil {
		return err
	}
	return p.audited("audited again")
}

// firstIn is the first of some homes that is in a group.
func firstIn(homes, group []int) int {
	return homes[slices.IndexFunc(homes, func(h int) bool { return slices.Contains(group, h) })]
}
