package event

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"millrace/internal/outbound"
)

// HTTPOptions say where records are posted to.
type HTTPOptions struct {
	Name  string
	URL   string
	Token string // sent as Authorization: Bearer; "": none
	Gzip  bool
	// Timeout bounds one try.
	Timeout       time.Duration
	CA, Cert, Key string // files
	// Refuse says why an address must not be connected to; nil: every one may.
	Refuse func(netip.AddrPort) error
}

// HTTP is a destination: a service that is posted CloudEvents, several at once (JSON batches). A
// batch that is sent again has the same Idempotency-Key, and its events have the ids and sources
// that they had: a service that knows either takes nothing twice.
type HTTP struct {
	options  HTTPOptions
	http     *http.Client
	packer   *gzip.Writer // its memory, which is much, is used again
	failures int          // in a row
}

const (
	cloudEventsBatch = "application/cloudevents-batch+json"
	// firstPause is after one failure, and is doubled with each one after it, up to longestPause; a
	// random part of up to a half is taken off, so that many gateways do not come back at once.
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
	maxSaid      = 300 // bytes of an answer that says why, in an error
)

// NewHTTP returns the destination. Nothing is sent yet.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	client, err := outbound.Client(outbound.Options{CA: o.CA, Cert: o.Cert, Key: o.Key, Connections: 1, Refuse: o.Refuse})
	packer, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // it is a level
	return &HTTP{options: o, http: client, packer: packer}, err
}

// Name is the name that the operator gave it.
func (h *HTTP) Name() string { return h.options.Name }

// Send posts the records at once.
func (h *HTTP) Send(ctx context.Context, records []Record) (taken int, err error) {
	after, err := h.post(ctx, records)
	if err == nil {
		h.failures = 0
		return len(records), nil
	}
	var refused *Refused
	if errors.As(err, &refused) { // it is up
		h.failures = 0
		return 0, err
	}
	h.failures++
	return 0, &Pause{Err: err, For: max(after, h.pause())}
}

func (h *HTTP) pause() time.Duration {
	pause := longestPause
	if doublings := h.failures - 1; doublings < 6 {
		pause = min(pause, firstPause<<doublings)
	}
	return pause - rand.N(pause/2)
}

// post sends the records once. after is what the service says about when to come again.
func (h *HTTP) post(ctx context.Context, records []Record) (after time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.options.Timeout, fmt.Errorf("no answer within %s", h.options.Timeout))
	defer cancel()
	plain := cloudEvents(records)
	body := plain
	if h.options.Gzip {
		body = h.packed(plain)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.options.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", cloudEventsBatch)
	r.Header.Set("User-Agent", "millrace")
	key := sha256.Sum256(plain)
	r.Header.Set("Idempotency-Key", hex.EncodeToString(key[:16])) // net/http too tries such a request again on a connection that was closed
	if h.options.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	if h.options.Token != "" {
		r.Header.Set("Authorization", "Bearer "+h.options.Token)
	}
	answer, err := h.http.Do(r)
	if err != nil {
		return 0, outbound.Plain(ctx, err)
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxSaid)) // it is only for people
	return judge(answer, said)
}

// refusals are the statuses that are said of what was sent. Every other failure is one of the
// service, of the network or of the configuration, and passes when somebody mends it.
var refusals = []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}

func judge(answer *http.Response, said []byte) (after time.Duration, err error) {
	if answer.StatusCode/100 == 2 {
		return 0, nil
	}
	err = fmt.Errorf("status %d: %.*q", answer.StatusCode, maxSaid, bytes.TrimSpace(said))
	if slices.Contains(refusals, answer.StatusCode) {
		return 0, &Refused{err}
	}
	if seconds, wrong := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 32); wrong == nil {
		after = min(time.Duration(seconds)*time.Second, time.Hour)
	}
	return after, err
}

// cloudEvents is a JSON batch of CloudEvents.
func cloudEvents(records []Record) []byte {
	body := []byte{'['}
	for i, r := range records {
		if i > 0 {
			body = append(body, ',')
		}
		body = r.AppendCloudEvent(body)
	}
	return append(body, ']')
}

func (h *HTTP) packed(plain []byte) []byte {
	var out bytes.Buffer
	h.packer.Reset(&out)
	h.packer.Write(plain) //nolint:errcheck // into memory
	h.packer.Close()      //nolint:errcheck // into memory
	return out.Bytes()
}

// Close ends the connections.
func (h *HTTP) Close() error {
	h.http.CloseIdleConnections()
	return nil
}
