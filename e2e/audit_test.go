package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/internal/fakellm"
)

// auditRecord is one record of an audit log, as far as these tests look at it.
type auditRecord struct {
	Sequence uint64
	Kind     string
	Data     struct {
		ID, Gateway, Key, Path, Schema, Model, Target, Error string
		ClientAddress                                        string `json:"client_address"`
		SHA256                                               string
		Bytes, Status, Attempts                              int
		Stream                                               bool
		Usage                                                map[string]int
	}
}

// auditOf reads the records of a folder, in order.
func auditOf(t *testing.T, dir string) []auditRecord {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []auditRecord
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var r auditRecord
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%s: %v: %s", file, err, line)
			}
			all = append(all, r)
		}
	}
	return all
}

// intact runs millrace audit verify.
func intact(t *testing.T, dir string, more ...string) string {
	t.Helper()
	out, code := millrace(t, append([]string{"audit", "verify", "--dir", dir}, more...)...)
	if code != 0 || !strings.HasSuffix(out, "intact\n") {
		t.Errorf("audit verify: exit status %d, %s", code, out)
	}
	return out
}

// TestSeedPacks: both packs of seed 004 start as they stand, and what the audit logger says it
// does: what is sent is in the log before and after, and so is what is refused, and who lists the
// models. The log is found without a word in the configuration, goes on when targets change, and a
// byte that is changed in it is named (E16, E19, E20).
func TestSeedPacks(t *testing.T) {
	for _, name := range []string{"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LOCAL_LLM_KEY"} {
		t.Setenv(name, "key-a")
	}
	for _, file := range []string{"004-providers-3.yaml", "004-providers-5.yaml"} {
		t.Run(file, func(t *testing.T) {
			pack, err := os.ReadFile(filepath.Join("testdata/seeds", file))
			if err != nil {
				t.Fatal(err)
			}
			g := prepare(t, "", "")
			g.dir = t.TempDir()
			g.edit(func(preamble string) string { return preamble + string(pack) }) // which says where tests listen
			if out, code := millrace(t, "validate", filepath.Join("testdata/seeds", file)); code != 0 {
				t.Errorf("validate: exit status %d, %s", code, out)
			}
			g.run()
			g.get("/v1/models").want(200)
			g.post("/v1/chat/completions", "{").want(400)
			log := filepath.Join(g.dir, "millrace-audit")

			a := openAI("a")
			to := provider(t, a).URL() + "/v1"
			g.edit(func(s string) string { return regexp.MustCompile(`https?://[^\s]+`).ReplaceAllString(s, to) })
			g.answered()
			before := len(a.Requests())
			answer := g.post("/v1/chat/completions", chatHello).want(200)
			if len(a.Requests()) != before+1 {
				t.Error("the provider did not get the request")
			}
			id := answer.Header.Get("x-millrace-request-id")
			g.eventually("the outcome is recorded", func() error { return hasOutcome(auditOf(t, log), id) })
			head := headOf(t, intact(t, log))
			g.stop()

			kinds := map[string]int{}
			for _, r := range auditOf(t, log) {
				kinds[fmt.Sprintf("%s %s %d", r.Kind, r.Data.Path, r.Data.Status)]++
				local := strings.HasPrefix(r.Data.ClientAddress, "127.0.0.1:")
				if r.Data.Gateway != "default" || r.Kind != "intent" && !local || r.Data.ClientAddress == "" {
					t.Errorf("record %+v", r)
				}
				if r.Kind == "intent" && r.Data.ID == id {
					sum := sha256.Sum256([]byte(chatHello))
					if d := r.Data; d.SHA256 != hex.EncodeToString(sum[:]) || d.Bytes != len(chatHello) || d.Model != "gpt-4o" || d.Schema != "openai.chat" {
						t.Errorf("the intent is %+v", d)
					}
				}
			}
			for _, want := range []string{"access /v1/models 200", "access /v1/chat/completions 400", "intent /v1/chat/completions 0", "outcome /v1/chat/completions 200"} {
				if kinds[want] == 0 {
					t.Errorf("no %q among %v", want, kinds)
				}
			}

			intact(t, log, "--head", head)
			if out, code := millrace(t, "audit", "verify", "--dir", log, "--head", "1:"+strings.Repeat("0", 64)); code != 1 || !strings.Contains(out, "record 1 is another") {
				t.Errorf("another head: exit status %d, %s", code, out)
			}
			segment := filepath.Join(log, "audit-000000000001.jsonl")
			data, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(data), "Hello") || strings.Contains(string(data), "key-a") {
				t.Error("the log has a text or a credential in it")
			}
			data[bytes.IndexByte(data, '\n')+30] ^= 1
			if err := os.WriteFile(segment, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, code := millrace(t, "audit", "verify", "--dir", log); code != 1 || !strings.Contains(out, segment+":2: record 2 is") {
				t.Errorf("a changed byte: exit status %d, %s", code, out)
			}
		})
	}
}

// answered waits until a request is answered.
func (g *gateway) answered() {
	g.t.Helper()
	g.eventually("it serves", func() error {
		if r := g.post("/v1/chat/completions", chatHello); r.Status != 200 {
			return errors.New(r.Body)
		}
		return nil
	})
}

func hasOutcome(records []auditRecord, id string) error {
	for _, r := range records {
		if r.Kind == "outcome" && r.Data.ID == id {
			return nil
		}
	}
	return errors.New("not there")
}

func headOf(t *testing.T, report string) string {
	t.Helper()
	m := regexp.MustCompile(`head +(\d+:[0-9a-f]{64})`).FindStringSubmatch(report)
	if m == nil {
		t.Fatalf("no head in %s", report)
	}
	return m[1]
}

// TestAuditKilled: however a gateway dies, each request that a provider has got is in the log,
// which the next start continues, whatever else the body is read for (E20).
func TestAuditKilled(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"policies alone": "", "the prompt chooses": "model_choice: any\nalgorithm: prompt-hash"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openAI("a")
			a.KeepRequests = 1 << 20
			log := filepath.Join(t.TempDir(), "log")
			g := prepare(t, "", pool(more, to("a", a, provider(t, a)))+"policies: {chain: [audit-logger], policy: {audit-logger: {dir: "+log+"}}}\n")
			var sent atomic.Int64
			for range 3 {
				g.exec("run", "--config", g.Config)
				g.waitReady()
				before := len(a.Requests())
				stop := make(chan struct{})
				var clients sync.WaitGroup
				for range 8 {
					clients.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
							}
							body := fmt.Sprintf(`{"model":"gpt-4o","messages":[{"role":"user","content":"request %d"}]}`, sent.Add(1))
							if r, err := http.DefaultClient.Do(g.request("POST", "/v1/chat/completions", strings.NewReader(body))); err == nil {
								r.Body.Close()
							}
						}
					})
				}
				g.eventually("requests flow", func() error {
					if n := len(a.Requests()) - before; n < 40 {
						return fmt.Errorf("%d", n)
					}
					return nil
				})
				g.cmd.Process.Kill()
				<-g.exited
				close(stop)
				clients.Wait()
			}
			g.run() // which takes off what the last kill has left of a record
			intact(t, log)
			recorded := map[string]bool{}
			for _, r := range auditOf(t, log) {
				recorded[r.Data.SHA256] = true
			}
			got := a.Requests()
			for _, r := range got {
				if sum := sha256.Sum256(r.Body); !recorded[hex.EncodeToString(sum[:])] {
					t.Errorf("the provider got %s, of which there is no record", r.Body)
				}
			}
			if len(got) < 120 {
				t.Errorf("only %d requests: this test shows nothing", len(got))
			}
		})
	}
}

// TestAuditBlocked: while the log cannot be written a request is answered 503 in its client's
// schema, and nobody is connected to; with on_error: allow it is sent. When the log can be written
// again, requests are served (E19, E20).
func TestAuditBlocked(t *testing.T) {
	t.Parallel()
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("allow: %v", allow), func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			a := openAI("a")
			server := provider(t, a)
			way, connections := detour(t, server)
			target := fmt.Sprintf("{id: a, provider: {type: openai, base_url: %q, secret_key_ref: %s}}", way+"/v1", a.Key)
			onError := ""
			if allow {
				onError = ", on_error: allow"
			}
			g := start(t, "", pool("", target)+"policies: {chain: [audit-logger], policy: {audit-logger: {dir: "+log+onError+"}}}\n")
			blocked := filepath.Join(log, "audit-000000000001.jsonl") // where the first segment would be
			if err := os.Mkdir(blocked, 0o700); err != nil {
				t.Fatal(err)
			}
			if allow {
				g.post("/v1/chat/completions", chatHello).want(200)
				g.said("requests_are_sent")
				return
			}
			for range 3 {
				g.post("/v1/chat/completions", chatHello).want(503, "audit-logger").openAIError("server_error")
				g.post("/v1/messages", messagesHello).want(503, "audit-logger").anthropicError("overloaded_error")
			}
			if n := connections.Load(); n != 0 || len(a.Requests()) != 0 {
				t.Errorf("%d connections to the provider, and %d requests", n, len(a.Requests()))
			}
			if err := os.Remove(blocked); err != nil {
				t.Fatal(err)
			}
			g.answered()
			g.stop()
			intact(t, log)
			refused := 0
			for _, r := range auditOf(t, log) {
				if r.Kind == "outcome" && r.Data.Status == 503 {
					refused++
					if r.Data.Attempts != 0 {
						t.Errorf("a request that was not sent has attempts: %+v", r)
					}
				}
			}
			if refused < 6 {
				t.Errorf("%d outcomes of requests that were refused", refused)
			}
		})
	}
}

const messagesHello = `{"model":"claude","max_tokens":10,"messages":[{"role":"user","content":"Hello"}]}`

// detour is another address of a server, and counts the connections to it.
func detour(t *testing.T, to *fakellm.Server) (url string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	connections = &atomic.Int64{}
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			there, err := net.Dial("tcp", to.Addr())
			if err != nil {
				from.Close()
				continue
			}
			go func() { there.(*net.TCPConn).ReadFrom(from); there.Close() }()
			go func() { from.(*net.TCPConn).ReadFrom(there); from.Close() }()
		}
	}()
	return "http://" + l.Addr().String(), connections
}

// TestAuditMoves: policies change while requests flow. Every request has one intent and one
// outcome, in the log of the configuration that it was let in by; a chain that cannot be is
// refused, with the path, and the one that runs stays (E19).
func TestAuditMoves(t *testing.T) {
	t.Parallel()
	a := openAI("a")
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	policies := func(params string) string {
		return "policies: {chain: [audit-logger], policy: {audit-logger: {" + params + "}}}\n"
	}
	g := start(t, "", pool("", to("a", a, provider(t, a)))+policies("dir: "+one))
	stop := g.chats()
	grows := func(dir string) {
		t.Helper()
		was := len(auditFiles(dir))
		g.eventually(dir+" grows", func() error {
			if now := len(auditFiles(dir)); now < was+4000 {
				return fmt.Errorf("from %d bytes to %d", was, now)
			}
			return nil
		})
	}
	change := func(from, to string) {
		g.edit(func(s string) string { return strings.Replace(s, policies(from), policies(to), 1) })
	}
	grows(one)
	change("dir: "+one, "dir: "+one+", retention: 3")
	g.said("policies.policy.audit-logger.retention: audit-logger has no such parameter")
	grows(one)
	change("dir: "+one+", retention: 3", "dir: /dev/null/audit")
	g.said("policies: the audit log: ")
	grows(one)
	change("dir: /dev/null/audit", "dir: "+two+", retention_days: 3")
	grows(two)
	asked := stop() // in how many logs each is
	g.stop()
	intact(t, one)
	intact(t, two)
	for _, dir := range []string{one, two} {
		here := map[string]string{}
		for _, r := range auditOf(t, dir) {
			here[r.Data.ID] += r.Kind + " "
		}
		for id, kinds := range here {
			if kinds != "intent outcome " {
				t.Errorf("%s: request %s has %s", dir, id, kinds)
			}
			if _, ours := asked[id]; ours {
				asked[id]++
			}
		}
	}
	for id, n := range asked {
		if n != 1 {
			t.Errorf("request %s is in %d logs", id, n)
		}
	}
}

// auditFiles is all that is in a log, as bytes; it may be written to.
func auditFiles(dir string) []byte {
	files, _ := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	var all []byte
	for _, file := range files {
		data, _ := os.ReadFile(file)
		all = append(all, data...)
	}
	return all
}
