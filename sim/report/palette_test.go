package report

import (
	"fmt"
	"math"
	"regexp"
	"testing"
)

// colours reads the palette of the style: light and dark of each name.
func colours(t *testing.T) map[string][2]float64 {
	all := map[string][2]float64{}
	for _, m := range regexp.MustCompile(`--(\w+): light-dark\(#(\w{6}), #(\w{6})\)`).FindAllStringSubmatch(pageCSS, -1) {
		all[m[1]] = [2]float64{luminance(t, m[2]), luminance(t, m[3])}
	}
	return all
}

// luminance is that of WCAG 2: what an eye makes of a colour, whatever its hue.
func luminance(t *testing.T, hex string) float64 {
	var c [3]int
	if _, err := fmt.Sscanf(hex, "%02x%02x%02x", &c[0], &c[1], &c[2]); err != nil {
		t.Fatalf("colour %s: %v", hex, err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v := float64(c[i]) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

// All text can be read, and the outcomes can be told apart by lightness alone:
// by who sees no hues, and on grey paper.
func TestColoursCanBeToldApart(t *testing.T) {
	all := colours(t)
	for _, c := range []struct {
		over, under string
		least       float64
	}{
		{"ink", "paper", 7}, {"soft", "paper", 4.5}, {"ok", "paper", 4.5}, {"bad", "paper", 4.5}, {"ink", "badpaper", 4.5}, {"bad", "badpaper", 4.5},
		{"c0", "t0", 4.5}, {"c1", "t1", 4.5}, {"c2", "t2", 4.5}, {"c3", "t3", 4.5},
		{"ink", "t0", 4.5}, {"ink", "t1", 4.5}, {"ink", "t2", 4.5}, {"ink", "t3", 4.5},
		{"done", "refused", 1.6}, {"refused", "unknown", 1.6}, {"done", "unknown", 3},
		{"done", "paper", 1.4}, {"refused", "paper", 2.4}, {"unknown", "paper", 7}, {"dark", "grey", 3},
	} {
		over, ok := all[c.over]
		under, ok2 := all[c.under]
		if !ok || !ok2 {
			t.Fatalf("the palette has no %s or no %s", c.over, c.under)
		}
		for i, scheme := range []string{"light", "dark"} {
			if got := contrast(over[i], under[i]); got < c.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want at least %.1f", scheme, c.over, c.under, got, c.least)
			}
		}
	}
}
