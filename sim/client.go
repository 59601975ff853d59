package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/network"
)

// Client is the real client on a host of its own, writing a history of what it
// is told.
type Client struct {
	*client.Client
	Name    string // of its host
	history *History
	puts    int
	padding int // bytes of each value behind its name
}

// Client makes a client that knows the addresses of machines, or of all, and
// dials until one answers, for 20 s. With history nil it keeps none. The caller
// closes it.
func (c *Cluster) Client(h *History, opts []client.Option, machines ...int) (*Client, error) {
	if len(machines) == 0 {
		for i := range c.Machines {
			machines = append(machines, i)
		}
	}
	var addrs []string
	for _, i := range machines {
		addrs = append(addrs, c.Machines[i].Addr)
	}
	host := c.host()
	opts = append(opts, client.WithTransport(host))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	real, err := client.Dial(ctx, addrs, opts...)
	for err != nil && ctx.Err() == nil { // links that lose and reset
		rest(ctx, 200*time.Millisecond)
		real, err = client.Dial(ctx, addrs, opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", host.Name(), err)
	}
	return Record(real, host.Name(), h), nil
}

// Direct makes a client that has one machine coordinate everything.
func (c *Cluster) Direct(h *History, machine int) (*Client, error) {
	return c.Client(h, []client.Option{client.Direct()}, machine)
}

// host adds a client's host to the network.
func (c *Cluster) host() *network.Host {
	c.clients++
	return c.Network.HostNamed(fmt.Sprintf("c%d", c.clients), rpc.Peer{Addr: fmt.Sprintf("10.0.1.%d:1", c.clients)}, nil)
}

// probe is a host for the cluster's own questions. Nothing is ever cut from it.
func (c *Cluster) probe() *network.Host {
	if c.prober == nil {
		c.prober = c.Network.HostNamed("probe", rpc.Peer{Addr: "10.0.2.1:1"}, nil)
	}
	return c.prober
}

// Write is a put or a delete to be done.
type Write struct {
	Key    string
	Delete bool
	// After is the read whose context it carries; nil is a blind one. A delete
	// must have one: what a blind delete has met is nobody's to know.
	After *Read
	// Level of homes; only those from a quorum on count as strict.
	Level client.Level
	// Limit is how long the client waits.
	Limit time.Duration
	// TTL is how long the value can be read; 0 is for ever.
	TTL time.Duration
	// Sloppy lets stand-ins count for homes.
	Sloppy bool
}

// Put writes a value that is unique in the history, and enters it. What it takes
// is told at Write.
func (c *Client) Put(key string, after *Read, level client.Level, limit time.Duration) *Op {
	return c.Write(Write{Key: key, After: after, Level: level, Limit: limit})
}

// Delete is Put without a value. after must not be nil.
func (c *Client) Delete(key string, after *Read, level client.Level, limit time.Duration) *Op {
	return c.Write(Write{Key: key, Delete: true, After: after, Level: level, Limit: limit})
}

// Write does a write and enters it in the history.
func (c *Client) Write(w Write) *Op {
	c.puts++
	op := &Op{
		Client: c.Name, Key: w.Key, Value: fmt.Sprintf("%s.%d", c.Name, c.puts), Delete: w.Delete, TTL: w.TTL,
		Strict: w.Level != client.One, Deadline: time.Now().Add(w.Limit),
	}
	opts := []client.CallOption{w.Level}
	if w.After != nil {
		op.After, op.under = w.After.Op, w.After.Context
		opts = append(opts, client.WithContext(w.After.Context))
	}
	if w.TTL > 0 {
		opts = append(opts, client.WithTTL(w.TTL))
	}
	if w.Sloppy {
		opts = append(opts, client.Sloppy())
	}
	c.history.Begin(op)
	ctx, cancel := context.WithTimeout(context.Background(), w.Limit)
	defer cancel()
	var written client.Written
	var err error
	if op.Delete {
		written, err = c.Client.Delete(ctx, []byte(op.Key), opts...)
	} else {
		written, err = c.Client.Put(ctx, []byte(op.Key), padded(op.Value, c.padding), opts...)
	}
	switch {
	case err == nil:
		op.context, op.Receipt = written.Context, ReceiptOf(written.Receipt)
		if written.Receipt.Sloppy && w.Sloppy { // nobody who did not ask for it may be told so
			op.Sloppy, op.Strict = true, false
		}
		c.history.End(op, Done, nil, "by "+written.Receipt.Coordinator.Short())
	case client.Unknown(err):
		c.history.End(op, Unknown, nil, err.Error())
	default:
		c.history.End(op, Refused, nil, err.Error())
	}
	return op
}

// ReceiptOf is what a history keeps of a client's receipt.
func ReceiptOf(r client.Receipt) *Receipt {
	return &Receipt{Epoch: r.Epoch, Need: r.Need, Answered: r.Answered, Repaired: r.Repaired}
}

// padded makes a value that begins with its name.
func padded(name string, size int) []byte {
	if size == 0 {
		return []byte(name)
	}
	return append([]byte(name+"|"), bytes.Repeat([]byte{'.'}, size)...)
}

// nameOf finds the name of a value, padded or not.
func nameOf(value []byte) string {
	name, _, _ := bytes.Cut(value, []byte("|"))
	return string(name)
}

// Read is a read with the context that a put can carry.
type Read struct {
	*Op
	Context client.Context
}

// Get reads a key and enters it. A read that failed has a nil Context.
func (c *Client) Get(key string, level client.Level, limit time.Duration) *Read {
	op := c.history.Begin(&Op{Client: c.Name, Key: key, Read: true, Strict: level != client.One})
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result, err := c.Client.Get(ctx, []byte(key), level)
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		c.history.End(op, Refused, nil, err.Error())
		return &Read{Op: op}
	}
	var saw []string
	for _, s := range result.Siblings {
		if !s.Deleted {
			saw = append(saw, nameOf(s.Value))
			c.history.sawMinted(nameOf(s.Value), s.Time())
		}
	}
	op.Receipt = ReceiptOf(result.Receipt)
	c.history.End(op, Done, saw, "by "+result.Receipt.Coordinator.Short())
	return &Read{Op: op, Context: result.Context}
}

// Record makes a client that keeps a history of what it does by c, under a name:
// for clusters that stand elsewhere. With h nil it keeps none.
func Record(c *client.Client, name string, h *History) *Client {
	if h == nil {
		h = NewHistory()
	}
	return &Client{Client: c, Name: name, history: h}
}

// Final is ReadBack with a client of every machine. It is for a cluster that is
// healed.
func (c *Cluster) Final(h *History, limit time.Duration) (map[string][]string, error) {
	return c.final(h, client.All, limit)
}

// final is Final at a level. Below All, homes are not asked one by one.
func (c *Cluster) final(h *History, level client.Level, limit time.Duration) (map[string][]string, error) {
	readers := make([]*Client, 0, len(c.Machines))
	place := map[int]int{} // of a machine's reader
	for i, m := range c.Machines {
		if m.retired {
			continue
		}
		reader, err := c.Direct(nil, i)
		if err != nil {
			return nil, err
		}
		defer reader.Close()
		reader.Name = m.Name
		place[i] = len(readers)
		readers = append(readers, reader)
	}
	record, err := c.Ring()
	if err != nil {
		return nil, err
	}
	homes := func(key string) (at []int) {
		for _, i := range c.homes(record, key) {
			at = append(at, place[i])
		}
		return at
	}
	if level != client.All {
		homes = func(string) []int { return nil }
	}
	return readBack(h, readers, homes, level, limit)
}

// ReadBack reads every key of a history at all homes through every machine, and
// then each home's own copy, until they agree or, for one key, the limit is over.
// readers are one direct client for each machine, under its name; homes are
// the machines that a key is at home at.
func ReadBack(h *History, readers []*Client, homes func(key string) []int, limit time.Duration) (map[string][]string, error) {
	return readBack(h, readers, homes, client.All, limit)
}

func readBack(h *History, readers []*Client, homes func(key string) []int, level client.Level, limit time.Duration) (map[string][]string, error) {
	return readEach(h, readers, limit, func(key string) ([]string, error) { return agreed(readers, homes(key), key, level) })
}

// ReadHomes reads every key of a history at each of its homes, and nowhere else:
// a home that is asked alone repairs no other one. Otherwise it is as ReadBack.
func ReadHomes(h *History, readers []*Client, homes func(key string) []int, limit time.Duration) (map[string][]string, error) {
	return readEach(h, readers, limit, func(key string) ([]string, error) {
		at := homes(key)
		first := readers[at[0]].Get(key, client.One, 5*time.Second)
		if first.Outcome != Done {
			return nil, fmt.Errorf("home %s: %s", readers[at[0]].Name, first.Note)
		}
		return first.Saw, shownAt(readers, at[1:], key, first.Saw)
	})
}

// readEach reads every key of a history until look gives no error, and enters when
// that was.
func readEach(h *History, readers []*Client, limit time.Duration, look func(key string) ([]string, error)) (map[string][]string, error) {
	out := map[string][]string{}
	for _, key := range h.Keys() {
		for deadline := time.Now().Add(limit); ; {
			began := time.Now()
			values, err := look(key)
			if err == nil {
				out[key] = values
				h.final[key] = span{began, time.Now()}
				for _, v := range values {
					for _, reader := range readers {
						if at, ok := reader.history.minted[v]; ok {
							h.sawMinted(v, at)
						}
					}
				}
				break
			}
			if !time.Now().Before(deadline) {
				return nil, broken(Converged, "key %s has not converged in %v: %v\n%s", key, limit, err, h.Story(key))
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return out, nil
}

// agreed gives what all machines show of a key, at a level, and each of the homes
// by itself.
func agreed(readers []*Client, homes []int, key string, level client.Level) ([]string, error) {
	var first []string
	for i, reader := range readers {
		read := reader.Get(key, level, 5*time.Second)
		if read.Outcome != Done {
			return nil, fmt.Errorf("read through %s: %s", reader.Name, read.Note)
		}
		if i == 0 {
			first = read.Saw
		} else if list(read.Saw) != list(first) {
			return nil, fmt.Errorf("%s shows %s, %s shows %s", readers[0].Name, list(first), reader.Name, list(read.Saw))
		}
	}
	return first, shownAt(readers, homes, key, first)
}

// shownAt wants each of some homes by itself to show what was shown first.
func shownAt(readers []*Client, homes []int, key string, first []string) error {
	for _, i := range homes {
		read := readers[i].Get(key, client.One, 5*time.Second)
		if read.Outcome != Done || list(read.Saw) != list(first) {
			return fmt.Errorf("home %s has %s (%s), others show %s", readers[i].Name, list(read.Saw), read.Note, list(first))
		}
	}
	return nil
}
