package version

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/kithdb/kith/ring"
)

// A context token hands a Context to a client, who gives it back with a later
// put of the same key:
//
//	format   1 byte
//	crc      4 bytes, CRC32C of the token from here on
//	cluster  8 bytes, the beginning of the cluster's ID
//	key      8 bytes, FNV-1a hash of the key
//	seen     uvarint count, then each: actor 8 bytes, seq uvarint
//
// The token guards against mistakes, not against clients who forge it: they may
// write the key anyway.
const (
	tokenFormat = 1
	tokenFixed  = 1 + 4 + 8 + 8
)

// TokenSizeMax bounds a token of SeenMax actors, in bytes.
const TokenSizeMax = tokenFixed + binary.MaxVarintLen32 + SeenMax*(8+binary.MaxVarintLen64)

// ErrToken says that a context token is none for this key of this cluster. The
// message says which of damaged, other key or other cluster it is.
var ErrToken = errors.New("bad context token")

// AppendToken appends the token that binds c to a key of a cluster. It is never
// empty, also for a key that was never written. c names at most SeenMax actors.
func AppendToken(b []byte, cluster ring.ClusterID, key []byte, c Context) []byte {
	start := len(b)
	b = append(b, tokenFormat, 0, 0, 0, 0)
	b = append(b, cluster[:8]...)
	b = binary.BigEndian.AppendUint64(b, keyHash(key))
	b = binary.AppendUvarint(b, uint64(len(c)))
	for _, d := range c {
		b = appendDot(b, d)
	}
	binary.BigEndian.PutUint32(b[start+1:], crc32.Checksum(b[start+5:], castagnoli))
	return b
}

// ParseToken reads a token that AppendToken made for the same cluster and key.
// Every error is an ErrToken. The Context holds no reference to the token.
func ParseToken(token []byte, cluster ring.ClusterID, key []byte) (Context, error) {
	if len(token) <= tokenFixed || len(token) > TokenSizeMax {
		return nil, fmt.Errorf("%w: damaged: %d bytes, want %d to %d", ErrToken, len(token), tokenFixed+1, TokenSizeMax)
	}
	if token[0] != tokenFormat {
		return nil, fmt.Errorf("%w: damaged: unknown format %d", ErrToken, token[0])
	}
	if binary.BigEndian.Uint32(token[1:]) != crc32.Checksum(token[5:], castagnoli) {
		return nil, fmt.Errorf("%w: damaged: checksum", ErrToken)
	}
	if [8]byte(token[5:13]) != [8]byte(cluster[:8]) {
		return nil, fmt.Errorf("%w: it belongs to another cluster: %x..., this one is %s", ErrToken, token[5:13], cluster)
	}
	if binary.BigEndian.Uint64(token[13:]) != keyHash(key) {
		return nil, fmt.Errorf("%w: it belongs to another key than %.64q", ErrToken, key)
	}
	p := parser{b: token[tokenFixed:]}
	c := p.context()
	if p.bad || len(p.b) > 0 || !c.valid() {
		return nil, fmt.Errorf("%w: damaged: context", ErrToken)
	}
	return c, nil
}

// keyHash is 64-bit FNV-1a.
func keyHash(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, x := range key {
		h = (h ^ uint64(x)) * 1099511628211
	}
	return h
}
