package sim

import "time"

// expiryBlur is how exactly expiries are kept: to the millisecond, at both ends.
const expiryBlur = 5 * time.Millisecond

// mayBeGone says that a put may have expired by a time: the least that its home's
// clock can have shown when it was minted is that of its beginning. Where clocks
// were wrong nobody can tell.
func (k *oracle) mayBeGone(put *Op, by time.Time) bool {
	return put.TTL > 0 && (k.late == 0 || by.IsZero() || !by.Add(expiryBlur).Before(put.Began.Add(put.TTL)))
}

// mustBeGone says that a put has certainly expired at a time.
func (k *oracle) mustBeGone(put *Op, at time.Time) bool {
	if put.TTL == 0 || k.late == 0 || at.IsZero() {
		return false
	}
	minted := put.Ended // at the latest
	if put.Outcome != Done {
		if put.Deadline.IsZero() {
			return false
		}
		minted = put.Deadline.Add(k.late)
	}
	return at.After(minted.Add(put.TTL + expiryBlur))
}
