package envoy

import (
	"regexp"
	"strings"
)

// HeaderVia lists the gateways that a request has passed, in order: ids of viaLength hexadecimal
// digits with commas between them. Envoy knows by it a request that has come back. Targets are sent
// it, and clients may send one.
const HeaderVia = "x-millrace-via"

const (
	viaLength = 8
	// MaxVia is how many gateways a request may pass.
	MaxVia = 8
)

// ViaID is the id that a gateway with this hash, in hexadecimal, puts on the list.
func ViaID(hash string) string { return hash[:viaLength] }

// Expressions, which match the whole of a list. Between its values Envoy puts a comma where the
// header is there more than once.
const (
	// ViaFull matches a list with no room for another id.
	ViaFull = `([^,]*,){7}.*`
	// ViaSound matches an empty list, and one that can be passed on as it came: with room, and
	// nothing but ids.
	ViaSound = `([0-9a-f]{8}(, ?[0-9a-f]{8}){0,6})?`
)

// ViaPassed matches a list that the id is on.
func ViaPassed(id string) string { return `(.*[, ])?` + id + `([, ].*)?` }

var viaID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// PassedVia returns the ids that are on the list, and leaves out what is none: what clients make up
// goes no further.
func PassedVia(list string) []string {
	var ids []string
	for part := range strings.SplitSeq(list, ",") {
		if id := strings.TrimSpace(part); viaID.MatchString(id) && len(ids) < MaxVia {
			ids = append(ids, id)
		}
	}
	return ids
}
