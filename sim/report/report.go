// Package report draws a simulated run as one HTML page that a person would
// rather look at than read.
//
// It owns the page: what is drawn, how, and in which words. It promises one
// self-contained file, with nothing fetched from anywhere, that is small whatever
// the run's size, and in which no name, key or value of a stranger is more than
// text. It does not run anything and judges nothing: see package trace.
package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/kithdb/kith/sim/trace"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// policy allows a browser nothing but what the page itself holds: our one
// script, by its hash, and styles, because widths are written as such.
func policy() string {
	sum := sha256.Sum256([]byte(pageJS))
	return "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":  func() template.CSS { return template.CSS(pageCSS) },
	"script": func() template.JS { return template.JS(pageJS) },
}).Parse(strings.Replace(pageHTML, "POLICY", policy(), 1)))

// Write draws a run as one HTML file. It reads the run and keeps nothing of it;
// operations may stand in any order. The error is the writer's.
func Write(w io.Writer, run *trace.Run) error {
	if err := pageTemplate.Execute(w, newPage(run)); err != nil {
		return fmt.Errorf("write the report of %q: %w", run.Title, err)
	}
	return nil
}
