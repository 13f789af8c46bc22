package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/event"
)

// Events keeps events and gives them back.
type Events interface {
	// Take has them on disk when it returns; taken are those that are new.
	Take(ctx context.Context, records []event.Record) (taken int, err error)
	Read(ctx context.Context, q event.Query) (event.Page, error)
}

const (
	eventsPath = "/v1/events"
	// maxEvents bounds what a body of events may unpack to, in bytes.
	maxEvents = 32 << 20
	// maxPage bounds the events of one answer.
	maxPage     = 1000
	defaultPage = 100

	cloudEvent       = "application/cloudevents+json"
	cloudEventsBatch = "application/cloudevents-batch+json"
)

// events serves what is no resource of the configuration: the sink of other gateways, and a look at
// what this one keeps. kept is nil where nothing is.
type events struct {
	kept    func() Events
	problem func(method string, err error) *problem
}

func (e *events) register(mux *http.ServeMux) {
	for verb, serve := range map[string]func(Events, http.ResponseWriter, *http.Request) error{
		http.MethodPost: take, http.MethodGet: read,
	} {
		mux.HandleFunc(verb+" "+eventsPath, func(w http.ResponseWriter, r *http.Request) {
			if err := e.with(serve, w, r); err != nil {
				if errors.Is(err, event.ErrFull) {
					w.Header().Set("Retry-After", "5")
				}
				e.problem(r.Method+" "+eventsPath, err).write(w)
			}
		})
	}
}

func (e *events) with(serve func(Events, http.ResponseWriter, *http.Request) error, w http.ResponseWriter, r *http.Request) error {
	if e.kept != nil {
		if kept := e.kept(); kept != nil {
			return serve(kept, w, r)
		}
	}
	return unavailable.because("no events are kept here: events.retention says how long they are to be, and a data directory or a store is needed")
}

// take takes a batch, whole or not at all but for what is known already. Once it is answered it is
// on disk.
func take(kept Events, w http.ResponseWriter, r *http.Request) error {
	body, err := bodyOf(w, r)
	if err != nil {
		return err
	}
	records, err := recordsOf(r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	taken, err := kept.Take(r.Context(), records)
	if err != nil {
		return err
	}
	return respond(w, http.StatusAccepted, map[string]int{"taken": taken, "known": len(records) - taken})
}

func bodyOf(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body := io.Reader(http.MaxBytesReader(w, r.Body, maxBody))
	switch coding := r.Header.Get("Content-Encoding"); coding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return nil, badRequest.because("read the body: %v", err)
		}
		body = io.LimitReader(unpacked, maxEvents+1)
	default:
		return nil, badMediaType.because("Content-Encoding is %s, want gzip or none", coding)
	}
	data, err := io.ReadAll(body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge.because("a body may have %d bytes", maxBody)
	case len(data) > maxEvents:
		return nil, tooLarge.because("a body may unpack to %d bytes", maxEvents)
	case err != nil:
		return nil, badRequest.because("read the body: %v", err)
	}
	return data, nil
}

// recordsOf reads a CloudEvent, a batch of them, or a list of events as files have them.
func recordsOf(contentType string, body []byte) ([]event.Record, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, badMediaType.because("want %s, %s or application/json, got %q", cloudEventsBatch, cloudEvent, contentType)
	}
	items := []jsontext.Value{body}
	if mediaType == cloudEventsBatch || mediaType == "application/json" {
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, badRequest.because("want a list of events: %v", err)
		}
	} else if mediaType != cloudEvent {
		return nil, badMediaType.because("want %s, %s or application/json, got %s", cloudEventsBatch, cloudEvent, mediaType)
	}
	var records []event.Record
	for i, item := range items {
		record, err := event.ReadCloudEvent(item)
		if mediaType == "application/json" {
			record, err = event.ReadJSON(eventsPath, item)
		}
		if err != nil {
			return nil, badRequest.at(fmt.Sprintf("[%d]", i), "%v", err)
		}
		records = append(records, record)
	}
	return records, nil
}

// read answers with a page of events.
func read(kept Events, w http.ResponseWriter, r *http.Request) error {
	q, err := queryOf(r.URL.Query(), time.Now())
	if err != nil {
		return err
	}
	page, err := kept.Read(r.Context(), q)
	if errors.Is(err, event.ErrCursor) {
		return badRequest.at("after", "%v", err)
	}
	if err != nil {
		return err
	}
	said := struct {
		Events []jsontext.Value `json:"events"`
		Next   string           `json:"next"`
		More   bool             `json:"more"`
		// Of each event, where those are asked for that were refused.
		Refusals []unwanted `json:"refusals,omitempty"`
	}{Events: []jsontext.Value{}, Next: page.Next, More: page.More}
	for _, record := range page.Records {
		said.Events = append(said.Events, record.JSON)
		if q.Refused {
			said.Refusals = append(said.Refusals, unwanted{record.Sink, record.Reason})
		}
	}
	return respond(w, http.StatusOK, said)
}

// unwanted is why a sink will not have an event.
type unwanted struct {
	Sink   string `json:"sink"`
	Reason string `json:"reason"`
}

var statusFilter = regexp.MustCompile(`^([1-5](xx|[0-9][0-9])|none)$`)

func queryOf(given url.Values, now time.Time) (q event.Query, err error) {
	q.Limit = defaultPage
	for name, values := range given {
		switch name {
		case "status":
			q.Status = values
			for _, s := range values {
				if !statusFilter.MatchString(s) {
					return q, badRequest.at(name, "want a status, 5xx or none")
				}
			}
			continue
		case "gateway":
			q.Gateways = values
			continue
		case "service":
			q.Services = values
			continue
		case "target":
			q.Targets = values
			continue
		case "key":
			q.Keys = values
			continue
		case "model":
			q.Models = values
			continue
		}
		if len(values) != 1 {
			return q, badRequest.at(name, "given %d times", len(values))
		}
		switch name {
		case "since":
			q.Since, err = timeOf(values[0], now)
		case "until":
			q.Until, err = timeOf(values[0], now)
		case "after":
			q.After = values[0]
		case "refused":
			if q.Refused, err = strconv.ParseBool(values[0]); err != nil {
				err = errors.New("want true or false")
			}
		case "limit":
			if q.Limit, err = strconv.Atoi(values[0]); err != nil || q.Limit < 1 || q.Limit > maxPage {
				err = fmt.Errorf("want a number from 1 to %d", maxPage)
			}
		default:
			err = errors.New("unknown query parameter")
		}
		if err != nil {
			return q, badRequest.at(name, "%v", err)
		}
	}
	return q, nil
}

// timeOf reads a time, or how long ago it was.
func timeOf(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, errors.New("want a time (2026-01-02T15:04:05Z) or how long ago it was (15m)")
	}
	return at, nil
}

func respond(w http.ResponseWriter, status int, said any) error {
	body, err := json.Marshal(said)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(bytes.TrimSpace(body), '\n')) //nolint:errcheck // the client is gone
	return nil
}
