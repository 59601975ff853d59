package version

import "time"

// Stamp is a reading of a hybrid logical clock: 48 bits of milliseconds since
// 1970, then a 16-bit counter for readings within one millisecond. (Kulkarni,
// Demirbas, Madeppa, Avva, Leone, "Logical Physical Clocks", 2014.)
type Stamp uint64

const counterBits = 16

// StampAt is the first stamp of a time's millisecond.
func StampAt(t time.Time) Stamp { return Stamp(uint64(t.UnixMilli()) << counterBits) }

// Time is the stamp's physical part.
func (s Stamp) Time() time.Time { return time.UnixMilli(int64(s >> counterBits)) }

// Next is the smallest stamp behind s.
func (s Stamp) Next() Stamp { return s + 1 }
