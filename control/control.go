// Package control is the one path of a configuration change: from a file or a REST call, through
// the store, to both halves of the gateway, and back with what Envoy said. A change is refused
// whole or applied whole.
//
// Everything that can fail happens first: validate the merged documents, compile the sidecar's
// half, build Envoy's. Then the store takes the new version, the sidecar takes its half, Envoy is
// offered its own. Envoy's refusal puts back what this sidecar has changed.
package control

import (
	"errors"
	"time"

	millracev1 "millrace/proto/millrace/v1"
)

// State is how far a change has come.
type State string

// A change is accepted once the store has it, offered once Envoy was told, applied once Envoy has
// acknowledged every resource, and rejected when Envoy refused one; then the gateway is on the
// version before.
const (
	Accepted State = "accepted"
	Offered  State = "offered"
	Applied  State = "applied"
	Rejected State = "rejected"
)

// The errors of an edit. What wraps them says which thing it was about.
var (
	ErrNotFound  = errors.New("not found")
	ErrStale     = errors.New("changed since it was read")                    // If-Match does not hold
	ErrFileOwned = errors.New("belongs to the configuration file: edit that") // read-only over REST
	ErrExists    = errors.New("exists already")
	ErrNoStore   = errors.New("this sidecar has no store (--data-dir or --store)")
)

// Edit changes the state in place, or says why it cannot. It may run more than once.
type Edit func(*millracev1.State) error

// Change is one edit and how to carry it out.
type Change struct {
	Edit   Edit
	Cause  string        // in words, for the list of versions: "PATCH /api/v1/…"
	DryRun bool          // stop once everything that can fail has been tried
	Wait   time.Duration // for Envoy's answer, at most; 0 returns once it is accepted
}

// Result is what came of a change. A rejected change is a Result, not an error: it was tried.
type Result struct {
	Revision uint64 // of the store; the one before for a dry run
	Version  string // of the configuration; equal ones have equal versions
	State    State
	Reason   string // Envoy's own words when it rejected
	// Warnings are about what was not in the configuration before: config.Doubtful, each with the
	// name of its gateway.
	Warnings []string
}

// Status is where the gateway stands.
type Status struct {
	Result
	Envoy Envoy
	File  File
	// Store says what is wrong with the store; "" while it can be read and the last write went
	// well, or when there is none.
	Store string
	// Doubtful lists all that Result.Warnings would say of a new configuration.
	Doubtful []string
	// Events says why events cannot be written; "" while they can.
	Events string
	Ready  bool

	served bool // Envoy has taken a configuration
}

// Envoy is the Envoy beside this sidecar.
type Envoy struct {
	Connected bool
	Node      string
	Version   string // "1.40.0"
}

// File is the configuration file.
type File struct {
	Path  string // "" when there is none
	Error string // what is wrong with its present content, which is then not in use; "" when nothing is
}

// VersionInfo is one version that can be gone back to.
type VersionInfo struct {
	Revision uint64
	Time     time.Time
	Cause    string
	State    State // Rejected, where Envoy has refused it and the store was put back; else ""
}
