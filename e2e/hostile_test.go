package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
)

// hostileInput is something that a client sends to do harm.
type hostileInput struct {
	what   string
	body   string
	header string
	status int
	says   string // in the answer
}

// hostileInputs are for a chat request whose target speaks another schema, so that all of it is
// decoded and encoded.
func hostileInputs() []hostileInput {
	chat := func(rest string) string { return `{"model":"m","max_tokens":9` + rest + `}` }
	user := `,"messages":[{"role":"user","content":"hi"}]`
	tools := `,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`
	many := func(n int, item func(i int) string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(item(i))
		}
		return b.String()
	}
	return []hostileInput{
		{"80,000 unknown members", chat(user + "," + many(80_000, func(i int) string { return fmt.Sprintf(`"m%d":1`, i) })), "", 400, "1000 members"},
		{"900 unknown members of 1 kB", chat(user + "," + many(900, func(i int) string { return fmt.Sprintf(`"%s%d":1`, strings.Repeat("m", 1000), i) })), "", 200, ""},
		{"member with CR LF", chat(user + `,"a\r\nx-injected: 1":1`), "", 200, ""},
		{"member with NUL and 0xff", chat(user + `,"a\u0000\u00ff":1`), "", 200, ""},
		{"member of 1 MB", chat(user + `,"` + strings.Repeat("n", 1<<20) + `":1`), "", 200, ""},
		{"model with LF", `{"model":"a\nb"` + user + `}`, "", 400, "control character"},
		{"model of 100 kB", `{"model":"` + strings.Repeat("m", 100_000) + `"` + user + `}`, "", 400, "512 bytes"},
		{"100,000 levels of arrays", chat(user + `,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "", 400, "max depth"},
		{"a tool's schema of 90,000 levels", chat(user + `,"tools":[{"type":"function","function":{"name":"f","parameters":` + strings.Repeat(`{"a":`, 90_000) + "1" + strings.Repeat("}", 90_000) + `}}]`), "", 400, "max depth"},
		{"a tool's schema of 300 levels", chat(user + `,"tools":[{"type":"function","function":{"name":"f","parameters":` + strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300) + `}}]`), "", 400, "256 levels"},
		{"300,000 small parts", chat(`,"messages":[` + many(15_000, func(int) string {
			return `{"role":"user","content":[` + many(20, func(int) string { return `{"type":"text","text":"x"}` }) + `]}`
		}) + `]`), "", 400, "250000 objects"},
		{"30,000 tools", chat(user + `,"tools":[` + many(30_000, func(i int) string { return fmt.Sprintf(`{"type":"function","function":{"name":"f%d"}}`, i) }) + `]`), "", 400, "20000 items"},
		{"200,000 messages", chat(`,"messages":[` + many(200_000, func(int) string { return `{"role":"user","content":"x"}` }) + `]`), "", 400, "20000 items"},
		{"300,000 parts", chat(`,"messages":[{"role":"user","content":[` + many(300_000, func(int) string { return `{"type":"text","text":"x"}` }) + `]}]`), "", 400, "20000 items"},
		{"9,000 calls of one illegal id", chat(tools + `,"messages":[{"role":"user","content":"go"},` + many(9000, func(i int) string {
			return `{"role":"assistant","tool_calls":[{"id":"!","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"!","content":"r"}`
		}) + `]`), "", 200, ""},
		{"4,000 calls in one message", chat(tools + `,"messages":[{"role":"user","content":"go"},{"role":"assistant","tool_calls":[` + many(4000, func(i int) string {
			return fmt.Sprintf(`{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}`, i)
		}) + `]},` + many(4000, func(i int) string { return fmt.Sprintf(`{"role":"tool","tool_call_id":"c%d","content":"r"}`, 3999-i) }) + `]`), "", 200, ""},
		{"8 MB of text", chat(`,"messages":[{"role":"user","content":"` + strings.Repeat("x", 8<<20) + `"}]`), "", 200, ""},
		{"8 MB of escapes", chat(`,"messages":[{"role":"user","content":"` + strings.Repeat(`\u0041`, 8<<20/6) + `"}]`), "", 200, ""},
		{"a member twice", chat(user + `,"model":"other"`), "", 400, "duplicate"},
		{"invalid UTF-8", chat(user + ",\"x\":\"\xff\""), "", 400, "UTF-8"},
		{"a lone surrogate", chat(user + `,"x":"\ud800"`), "", 400, ""},
		{"a number of 1 MB", chat(user + `,"temperature":1` + strings.Repeat("0", 1<<20)), "", 200, ""},
		{"not JSON", strings.Repeat("A", 1<<20), "", 400, "not strict JSON"},
		{"compressed", "x", "content-encoding: gzip", 400, "content-encoding"},
	}
}

// TestHostile: whatever a client sends, the answer is one clear refusal or a result, what it costs
// follows its size, and nobody else notices: a bystander asks all the time and is always served.
// `make hostile` prints the table.
func TestHostile(t *testing.T) {
	t.Parallel()
	b := anthropicAI("b")
	g, admin := withAdmin(t, "", pool("health_checks: {passive: false}", to("b", b, provider(t, b))))

	var asked, failed atomic.Int32
	stop := make(chan struct{})
	var bystander sync.WaitGroup
	bystander.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			asked.Add(1)
			r, err := http.Post(g.URL+"/v1/chat/completions", "application/json", strings.NewReader(chatHello))
			if err != nil || r.StatusCode != 200 {
				failed.Add(1)
				t.Errorf("the bystander: %v %v", r, err)
			}
			if err == nil {
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
		}
	})

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "input\tkB\tanswer\tsidecar: CPU ms\tallocations\tMB\tEnvoy: MB\tbystander: asked\tfailed")
	for _, in := range hostileInputs() {
		cpu, allocations := g.metric(admin, "process_cpu_seconds_total"), g.metric(admin, "go_memstats_mallocs_total")
		askedBefore, failedBefore := asked.Load(), failed.Load()
		var header []string
		if in.header != "" {
			header = append(header, in.header)
		}
		r := g.post("/v1/chat/completions", in.body, header...)
		said := fmt.Sprint(r.Status)
		if r.Status != 200 {
			said += " " + message(r.Body)
		}
		g.get("/health").want(200)
		fmt.Fprintf(w, "%s\t%d\t%.70s\t%.0f\t%.0f\t%.0f\t%d\t%d\t%d\n", in.what, len(in.body)>>10, said,
			1000*(g.metric(admin, "process_cpu_seconds_total")-cpu), g.metric(admin, "go_memstats_mallocs_total")-allocations,
			g.metric(admin, "process_resident_memory_bytes")/(1<<20), g.stat("server.memory_allocated")>>20,
			asked.Load()-askedBefore, failed.Load()-failedBefore)
		if r.Status != in.status || !strings.Contains(r.Body, in.says) {
			t.Errorf("%s: %d %.300s; want %d that says %q", in.what, r.Status, r.Body, in.status, in.says)
		}
		if len(r.Header.Get("x-injected")) > 0 || len(fmt.Sprint(r.Header)) > 10_000 {
			t.Errorf("%s: headers %.500v", in.what, r.Header)
		}
	}
	close(stop)
	bystander.Wait()
	w.Flush()
	t.Log("\n" + table.String())
	if strings.Contains(g.log.String(), `"panic"`) {
		t.Error("something panicked")
	}
}

func message(body string) string {
	var e struct{ Error struct{ Message string } }
	json.Unmarshal([]byte(body), &e)
	return e.Error.Message
}

// metric reads one of the sidecar's own.
func (g *gateway) metric(admin, name string) float64 {
	g.t.Helper()
	r, err := http.Get(admin + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(g.read(r).want(200).Body)
	if m == nil {
		g.t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}
