package store

// TreesTrusted says that every hash tree can be trusted; false while one is being
// built from the records, or its partition is damaged.
func (s *Store) TreesTrusted() bool { return s.trees.trusted() }
