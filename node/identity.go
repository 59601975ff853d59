package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
)

// A node's ID is in its store, as all that it keeps. Where a directory is more
// than the store, the ID is there a second time: a table that rots may take the
// metadata with it, and a node that still knows who it is can be filled again.

// Keepsake keeps a few bytes outside of the store.
type Keepsake interface {
	// Load returns what was kept, nil if nothing was.
	Load() ([]byte, error)
	// Save is durable when it returns.
	Save([]byte) error
}

const (
	idFile = "ID"
	// mendMax is how long a start waits for the store to put damaged blocks out
	// of the way.
	mendMax  = 10 * time.Second
	mendLook = 20 * time.Millisecond
)

// identity returns the node's ID, drawing it if the store is new.
func (n *Node) identity(draw func() ring.NodeID) (id ring.NodeID, err error) {
	// All that is read at the start, so that one wait is enough for it.
	for _, name := range []string{"ring", "ring/cell", "ring/abstains", bookName, livesName, replaceName, historyName} {
		if _, err := n.mended(name); err != nil {
			return id, fmt.Errorf("reading metadata at the start: %w", err)
		}
	}
	raw, err := n.mended("node")
	if err != nil {
		return id, fmt.Errorf("reading the node's ID: %w", err)
	}
	kept, err := n.kept()
	if err != nil {
		return id, err
	}
	switch {
	case raw != nil && len(raw) != len(id):
		return id, fmt.Errorf("the stored node ID has %d bytes, want %d", len(raw), len(id))
	case raw != nil:
		id = ring.NodeID(raw)
		return id, n.keep(id, kept)
	}
	record, err := n.mended("ring")
	lossy := n.store.Health().MetaLost
	switch {
	case err != nil:
		return id, fmt.Errorf("reading the ring record: %w", err)
	case kept != nil && (record != nil || lossy):
		id = *kept
		n.cfg.Logger.Warn("the store has lost the node's ID; it is known from the file beside it", "node", id)
	case kept != nil:
		return id, fmt.Errorf("the data directory belongs to member %s, and its database is gone: move it away, and take the place of that member with an empty one: "+
			"kith server --data DIR --join HOST:PORT --replace %s", *kept, *kept)
	case record != nil || lossy:
		return id, errors.New("the data directory has lost the node's ID: move it away, and take the place of that member with an empty one: " +
			"kith server --data DIR --join HOST:PORT --replace ID, with the ID that kith status shows")
	default:
		id = draw()
	}
	if err := n.store.SetMeta("node", id[:]); err != nil {
		return id, fmt.Errorf("storing the node's ID: %w", err)
	}
	return id, n.keep(id, kept)
}

// mended reads metadata. While the store says that it is damaged, it is about to
// put that out of the way: then it reads as lost.
func (n *Node) mended(name string) (raw []byte, err error) {
	for deadline := time.Now().Add(mendMax); ; {
		raw, err = n.store.Meta(name)
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrFailed) || time.Now().After(deadline) {
			return raw, err
		}
		pause := time.NewTimer(mendLook)
		<-pause.C
	}
}

// kept is the ID beside the store, nil if there is none.
func (n *Node) kept() (*ring.NodeID, error) {
	if n.env.Keepsake == nil {
		return nil, nil
	}
	b, err := n.env.Keepsake.Load()
	if err != nil || b == nil {
		return nil, err
	}
	id, err := ring.ParseNodeID(string(bytes.TrimSpace(b)))
	if err != nil {
		return nil, fmt.Errorf("the file %s of the data directory is not one that this program knows: %w: %s", idFile, err, newerHint)
	}
	return &id, nil
}

// keep stores the ID beside the store, if it is not there.
func (n *Node) keep(id ring.NodeID, kept *ring.NodeID) error {
	if n.env.Keepsake == nil || kept != nil && *kept == id {
		return nil
	}
	return n.env.Keepsake.Save([]byte(id.String() + "\n"))
}

// fileKeepsake is a file of the data directory.
type fileKeepsake struct{ dir string }

// Load implements Keepsake.
func (k fileKeepsake) Load() ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(k.dir, idFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", k.dir, err)
	}
	return b, nil
}

// Save implements Keepsake.
func (k fileKeepsake) Save(b []byte) error {
	path := filepath.Join(k.dir, idFile)
	err := writeSynced(path+".new", b)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(k.dir)
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", k.dir, err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
