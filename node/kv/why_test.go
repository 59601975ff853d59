package kv

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/rpc/api"
)

// told builds copies in a few words: "a1 a2 seen b3 claims b3" holds the siblings
// a1 and a2, has seen them and b3, and its clock claims them and b3. "none" is no
// record, "error TEXT" no copy; "away" does not count for reads.
func told(text string) api.CopyInfo {
	c := api.CopyInfo{CountsForRead: true}
	rest, failed := strings.CutPrefix(text, "error ")
	if failed {
		return api.CopyInfo{Error: rest}
	}
	mode := "holds"
	c.Found = !strings.Contains(text, "none")
	for _, w := range strings.Fields(text) {
		switch w {
		case "none":
			continue
		case "away":
			c.CountsForRead = false
			continue
		case "seen", "claims":
			mode = w
			continue
		}
		kind := strings.TrimRight(w[2:], "0123456789")
		d := api.DotInfo{Actor: strings.Repeat(w[:1], 16), Seq: uint64(w[1] - '0')}
		switch mode {
		case "holds":
			// Later numbers are later writes.
			s := api.SiblingInfo{DotInfo: d, Stamp: d.Seq, Written: int64(d.Seq * 1000), Tombstone: kind == "t", Expired: kind == "x", Expiry: 0}
			if kind == "x" {
				s.Expiry = 5000
			}
			c.Siblings = append(c.Siblings, s)
			c.Seen = append(c.Seen, d)
			c.Incorporated = append(c.Incorporated, d)
		case "seen":
			c.Seen = append(c.Seen, d)
		case "claims":
			c.Incorporated = append(c.Incorporated, d)
		}
	}
	c.Digest = fmt.Sprint(c.Siblings)
	return c
}

func TestWhySaysWhatDiffersAndWhatWillMendIt(t *testing.T) {
	for _, tc := range []struct {
		name  string
		homes []string
		kept  map[string]string // "n4>n3": copy
		now   uint64
		want  []string
	}{
		{"nothing", []string{"none", "none", "none"}, nil, 0, []string{"no home has a value of this key"}},
		{"equal", []string{"a1", "a1", "a1"}, nil, 0, []string{"all 3 homes hold the same"}},
		{"deleted", []string{"a1t", "a1t"}, nil, 0, []string{
			"the key reads as not found: it was deleted at 1970-01-01T00:00:01.000Z (dot aaaaaaaa:1)", "all 2 homes hold the same"}},
		{"expired", []string{"a1x", "a1x"}, nil, 0, []string{
			"the key reads as not found: its value expired at 1970-01-01T00:00:05.000Z (dot aaaaaaaa:1)", "all 2 homes hold the same"}},
		{"siblings", []string{"a1 b1", "a1 b1"}, nil, 0, []string{
			"it has 2 siblings, whose writers had not seen each other: a put with the context of a read replaces them", "all 2 homes hold the same"}},
		{"one lacks the newest", []string{"a2 seen a1", "a2 seen a1", "a1"}, nil, 60_000, []string{
			"n3 lacks the newest write (dot aaaaaaaa:2): its clock does not have it; catch-up from n1 and n2 will bring it",
			"n3 holds a write (dot aaaaaaaa:1), which n1 and n2 have replaced: it goes when dot aaaaaaaa:2 comes"}},
		{"one lacks all", []string{"a2", "none"}, nil, 60_000, []string{
			"n2 lacks the newest write (dot aaaaaaaa:2): its clock does not have it; catch-up from n1 will bring it"}},
		{"just written", []string{"a2", "none"}, nil, 3_000, []string{
			"n2 lacks the newest write (dot aaaaaaaa:2): its clock does not have it; it was written just now and may still be on its way"}},
		{"claimed and lacking", []string{"a2", "a2", "none claims a2"}, nil, 60_000, []string{
			"n3 lacks the newest write (dot aaaaaaaa:2), although its clock claims to have it: the next audit with n1 and n2 will find and mend that"}},
		{"forgotten here", []string{"a2t", "none claims a2"}, nil, 60_000, []string{
			"the key reads as not found: it was deleted at 1970-01-01T00:00:02.000Z (dot aaaaaaaa:2)",
			"n2 has forgotten the newest write (dot aaaaaaaa:2), as every home does once all of them have it"}},
		{"concurrent", []string{"a2", "b1"}, nil, 60_000, []string{
			"it has 2 siblings, whose writers had not seen each other: a put with the context of a read replaces them",
			"n1 lacks a write (dot bbbbbbbb:1): its clock does not have it; catch-up from n2 will bring it",
			"n2 lacks the newest write (dot aaaaaaaa:2): its clock does not have it; catch-up from n1 will bring it"}},
		{"many", []string{"a1 b1 c1 d1 e1", "none"}, nil, 60_000, []string{
			"it has 5 siblings, whose writers had not seen each other: a put with the context of a read replaces them",
			"n2 lacks 5 writes (dot aaaaaaaa:1, dot bbbbbbbb:1, dot cccccccc:1, 2 more): its clock does not have it; catch-up from n1 will bring it"}},
		{"replaced and nothing comes", []string{"none seen a1", "a1"}, nil, 60_000, []string{
			"no home that answers has a value of this key",
			"n2 holds a write (dot aaaaaaaa:1), which n1 has replaced: the next audit, or a read, will find that"}},
		{"away", []string{"a1", "error unreachable", "a1 away"}, nil, 60_000, []string{
			"n2 does not show its copy: unreachable; what it lacks is brought to it once it is back",
			"n3 does not count for reads now: it has lost data, or does not know yet whether it lacks any"}},
		{"kept for one that is away", []string{"a1", "error unreachable"}, map[string]string{"n4>n2": "a1"}, 60_000, []string{
			"n2 does not show its copy: unreachable; what it lacks is brought to it once it is back",
			"n4 keeps a copy for n2 until that can be reached"}},
		{"kept for one that is back", []string{"a1", "none"}, map[string]string{"n4>n2": "a1"}, 60_000, []string{
			"n2 lacks the newest write (dot aaaaaaaa:1): its clock does not have it; catch-up from n1 will bring it",
			"n4 keeps a copy for n2 and will bring it"}},
		{"kept and needed no more", []string{"a1", "a1"}, map[string]string{"n4>n2": "a1"}, 60_000, []string{
			"all 2 homes hold the same", "n4 keeps a copy for n2, which has all of it: it will be dropped"}},
		{"kept alone", []string{"none", "none"}, map[string]string{"n4>n2": "a1", "n5>n9": "a1"}, 60_000, []string{
			"no home has a value of this key",
			"n1 lacks the newest write (dot aaaaaaaa:1): its clock does not have it; no home has it, a stand-in will bring it",
			"n2 lacks the newest write (dot aaaaaaaa:1): its clock does not have it; no home has it, a stand-in will bring it",
			"n4 keeps a copy for n2 and will bring it",
			"n5 keeps a copy for n9, which is no home any more: it goes to the homes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var seen api.InspectResponse
			for i, text := range tc.homes {
				c := told(text)
				c.Member = fmt.Sprint("n", i+1)
				seen.Copies = append(seen.Copies, c)
			}
			seen.Equal = equalCopies(seen.Copies)
			for _, at := range []string{"n4>n2", "n5>n9"} {
				if text, ok := tc.kept[at]; ok {
					c := told(text)
					c.Member, c.StandsInFor, _ = strings.Cut(at, ">")
					seen.Copies = append(seen.Copies, c)
				}
			}
			if got := explain(&seen, len(tc.homes), tc.now); !slices.Equal(got, tc.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tc.want, "\n  "))
			}
		})
	}
}

func TestWhyFindsDamage(t *testing.T) {
	seen := api.InspectResponse{Copies: []api.CopyInfo{told("a1"), told("a1")}}
	for i := range seen.Copies {
		seen.Copies[i].Member, seen.Copies[i].Digest = fmt.Sprint("n", i+1), fmt.Sprint(i)
	}
	want := []string{"n1 and n2 hold the same writes with different content: one of them is damaged"}
	if seen.Equal = equalCopies(seen.Copies); seen.Equal {
		t.Error("they are equal")
	}
	if got := explain(&seen, 2, 60_000); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestKeyBeforeIsTheOneBefore(t *testing.T) {
	for _, key := range []string{"a", "a\x00", "\x00", "\x00\x00", "a\x01", "ab", "\xff", strings.Repeat("z", 4096)} {
		before := string(keyBefore([]byte(key)))
		if before >= key {
			t.Errorf("%q comes before %q", before, key)
		}
		// Nothing of at most 4,096 bytes lies between.
		if len(before) < 4096 && before+"\x00" < key {
			t.Errorf("%q lies between %q and %q", before+"\x00", before, key)
		}
		if len(before) == 4096 && before[len(key)-1]+1 != key[len(key)-1] {
			t.Errorf("%.10q is not right before %.10q", before, key)
		}
	}
}
