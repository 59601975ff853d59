package version

import "time"

// Stamp is a reading of a hybrid logical clock: 48 bits of milliseconds since
// 1970, then a 16-bit counter for readings within one millisecond. (Kulkarni,
// Demirbas, Madeppa, Avva, Leone, "Logical Physical Clocks", 2014.)
type Stamp uint64

const (
	counterBits = 16
	millisMax   = 1<<(64-counterBits) - 1 // the year 10889
)

// StampAt is the first stamp of a time's millisecond. A time that a stamp cannot
// hold, before 1970 for one, becomes the nearest that it can.
func StampAt(t time.Time) Stamp {
	return Stamp(uint64(max(0, min(millisMax, t.UnixMilli()))) << counterBits)
}

// Time is the stamp's physical part.
func (s Stamp) Time() time.Time { return time.UnixMilli(int64(s >> counterBits)) }

// Next is the smallest stamp behind s. The very last stamp stays what it is.
func (s Stamp) Next() Stamp {
	if s == 1<<64-1 {
		return s
	}
	return s + 1
}
