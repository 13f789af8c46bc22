package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	millracev1 "millrace/proto/millrace/v1"
)

// Type is what the records are called as CloudEvents (https://cloudevents.io, 1.0).
const Type = "dev.millrace.request"

// Record is one event, ready to be sent.
type Record struct {
	ID     string // of the request
	Source string // the sidecar that recorded it: with ID the event's identity, wherever it is sent again
	Facts
	JSON []byte // the event, on one line

	// Sink is the one that has refused it for good, and Reason why; "" for all others.
	Sink, Reason string

	sealed []byte // the record as a CloudEvent; then the rest is empty
}

// Sealed is the record of a CloudEvent that AppendCloudEvent wrote, unread: who only sends it on
// has no need to. Open reads it.
func Sealed(cloudEvent []byte) Record { return Record{sealed: cloudEvent} }

// Open returns the record with what is known of it.
func (r Record) Open() (Record, error) {
	if r.sealed == nil {
		return r, nil
	}
	return ReadCloudEvent(r.sealed)
}

// Facts are what records are chosen by.
type Facts struct {
	Time    time.Time `json:"time"`
	Gateway string    `json:"gateway"`
	Service string    `json:"service"`
	Status  int       `json:"status"`
	Target  string    `json:"target"`
	Key     string    `json:"key"`
	Model   string    `json:"model"`
}

var line = protojson.MarshalOptions{UseProtoNames: true}

// NewRecord encodes an event. It fails for one with a string that is not UTF-8.
func NewRecord(source string, e *millracev1.Event) (Record, error) {
	data, err := line.Marshal(e)
	r := Record{ID: e.Id, Source: source, JSON: data, Facts: Facts{
		Gateway: e.Gateway, Service: e.Service, Status: int(e.Status), Target: e.Target, Key: e.Key, Model: e.Model,
	}}
	if e.Time != nil {
		r.Time = e.Time.AsTime()
	}
	return r, err
}

// envelope is a CloudEvent with a record in it.
type envelope struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time,omitzero"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data"`
}

// AppendCloudEvent appends the record as a CloudEvent, on one line.
func (r Record) AppendCloudEvent(to []byte) []byte {
	if r.sealed != nil {
		return append(to, r.sealed...)
	}
	text := func(name, value string) {
		quoted, _ := json.Marshal(value) // a string always has its JSON
		to = append(append(to, name...), quoted...)
	}
	text(`{"specversion":"1.0","id":`, r.ID)
	text(`,"source":`, r.Source)
	text(`,"type":`, Type)
	if r.Gateway != "" {
		text(`,"subject":`, r.Gateway)
	}
	if !r.Time.IsZero() {
		text(`,"time":`, r.Time.UTC().Format(time.RFC3339Nano))
	}
	to = append(to, `,"datacontenttype":"application/json","data":`...)
	return append(append(to, r.JSON...), '}')
}

// ReadCloudEvent reads one.
func ReadCloudEvent(data []byte) (Record, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return Record{}, err
	}
	switch {
	case e.SpecVersion != "1.0":
		return Record{}, fmt.Errorf("specversion is %q, want 1.0", e.SpecVersion)
	case e.ID == "" || e.Source == "":
		return Record{}, fmt.Errorf("id and source are needed")
	case e.Type != Type:
		return Record{}, fmt.Errorf("type is %q, want %s", e.Type, Type)
	}
	return readJSON(e.ID, e.Source, e.Data)
}

// ReadJSON reads an event as files have it. Source is who has sent it.
func ReadJSON(source string, data []byte) (Record, error) {
	var e struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return Record{}, err
	}
	if e.ID == "" {
		return Record{}, fmt.Errorf("id is needed")
	}
	return readJSON(e.ID, source, data)
}

func readJSON(id, source string, data []byte) (Record, error) {
	r := Record{ID: id, Source: source}
	if err := json.Unmarshal(data, &r.Facts); err != nil {
		return Record{}, fmt.Errorf("data: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return Record{}, err
	}
	r.JSON = line.Bytes()
	return r, nil
}

// ErrCursor is the error of a query whose After is no cursor.
var ErrCursor = errors.New("not what an answer had as next")

// Query asks for events that are kept.
type Query struct {
	Filter
	Since, Until time.Time // of their requests' begin; zero: no bound
	After        string    // a Page's Next
	Refused      bool      // those that a sink has refused for good, in place of the others
	Limit        int
}

// Page is a part of what a Query asks for, the earliest recorded first. Without After and Since it
// is the last part.
type Page struct {
	Records []Record
	Next    string // to go on after it, also when there is nothing more yet
	More    bool   // there is more already; the page may be empty all the same
}

// Filter chooses records. Each list that is not empty has to have what the record says.
type Filter struct {
	Status                                    []string // "429", "5xx", or "none": the client left before there was one
	Gateways, Services, Targets, Keys, Models []string
}

// Has tells whether the filter lets a record pass.
func (f *Filter) Has(r *Facts) bool {
	return hasStatus(f.Status, r.Status) && has(f.Gateways, r.Gateway) && has(f.Services, r.Service) && has(f.Targets, r.Target) && has(f.Keys, r.Key) && has(f.Models, r.Model)
}

func has(list []string, value string) bool {
	for _, wanted := range list {
		if wanted == value {
			return true
		}
	}
	return len(list) == 0
}

func hasStatus(list []string, status int) bool {
	for _, wanted := range list {
		switch {
		case wanted == "none" && status == 0,
			len(wanted) == 3 && wanted[1:] == "xx" && status/100 == int(wanted[0]-'0'),
			wanted == fmt.Sprint(status):
			return true
		}
	}
	return len(list) == 0
}
