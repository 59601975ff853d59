package main

import (
	"strings"
	"testing"
)

// What reads as something else than it says is refused, whatever stands beside it.
func TestRecordsAreReadExactlyOrRefused(t *testing.T) {
	for line, want := range map[string]string{
		`{"key":"\\ufffd\ud800","value":"v"}`:           "half of a surrogate pair",
		`{"key":"k","value":"\ud800 \\ufffd"}`:          "half of a surrogate pair",
		`{"key":"\udc00","value":"v"}`:                  "half of a surrogate pair",
		`{"key":"\ud800\ud800\udc00","value":"v"}`:      "half of a surrogate pair",
		`{"key":"\uD800\u0041","value":"v"}`:            "half of a surrogate pair",
		`{"key_base64":"YR==","value":"v"}`:             `"YR==": want base64`,
		`{"key_base64":"YQ","value":"v"}`:               `"YQ": want base64`,
		`{"key_base64":"YQ=\n=","value":"v"}`:           "want base64",
		`{"key":"k","value_base64":"_w=="}`:             "want base64",
		`{"key_base64":7,"value":"v"}`:                  "want text, got number",
		`{"key":"\\\ud83d\ude00\\ud800","value":"v"}`:   "",
		`{"key":"\ufffd\uFFFD","value":"\\\\ud800"}`:    "",
		`{"key_base64":"\/wA=","value_base64":""}`:      "",
		`{"key_base64":"YQ==","value_base64":"AAECAw"}`: "want base64",
	} {
		put, err := decodeRecord([]byte(line))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", line, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %+v, %v, want %q", line, put, err, want)
		}
	}
}
