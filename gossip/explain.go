package gossip

import (
	"errors"
	"fmt"
	"strings"
)

// ErrDuplicate: another process runs with the ID of this node, so this one
// must stop.
var ErrDuplicate = errors.New("gossip: another process has this node's ID")

var (
	errForeign   = errors.New("refused a member of another cluster")
	errContested = errors.New("this node's ID is announced from another address")
	errEarly     = errors.New("too early for a rumour")
	errStale     = errors.New("this node's old address")

	errShutDown = errors.New("gossip: the membership library shut down by itself")
)

const (
	sayOtherKey     = "the other side has another gossip key"
	sayTheyArePlain = "the other side does not encrypt gossip, and this node has a key"
	sayTheyEncrypt  = "the other side encrypts gossip, and this node has no key"
)

// explain says in plain words why a join failed. The libraries pass their
// errors as text, so text is what there is to go by.
func explain(addr, cluster string, err error) error {
	text := err.Error()
	say := ""
	switch {
	case strings.Contains(text, errForeign.Error()), strings.Contains(text, errContested.Error()):
		return fmt.Errorf("join %s: %s", addr, ours(text))
	case strings.Contains(strings.ToLower(text), "no installed keys could decrypt"):
		say = sayOtherKey
	case strings.Contains(text, "encryption is configured but remote state is not encrypted"):
		say = sayTheyArePlain
	case strings.Contains(text, "remote state is encrypted and encryption is not configured"):
		say = sayTheyEncrypt
	case strings.Contains(text, "connection refused"):
		say = "nothing listens there"
	case strings.Contains(text, "i/o timeout"), strings.Contains(text, "deadline exceeded"):
		say = "no answer"
	case strings.HasSuffix(strings.TrimSpace(text), "EOF"), strings.Contains(text, "connection reset"):
		say = fmt.Sprintf("it hung up without a word: it may belong to a cluster of another name than %q, or be no kith node", cluster)
	default:
		return fmt.Errorf("join %s: %w", addr, oneLine{err})
	}
	return fmt.Errorf("join %s: %s (%w)", addr, say, oneLine{err})
}

// ours cuts what the libraries put around a refusal of this package.
func ours(text string) string {
	for _, e := range []error{errForeign, errContested} {
		if at := strings.Index(text, e.Error()); at >= 0 {
			return strings.TrimSpace(text[at:])
		}
	}
	return text
}

// oneLine writes the list of errors that memberlist gives on one line.
type oneLine struct{ err error }

func (o oneLine) Error() string { return strings.Join(strings.Fields(o.err.Error()), " ") }
func (o oneLine) Unwrap() error { return o.err }
