package store_test

import "os"

// runs is how often a random test tries: many times with KITH_LONG=1.
func runs(short, long int) int {
	if os.Getenv("KITH_LONG") != "" {
		return long
	}
	return short
}
