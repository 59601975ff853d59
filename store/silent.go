package store

import "github.com/kithdb/kith/ring"

// DeclareLossOf is DeclareLoss for one partition: other homes hold what this
// store's clock claims and its records lack. From then on the partition does not
// count for reads, its clock is empty, and a new actor mints. It returns when that
// is on disk. why is for people, and is kept until the partition is repaired.
func (s *Store) DeclareLossOf(p ring.Partition, why string) error {
	s.trees.doubt(p)
	if s.vouch.lose(p, "partition %d: %s", p, why) {
		s.logger.Error("synced data was lost; reads of this partition do not count", "partition", p, "error", why)
	}
	return s.do(&control{lost: &p})
}
