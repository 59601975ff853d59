package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// visible makes a string of a stranger safe to look at: what would not be seen,
// or would turn the line around, is written as an escape, and what is more than most
// runes is cut off. Markup is not its affair: the templates escape that.
func visible(s string, most int) string {
	if plain(s) && len(s) <= most {
		return s
	}
	var b strings.Builder
	marks, n := 0, 0
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		shown := s[:size]
		switch {
		case r == utf8.RuneError && size == 1:
			shown = fmt.Sprintf(`\x%02x`, s[0])
		case r == '\n':
			shown = `\n`
		case marks > marksMost || unicode.In(r, unicode.C, unicode.Zl, unicode.Zp, unicode.Variation_Selector):
			shown = fmt.Sprintf(`\u{%x}`, r)
		}
		if n += utf8.RuneCountInString(shown); n > most {
			b.WriteString("…")
			break
		}
		b.WriteString(shown)
		s = s[size:]
	}
	return b.String()
}

// marksMost is how many marks may stand on one letter: more would climb over
// the lines around.
const marksMost = 2

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// names lists machines, so many that a line holds them.
func names(list []string) string {
	const most = 12
	var b strings.Builder
	for i, n := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(visible(n, nameMost))
	}
	return b.String()
}

// Bounds of what is shown of a stranger's text, in runes.
const (
	nameMost = 40
	keyMost  = 80
	noteMost = 400
	lineMost = 400
)

// seconds writes a duration as people say it.
func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + seconds(-d)
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return short(float64(d)/1e3) + " µs"
	case d < time.Second:
		return short(float64(d)/1e6) + " ms"
	case d < 2*time.Minute:
		return short(d.Seconds()) + " s"
	case d < time.Hour:
		return clock(d) + " min"
	case d < 48*time.Hour:
		return short(d.Hours()) + " h"
	}
	return short(d.Hours()/24) + " days"
}

// short writes a number with three digits at most that mean something.
func short(f float64) string {
	digits := 2
	switch {
	case f >= 100:
		digits = 0
	case f >= 10:
		digits = 1
	}
	s := strconv.FormatFloat(f, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func clock(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// moment writes a time since the beginning, to the millisecond.
func moment(d time.Duration) string {
	if d >= 2*time.Minute {
		return fmt.Sprintf("%d:%06.3f", int(d/time.Minute), (d % time.Minute).Seconds())
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}

// count writes a number with its thousands set apart.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes how many of something.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// percent never says all or none unless it is so.
func percent(part, whole int) string {
	switch p := 100 * float64(part) / float64(whole); {
	case whole == 0:
		return "–"
	case part == 0:
		return "0 %"
	case part == whole:
		return "100 %"
	case p < 1:
		return "<1 %"
	case p > 99:
		return ">99 %"
	default:
		return strconv.Itoa(int(p+0.5)) + " %"
	}
}

// sentence joins parts with commas and an "and".
func sentence(parts []string) string {
	switch n := len(parts); n {
	case 0:
		return ""
	case 1:
		return parts[0]
	default:
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
}
