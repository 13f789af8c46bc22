package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"millrace/internal/fakellm"
)

// command is one curl command of a document.
type command struct {
	method, url string
	header      http.Header
	body        string
}

var (
	curlMethod = regexp.MustCompile(`-X ([A-Z]+)`)
	curlURL    = regexp.MustCompile(`"?(http://[^\s"\\]+)"?`)
	curlHeader = regexp.MustCompile(`-H "([^:"]+): ([^"]*)"`)
	curlBody   = regexp.MustCompile(`(?s)-d '(.*?)'`)
)

// commandsOf reads the commands out of a document as a person would: from the word curl to the
// quote that closes its body.
func commandsOf(t *testing.T, file string) []command {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []command
	for _, text := range strings.Split(string(data), "curl ")[1:] {
		body := curlBody.FindStringSubmatchIndex(text)
		if body == nil {
			t.Fatalf("%s: a curl without a body: %s", file, text)
		}
		text, c := text[:body[1]], command{header: http.Header{}, body: text[body[2]:body[3]]}
		c.method = curlMethod.FindStringSubmatch(text)[1]
		c.url = curlURL.FindStringSubmatch(text)[1]
		for _, h := range curlHeader.FindAllStringSubmatch(text[:body[0]], -1) {
			c.header.Set(h[1], h[2])
		}
		found = append(found, c)
	}
	return found
}

// do runs the command with the placeholders filled in, and returns the decoded answer.
func (c command) do(t *testing.T, fill *strings.Replacer) (*answer, map[string]any) {
	t.Helper()
	r, err := http.NewRequest(c.method, fill.Replace(c.url), strings.NewReader(fill.Replace(c.body)))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range c.header {
		r.Header.Set(name, fill.Replace(values[0]))
	}
	r.Host = r.Header.Get("Host")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{t: t, Status: response.StatusCode, Header: response.Header, Body: string(body)}
	decoded := map[string]any{}
	json.Unmarshal(body, &decoded)
	return a, decoded
}

// withAdmin starts a gateway with a store and the REST API, and returns the API's address.
func withAdmin(t *testing.T, settings, resources string) (*gateway, string) {
	t.Helper()
	g := prepare(t, settings, resources)
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g.exec("run", "--config", g.Config, "--data-dir", t.TempDir(), "--admin", admin)
	g.waitReady()
	t.Cleanup(func() {
		g.stop()
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("millrace run: exit status %d", code)
		}
	})
	return g, "http://" + admin
}

// TestSeedCommands: every curl of seeds 001 and 003 runs as it stands, in order, against a running
// gateway, and ends with a balanced, translated answer (B01-B31, D01-D15).
func TestSeedCommands(t *testing.T) {
	t.Parallel()
	oa := &fakellm.Provider{Name: "oa", Schema: fakellm.OpenAIChat}
	an := &fakellm.Provider{Name: "an", Schema: fakellm.AnthropicMessages}
	fakes := map[string]*fakellm.Server{"openai": provider(t, oa), "anthropic": provider(t, an)}
	g, admin := withAdmin(t, "", "")

	t.Run("003", func(t *testing.T) {
		commands := commandsOf(t, "testdata/seeds/003.txt")
		if len(commands) != 6 {
			t.Fatalf("%d commands", len(commands))
		}
		ids := map[string]string{"http://localhost:8080": admin, "http://localhost:8081": g.URL, "2026-01-01": "2036-01-01"}
		for i, placeholder := range []string{"{gateway_id}", "{upstream_id}", "{service_id}", "", "your-api-key"} {
			a, resource := commands[i].do(t, replacer(ids))
			a.want(201).header("x-millrace-state", "applied")
			if placeholder == "your-api-key" {
				ids[placeholder] = resource["key"].(string)
			} else if placeholder != "" {
				ids[placeholder] = resource["id"].(string)
			}
			if i == 1 {
				pointAtFakes(t, commands[i], replacer(ids), ids["{upstream_id}"], fakes)
			}
		}
		answered := map[string]int{}
		for range 10 {
			a, _ := commands[5].do(t, replacer(ids))
			a.want(200, "data: [DONE]", "heard: ", "you?")
			answered[a.Header.Get("X-Selected-Provider")]++
		}
		if answered["openai"] < 4 || answered["anthropic"] < 4 { // each of Envoy's two workers goes round by itself
			t.Errorf("answers: %v", answered)
		}
		for _, r := range append(oa.Requests(), an.Requests()...) {
			if strings.Contains(fmt.Sprint(r.Header), ids["your-api-key"]) || !strings.Contains(string(r.Body), "You are an assistant") {
				t.Errorf("upstream got %v %s", r.Header, r.Body)
			}
		}

		wrong := commands[5]
		wrong.header = wrong.header.Clone()
		wrong.header.Set("X-Api-Key", "guess")
		a, _ := wrong.do(t, replacer(ids))
		a.want(401).openAIError("authentication_error")
		wrong.header.Del("X-Api-Key")
		a, _ = wrong.do(t, replacer(ids))
		a.want(401)
	})

	t.Run("001", func(t *testing.T) {
		commands := commandsOf(t, "testdata/seeds/001.txt")
		if len(commands) != 4 {
			t.Fatalf("%d commands", len(commands))
		}
		ids := map[string]string{"http://localhost:8080": admin, "{gateway-id}": "default"}
		for i, placeholder := range []string{"{upstream-id}", "", "{service-id}", ""} {
			a, resource := commands[i].do(t, replacer(ids))
			a.want(201).header("x-millrace-state", "applied")
			if placeholder != "" {
				ids[placeholder] = resource["id"].(string)
			}
			if i == 0 {
				pointAtFakes(t, commands[i], replacer(ids), ids["{upstream-id}"], fakes)
			}
		}
		for range 4 {
			g.post("/ai", `{"model":"gpt-4","messages":[{"role":"user","content":"Hello!"}],"max_tokens":1000,"system":"You are an assistant","temperature":0.7}`).
				want(200, "heard: Hello!")
		}
	})
}

func replacer(pairs map[string]string) *strings.Replacer {
	var flat []string
	for from, to := range pairs {
		flat = append(flat, from, to)
	}
	return strings.NewReplacer(flat...)
}

// pointAtFakes puts the same document again, with host, port and protocol added to each target and
// nothing else changed.
func pointAtFakes(t *testing.T, create command, fill *strings.Replacer, id string, fakes map[string]*fakellm.Server) {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal([]byte(create.body), &document); err != nil {
		t.Fatal(err)
	}
	for _, target := range document["targets"].([]any) {
		fields := target.(map[string]any)
		host, port, _ := strings.Cut(fakes[fields["provider"].(string)].Addr(), ":")
		number, _ := strconv.Atoi(port)
		fields["host"], fields["port"], fields["protocol"] = host, number, "http"
	}
	body, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	put := command{method: "PUT", url: create.url + "/" + id, header: create.header, body: string(body)}
	a, _ := put.do(t, fill)
	a.want(200).header("x-millrace-state", "applied")
}
