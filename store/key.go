package store

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/kithdb/kith/ring"
)

// Database keys: d/ partition key -> record, c/ partition -> clock, l/ partition
// number -> block of the dot log, h/ home partition key -> stand-in, t/ partition
// -> hash tree at the last close, m/ name -> metadata. Partitions are two
// big-endian bytes, so that one partition's records lie together.
const (
	dataPrefix    = "d/"
	clockPrefix   = "c/"
	logPrefix     = "l/"
	standInPrefix = "h/"
	treePrefix    = "t/"
	metaPrefix    = "m/"

	dataKeySize    = len(dataPrefix) + 2         // what stands before the key
	standInKeySize = len(standInPrefix) + 16 + 2 // what stands before the key
)

// Names of the store's own metadata; they begin with a dot, which the names of
// others must not.
const (
	metaClocks = metaPrefix + ".clocks"
	metaBatch  = metaPrefix + ".batch"
	metaFences = metaPrefix + ".fences"
	metaKeys   = metaPrefix + ".keys"
	metaLosses = metaPrefix + ".losses"
	metaStands = metaPrefix + ".standins"
	metaTrees  = metaPrefix + ".trees"
	metaBoot   = metaPrefix + "boot"
	metaRing   = metaPrefix + "ring"

	// metaEndings stands before partition and actor of an Ending.
	metaEndings = metaPrefix + ".endings/"
	// metaPulled and metaDropping stand before a partition.
	metaPulled   = metaPrefix + ".pulled/"
	metaDropping = metaPrefix + ".dropping/"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendDataKey(b []byte, p ring.Partition, key []byte) []byte {
	b = append(b, dataPrefix...)
	b = binary.BigEndian.AppendUint16(b, uint16(p))
	return append(b, key...)
}

func clockKey(p ring.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte(clockPrefix), uint16(p))
}

func logKey(p ring.Partition, number uint64) []byte {
	b := binary.BigEndian.AppendUint16([]byte(logPrefix), uint16(p))
	return binary.BigEndian.AppendUint64(b, number)
}

func treeKey(p ring.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte(treePrefix), uint16(p))
}

func appendStandInKey(b []byte, home ring.NodeID, p ring.Partition, key []byte) []byte {
	b = append(b, standInPrefix...)
	b = append(b, home[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(p))
	return append(b, key...)
}

// hashKey spreads database keys over the cache; it is the same in every run.
func hashKey(key []byte) uint32 { return crc32.Checksum(key, castagnoli) }

// partitionOf reads the partition of a database key under dataPrefix; 0 if it is
// too short to have one, and the last one there is if it names a higher one.
func partitionOf(key []byte) ring.Partition {
	if len(key) < dataKeySize {
		return 0
	}
	return min(ring.SlotCount-1, ring.Partition(binary.BigEndian.Uint16(key[len(dataPrefix):])))
}
