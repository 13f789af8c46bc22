//go:build race

package extproc

// costSlack is what allocations may be more than they are noted to be, in per cent: with the race
// detector, pools drop a part of what they are given.
const costSlack = 60
