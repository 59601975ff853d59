package store

// DeclareLoss is for what the files cannot show: somebody else knows that synced
// data is missing, as where a directory was restored from an old backup. From
// then on no partition counts for reads, clocks are empty, and new actors mint. It
// returns when that is on disk.
func (s *Store) DeclareLoss(why string) error {
	s.vouch.loseAll("%s", why)
	s.logger.Error("synced data was lost; reads of this node do not count", "error", why)
	return s.do(&control{lostAll: true})
}

// DeclareMissing is DeclareLoss for a store that takes the place of one that is
// gone: it lacks the records of that one, but has lost no metadata of its own.
func (s *Store) DeclareMissing(why string) error {
	s.vouch.loseEvery("%s", why)
	s.logger.Info("the records of a lost store are missing; reads of this node do not count yet", "why", why)
	return s.do(&control{lostAll: true})
}
