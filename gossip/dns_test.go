package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// dns answers as it is told, after a while.
type dns struct {
	mu    sync.Mutex
	ips   []net.IP
	err   error
	takes time.Duration
	asked int
}

func (d *dns) set(takes time.Duration, err error, ips ...net.IP) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takes, d.err, d.ips = takes, err, ips
}

// LookupIPAddr implements Resolver.
func (d *dns) LookupIPAddr(ctx context.Context, _ string) (found []net.IPAddr, err error) {
	d.mu.Lock()
	d.asked++
	ips, err, takes := d.ips, d.err, d.takes
	d.mu.Unlock()
	late := time.NewTimer(takes)
	defer late.Stop()
	select {
	case <-late.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, ip := range ips {
		found = append(found, net.IPAddr{IP: ip})
	}
	return found, err
}

var errNoSuchHost = errors.New("no such host")

// badDNS is all that may be wrong with it, and what a node says of that.
var badDNS = []struct {
	name   string
	broken func(d *dns)
	reason string
}{
	{"an error", func(d *dns) { d.set(0, errNoSuchHost) }, "no such host"},
	{"no address", func(d *dns) { d.set(0, nil) }, "no address"},
	{"slow", func(d *dns) { d.set(time.Minute, nil, net.IPv4(10, 0, 0, 1)) }, "deadline exceeded"},
	{"stale", func(d *dns) { d.set(0, nil, net.IPv4(10, 0, 0, 99)) }, "10.0.0.99"},
}

// A node that knows its seeds by name only starts whatever DNS says, tells why it meets
// nobody, and joins when DNS is well again; nobody waits for it meanwhile.
func TestFault13_ANodeKeepsTryingWhileDNSIsBad(t *testing.T) {
	for _, bad := range badDNS {
		t.Run(bad.name, func(t *testing.T) {
			inBubble(t, 1, func(w *world) {
				w.start(1)
				d, text := new(dns), new(logText)
				bad.broken(d)
				cfg := memConfig(w.net, 2)
				for i := range 8 {
					cfg.Seeds = append(cfg.Seeds, fmt.Sprintf("seed-%d.example:7946", i))
				}
				cfg.Resolver, cfg.Logger = d, text.logger()
				began := time.Now()
				c := w.startWith(2, cfg)
				if took := time.Since(began); took > 100*time.Millisecond {
					t.Errorf("the start has waited for %v", took)
				}
				time.Sleep(time.Minute)
				if got := fmt.Sprint(c.JoinError()); !strings.Contains(got, bad.reason) {
					t.Errorf("the reason is %q", got)
				}
				if len(text.lines(bad.reason)) == 0 {
					t.Error("the log does not say why")
				}
				d.mu.Lock()
				if turns := d.asked / 8; turns < 4 || turns > 60 {
					t.Errorf("asked %d times in a minute", turns)
				}
				d.mu.Unlock()
				d.set(0, nil, net.IPv4(10, 0, 0, 1))
				sees(t, c, time.Minute, 1, 2)
				time.Sleep(time.Second) // it sees them before its join is over
				if err := c.JoinError(); err != nil {
					t.Errorf("it has joined, and says %v", err)
				}
			})
		})
	}
}

// A node that has been a member needs no DNS to find the others again: they are in its
// book, and are tried before a name is looked up.
func TestFault13_AMemberReturnsByItsBookWhileDNSIsBad(t *testing.T) {
	for _, bad := range badDNS {
		t.Run(bad.name, func(t *testing.T) {
			inBubble(t, 1, func(w *world) {
				w.start(1)
				c := w.start(2, 1)
				sees(t, c, time.Minute, 1, 2)
				time.Sleep(time.Minute) // the book is saved
				w.stop(2)
				time.Sleep(time.Minute)
				d := new(dns)
				bad.broken(d)
				cfg := memConfig(w.net, 2)
				cfg.Seeds, cfg.Resolver, cfg.Book = []string{"seed.example:7946"}, d, w.books[2]
				c = w.startWith(2, cfg)
				sees(t, c, 3*time.Second, 1, 2)
			})
		})
	}
}
