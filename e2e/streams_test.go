package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/envoy"
	"millrace/internal/fakellm"
)

// TestManyStreams: so many streams at once, one chunk a second each, end complete, all in one
// moment, and what they took is there for the next. The start that memory is compared with is an
// idle gateway that has carried as many streams before: allocators keep what they once got. Envoy's
// own account of what it has allocated shows that nothing of it is in use. `make soak`: 5,000
// streams for 60 s.
func TestManyStreams(t *testing.T) {
	streams, chunks := 300, 3
	if soak {
		streams, chunks = 5000, 60
	}
	roomFor(t, streams)
	p := openAI("a")
	p.KeepRequests = 1
	g := prepare(t, "connection_pool: {idle_timeout: 1s}", pool("", to("a", p, provider(t, p))))
	dir := shortTempDir(t)
	g.exec("serve", "--config", g.Config, "--socket-dir", dir)
	t.Cleanup(g.stop)
	beside := startEnvoy(t, dir)
	g.waitReady()

	s := &streaming{t: t, g: g, provider: p, streams: streams, parts: [2]part{{"envoy", beside.PID()}, {"sidecar", g.cmd.Process.Pid}}}
	fresh, allocatedFresh := s.settled(), allocated(t, beside)
	s.wave(1)
	s.wave(1)
	start, allocatedStart := s.settled(), allocated(t, beside)
	peak, cpu, delivered := s.wave(chunks)
	back := time.Now()
	end, allocatedEnd, err := s.memoryIsBack(beside, start, allocatedStart)
	// Go collects garbage every two minutes when nothing else makes it.
	for deadline := back.Add(150 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		end, allocatedEnd, err = s.memoryIsBack(beside, start, allocatedStart)
	}
	if err != nil {
		t.Error(err)
	}
	for i, p := range s.parts {
		t.Logf("%-7s %.0f KiB a stream (%d streams), %.1f µs of CPU a chunk (%d chunks); resident KiB: %d fresh, %d idle before, %d at most, %d idle after",
			p.name, float64(peak[i]-fresh[i])/float64(streams), streams, float64(cpu[i].Microseconds())/float64(max(delivered, 1)), delivered,
			fresh[i], start[i], peak[i], end[i])
	}
	t.Logf("allocated in envoy, KiB: %d fresh, %d idle before, %d idle after", allocatedFresh, allocatedStart, allocatedEnd)
	if raceEnabled {
		t.Log("the sidecar's figures are those of the race detector; make soak measures without")
	}
	t.Logf("memory was back %s after the streams", time.Since(back).Round(time.Second))
}

// streaming makes waves of streams.
type streaming struct {
	t        *testing.T
	g        *gateway
	provider *fakellm.Provider
	streams  int
	parts    [2]part // Envoy and the sidecar
}

// wave opens all streams, has each deliver its chunks, one a second, and ends them all at once. It
// returns the most memory of each part, in KiB, and, from the moment when all were open, CPU time
// and the chunks that came.
func (s *streaming) wave(chunks int) (peak [2]int, cpu [2]time.Duration, delivered int64) {
	const (
		text = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"eleven more words of text as a model says them, "},"finish_reason":null}]}` + "\n\n"
		stop = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	)
	s.t.Helper()
	end := make(chan struct{})
	var steps []fakellm.Step
	for range chunks {
		steps = append(steps, fakellm.Step{Bytes: text, Pace: fakellm.Pace{Delay: time.Second}})
	}
	s.provider.Always(fakellm.Reply{
		Header: http.Header{"Content-Type": {"text/event-stream"}},
		Steps:  append(steps, fakellm.Step{Bytes: stop, Pace: fakellm.Pace{Gate: end}}),
	})
	var all sync.WaitGroup
	var open, got atomic.Int64
	ramp := time.NewTicker(time.Millisecond)
	defer ramp.Stop()
	for range s.streams {
		<-ramp.C
		all.Go(func() {
			want := len(text)*chunks + len(stop)
			if n, err := readStream(s.g.URL, &open, &got); err != nil || n != want {
				s.t.Errorf("a stream ended after %d bytes of %d: %v", n, want, err)
			}
		})
	}
	s.g.eventually("all streams are open at once", func() error {
		if n := open.Load(); n != int64(s.streams) {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	from := got.Load()
	for i, p := range s.parts {
		cpu[i] = -p.cpu(s.t)
	}
	for range chunks {
		time.Sleep(time.Second)
		for i, p := range s.parts {
			peak[i] = max(peak[i], p.memory(s.t))
		}
	}
	for i, p := range s.parts {
		cpu[i] += p.cpu(s.t)
	}
	delivered = got.Load() - from
	close(end)
	all.Wait()
	return peak, cpu, delivered
}

// settled waits until no part's memory changes any more, and returns both in KiB.
func (s *streaming) settled() (last [2]int) {
	s.t.Helper()
	since := time.Now()
	for deadline := time.Now().Add(patience); time.Since(since) < 2*time.Second && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		for i, p := range s.parts {
			if now := p.memory(s.t); now > last[i]+last[i]/50 || now < last[i]-last[i]/50 {
				last[i], since = now, time.Now()
			}
		}
	}
	return last
}

// memoryIsBack is an error while a part has more than 20 % more than before; with few streams,
// twice as much.
func (s *streaming) memoryIsBack(beside *envoy.Process, start [2]int, allocatedStart int) (end [2]int, allocatedEnd int, err error) {
	allocatedEnd = allocated(s.t, beside)
	if allocatedEnd > allocatedStart*6/5 {
		err = fmt.Errorf("envoy has allocated %d KiB, %d before the streams", allocatedEnd, allocatedStart)
	}
	for i, p := range s.parts {
		allowed := start[i] * 6 / 5
		if !soak { // of a few streams it is mostly the allocators' and the race detector's own
			allowed = start[i] * 2
		}
		if end[i] = p.memory(s.t); end[i] > allowed {
			err = errors.Join(err, fmt.Errorf("%s: %d KiB, %d before the streams", p.name, end[i], start[i]))
		}
	}
	return end, allocatedEnd, err
}

// allocated is what Envoy itself has allocated and not freed, in KiB.
func allocated(t *testing.T, p *envoy.Process) int {
	t.Helper()
	r, err := p.Admin.Client.Get("http://envoy/memory")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var memory struct {
		Allocated int `json:"allocated,string"`
	}
	if err := json.NewDecoder(r.Body).Decode(&memory); err != nil {
		t.Fatal(err)
	}
	return memory.Allocated >> 10
}

// readStream reads one stream to its end and returns its length. It costs less than http.Client, so
// that the machine is the gateway's. open counts the streams that have begun and not ended, got
// their pieces.
func readStream(url string, open, got *atomic.Int64) (length int, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s", len(chatStream), chatStream); err != nil {
		return 0, err
	}
	r, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
	if err != nil {
		return 0, err
	}
	if r.StatusCode != 200 {
		body, _ := io.ReadAll(r.Body)
		return 0, fmt.Errorf("%s: %s", r.Status, body)
	}
	open.Add(1)
	defer open.Add(-1)
	piece := make([]byte, 1024)
	var last []byte
	for {
		n, err := r.Body.Read(piece)
		length += n
		if n > 0 {
			got.Add(1)
			last = append(last[:0], piece[:n]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return length, err
		}
	}
	if !bytes.HasSuffix(last, []byte("[DONE]\n\n")) {
		return length, fmt.Errorf("ends with %q", last)
	}
	return length, nil
}

// roomFor checks that this process may open the files that the test takes: a stream has two ends
// here and two in Envoy.
func roomFor(t *testing.T, streams int) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if need := uint64(2*streams + 500); limit.Max < need {
		t.Fatalf("%d streams take %d open files and the hard limit is %d: raise it (ulimit -Hn)", streams, need, limit.Max)
	}
}

// part is one of the gateway's processes.
type part struct {
	name string
	pid  int
}

// memory is the process's resident memory in KiB.
func (p part) memory(t *testing.T) int {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, fmt.Sprintf("/proc/%d/status", p.pid)), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// cpu is the time that the process has been running on any core.
func (p part) cpu(t *testing.T) time.Duration {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, fmt.Sprintf("/proc/%d/stat", p.pid)), ") ")
	fields := strings.Fields(rest)
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime, proc_pid_stat(5)
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ is 100 on Linux
}
