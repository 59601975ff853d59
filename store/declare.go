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
