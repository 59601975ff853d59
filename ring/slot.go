package ring

import "bytes"

// SlotCount is the number of hash slots, that of Redis Cluster. A partition is a
// run of slots.
const SlotCount = 16384

// crcTable has the CRC16 of every byte, polynomial 0x1021 (XMODEM).
var crcTable = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()

// SlotOf gives the slot of a key, 0 to SlotCount-1, as Redis Cluster does: the
// CRC16 of the key or, so that related keys can be kept together, of its hash
// tag. The tag is what stands between the first { and the first } after it; an
// empty one is none.
func SlotOf(key []byte) uint16 {
	var crc uint16
	for _, b := range hashed(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^b]
	}
	return crc % SlotCount
}

// hashed is the part of the key that counts.
func hashed(key []byte) []byte {
	open := bytes.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	tag := key[open+1:]
	end := bytes.IndexByte(tag, '}')
	if end <= 0 {
		return key
	}
	return tag[:end]
}
