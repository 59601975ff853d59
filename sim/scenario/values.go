package scenario

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
)

// allNodes stands for every node in a list.
const allNodes = "all"

// duration reads a time of 0 to TimeMax.
func duration(word string) (time.Duration, error) {
	d, err := time.ParseDuration(word)
	if err != nil {
		return 0, fmt.Errorf("time %q: want a number and a unit, such as 500ms, 10s or 1m30s", word)
	}
	if d < 0 || d > TimeMax {
		return 0, fmt.Errorf("time %s: want 0s to %s", word, short(TimeMax))
	}
	return d, nil
}

// positive is duration, but not 0.
func positive(word string) (time.Duration, error) {
	d, err := duration(word)
	if err == nil && d == 0 {
		err = fmt.Errorf("time %s: want more than 0s", word)
	}
	return d, err
}

// short writes a time as people do.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// count reads a whole number.
func count(word string, least, most int) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q: want a whole number from %d to %d", word, least, most)
	}
	return n, nil
}

// percent reads 0% to 100%.
func percent(word string) (int, error) {
	digits, ok := strings.CutSuffix(word, "%")
	if !ok {
		return 0, fmt.Errorf("%q: want a percentage, such as 50%%", word)
	}
	n, err := count(digits, 0, 100)
	if err != nil {
		return 0, fmt.Errorf("%q: want 0%% to 100%%", word)
	}
	return n, nil
}

// share reads a percentage with up to two decimals, as a fraction.
func share(word string) (float64, error) {
	digits, ok := strings.CutSuffix(word, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(n >= 0 && n <= 100) || n != math.Round(n*100)/100 {
		return 0, fmt.Errorf("%q: want 0%% to 100%%, with at most two decimals", word)
	}
	return math.Round(n*100) / 1e4, nil
}

func shareText(f float64) string {
	return strconv.FormatFloat(math.Round(f*1e4)/100, 'f', -1, 64) + "%"
}

// rate reads operations a second.
func rate(word string) (float64, error) {
	digits, ok := strings.CutSuffix(word, "/s")
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(n >= 0.01 && n <= 1000) {
		return 0, fmt.Errorf("rate %q: want 0.01/s to 1000/s", word)
	}
	return n, nil
}

func rateText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) + "/s" }

// bytes reads a size.
func bytes(word string, most int) (int, error) {
	unit, digits := 1, word
	for suffix, u := range map[string]int{"KB": 1 << 10, "MB": 1 << 20} {
		if d, ok := strings.CutSuffix(word, suffix); ok {
			unit, digits = u, d
		}
	}
	if unit == 1 {
		digits, _ = strings.CutSuffix(word, "B")
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > most/unit {
		return 0, fmt.Errorf("size %q: want 0 to %s, such as 100, 4KB or 1MB", word, bytesText(most))
	}
	return n * unit, nil
}

func bytesText(n int) string {
	switch {
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMB", n>>20)
	case n > 0 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKB", n>>10)
	}
	return fmt.Sprint(n)
}

// ParseLevel reads one, quorum, all or a number of homes.
func ParseLevel(word string) (Level, error) {
	switch word {
	case "one":
		return One, nil
	case "quorum":
		return Quorum, nil
	case "all":
		return All, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > ring.ReplicasMax {
		return 0, fmt.Errorf("level %q: want one, quorum, all or 1 to %d", word, ring.ReplicasMax)
	}
	return Level(n), nil
}

// name checks a name of a node, zone, load, key, value or read.
func name(what, word string) (string, error) {
	ok := len(word) >= 1 && len(word) <= wordMax && word[0] != '-'
	for _, c := range word {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if !ok {
		return "", fmt.Errorf("%s %q: want 1 to %d letters, digits, - and _", what, word, wordMax)
	}
	if word == "for" || slices.Contains(reserved[what], word) {
		return "", fmt.Errorf("%s %q: the word means something else here", what, word)
	}
	return word, nil
}

// reserved words are no names, each of one kind of thing.
var reserved = map[string][]string{
	"node": append([]string{
		allNodes, "right", "normal", "sees", "direct", "blind", "context", "sloppy", "side", "where", "succeed", "are", "take", "is",
	}, diskFaults...),
	"value": {"none", "absent", "ok", "refused", "unknown", "failed"},
}

// names reads a list with commas or blanks between.
func names(what string, words []string) ([]string, error) {
	var out []string
	for _, w := range words {
		for part := range strings.SplitSeq(w, ",") {
			if part == allNodes && what == "node" {
				out = append(out, part)
				continue
			}
			n, err := name(what, part)
			if err != nil {
				return nil, err
			}
			if slices.Contains(out, n) {
				return nil, fmt.Errorf("%s %s is there twice", what, n)
			}
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("want at least one %s", what)
	}
	if len(out) > 1 && slices.Contains(out, allNodes) {
		return nil, fmt.Errorf("all stands alone: it is every node")
	}
	return out, nil
}
