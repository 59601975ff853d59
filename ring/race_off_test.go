//go:build !race

package ring

// stepsOfALife is how many members come or go in one.
const stepsOfALife = 30
