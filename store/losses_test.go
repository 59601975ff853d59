package store

import (
	"fmt"
	"slices"
	"testing"
)

func TestLossThatIsFoundAgainLeavesRoomForOthers(t *testing.T) {
	var l losses
	for range 2 * lossSentencesMax {
		l.loseEvery("the disk is gone")
	}
	for i := range 2 * lossSentencesMax {
		l.lose(7, "table %d is damaged", i)
	}
	if got := len(l.Sentences); got != lossSentencesMax {
		t.Fatalf("%d sentences, want the bound %d", got, lossSentencesMax)
	}
	for _, want := range []string{"the disk is gone", fmt.Sprintf("table %d is damaged", lossSentencesMax-2)} {
		if !slices.Contains(l.Sentences, want) {
			t.Errorf("%q is not told, but %q", want, l.Sentences)
		}
	}
}
