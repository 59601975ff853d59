package scenario

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed library/*.txt
var library embed.FS

// Library gives the scenarios that come with kith, by name in their order.
func Library() []*Scenario {
	names, err := fs.Glob(library, "library/*.txt")
	if err != nil {
		panic("scenario: the embedded library cannot be listed: " + err.Error())
	}
	var out []*Scenario
	for _, path := range names {
		text, err := library.ReadFile(path)
		if err != nil {
			panic("scenario: an embedded scenario cannot be read: " + err.Error())
		}
		s, err := Parse(strings.TrimSuffix(strings.TrimPrefix(path, "library/"), ".txt"), string(text))
		if err != nil {
			panic("scenario: an embedded scenario is wrong: " + err.Error())
		}
		out = append(out, s)
	}
	return out
}

// Find gives the library's scenario of a name, or nil.
func Find(name string) *Scenario {
	for _, s := range Library() {
		if s.Name == name {
			return s
		}
	}
	return nil
}
