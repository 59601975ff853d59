package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
)

// serverFlags are those of server. Each has a KITH_* variable and a key of the
// configuration file.
type serverFlags struct {
	cfg       node.Config
	config    string
	keyFile   string
	valueMax  sizeFlag
	cacheSize sizeFlag
	repair    sizeFlag
	logFormat string
	logLevel  string
}

// Of --forget-after. Nothing unsafe comes of a short time or a long one: a short
// one has every delete looked at soon, a long one keeps the disk full for longer.
const (
	forgetAfterDefault = time.Minute
	forgetAfterMin     = time.Second
	forgetAfterMax     = 366 * 24 * time.Hour
)

// Of --dead-after: less is a network that flaps, or a server that is started again.
const (
	deadAfterMin = 10 * time.Second
	deadAfterMax = 30 * 24 * time.Hour
)

func (a *app) serverCommand() *cobra.Command {
	s := &serverFlags{}
	cmd := &cobra.Command{
		Use:   "server --data DIR (--join HOST:PORT,... [--standby | --replace ID] | --expect N)",
		Short: "Run a node",
		Long: `Run a node of a cluster, until SIGTERM or an interrupt.

A new cluster is founded by one server with --expect N and no --join, as soon
as N members are there; all others --join any members. A node that was a member
before needs neither: it comes back by itself.

Who joins later is given its share of the keys, which moves to it while clients read
and write: see kith ring moves. With --standby it is a member without a share, that
takes requests and passes them on, until kith join NODE gives it one, or kith replace
OLD --with NODE the place of another. To stop a server is not to leave: kith leave has
it hand over what it has, and ends it.

A member whose disk is lost is replaced by a server with an empty directory,
--join and --replace with the member's ID: it takes over all its slots and fills
itself from the other homes before it counts for reads. That is for good: the lost
member never comes back under its ID, and must not run any more.

Every flag can also be set by the variable that is named behind it, or in the
file of --config, a YAML mapping from flag names to values:

  data: /var/lib/kith
  listen: 127.0.0.1:7600
  join: [127.0.0.1:7601, 127.0.0.1:7611]

A flag goes before a variable, and a variable before the file.

There is no encryption of data and no authentication yet: addresses other than
loopback need --insecure.`,
		Example: `  kith server --data n1 --listen 127.0.0.1:7600 --gossip 127.0.0.1:7601 --expect 3
  kith server --data n2 --listen 127.0.0.1:7610 --gossip 127.0.0.1:7611 --join 127.0.0.1:7601
  kith server --data n4 --listen 127.0.0.1:7630 --gossip 127.0.0.1:7631 --join 127.0.0.1:7601 --standby
  kith server --data new --listen 127.0.0.1:7610 --gossip 127.0.0.1:7611 --join 127.0.0.1:7601 --replace 1f0c2a77`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.complete(a)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg)
		},
	}
	s.add(cmd.Flags())
	return cmd
}

func (s *serverFlags) add(f *pflag.FlagSet) {
	f.StringVar(&s.config, "config", "", "file with values for these flags")
	f.StringVar(&s.cfg.Data, "data", "", "directory of everything that the node keeps (required)")
	f.StringVar(&s.cfg.Listen, "listen", node.ListenDefault, "HOST:PORT for clients and other nodes")
	f.StringVar(&s.cfg.Gossip, "gossip", node.GossipDefault, "HOST:PORT for membership, TCP and UDP")
	f.StringSliceVar(&s.cfg.Join, "join", nil, "gossip addresses of members, HOST:PORT,...")
	f.IntVar(&s.cfg.Expect, "expect", 0, "found a cluster of this many members")
	f.BoolVar(&s.cfg.Standby, "standby", false, "join without a share of the keys, until kith join or kith replace gives it one")
	f.StringVar(&s.cfg.Replace, "replace", "", "take the place of this member, whose disk is lost: its ID, or the first 8 digits")
	f.IntVar(&s.cfg.Replicas, "replicas", ring.ReplicasDefault, "homes of each key, for the one that founds")
	f.IntVar(&s.cfg.Partitions, "partitions", ring.PartitionsDefault, "parts of the ring, for the one that founds: a power of two")
	f.StringVar(&s.cfg.Cluster, "cluster", node.ClusterDefault, "name of the cluster")
	f.StringVar(&s.cfg.Zone, "zone", "", "where the node stands: homes are spread over zones")
	f.StringVar(&s.cfg.Name, "name", "", "label for people (default: the beginning of the node's ID)")
	f.StringVar(&s.keyFile, "gossip-key-file", "", "file with the key that encrypts gossip: 16, 24 or 32 bytes in base64")
	s.valueMax, s.cacheSize = 1<<20, 64<<20
	f.Var(&s.valueMax, "value-max", "largest value, at most 16MiB")
	f.Var(&s.cacheSize, "cache", "memory for the cache of records")
	f.DurationVar(&s.cfg.AuditEvery, "audit-every", node.AuditEveryDefault, "time in which every copy is compared with every other home's")
	f.DurationVar(&s.cfg.ScrubEvery, "scrub-every", node.ScrubEveryDefault, "time in which all that is on disk is read and checked")
	f.DurationVar(&s.cfg.ForgetAfter, "forget-after", forgetAfterDefault, "age at which what was deleted or has expired may be forgotten, once every home agrees")
	s.repair = node.RepairRateDefault
	f.Var(&s.repair, "repair-rate", "most bytes a second that are fetched from other homes to repair copies")
	f.BoolVar(&s.cfg.AutoHeal, "auto-heal", false, "give the slots of a dead member to a standby or to all others, one member at a time")
	f.DurationVar(&s.cfg.DeadAfter, "dead-after", node.DeadAfterDefault, "how long a member must be away to be dead, for --auto-heal and --on-member-dead")
	f.StringVar(&s.cfg.OnMemberDead, "on-member-dead", "", "what a shell runs when a member is dead; KITH_MEMBER_ID, _NAME, _ZONE and _ADDR, KITH_DEAD_SINCE and KITH_FIRST tell of it")
	f.BoolVar(&s.cfg.Insecure, "insecure", false, "allow addresses other than loopback, open to everybody who reaches them")
	s.addLog(f, "info")
	var all []string
	f.VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	withEnv(f, all...)
	withFile(f, slices.DeleteFunc(all, func(name string) bool { return name == "config" })...)
}

func (s *serverFlags) addLog(f *pflag.FlagSet, level string) {
	f.StringVar(&s.logFormat, "log-format", "text", "log format: text or json")
	f.StringVar(&s.logLevel, "log-level", level, "least level that is logged: debug, info, warn or error")
}

// complete makes the node's configuration.
func (s *serverFlags) complete(a *app) (node.Config, error) {
	cfg := s.cfg
	logger, err := s.logger(a)
	if err != nil {
		return cfg, err
	}
	if cfg.Data == "" {
		return cfg, usagef("no data directory is given: add --data DIR")
	}
	if cfg.Key, err = readKey(s.keyFile); err != nil {
		return cfg, &usageError{err}
	}
	for _, addr := range []struct{ flag, value string }{{"listen", cfg.Listen}, {"gossip", cfg.Gossip}} {
		if err := checkListen(addr.flag, addr.value, cfg.Insecure); err != nil {
			return cfg, &usageError{err}
		}
	}
	switch {
	case cfg.Expect > 0 && len(cfg.Join) > 0:
		return cfg, usagef("--expect %d founds a cluster and --join joins one: give one of them", cfg.Expect)
	case cfg.Replace != "" && cfg.Expect > 0:
		return cfg, usagef("--replace takes a place in a cluster and --expect %d founds one: use --join instead", cfg.Expect)
	case cfg.Standby && cfg.Expect > 0:
		return cfg, usagef("--standby joins a cluster without a share of it and --expect %d founds one: use --join instead", cfg.Expect)
	case cfg.Standby && cfg.Replace != "":
		return cfg, usagef("--replace takes the place of a member and --standby takes none: give one of them")
	case cfg.DeadAfter < deadAfterMin || cfg.DeadAfter > deadAfterMax:
		return cfg, usagef("--dead-after %v: want %v to %v", cfg.DeadAfter, deadAfterMin, deadAfterMax)
	case s.repair > math.MaxInt32: // far over the node's own bound
		return cfg, usagef("--repair-rate %s: want at most 1GiB", s.repair.String())
	}
	for _, addr := range cfg.Join {
		if _, _, err := splitAddress(addr); err != nil {
			return cfg, usagef("--join %q: %w", addr, err)
		}
	}
	if cfg.ForgetAfter < forgetAfterMin || cfg.ForgetAfter > forgetAfterMax {
		return cfg, usagef("--forget-after %v: want %v to %v", cfg.ForgetAfter, forgetAfterMin, forgetAfterMax)
	}
	cfg.Logger, cfg.Version = logger, build().Version
	cfg.ValueMax, cfg.CacheBytes, cfg.RepairRate = int(s.valueMax), int(s.cacheSize), int(s.repair)
	if cfg.AuditEvery == 0 || cfg.ScrubEvery == 0 || cfg.RepairRate == 0 {
		return cfg, usagef("--audit-every, --scrub-every and --repair-rate: want more than 0")
	}
	return cfg, nil
}

func (s *serverFlags) logger(a *app) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, usagef("--log-level %q: want debug, info, warn or error", s.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch s.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.errs, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.errs, opts)), nil
	}
	return nil, usagef("--log-format %q: want text or json", s.logFormat)
}

// serve runs one node until the context ends or the node does.
func (a *app) serve(ctx context.Context, cfg node.Config) error {
	if cfg.Insecure && !(isLoopback(cfg.Listen) && isLoopback(cfg.Gossip)) {
		cfg.Logger.Warn("INSECURE: no encryption and no authentication: everybody who reaches these addresses can read and write all data",
			"listen", cfg.Listen, "gossip", cfg.Gossip)
	}
	n, err := node.Start(cfg)
	if err != nil {
		if errors.Is(err, node.ErrConfig) {
			return usagef("%w", err)
		}
		return &exitError{status: exitUnexpected, err: err}
	}
	select {
	case <-ctx.Done():
		cfg.Logger.Info("stopping", "node", n.ID())
		finish(n, cfg.Logger)
		// Why the node did not work is said also where it was told to stop.
		broken := n.Broken()
		if err := errors.Join(broken, n.Close()); err != nil {
			return &exitError{status: exitUnexpected, err: fmt.Errorf("stopping: %w", err)}
		}
		cfg.Logger.Info("stopped", "node", n.ID())
		return nil
	case <-n.Done():
		if errors.Is(n.Err(), node.ErrDrained) {
			if err := n.Close(); err != nil {
				return &exitError{status: exitUnexpected, err: fmt.Errorf("stopping: %w", err)}
			}
			return nil
		}
		if hasLeft(n) {
			cfg.Logger.Info("no member any more: requests of clients that do not know it yet are passed on for a while", "time", lingerTime)
			linger(ctx)
		}
		if n.Left() {
			if err := n.Close(); err != nil {
				return &exitError{status: exitUnexpected, err: fmt.Errorf("stopping: %w", err)}
			}
			cfg.Logger.Info("left: this server has handed over all that it had, and its directory is not needed any more", "node", n.ID())
			return nil
		}
		return &exitError{status: exitUnexpected, err: errors.Join(n.Err(), n.Close())}
	}
}

// finishTime is how long a server that is told to stop goes on with the requests of
// clients that are under way.
const finishTime = 3 * time.Second

// finish answers what is under way, and takes nothing new. A second signal ends the
// process at once.
func finish(n *node.Node, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), finishTime)
	defer cancel()
	if err := n.Drain(ctx); err != nil {
		log.Warn("stopping before all requests are answered", "error", err)
	}
}

// lingerTime is how long a node that is no member any more goes on passing requests
// to those that are. Clients hear of the new ring with the next answer of any node;
// one whose write met a closing door could not tell whether it was done.
const lingerTime = 5 * time.Second

func linger(ctx context.Context) {
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// hasLeft says that a node has ended because it is no member any more.
func hasLeft(n *node.Node) bool { return errors.Is(n.Err(), ring.ErrBanned) }

func splitAddress(addr string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(addr)
	if err != nil {
		return "", "", errors.New("want HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("port %q: want 0 to 65535", port)
	} else if n == 0 {
		return host, "0", nil
	}
	return host, port, nil
}

func checkListen(flag, addr string, insecure bool) error {
	if _, _, err := splitAddress(addr); err != nil {
		return fmt.Errorf("--%s %q: %w", flag, addr, err)
	}
	if !insecure && !isLoopback(addr) {
		return fmt.Errorf("--%s %s is not a loopback address, and there is no encryption and no authentication yet: "+
			"everybody who reaches it could read and write all data; add --insecure to allow that", flag, addr)
	}
	return nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readKey reads a key file; no file is no key.
func readKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--gossip-key-file: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return nil, fmt.Errorf("--gossip-key-file %s: want 16, 24 or 32 bytes in base64, such as from: head -c 32 /dev/urandom | base64", path)
	}
	return key, nil
}

// sizeFlag is a number of bytes, such as 512KiB.
type sizeFlag int64

// String is the size in the largest unit that fits.
func (s *sizeFlag) String() string {
	for _, u := range sizeUnits {
		if *s != 0 && int64(*s)%u.bytes == 0 {
			return strconv.FormatInt(int64(*s)/u.bytes, 10) + u.name
		}
	}
	return "0"
}

// Type is how help calls the value.
func (s *sizeFlag) Type() string { return "SIZE" }

// Set reads a number with a unit; without one it is bytes.
func (s *sizeFlag) Set(text string) error {
	digits, unit := text, int64(1)
	for _, u := range sizeUnits {
		if u.name != "" && strings.HasSuffix(text, u.name) {
			digits, unit = strings.TrimSuffix(text, u.name), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<40/unit {
		return errors.New("want bytes, or a number with KiB, MiB or GiB")
	}
	*s = sizeFlag(n * unit)
	return nil
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}
