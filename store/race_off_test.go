//go:build !race

package store_test

const raceBuild = false
