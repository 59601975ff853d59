package kv

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// An inspection shows what each home holds of a key, and what stand-ins keep for
// them. It is for people: it counts for nothing, and changes nothing.

const (
	// inspectTimeout is how long one member may take to show its copy.
	inspectTimeout = time.Second
	// inspectMax bounds the members that are asked what they keep for homes:
	// the first of the partition's order, from which stand-ins are taken.
	inspectMax = 64
	// inspectDotsMax bounds the dots that members are asked about.
	inspectDotsMax = 256
)

// inspect serves api.Inspect.
func (c *Coordinator) inspect(ctx context.Context, _ rpc.Peer, req *api.InspectRequest) (*api.InspectResponse, error) {
	r, err := c.record()
	if err != nil {
		return nil, err
	}
	if err := c.checkKey(req.Key); err != nil {
		return nil, err
	}
	p := r.PartitionOf(req.Key)
	resp := &api.InspectResponse{Key: req.Key, Partition: uint16(p), Slot: ring.SlotOf(req.Key), Epoch: r.Epoch}
	if req.Local {
		resp.Copies, err = c.inspectOwn(r, p, req)
		return resp, err
	}
	return resp, c.inspectAll(ctx, r, p, resp)
}

// inspectAll asks the homes and those who may stand in for them. Where copies may
// differ it asks a second time, which of all the writes the homes' clocks claim.
func (c *Coordinator) inspectAll(ctx context.Context, r *ring.Record, p ring.Partition, resp *api.InspectResponse) error {
	homes := r.Homes(p)
	members := r.Order(p)
	for i := range r.Members { // who left the order may still keep something
		if !slices.Contains(members, r.Members[i].ID) {
			members = append(members, r.Members[i].ID)
		}
	}
	members = members[:min(len(members), max(inspectMax, len(homes)))]
	answers, err := c.inspectEach(ctx, members, len(homes), &api.InspectRequest{Key: resp.Key, Local: true})
	if err != nil {
		return err
	}
	var kept []api.CopyInfo
	for i := range answers {
		if i < len(homes) {
			resp.Copies = append(resp.Copies, answers[i].Copies[0])
		}
		for _, one := range answers[i].Copies {
			if one.StandsInFor != "" {
				kept = append(kept, one)
			}
		}
	}
	resp.Equal = equalCopies(resp.Copies)
	if !resp.Equal || len(kept) > 0 {
		dots := dotsOf(append(slices.Clone(resp.Copies), kept...))
		dots = dots[:min(len(dots), inspectDotsMax)]
		again, err := c.inspectEach(ctx, homes, len(homes), &api.InspectRequest{Key: resp.Key, Local: true, Dots: dots})
		if err != nil {
			return err
		}
		for i := range again {
			if first := again[i].Copies[0]; first.Error == "" {
				resp.Copies[i].Incorporated = first.Incorporated
			}
		}
	}
	resp.Copies = append(resp.Copies, kept...)
	resp.Why = explain(resp, len(homes), c.readTime())
	return nil
}

// inspectEach asks members for their own copies, all at once. Of the first ones,
// the homes, there is always a copy at the beginning of the answer, if need be one
// that says why there is none.
func (c *Coordinator) inspectEach(ctx context.Context, members []ring.NodeID, homes int, req *api.InspectRequest) ([]api.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	answers := make([]api.InspectResponse, len(members))
	errs := make([]error, len(members))
	var asked sync.WaitGroup
	for i, id := range members {
		if i >= homes && !c.Reachable(id) {
			continue
		}
		asked.Add(1)
		ask := func() {
			defer asked.Done()
			resp, err := c.inspectAt(ctx, id, req)
			if errs[i] = err; err == nil {
				answers[i] = *resp
			}
		}
		if !c.goroutine(ask) {
			asked.Done()
			asked.Wait()
			return nil, errClosed
		}
	}
	asked.Wait()
	for i, id := range members {
		if i < homes && (len(answers[i].Copies) == 0 || answers[i].Copies[0].StandsInFor != "") {
			text := "shows no copy"
			if errs[i] != nil {
				text = reason(errs[i])
			}
			answers[i].Copies = slices.Insert(answers[i].Copies, 0, api.CopyInfo{Member: id.String(), Error: text})
		}
		for j := range answers[i].Copies {
			answers[i].Copies[j].Member = id.String()
			answers[i].Copies[j].Name = c.nameOf(id)
		}
	}
	return answers, nil
}

func (c *Coordinator) inspectAt(ctx context.Context, id ring.NodeID, req *api.InspectRequest) (*api.InspectResponse, error) {
	if id == c.cfg.Self {
		r, err := c.record()
		if err != nil {
			return nil, err
		}
		copies, err := c.inspectOwn(r, r.PartitionOf(req.Key), req)
		return &api.InspectResponse{Copies: copies}, err
	}
	to, ok := c.peer(id)
	if !ok {
		return nil, rpc.ErrUnreachable
	}
	resp, err := api.Inspect.Call(ctx, c.cfg.Transport, to, req)
	if errors.Is(err, rpc.ErrLost) { // it has restarted, and the connection was to its last life
		return api.Inspect.Call(ctx, c.cfg.Transport, to, req)
	}
	return resp, err
}

// inspectOwn shows this node's copy, if it is a home or has one, and behind it
// what it keeps for homes.
func (c *Coordinator) inspectOwn(r *ring.Record, p ring.Partition, req *api.InspectRequest) ([]api.CopyInfo, error) {
	now := c.readTime()
	var copies []api.CopyInfo
	b, err := c.cfg.Store.Get(p, req.Key)
	if b != nil || r.HomeIndex(p, c.cfg.Self) >= 0 {
		own := api.CopyInfo{Member: c.cfg.Self.String()}
		if err == nil {
			err = fillCopy(&own, req.Key, b, now)
		}
		if err != nil {
			own.Error = fromStore(err).Error()
		} else {
			clock := c.cfg.Store.ClockOf(p)
			dots := req.Dots
			if dots == nil {
				dots = dotsOf([]api.CopyInfo{own})
			}
			for _, d := range dots {
				if dot, ok := parseDot(d); ok && clock.Has(dot) {
					own.Incorporated = append(own.Incorporated, d)
				}
			}
			own.CountsForRead = c.counts(p) == nil
		}
		copies = append(copies, own)
	}
	kept, err := c.standInsOf(p, req.Key)
	if err != nil {
		return nil, fromStore(err)
	}
	for _, k := range kept {
		one := api.CopyInfo{Member: c.cfg.Self.String(), StandsInFor: k.home.String()}
		if err := fillCopy(&one, req.Key, k.encoded, now); err != nil {
			one.Error = err.Error()
		}
		copies = append(copies, one)
	}
	return copies, nil
}

// fillCopy shows a record; nil is one never written.
func fillCopy(info *api.CopyInfo, key, b []byte, now uint64) error {
	record, err := parseCopy(key, b)
	if err != nil || b == nil {
		return err
	}
	info.Found = true
	leaf := record.Leaf()
	info.Digest = hex.EncodeToString(leaf[:])
	for _, d := range record.Seen {
		info.Seen = append(info.Seen, dotInfo(d))
	}
	for i := range record.Siblings {
		s := &record.Siblings[i]
		one := api.SiblingInfo{
			DotInfo: dotInfo(s.Dot), Tombstone: s.Tombstone, Stamp: uint64(s.Stamp), Written: s.Stamp.Time().UnixMilli(),
			Expiry: s.Expiry, Expired: s.Expired(now), Size: s.ValueSize,
		}
		if !s.Tombstone {
			one.Digest = hex.EncodeToString(s.ValueDigest[:])
		}
		info.Siblings = append(info.Siblings, one)
	}
	return nil
}

func dotInfo(d version.Dot) api.DotInfo {
	return api.DotInfo{Actor: fmt.Sprintf("%016x", uint64(d.Actor)), Seq: d.Seq}
}

// parseDot reads what dotInfo made; false for anything else.
func parseDot(d api.DotInfo) (version.Dot, bool) {
	b, err := hex.DecodeString(d.Actor)
	if err != nil || len(b) != 8 {
		return version.Dot{}, false
	}
	a := uint64(0)
	for _, x := range b {
		a = a<<8 | uint64(x)
	}
	return version.Dot{Actor: version.Actor(a), Seq: d.Seq}, true
}

// dotsOf are the dots of all siblings, each once, in the order of the copies.
func dotsOf(copies []api.CopyInfo) []api.DotInfo {
	var dots []api.DotInfo
	seen := make(map[api.DotInfo]bool)
	for i := range copies {
		for j := range copies[i].Siblings {
			if d := copies[i].Siblings[j].DotInfo; !seen[d] {
				seen[d] = true
				dots = append(dots, d)
			}
		}
	}
	return dots
}

// equalCopies says that all homes have answered, and with the same siblings. A
// home without a record and one with a record without siblings hold the same.
func equalCopies(copies []api.CopyInfo) bool {
	for i := range copies {
		if copies[i].Error != "" || leafOf(&copies[i]) != leafOf(&copies[0]) {
			return false
		}
	}
	return true
}

// leafOf is the digest of a copy, empty if it has no siblings.
func leafOf(c *api.CopyInfo) string {
	if len(c.Siblings) == 0 {
		return ""
	}
	return c.Digest
}

// nameOf is what people call a member.
func (c *Coordinator) nameOf(id ring.NodeID) string {
	if p := c.cfg.Members.View().Peer(id); p != nil && p.Name != "" {
		return p.Name
	}
	if r := c.cfg.Rings.Current(); r != nil {
		if m := r.Member(id); m != nil && m.Name != "" {
			return m.Name
		}
	}
	return id.Short()
}
