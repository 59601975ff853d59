package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
)

// ErrNewer: a later version of the program has written the database, in a way that this
// one would misread. Nothing was changed.
var ErrNewer = errors.New("written by a newer version of kith")

// checkFormat refuses a database of a later format. It comes before anything else is
// read: what this program does not know would look like damage to it, and be mended.
func (o *opened) checkFormat() error {
	b, err := o.db.Get([]byte(metaLosses), nil)
	switch {
	case errors.Is(err, leveldb.ErrNotFound), err != nil && corrupted(err):
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", metaLosses, err)
	}
	var l struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(b, &l) == nil && l.Format > lossFormat {
		return fmt.Errorf("%w: the database has format %d, this program knows up to %d: use the program that wrote it, or a newer one",
			ErrNewer, l.Format, lossFormat)
	}
	return nil
}
