package ring

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// NodeID names a member for as long as its data directory lives. It is random,
// drawn once, and never given to another directory.
type NodeID [16]byte

// ClusterID names a cluster from its founding on. The zero value means that a
// node belongs to no cluster yet.
type ClusterID [16]byte

// Partition is one arc of the hash circle.
type Partition uint16

// String gives the ID as 32 hexadecimal digits.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// Short gives the first eight digits, for people.
func (id NodeID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero says that no member is named.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// Compare orders IDs by their bytes.
func (id NodeID) Compare(other NodeID) int { return bytes.Compare(id[:], other[:]) }

// ParseNodeID reads what String wrote.
func ParseNodeID(s string) (NodeID, error) {
	var id NodeID
	if err := parseID(id[:], s); err != nil {
		return NodeID{}, fmt.Errorf("node ID %q: %w", s, err)
	}
	return id, nil
}

// String gives the ID as 32 hexadecimal digits.
func (id ClusterID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says that no cluster is named.
func (id ClusterID) IsZero() bool { return id == ClusterID{} }

// ParseClusterID reads what String wrote.
func ParseClusterID(s string) (ClusterID, error) {
	var id ClusterID
	if err := parseID(id[:], s); err != nil {
		return ClusterID{}, fmt.Errorf("cluster ID %q: %w", s, err)
	}
	return id, nil
}

func parseID(to []byte, s string) error {
	if len(s) != hex.EncodedLen(len(to)) {
		return fmt.Errorf("want %d hexadecimal digits, got %d characters", hex.EncodedLen(len(to)), len(s))
	}
	_, err := hex.Decode(to, []byte(s))
	return err
}
