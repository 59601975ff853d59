package gossip

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// lookupTimeout bounds one question to DNS, so that a silent server delays
// the joiner and never stops it.
const lookupTimeout = 5 * time.Second

// resolve gives the IP addresses of a host. A literal asks nobody: a simulated
// world has no DNS.
func (cfg *Config) resolve(ctx context.Context, host string) ([]net.IP, error) {
	if ip := net.ParseIP(host); ip != nil {
		return []net.IP{shorten(ip)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var resolver Resolver = net.DefaultResolver
	if cfg.Resolver != nil {
		resolver = cfg.Resolver
	}
	found, err := resolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", host, err)
	}
	ips := make([]net.IP, 0, len(found))
	for _, f := range found {
		ips = append(ips, shorten(f.IP))
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("resolve %q: no address", host)
	}
	return ips, nil
}

// isName says that an address, which Start has checked, must be looked up.
func isName(addr string) bool {
	host, _, err := splitAddr(addr)
	return err == nil && net.ParseIP(host) == nil
}

// seeds are those that are names, or those that are not.
func (cfg *Config) seeds(names bool) []string {
	return slices.DeleteFunc(slices.Clone(cfg.Seeds), func(seed string) bool { return isName(seed) != names })
}

// lookup gives the addresses of seeds anew, in their order: the answer of DNS changes
// while a cluster starts. Names are looked up at once, so that many silent ones take no
// longer than one.
func (j *joiner) lookup(ctx context.Context, names []string) []string {
	found := make([][]string, len(names))
	errs := make([]error, len(names))
	var asked sync.WaitGroup
	for i, name := range names {
		ask := func() {
			host, port, err := splitAddr(name)
			if err != nil {
				return // Start has checked them
			}
			ips, err := j.c.cfg.resolve(ctx, host)
			errs[i] = err
			for _, ip := range ips {
				found[i] = append(found[i], joinAddr(ip, port))
			}
		}
		if isName(name) {
			asked.Go(ask)
		} else {
			ask()
		}
	}
	asked.Wait()
	for i, err := range errs {
		if err != nil && ctx.Err() == nil {
			j.failed(names[i], err)
		}
	}
	return slices.Concat(found...)
}
