package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// load is a kind of traffic.
type load struct {
	name    string
	workers int     // connections, each with one request at a time
	rate    float64 // requests a second, at fixed instants; 0: each worker sends its next when its last has ended
	stream  bool
}

var loads = []load{
	{name: "plain", workers: 64},
	{name: "stream", workers: 100, stream: true},
	{name: "rate", workers: 64, rate: 200},
}

// figures are what a load showed of a path.
type figures struct {
	requests, tokens int
	latency          []time.Duration // of whole answers; at a rate, from the instant that the request was due
	firstToken       []time.Duration
	took             time.Duration
	envoy, beside    time.Duration // CPU
	others           float64       // the share of the machine that anything else used
}

func (f *figures) String() string {
	what, late := "request", f.latency
	if f.tokens > 0 {
		what, late = "token", f.firstToken
	}
	return fmt.Sprintf("%7d; Envoy %4.0f µs, beside it %4.0f µs a %s; p99 %6.2f ms; other processes %2.0f %%",
		cmp.Or(f.tokens, f.requests), f.each(f.envoy), f.each(f.beside), what, ms(quantile(late, 0.99)), 100*f.others)
}

// each is the share of a token, or of a request where there are no tokens, in microseconds.
func (f *figures) each(d time.Duration) float64 {
	return us(d) / float64(max(1, cmp.Or(f.tokens, f.requests)))
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile sorts d.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

// measure sends the load for the warm-up and the measured time. What ends within the measured time
// counts, and the CPU time used in it.
func (b *bench) measure(ctx context.Context, p path, l load, o options) (*figures, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	from, until := begin.Add(o.warmup), begin.Add(o.warmup+o.measured)
	workers := make([]*worker, l.workers)
	due := make(chan time.Time, 1<<16)
	var running sync.WaitGroup
	for i := range workers {
		w := &worker{path: p, load: l, from: from, until: until}
		workers[i] = w
		running.Go(func() {
			if l.stream { // or all of them begin, and end, at once
				time.Sleep(o.warmup / 2 * time.Duration(i) / time.Duration(l.workers))
			}
			w.run(ctx, due)
			if w.err != nil {
				cancel()
			}
		})
	}
	if l.rate > 0 {
		running.Go(func() { pacemaker(ctx, due, begin, until, l.rate) })
	}
	time.Sleep(time.Until(from))
	before := b.sample(p.subject)
	time.Sleep(time.Until(until))
	after := b.sample(p.subject)
	running.Wait()

	f := &figures{took: o.measured, envoy: after.envoy - before.envoy, beside: after.beside - before.beside}
	known := after.known - before.known
	f.others = float64(after.machine-before.machine-known) / float64(after.all-before.all)
	var errs []error
	for _, w := range workers {
		errs = append(errs, w.err)
		f.requests += w.requests
		f.tokens += w.tokens
		f.latency = append(f.latency, w.latency...)
		f.firstToken = append(f.firstToken, w.firstToken...)
	}
	return f, errors.Join(errs...)
}

// pacemaker says when the next request is due. A gateway that stalls does not slow it down: what it
// delays is late.
func pacemaker(ctx context.Context, due chan<- time.Time, begin, until time.Time, rate float64) {
	defer close(due)
	for i := 0; ; i++ {
		at := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if at.After(until) || ctx.Err() != nil {
			return
		}
		time.Sleep(time.Until(at))
		due <- at
	}
}

// worker is one connection of a client.
type worker struct {
	path        path
	load        load
	from, until time.Time
	conn        net.Conn
	in          *bufio.Reader

	requests, tokens    int
	latency, firstToken []time.Duration
	err                 error
}

func (w *worker) run(ctx context.Context, due <-chan time.Time) {
	defer func() {
		if w.conn != nil {
			w.conn.Close()
		}
	}()
	request := w.path.request(w.load.stream)
	for ctx.Err() == nil && w.err == nil {
		at := time.Now()
		if w.load.rate > 0 {
			var more bool
			if at, more = <-due; !more {
				return
			}
		} else if at.After(w.until) {
			return
		}
		if w.err = w.one(request, at); w.err != nil && ctx.Err() != nil {
			w.err = nil // another worker's error was first
		}
	}
}

// request is written once and sent as often as needed.
func (p path) request(stream bool) []byte {
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"system","content":"You are a terse assistant."},{"role":"user","content":%q}],"temperature":0.2,"max_tokens":256%s}`,
		p.model, strings.Repeat("Say which of these designs you would choose, and what you would measure first. ", 10),
		map[bool]string{true: `,"stream":true,"stream_options":{"include_usage":true}`}[stream])
	u, _ := url.Parse(p.subject.url)
	return fmt.Appendf(nil, "POST %s/v1/chat/completions HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAuthorization: Bearer client\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		p.prefix, u.Host, len(body), body)
}

// one sends a request and reads the answer whole. Everything that is not a good answer is an error.
func (w *worker) one(request []byte, at time.Time) error {
	if w.conn == nil {
		u, _ := url.Parse(w.path.subject.url)
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return err
		}
		w.conn, w.in = conn, bufio.NewReaderSize(conn, 32<<10)
	}
	if err := w.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := w.conn.Write(request); err != nil {
		return err
	}
	r, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	var body []byte
	var first time.Time
	if r.StatusCode == http.StatusOK && w.load.stream {
		body, first, err = w.readStream(r.Body)
	} else {
		body, err = io.ReadAll(r.Body)
	}
	switch {
	case err != nil:
		return err
	case r.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", r.Status, body)
	case w.load.stream && (bytes.Count(body, []byte(word)) != tokens || !bytes.Contains(body, []byte("data: [DONE]"))):
		return fmt.Errorf("the stream is not complete: %s", body)
	case !w.load.stream && !bytes.Contains(body, []byte(`"content":"The quick`)):
		return fmt.Errorf("not the answer: %s", body)
	}
	now := time.Now()
	counted := now
	if w.load.rate > 0 {
		counted = at // or the slowest would be left out
	}
	if w.counts(counted) {
		w.requests++
		w.latency = append(w.latency, now.Sub(at))
		if w.load.stream {
			w.firstToken = append(w.firstToken, first.Sub(at))
		}
	}
	return nil
}

// counts tells whether the time is within what is measured.
func (w *worker) counts(t time.Time) bool { return !t.Before(w.from) && !t.After(w.until) }

// readStream also counts the tokens, and tells when the first came.
func (w *worker) readStream(r io.Reader) (all []byte, first time.Time, err error) {
	all = make([]byte, 0, 64<<10)
	seen := 0
	for {
		if len(all) == cap(all) {
			all = slices.Grow(all, 64<<10)
		}
		n, err := r.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		now := time.Now()
		for {
			i := bytes.Index(all[seen:], []byte(word))
			if i < 0 {
				break
			}
			seen += i + len(word)
			if first.IsZero() {
				first = now
			}
			if w.counts(now) {
				w.tokens++
			}
		}
		if errors.Is(err, io.EOF) {
			return all, first, nil
		}
		if err != nil {
			return all, first, err
		}
	}
}

// check sends one request of each kind by each path, before anything is measured.
func (b *bench) check() error {
	for _, p := range b.paths() {
		for _, l := range loads {
			w := &worker{path: p, load: l}
			if err := w.one(p.request(l.stream), time.Now()); err != nil {
				return fmt.Errorf("%s, %s: %w", p.name(), l.name, err)
			}
			w.conn.Close()
		}
	}
	return nil
}
