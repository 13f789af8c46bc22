//go:build !race

package extproc

// costSlack is what allocations may be more than they are noted to be, in per cent: when a buffer
// grows depends on the chunks.
const costSlack = 3
