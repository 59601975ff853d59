package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/kithdb/kith/client"
)

// writeJSON prints one document. Field names are a contract: only additions.
func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows in columns; the first is the head.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// isTerminal says that people watch.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// byteSize shows a number of bytes.
func byteSize(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1024, 0
	for v >= 1023.95 && u < len(units)-1 {
		v /= 1024
		u++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[u])
}

// duration shows a time to three digits.
func duration(d time.Duration) string {
	switch {
	case d >= 100*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.3fms", d.Seconds()*1e3)
}

// keyText and valueText are bytes in JSON: as text if they are UTF-8, in
// base64 if not.
type keyText struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 *[]byte `json:"key_base64,omitempty"`
}

type valueText struct {
	Value       *string `json:"value,omitempty"`
	ValueBase64 *[]byte `json:"value_base64,omitempty"`
}

func keyOf(b []byte) keyText {
	var k keyText
	k.Key, k.KeyBase64 = textOf(b)
	return k
}

func valueOf(b []byte) valueText {
	var v valueText
	v.Value, v.ValueBase64 = textOf(b)
	return v
}

func textOf(b []byte) (*string, *[]byte) {
	if !utf8.Valid(b) {
		return nil, &b
	}
	s := string(b)
	return &s, nil
}

// receiptJSON is a client.Receipt as scripts see it.
type receiptJSON struct {
	Epoch       uint64   `json:"epoch"`
	Coordinator string   `json:"coordinator"`
	Need        int      `json:"need"`
	Got         int      `json:"got"`
	Answered    []string `json:"answered"`
	Siblings    int      `json:"siblings"`
	Sloppy      bool     `json:"sloppy"`
	Repaired    bool     `json:"repaired"`
	// With local-quorum and each-quorum.
	Zones []zoneReceiptJSON `json:"zones,omitempty"`
}

type zoneReceiptJSON struct {
	Zone  string `json:"zone"`
	Need  int    `json:"need"`
	Got   int    `json:"got"`
	Homes int    `json:"homes"`
}

func receiptOf(r client.Receipt) receiptJSON {
	out := receiptJSON{
		Epoch:       r.Epoch,
		Coordinator: r.Coordinator.String(),
		Need:        r.Need,
		Got:         r.Got(),
		Answered:    make([]string, len(r.Answered)),
		Siblings:    r.Siblings,
		Sloppy:      r.Sloppy,
		Repaired:    r.Repaired,
	}
	for i, id := range r.Answered {
		out.Answered[i] = id.String()
	}
	for _, z := range r.Zones {
		out.Zones = append(out.Zones, zoneReceiptJSON(z))
	}
	return out
}

// copyRaw writes a value as it is; on a terminal with a newline behind it.
func copyRaw(w io.Writer, value []byte) error {
	if _, err := w.Write(value); err != nil {
		return err
	}
	if isTerminal(w) && (len(value) == 0 || value[len(value)-1] != '\n') {
		_, err := io.WriteString(w, "\n")
		return err
	}
	return nil
}
