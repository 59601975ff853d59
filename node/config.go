package node

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/node/heal"
	"github.com/kithdb/kith/node/kv"
	"github.com/kithdb/kith/ring"
)

// Config is what an operator says about a node. The zero value of a field is its
// default.
type Config struct {
	// Data is the directory of everything that the node keeps. Required.
	Data string
	// Listen is the HOST:PORT for clients and other nodes; default
	// 127.0.0.1:7600. Port 0 takes a free one.
	Listen string
	// Gossip is the HOST:PORT for membership, UDP and TCP; default
	// 127.0.0.1:7601. Port 0 takes a free one.
	Gossip string
	// Join names gossip addresses of any members. A node that was a member
	// before needs none.
	Join []string
	// Expect founds a cluster of that many members, if the directory is
	// empty and Join is too.
	Expect int
	// Standby keeps the node without a share of the slots when it becomes a
	// member, until somebody has it join.
	Standby bool
	// Replace is the ID, or at least its first 8 digits, of a member whose disk
	// is lost and whose place this node takes, with an empty directory and
	// Join. It is remembered until that is done.
	Replace string
	// Replicas is the number of homes of a key in a cluster that is founded,
	// 1 to ring.ReplicasMax; default 3.
	Replicas int
	// Partitions of a cluster that is founded: a power of two up to 16,384;
	// default 1,024.
	Partitions int
	// Cluster is the cluster's name; default kith.
	Cluster string
	// Zone is where the node stands: homes are spread over zones.
	Zone string
	// Name is a label for people; default is the beginning of the node's ID.
	Name string
	// Key encrypts gossip: 16, 24 or 32 bytes.
	Key []byte
	// ValueMax bounds a value in bytes; default 1 MiB, at most 16 MiB.
	ValueMax int
	// CacheBytes bounds the cache of records; default 64 MiB.
	CacheBytes int
	// WriteBuffer is how many bytes of records gather in memory before they
	// become a table; default 16 MiB, never less than two of the largest
	// records. Many nodes in one process may want less than the default.
	WriteBuffer int
	// AuditEvery is how long it takes until every copy was compared with every
	// other home's, 1 s to 30 days; default 10 minutes.
	AuditEvery time.Duration
	// ScrubEvery is how long one pass over all that is on disk takes, 1 minute
	// to a year; default 24 hours.
	ScrubEvery time.Duration
	// RepairRate bounds what the node fetches from other homes to repair its
	// copies, 64 KiB to 1 GiB a second; default 64 MiB.
	RepairRate int
	// ForgetAfter is how old a deleted key is at least when it is forgotten;
	// default 1 minute. It is no part of what makes that safe.
	ForgetAfter time.Duration
	// AutoHeal has the slots of a member that is dead given to a standby, or to all
	// others: one member at a time, only while a majority of members can be reached
	// from here.
	AutoHeal bool
	// DeadAfter is how long a member must be away, by gossip and by requests, to be
	// dead, 10 seconds to 30 days; default 5 minutes.
	DeadAfter time.Duration
	// OnMemberDead is what a shell runs when a member is dead, once for as long as it
	// stays away; see heal.Shell for what it is told.
	OnMemberDead string
	// Insecure allows addresses other than loopback, without encryption of
	// data and without authentication.
	Insecure bool
	// Version of the program, for status.
	Version string
	// Logger; default slog.Default.
	Logger *slog.Logger
}

// Defaults of Config.
const (
	ListenDefault  = "127.0.0.1:7600"
	GossipDefault  = "127.0.0.1:7601"
	ClusterDefault = "kith"

	AuditEveryDefault = 10 * time.Minute
	ScrubEveryDefault = 24 * time.Hour
	RepairRateDefault = 64 << 20
	DeadAfterDefault  = heal.AfterDefault
)

// Bounds of Config.
const (
	auditEveryMin, auditEveryMax = time.Second, 30 * 24 * time.Hour
	scrubEveryMin, scrubEveryMax = time.Minute, 366 * 24 * time.Hour
	repairRateMin, repairRateMax = 64 << 10, 1 << 30
	deadAfterMin, deadAfterMax   = heal.AfterMin, 30 * 24 * time.Hour
)

// ErrConfig says that a Config breaks a rule, which the error names: nothing was
// started or changed.
var ErrConfig = errors.New("bad configuration")

// complete fills in the defaults and checks the rest.
func (c Config) complete() (Config, error) {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Listen, ListenDefault)
	def(&c.Gossip, GossipDefault)
	def(&c.Cluster, ClusterDefault)
	def(&c.Version, "devel")
	c.Replicas = cmp.Or(c.Replicas, ring.ReplicasDefault)
	c.Partitions = cmp.Or(c.Partitions, ring.PartitionsDefault)
	c.ValueMax = cmp.Or(c.ValueMax, kv.ValueMaxDefault)
	c.CacheBytes = cmp.Or(c.CacheBytes, 64<<20)
	c.AuditEvery = cmp.Or(c.AuditEvery, AuditEveryDefault)
	c.ScrubEvery = cmp.Or(c.ScrubEvery, ScrubEveryDefault)
	c.RepairRate = cmp.Or(c.RepairRate, RepairRateDefault)
	c.DeadAfter = cmp.Or(c.DeadAfter, DeadAfterDefault)
	if c.WriteBuffer > 0 {
		c.WriteBuffer = max(c.WriteBuffer, 2*(c.ValueMax+recordRoom))
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

func (c *Config) check() error {
	switch {
	case c.WriteBuffer < 0:
		return fmt.Errorf("write buffer of %d bytes: it can't be negative", c.WriteBuffer)
	case c.Expect < 0 || c.Expect > ring.MembersMax:
		return fmt.Errorf("expect %d: a cluster is founded with 1 to %d members", c.Expect, ring.MembersMax)
	case c.Replace != "" && c.Expect > 0:
		return fmt.Errorf("replace %s and expect %d: a node that takes the place of a member does not found a cluster", c.Replace, c.Expect)
	case c.Replace != "" && !isIDStart(c.Replace):
		return fmt.Errorf("replace %q: want the ID of a member, or at least its first 8 digits, as kith status shows it", c.Replace)
	case c.Replicas < 1 || c.Replicas > ring.ReplicasMax:
		return fmt.Errorf("replicas %d: a key has 1 to %d homes", c.Replicas, ring.ReplicasMax)
	case c.Expect > 0 && len(c.Join) == 0 && c.Expect < c.Replicas:
		return fmt.Errorf("expect %d members for %d replicas: each replica needs a member of its own: raise --expect or lower --replicas", c.Expect, c.Replicas)
	case c.Partitions < 1 || c.Partitions > ring.SlotCount || c.Partitions&(c.Partitions-1) != 0:
		return fmt.Errorf("partitions %d: want a power of two up to %d", c.Partitions, ring.SlotCount)
	case c.ValueMax < 1 || c.ValueMax > kv.ValueMaxLimit:
		return fmt.Errorf("values of up to %d bytes: the bound is 1 to %d", c.ValueMax, kv.ValueMaxLimit)
	case c.AuditEvery < auditEveryMin || c.AuditEvery > auditEveryMax:
		return fmt.Errorf("audit every %v: the bound is %v to %v", c.AuditEvery, auditEveryMin, auditEveryMax)
	case c.ScrubEvery < scrubEveryMin || c.ScrubEvery > scrubEveryMax:
		return fmt.Errorf("scrub every %v: the bound is %v to %v", c.ScrubEvery, scrubEveryMin, scrubEveryMax)
	case c.RepairRate < repairRateMin || c.RepairRate > repairRateMax:
		return fmt.Errorf("repair at %d bytes a second: the bound is %d to %d", c.RepairRate, repairRateMin, repairRateMax)
	case c.DeadAfter < deadAfterMin || c.DeadAfter > deadAfterMax:
		return fmt.Errorf("dead after %v: the bound is %v to %v", c.DeadAfter, deadAfterMin, deadAfterMax)
	case len(c.Name) > gossip.NameMax:
		return fmt.Errorf("name has %d bytes: up to %d", len(c.Name), gossip.NameMax)
	case len(c.Zone) > gossip.ZoneMax:
		return fmt.Errorf("zone has %d bytes: up to %d", len(c.Zone), gossip.ZoneMax)
	}
	for what, addr := range map[string]string{"listen": c.Listen, "gossip": c.Gossip} {
		if err := c.checkAddress(what, addr); err != nil {
			return err
		}
	}
	return nil
}

// isIDStart says that a text may be the beginning of a member's ID.
func isIDStart(s string) bool {
	if len(s) < 8 || len(s) > 2*len(ring.NodeID{}) {
		return false
	}
	for _, c := range s {
		if !strings.ContainsRune("0123456789abcdefABCDEF", c) {
			return false
		}
	}
	return true
}

// checkAddress refuses to serve strangers by accident.
func (c *Config) checkAddress(what, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s address %q: want HOST:PORT: %w", what, addr, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s address %q: port %q: want 0 to 65535", what, addr, port)
	}
	if c.Insecure || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s address %q is not loopback: there is no encryption and no authentication yet, so that everybody who reaches it can read and write all data; add --insecure to allow that", what, addr)
	}
	return nil
}

// errNoCluster tells a newcomer what it lacks.
func errNoCluster(c *Config) error {
	return errors.New("the data directory " + c.Data + " is empty, and neither --join nor --expect is given:\n" +
		"  to join a cluster:     kith server --data " + c.Data + " --join HOST:PORT\n" +
		"  to found a new one:    kith server --data " + c.Data + " --expect N\n" +
		"  if the disk of a member was lost, to take its place:\n" +
		"                         kith server --data " + c.Data + " --join HOST:PORT --replace ID")
}
