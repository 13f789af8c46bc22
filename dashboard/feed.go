package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"millrace/control"
	"millrace/metrics"
)

const (
	// frameEvery is the least time from one frame to the next.
	frameEvery = time.Second
	// maxViewers bounds the streams that are open at once.
	maxViewers = 20
	// viewerPatience is how long a viewer may take for what it is sent before it is left.
	viewerPatience = 10 * time.Second
	// shownVersions bounds the versions of the configuration that are shown.
	shownVersions = 10
	// storePatience is how long a frame waits for them, and versionsAgain after what time they are
	// asked for again where they were not to be had.
	storePatience = time.Second
	versionsAgain = 10 * time.Second
)

// Options are what frames are made of.
type Options struct {
	Recent   *Recent
	Digest   func(context.Context) (*metrics.Digest, error)
	Status   func() control.Status
	Versions func(context.Context) ([]control.VersionInfo, error) // newest first
	Release  string
	Log      *slog.Logger
}

// Feed gives frames to who looks: one as JSON, or one a second as server-sent events
// (text/event-stream). Its methods may be called at the same time.
type Feed struct {
	options Options
	viewers chan struct{} // holds one for each stream
	closed  chan struct{}
	close   func()

	mu       sync.Mutex // guards what follows, and is held while a frame is made
	frame    Frame
	encoded  []byte
	made     time.Time
	versions []Version
	of       control.Result // what versions were asked for
	read     bool           // and they were had
	tried    time.Time
}

// NewFeed returns a feed; Close ends its streams.
func NewFeed(o Options) *Feed {
	f := &Feed{options: o, viewers: make(chan struct{}, maxViewers), closed: make(chan struct{}), versions: []Version{}}
	f.close = sync.OnceFunc(func() { close(f.closed) })
	return f
}

// Close ends the streams, so that their server can be shut down.
func (f *Feed) Close() { f.close() }

// Snapshot is a frame with the last requests, as it is sent to who wants JSON.
type Snapshot struct {
	Frame
	Requests []Request `json:"requests"`
}

// ServeHTTP serves a Snapshot, or a stream with events of two kinds: frame is a Frame, requests are
// the requests since the event of that kind before, or the last ones.
func (f *Feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default: // it could read nothing, and still take the places of those who may look
		http.Error(w, "a page of another site sent this", http.StatusForbidden)
		return
	}
	if r.Header.Get("Accept") == eventStream {
		f.stream(w, r)
		return
	}
	frame, _, err := f.current()
	if err != nil {
		http.Error(w, "there is no frame: the log has more", http.StatusInternalServerError)
		return
	}
	requests, _ := f.options.Recent.since(0)
	body, err := json.Marshal(Snapshot{frame, requests})
	if err != nil {
		http.Error(w, "there is no frame: the log has more", http.StatusInternalServerError)
		f.options.Log.Error("dashboard", "error", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n')) //nolint:errcheck // the reader has left
}

const eventStream = "text/event-stream"

func (f *Feed) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case f.viewers <- struct{}{}:
		defer func() { <-f.viewers }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d are looking already", maxViewers), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", eventStream)
	conn := http.NewResponseController(w)
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for seen := uint64(0); ; {
		_, encoded, err := f.current()
		if err != nil {
			return
		}
		var requests []Request
		requests, seen = f.options.Recent.since(seen)
		if f.send(w, conn, encoded, requests) != nil {
			return
		}
		select {
		case <-tick.C:
		case <-f.closed:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// send writes a frame and what is new. Where the server bounds the time of a request, that bound
// does not hold for a stream.
func (f *Feed) send(w http.ResponseWriter, conn *http.ResponseController, frame []byte, requests []Request) error {
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(viewerPatience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: frame\ndata: %s\n\n", frame); err != nil {
		return err
	}
	if len(requests) > 0 {
		list, err := json.Marshal(requests)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: requests\ndata: %s\n\n", list); err != nil {
			return err
		}
	}
	return conn.Flush()
}

// current is the frame of this second, as it is and encoded. Neither must be changed.
func (f *Feed) current() (Frame, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.encoded != nil && time.Since(f.made) < frameEvery-frameEvery/10 { // for tickers are never exact
		return f.frame, f.encoded, nil
	}
	frame, err := f.make()
	if err == nil {
		var encoded []byte
		if encoded, err = json.Marshal(frame); err == nil {
			f.frame, f.encoded, f.made = frame, encoded, time.Now()
			return frame, encoded, nil
		}
	}
	f.options.Log.Error("dashboard", "error", err)
	return Frame{}, nil, err
}

// make makes a frame. Envoy is asked for it: ctx is nobody's, for it is for all who look.
func (f *Feed) make() (Frame, error) {
	ctx, cancel := context.WithTimeout(context.Background(), viewerPatience)
	defer cancel()
	digest, err := f.options.Digest(ctx)
	if err != nil {
		return Frame{}, err
	}
	now := f.options.Status()
	frame := Frame{Status: statusOf(f.options.Release, now), Versions: f.versionsFor(ctx, now.Result)}
	frame.Targets, frame.Totals.Active = targetsOf(digest)
	f.options.Recent.fill(&frame)
	frame.bound()
	return frame, nil
}

// versionsFor reads the versions when there is a new one or another state: to read them takes time.
// Where they cannot be read those of before are shown, and it is tried again later. Without a store
// there are none; what is wrong with one the status says.
func (f *Feed) versionsFor(ctx context.Context, now control.Result) []Version {
	known := f.of.Revision == now.Revision && f.of.Version == now.Version && f.of.State == now.State
	if known && (f.read || time.Since(f.tried) < versionsAgain) {
		return f.versions
	}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	all, err := f.options.Versions(ctx)
	f.of, f.read, f.tried = now, err == nil, time.Now()
	if err != nil {
		return f.versions
	}
	f.versions = []Version{}
	for _, v := range all[:min(len(all), shownVersions)] {
		shown := Version{Revision: v.Revision, Time: v.Time, Cause: printable(v.Cause), State: string(v.State)}
		if v.Revision == now.Revision {
			shown.State = string(now.State)
		}
		f.versions = append(f.versions, shown)
	}
	return f.versions
}
