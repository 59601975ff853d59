package ring

import (
	"fmt"
	"strings"
	"time"
)

// words say who has forced the ring, when and with whom.
func (f *Forced) words(in *Record) string {
	names := make([]string, len(f.Survivors))
	for i, id := range f.Survivors {
		names[i] = in.nameOf(id)
	}
	who := f.Who
	if who == "" {
		who = "somebody"
	}
	return fmt.Sprintf("by %s at %s (%s), with the survivors %s", who, in.nameOf(f.By),
		time.UnixMilli(int64(f.Time)).UTC().Format(time.RFC3339), strings.Join(names, ", "))
}

// forcedChanges say what r was forced to since prev, and who was readmitted.
func (r *Record) forcedChanges(prev *Record) (lines []string) {
	for i := len(prev.Forced); i < len(r.Forced); i++ {
		f := &r.Forced[i]
		lines = append(lines, fmt.Sprintf("the ring was FORCED to epoch %d on top of epoch %d without a majority of its keepers, %s", f.Epoch, f.Base, f.words(r)))
	}
	if len(prev.Forced) != len(r.Forced) || len(r.Forced) == 0 {
		return lines
	}
	for _, id := range prev.LastForced().Apart {
		if !r.IsApart(id) && r.Member(id) != nil {
			lines = append(lines, fmt.Sprintf("%s may be a keeper again", r.nameOf(id)))
		}
	}
	return lines
}
