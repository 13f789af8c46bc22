package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// write is what every request that changes something says about how.
type write interface {
	GetDryRun() bool
	GetWait() string
}

// edit is one run of a change over a copy of the stored state. It may run more than once.
type edit struct {
	state *millracev1.State
	file  *millracev1.Document
	ifs   []string // the etags of if-match; empty when there is no condition

	// What follows is left behind for explain.
	gateway *gateway
	at      string // where the resource that was sent stands in the merged document: "upstreams[2]"
	removes bool
}

// change carries out an edit and says in the headers what came of it. The edit returns what was
// made, for its etag.
func (s *service) change(ctx context.Context, w write, do func(*edit) (proto.Message, error)) error {
	wait, err := waitFor(w.GetWait())
	if err != nil {
		return err
	}
	_, _, file, err := s.plane.Snapshot(ctx)
	if err != nil {
		return err
	}
	cause, _ := grpc.Method(ctx)
	e := &edit{}
	var made proto.Message
	result, err := s.plane.Change(ctx, control.Change{
		Edit: func(state *millracev1.State) (err error) {
			*e = edit{state: state, file: orDefault(file), ifs: conditions(ctx)}
			made, err = do(e)
			return err
		},
		Cause:  cause,
		DryRun: w.GetDryRun(),
		Wait:   wait,
	})
	if err != nil {
		return e.explain(err)
	}
	setHeader(ctx, stateHeader, string(result.State), versionHeader, result.Version, revisionHeader, strconv.FormatUint(result.Revision, 10))
	for _, warning := range result.Warnings[:min(len(result.Warnings), shownWarnings)] {
		setHeader(ctx, warningHeader, strings.Trim(strconv.QuoteToASCII(warning), `"`)) // names of gateways may be in any script
	}
	if result.State == control.Rejected {
		return rejected.because("%s", result.Reason)
	}
	if made != nil {
		setHeader(ctx, etagHeader, etag(made))
	}
	return nil
}

// shownWarnings is how many fit into headers; the status has all.
const shownWarnings = 10

func waitFor(word string) (time.Duration, error) {
	switch word {
	case "", string(control.Applied):
		return maxWait, nil
	case string(control.Accepted):
		return 0, nil
	}
	return 0, badRequest.at("wait", "want applied or accepted")
}

// enter finds the gateway that the edit is about.
func (e *edit) enter(ref string) (*gateway, error) {
	g, err := findGateway(e.state, e.file, ref)
	e.gateway = g
	return g, err
}

// match refuses the edit when it was meant for another version of what it changes.
func (e *edit) match(now ...proto.Message) error { return matches(e.ifs, now...) }

func matches[M proto.Message](ifs []string, now ...M) error {
	if len(ifs) == 0 || slices.Contains(ifs, "*") || slices.Contains(ifs, etag(now...)) {
		return nil
	}
	return fmt.Errorf("%w: its etag is %s", control.ErrStale, etag(now...))
}

// conditions are the etags of if-match.
func conditions(ctx context.Context) []string {
	md, _ := metadata.FromIncomingContext(ctx)
	var etags []string
	for _, header := range md.Get(ifMatch) {
		for etag := range strings.SplitSeq(header, ",") {
			etags = append(etags, strings.TrimSpace(etag))
		}
	}
	return etags
}

// etag is a hash of one resource or of a list.
func etag[M proto.Message](ms ...M) string {
	h := sha256.New()
	for _, m := range ms {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic("admin: a stored resource does not marshal: " + err.Error())
		}
		fmt.Fprintf(h, "%d:", len(data))
		h.Write(data)
	}
	return `"` + hex.EncodeToString(h.Sum(nil)[:8]) + `"`
}

// explain puts the paths of a configuration's errors into the words of the request: below the
// resource that was sent where they are about it, else with names in place of places.
func (e *edit) explain(err error) error {
	var p *problem
	var found config.Errors
	if errors.As(err, &p) || !errors.As(err, &found) {
		return err
	}
	said := make(config.Errors, len(found))
	for i, one := range found {
		said[i] = config.Error{Path: e.path(one.Path), Reason: one.Reason}
	}
	if e.removes {
		return inUse.all(said)
	}
	return invalid.all(said)
}

var placeInGateway = regexp.MustCompile(`^(upstream|service|rule|key|pack)s\[(\d+)\]`)

func (e *edit) path(path string) string {
	g := e.gateway
	if g == nil {
		return path
	}
	inGateway := strings.TrimPrefix(path, "gateways["+g.name()+"].")
	if rest, ok := strings.CutPrefix(inGateway, e.at); ok && e.at != "" && (rest == "" || rest[0] == '.') {
		return strings.TrimPrefix(rest, ".")
	}
	m := placeInGateway.FindStringSubmatch(inGateway)
	if m == nil {
		return inGateway
	}
	i, _ := strconv.Atoi(m[2])
	label := map[string]func(*gateway, int) string{
		"upstream": upstreams.label, "service": services.label, "rule": rules.label, "key": keys.label, "pack": packs.label,
	}[m[1]]
	return m[1] + "s[" + label(g, i) + "]" + inGateway[len(m[0]):]
}

// label names the resource at a place of the merged document.
func (k kind[R]) label(g *gateway, i int) string {
	all := k.both(g)
	switch {
	case i >= len(all):
		return strconv.Itoa(i)
	case k.name(all[i]) != "":
		return k.name(all[i])
	}
	return all[i].GetId()
}

// show is a resource as it may be shown.
func show[M proto.Message](m M) M {
	shown := config.Redact(m)
	switch shown := any(shown).(type) {
	case *millracev1.Key:
		shown.Hash = ""
	case *millracev1.Document:
		for _, k := range shown.Keys {
			k.Hash = ""
		}
	}
	return shown
}

func keepSecrets[M proto.Message](next, stored M) error {
	if err := config.KeepSecrets(next, stored); err != nil {
		return invalid.all(config.AsErrors(err))
	}
	return nil
}

// blank is an empty message of the type of m.
func blank[M proto.Message](m M) M { return m.ProtoReflect().New().Interface().(M) }

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// checkID refuses ids that would need escapes in a path.
func checkID(id string) error {
	if id != "" && !idPattern.MatchString(id) {
		return invalid.at("id", "want letters, digits and ._- after a letter or a digit; leave it out to be given one")
	}
	return nil
}
