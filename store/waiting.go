package store

// Bounds of what may wait in a store: writes above them are refused with
// ErrOverloaded. One write alone may be larger than WaitingBytesMax.
const (
	WaitingMax      = queueOpsMax
	WaitingBytesMax = queueBytesMax
)

// Waiting says how many writes were taken and not committed or refused yet, and
// the bytes that are counted for them. Any goroutine may call it.
func (s *Store) Waiting() (writes, bytes int64) { return s.waiting.Load(), s.bytes.Load() }
