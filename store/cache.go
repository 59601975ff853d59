package store

import (
	"sync"
	"sync/atomic"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// headerOnlyAbove is the size in bytes above which the cache keeps a record's
// header without its values: the committer rarely needs these.
const headerOnlyAbove = 4096

const (
	cacheShards    = 64
	cacheGensShard = 256 // generations in each shard
	entryOverhead  = 320 // bytes of an entry beside its record and key
)

// entry is a committed record, or the fact that there is none. It is not
// changed once it is published, but for its place in the cache.
type entry struct {
	key string // in the database
	// rec has its values only if full. encoded is the record's encoding, cut
	// behind the header unless full; nil if there is no record.
	rec     version.Record
	encoded []byte
	full    bool

	prev, next *entry // by use, the newest first; guarded by the shard's mutex
}

// absent says that there is no record. Until it is committed, an absent entry may
// have seen something: that of a record which was removed.
func (e *entry) absent() bool { return e.encoded == nil }

// leaf is the record's, zero if there is none.
func (e *entry) leaf() version.Digest { return version.LeafOf(e.encoded) }

func (e *entry) bytes() int {
	return entryOverhead + len(e.key) + len(e.encoded) + 16*len(e.rec.Seen) + 96*len(e.rec.Siblings)
}

// committed is e as the cache takes it once it is on disk.
func (e *entry) committed() *entry {
	if !e.absent() {
		return e
	}
	return &entry{key: e.key, full: true}
}

// recordSize is the length of the whole record's encoding.
func (e *entry) recordSize() int {
	n := len(e.encoded)
	if !e.full {
		for i := range e.rec.Siblings {
			n += int(e.rec.Siblings[i].ValueSize)
		}
	}
	return n
}

// trimmed returns e as the cache keeps it: of a large record only the header.
func (e *entry) trimmed() *entry {
	if !e.full || len(e.encoded) <= headerOnlyAbove {
		return e
	}
	header, err := version.Header(e.encoded)
	if err != nil {
		panic("store: published record has no header")
	}
	out := &entry{key: e.key, encoded: append([]byte(nil), header...)}
	out.rec = version.Record{Key: []byte(e.key[dataKeySize:]), Seen: e.rec.Seen}
	out.rec.Siblings = make([]version.Sibling, len(e.rec.Siblings))
	for i, s := range e.rec.Siblings {
		s.Value = nil
		out.rec.Siblings[i] = s
	}
	return out
}

// cache holds committed records, bounded in bytes, the least recently used
// going first. Absent keys are held too.
//
// Two kinds write to it: the committer publishes what it has committed, and
// readers add what they found on disk. A reader may have read before a commit
// and add after it; the generation of the key, which every publication raises,
// tells.
type cache struct {
	shards [cacheShards]shard
}

type shard struct {
	mu       sync.Mutex // guards what follows
	entries  map[string]*entry
	lru      entry // root of a ring: next is the newest, prev the oldest
	bytes    int
	bytesMax int
	gens     [cacheGensShard]atomic.Uint64 // raised with mu held
	hits     int64
	misses   int64
}

func newCache(bytes int) *cache {
	c := new(cache)
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = make(map[string]*entry)
		s.bytesMax = bytes / cacheShards
		s.lru.prev, s.lru.next = &s.lru, &s.lru
	}
	return c
}

func (c *cache) shard(hash uint32) (*shard, *atomic.Uint64) {
	s := &c.shards[hash%cacheShards]
	return s, &s.gens[hash/cacheShards%cacheGensShard]
}

// get returns the entry of a key, nil if the cache has none, and the key's
// generation.
func (c *cache) get(hash uint32, key []byte) (*entry, uint64) { return c.find(hash, key, true) }

// peek is get for a write: what it publishes will be the newest anyway.
func (c *cache) peek(hash uint32, key []byte) (*entry, uint64) { return c.find(hash, key, false) }

func (c *cache) find(hash uint32, key []byte, touch bool) (*entry, uint64) {
	s, gen := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[string(key)]
	if e == nil {
		s.misses++
		return nil, gen.Load()
	}
	s.hits++
	if touch {
		s.touch(e)
	}
	return e, gen.Load()
}

// generation is that of a key. What was found under it is current for as long as
// it lasts, for the committer, which alone publishes.
func (c *cache) generation(hash uint32) uint64 {
	_, gen := c.shard(hash)
	return gen.Load()
}

// add takes what a reader found on disk, unless the key was published since the
// reader was given gen. It says whether e was still current.
func (c *cache) add(hash uint32, e *entry, gen uint64) bool {
	t := e.trimmed()
	s, now := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Load() != gen {
		return false
	}
	s.put(t)
	return true
}

// publish takes what was committed.
func (c *cache) publish(hash uint32, e *entry) {
	t := e.trimmed()
	s, gen := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	gen.Add(1)
	s.put(t)
}

// forget forgets partitions. Of every key, also what readers are about to add is
// forgotten.
func (c *cache) forget(of func(p ring.Partition) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for key, e := range s.entries {
			if of(partitionOf([]byte(key[:dataKeySize]))) {
				s.drop(e)
				delete(s.entries, key)
			}
		}
		for g := range s.gens {
			s.gens[g].Add(1)
		}
		s.mu.Unlock()
	}
}

// clear forgets everything, also what readers are about to add.
func (c *cache) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.entries)
		s.lru.prev, s.lru.next = &s.lru, &s.lru
		s.bytes = 0
		for g := range s.gens {
			s.gens[g].Add(1)
		}
		s.mu.Unlock()
	}
}

func (c *cache) counts() (hits, misses int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		hits += s.hits
		misses += s.misses
		s.mu.Unlock()
	}
	return hits, misses
}

func (s *shard) put(e *entry) {
	if old := s.entries[e.key]; old != nil {
		s.drop(old)
	}
	if e.bytes() > s.bytesMax {
		delete(s.entries, e.key)
		return
	}
	s.entries[e.key] = e
	s.bytes += e.bytes()
	s.link(e)
	for s.bytes > s.bytesMax {
		oldest := s.lru.prev
		s.drop(oldest)
		delete(s.entries, oldest.key)
	}
}

func (s *shard) touch(e *entry) {
	if s.lru.next != e {
		s.unlink(e)
		s.link(e)
	}
}

func (s *shard) drop(e *entry) {
	s.bytes -= e.bytes()
	s.unlink(e)
}

// link makes e the newest.
func (s *shard) link(e *entry) {
	e.prev, e.next = &s.lru, s.lru.next
	e.prev.next, e.next.prev = e, e
}

func (s *shard) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
