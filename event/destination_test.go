package event

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	millracev1 "millrace/proto/millrace/v1"
)

// picky is a destination that refuses some records, takes so many at once and fails at times.
type picky struct {
	never  []string // it refuses whatever these are in
	atOnce int
	got    []string
	fails  error
	asked  int
}

func (p *picky) Name() string { return "picky" }
func (p *picky) Close() error { return nil }

func (p *picky) Send(_ context.Context, records []Record) (int, error) {
	p.asked++
	if p.fails != nil {
		return 0, p.fails
	}
	for _, r := range records {
		if slices.Contains(p.never, r.ID) || len(records) > p.atOnce {
			return 0, &Refused{errors.New("no")}
		}
	}
	for _, r := range records {
		p.got = append(p.got, r.ID)
	}
	return len(records), nil
}

// TestGive (E06): of many records a destination gets all that it does not refuse by themselves, in
// order and once, in a number of tries that grows with those it refuses and not with all of them.
func TestGive(t *testing.T) {
	for name, c := range map[string]struct {
		never         []int
		atOnce, tries int
	}{
		"all are taken":       {nil, 1000, 1},
		"one is refused":      {[]int{77}, 1000, 20},
		"the first and last":  {[]int{0, 99}, 1000, 40},
		"neighbours":          {[]int{50, 51, 52}, 1000, 60},
		"so many is too much": {nil, 10, 200},
	} {
		t.Run(name, func(t *testing.T) {
			records, p := someRecords(t, 100), &picky{atOnce: c.atOnce}
			var want []string
			for i, r := range records {
				if slices.Contains(c.never, i) {
					p.never = append(p.never, r.ID)
				} else {
					want = append(want, r.ID)
				}
			}
			var refused []string
			done, err := Give(t.Context(), p, records, func(r Record, _ error) { refused = append(refused, r.ID) })
			if err != nil || done != 100 || !slices.Equal(p.got, want) || !slices.Equal(refused, p.never) {
				t.Errorf("%d, %v; got %v; refused %v", done, err, p.got, refused)
			}
			if p.asked > c.tries {
				t.Errorf("%d tries, want at most %d", p.asked, c.tries)
			}
		})
	}
	p := &picky{fails: &Pause{Err: errors.New("away"), For: time.Minute}}
	if done, err := Give(t.Context(), p, someRecords(t, 3), nil); done != 0 || PauseAfter(err) != time.Minute || p.asked != 1 {
		t.Errorf("away: %d, %v", done, err)
	}
}

// TestFilter: a destination gets what its filter has, and what it has not counts as taken.
func TestFilter(t *testing.T) {
	events := []Facts{
		{Gateway: "default", Service: "s", Status: 200, Target: "a", Key: "k", Model: "m"},
		{Gateway: "other", Status: 429, Target: "a"},
		{Gateway: "default", Status: 503},
		{Gateway: "default"},
	}
	for name, c := range map[string]struct {
		filter Filter
		want   []int
	}{
		"all":           {Filter{}, []int{0, 1, 2, 3}},
		"one status":    {Filter{Status: []string{"429"}}, []int{1}},
		"classes":       {Filter{Status: []string{"2xx", "5xx"}}, []int{0, 2}},
		"no status":     {Filter{Status: []string{"none"}}, []int{3}},
		"a gateway":     {Filter{Gateways: []string{"default"}}, []int{0, 2, 3}},
		"a service":     {Filter{Services: []string{"s"}}, []int{0}},
		"a target":      {Filter{Targets: []string{"b", "a"}}, []int{0, 1}},
		"a key":         {Filter{Keys: []string{"k"}}, []int{0}},
		"a model":       {Filter{Models: []string{"m"}}, []int{0}},
		"all must hold": {Filter{Status: []string{"4xx"}, Gateways: []string{"default"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			records := someRecords(t, len(events))
			var want []string
			for i := range records {
				records[i].Facts = events[i]
				if slices.Contains(c.want, i) {
					want = append(want, records[i].ID)
				}
			}
			p := &picky{atOnce: 100}
			if taken, err := Only(c.filter, p).Send(t.Context(), records); err != nil || taken != len(records) || !slices.Equal(p.got, want) {
				t.Errorf("%d taken, %v: %v, want %v", taken, err, p.got, want)
			}
			p.fails = errors.New("away")
			first := len(records)
			if len(c.want) > 0 {
				first = c.want[0]
			}
			if taken, err := Only(c.filter, p).Send(t.Context(), records); taken != first || (err == nil) != (first == len(records)) {
				t.Errorf("away: %d taken, %v; want %d", taken, err, first)
			}
		})
	}
}

// TestFullIsSaid: as long as a destination has no room, and no longer, the recorder says so.
func TestFullIsSaid(t *testing.T) {
	r := NewRecorder("test")
	if r.Full() || (*Recorder)(nil).Full() {
		t.Error("full at the start")
	}
	o := &output{Destination: &picky{}, recorder: r, log: quiet}
	for _, c := range []struct {
		err  error
		full bool
	}{{ErrFull, true}, {ErrFull, true}, {errors.New("away"), false}, {&Pause{Err: ErrFull}, true}, {nil, false}} {
		if o.says(c.err); r.Full() != c.full {
			t.Errorf("%v: full is %v", c.err, r.Full())
		}
	}
}

// TestCloudEvent: what AppendCloudEvent writes ReadCloudEvent reads.
func TestCloudEvent(t *testing.T) {
	want := someRecords(t, 1)[0]
	want.ID, want.Source = "an \"id\"\n", "/millrace/é"
	data := want.AppendCloudEvent(nil)
	got, err := ReadCloudEvent(data)
	if err != nil || got.ID != want.ID || got.Source != want.Source || !got.Time.Equal(want.Time) || got.Model != want.Model {
		t.Errorf("%v: %+v of %s", err, got, data)
	}
	if timeless, err := NewRecord("/b", &millracev1.Event{Id: "a"}); err != nil || strings.Contains(string(timeless.AppendCloudEvent(nil)), "time\":") {
		t.Errorf("%v: %s", err, timeless.AppendCloudEvent(nil))
	}
	if opened, err := Sealed(data).Open(); err != nil || opened.ID != want.ID || string(opened.AppendCloudEvent(nil)) != string(got.AppendCloudEvent(nil)) {
		t.Errorf("sealed: %v %+v", err, opened)
	}
	for _, wrong := range []string{
		"", "[]", "{}", `{"specversion":"1.0"}`, `{"specversion":"0.3","id":"a","source":"b","type":"dev.millrace.request","data":{}}`,
		`{"specversion":"1.0","id":"a","source":"b","type":"other","data":{}}`, `{"specversion":"1.0","id":"a","source":"b","type":"dev.millrace.request"}`,
		`{"specversion":"1.0","id":"a","source":"b","type":"dev.millrace.request","data":{"status":"x"}}`,
		`{"specversion":"1.0","id":"a","source":"b","type":"dev.millrace.request","data":[]}`,
	} {
		if r, err := ReadCloudEvent([]byte(wrong)); err == nil {
			t.Errorf("%s is taken: %+v", wrong, r)
		}
	}
}

// FuzzReadCloudEvent: whatever is taken is sent on as it was taken.
func FuzzReadCloudEvent(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"a","source":"b","type":"dev.millrace.request","data":{"id":"a","status":200}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"a","source":"b","type":"dev.millrace.request","data":{"id":"a","time":"2026-01-02T03:04:05Z"} }`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadCloudEvent(data)
		if err != nil {
			return
		}
		again, err := ReadCloudEvent(r.AppendCloudEvent(nil))
		if err != nil || again.ID != r.ID || again.Source != r.Source || string(again.JSON) != string(r.JSON) {
			t.Errorf("%s becomes %s: %v", data, r.AppendCloudEvent(nil), err)
		}
	})
}
