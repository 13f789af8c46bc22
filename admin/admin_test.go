package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// api is a server under test and everything that it has answered.
type api struct {
	t     *testing.T
	plane *memory
	url   string
	said  *strings.Builder
	mu    *sync.Mutex
}

func start(t *testing.T, file string, change ...func(*Options)) *api {
	t.Helper()
	a := &api{t: t, plane: newMemory(file), said: &strings.Builder{}, mu: &sync.Mutex{}}
	o := Options{Plane: a.plane, Release: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&o)
	}
	server := httptest.NewServer(New(o))
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// answer is one response.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string
}

// send makes a request; headers are pairs.
func (a *api) send(method, path, body string, headers ...string) answer {
	a.t.Helper()
	r, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said.Write(text)
	return answer{a.t, res.StatusCode, res.Header, string(text)}
}

// want checks the status and returns the body's value.
func (a answer) want(status int) map[string]any {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if a.Body == "" {
		return nil
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
		a.t.Fatalf("%v: %s", err, a.Body)
	}
	return v
}

// problem checks that the answer is a problem document of a type, and returns its errors by path.
func (a answer) problem(status int, kind string) map[string]string {
	a.t.Helper()
	v := a.want(status)
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("content type %q: %s", got, a.Body)
	}
	if v["type"] != "urn:millrace:"+kind || v["status"] != float64(status) || v["title"] == "" {
		a.t.Errorf("want problem %q: %s", kind, a.Body)
	}
	errors := map[string]string{}
	if list, ok := v["errors"].([]any); ok {
		for _, e := range list {
			errors[e.(map[string]any)["path"].(string)] = e.(map[string]any)["reason"].(string)
		}
	}
	return errors
}

// same compares an answer with JSON. "*" stands for any string.
func same(t *testing.T, got any, want string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatal(err)
	}
	anyString := cmp.FilterValues(func(a, b any) bool { return a == "*" || b == "*" }, cmp.Comparer(func(a, b any) bool {
		_, s1 := a.(string)
		_, s2 := b.(string)
		return s1 && s2
	}))
	if diff := cmp.Diff(v, got, anyString); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

const (
	base      = "/api/v1/gateways"
	openAIKey = "Bearer your-openai-key"
	claudeKey = "your-anthropic-key"
)

// The bodies of the seeds' guide, as they are written there.
const (
	seedGateway  = `{"name": "multi-provider-gateway", "subdomain": "your-subdomain"}`
	seedUpstream = `{
"name": "ai-providers-upstream",
"algorithm": "round-robin",
"targets": [
{
"path": "/v1/chat/completions",
"provider": "openai",
"weight": 50,
"priority": 1,
"default_model": "gpt-4",
"models": ["gpt-3.5-turbo", "gpt-4"],
"credentials": {
"header_name": "Authorization",
"header_value": "Bearer your-openai-key"
}
},
{
"path": "/v1/messages",
"provider": "anthropic",
"weight": 50,
"priority": 1,
"default_model": "claude-3-sonnet",
"models": ["claude-3-sonnet"],
"headers": {
"anthropic-version": "2023-06-01"
},
"credentials": {
"header_name": "x-api-key",
"header_value": "your-anthropic-key"
}
}
],
"health_checks": {
"passive": true,
"threshold": 3,
"interval": 60
}
}`
	seedService = `{"name": "ai-chat-service", "description": "Load balanced AI chat completion service", "upstream_id": "{upstream_id}", "type": "upstream", "tags": ["ai", "chat"]}`
	seedRule    = `{"path": "/v1", "service_id": "{service_id}", "methods": ["POST"], "strip_path": false, "active": true}`
	seedKey     = `{"name": "test-key", "expires_at": "2126-01-01T00:00:00Z"}`
)

// seeded runs the guide of the seeds and returns the path of the gateway and the ids.
func (a *api) seeded() (gateway string, ids map[string]string) {
	a.t.Helper()
	ids = map[string]string{}
	add := func(what, path, body string) map[string]any {
		v := a.send("POST", path, body).want(http.StatusCreated)
		ids[what] = v["id"].(string)
		return v
	}
	add("gateway", base, seedGateway)
	gateway = base + "/" + ids["gateway"]
	add("upstream", gateway+"/upstreams", seedUpstream)
	add("service", gateway+"/services", strings.ReplaceAll(seedService, "{upstream_id}", ids["upstream"]))
	add("rule", gateway+"/rules", strings.ReplaceAll(seedRule, "{service_id}", ids["service"]))
	ids["secret"] = add("key", gateway+"/keys", seedKey)["key"].(string)
	return gateway, ids
}

func TestSeeds(t *testing.T) {
	a := start(t, "")
	gateway, ids := a.seeded()
	for what, prefix := range map[string]string{"gateway": "gw_", "upstream": "up_", "service": "sv_", "rule": "ru_", "key": "key_", "secret": "mr_"} {
		if !strings.HasPrefix(ids[what], prefix) {
			t.Errorf("the %s is %q, want a prefix %q", what, ids[what], prefix)
		}
	}
	if len(ids["secret"]) != len("mr_")+43 {
		t.Errorf("key %q", ids["secret"])
	}
	got := a.send("GET", gateway+"/upstreams/ai-providers-upstream", "")
	same(t, got.want(200), `{"id": "`+ids["upstream"]+`", "name": "ai-providers-upstream", "algorithm": "round-robin", "model_choice": "any", "retry": {"attempts": 3},
		"targets": [
		{"id": "openai-1", "path": "/v1/chat/completions", "provider": "openai", "weight": 50, "priority": 1, "default_model": "gpt-4",
		 "models": ["gpt-3.5-turbo", "gpt-4"], "credentials": {"header_name": "Authorization", "header_value": "[redacted]"}},
		{"id": "anthropic-2", "path": "/v1/messages", "provider": "anthropic", "weight": 50, "priority": 1, "default_model": "claude-3-sonnet",
		 "models": ["claude-3-sonnet"], "headers": {"anthropic-version": "2023-06-01"}, "credentials": {"header_name": "x-api-key", "header_value": "[redacted]"}}],
		"health_checks": {"passive": true, "threshold": 3, "interval": 60, "max_cooldown": "3600s"}}`)
	if got.Header.Get("ETag") == "" || got.Header.Get("X-Millrace-Source") != "api" {
		t.Errorf("headers %v", got.Header)
	}
	same(t, a.send("GET", gateway+"/rules", "").want(200), `{"rules": [{"id": "*", "path": "/v1", "service_id": "`+ids["service"]+`", "methods": ["POST"], "active": true}], "file_owned": []}`)
	same(t, a.send("GET", gateway+"/keys", "").want(200), `{"keys": [{"id": "*", "name": "test-key", "expires_at": "2126-01-01T00:00:00Z"}], "file_owned": []}`)
	same(t, a.send("GET", base+"/multi-provider-gateway", "").want(200), `{"id": "*", "name": "multi-provider-gateway", "subdomain": "your-subdomain"}`)

	// The first seed's bodies, on the same gateway.
	weighted := `{"name": "weighted-upstream", "algorithm": "weighted-round-robin", "targets": [
		{"host": "api.openai.com", "port": 443, "protocol": "https", "weight": 60, "priority": 1, "default_model": "gpt-4o-mini",
		 "models": ["gpt-3.5-turbo", "gpt-4", "gpt-4o-mini"], "credentials": {"header_name": "Authorization", "header_value": "Bearer your-openai-key"}},
		{"host": "api.anthropic.com", "port": 443, "protocol": "https", "weight": 40, "priority": 1, "default_model": "gpt-4o-mini",
		 "models": ["gpt-3.5-turbo", "gpt-4", "gpt-4o-mini"], "credentials": {"header_name": "Authorization", "header_value": "Bearer your-anthropic-key"}}],
		"health_checks": {"passive": true, "threshold": 3, "interval": 60, "max_cooldown": "3600s"}}`
	up := a.send("POST", gateway+"/upstreams", weighted)
	id := up.want(201)["id"].(string)
	if got := up.Header.Get("Location"); got != gateway+"/upstreams/"+id {
		t.Errorf("location %q", got)
	}
	for header, want := range map[string]string{"X-Millrace-State": "applied", "X-Millrace-Revision": "7"} {
		if got := up.Header.Get(header); got != want {
			t.Errorf("%s %q, want %q", header, got, want)
		}
	}
	service := a.send("POST", gateway+"/services", `{"name": "load-balanced-service", "type": "upstream", "description": "Load balanced AI service", "upstream_id": "`+id+`"}`).want(201)
	a.send("POST", gateway+"/rules", `{"path": "/ai", "service_id": "`+service["id"].(string)+`", "methods": ["POST"], "strip_path": true, "active": true}`).want(201)

	// A read-only copy of the stored hash never leaves.
	_, state := a.plane.latest()
	if hash := state.Documents[0].Keys[0].Hash; len(hash) != 64 || strings.Contains(a.said.String(), hash) {
		t.Errorf("hash %q", hash)
	}
}

func TestWrites(t *testing.T) {
	a := start(t, "")
	gateway, ids := a.seeded()
	upstream := gateway + "/upstreams/" + ids["upstream"]
	stored := func() string { // what the store has of the two secrets
		_, state := a.plane.latest()
		var s []string
		for _, target := range state.Documents[0].Upstreams[0].Targets {
			s = append(s, target.Id+"="+target.Credentials.HeaderValue.GetLiteral())
		}
		return strings.Join(s, " ")
	}
	both := "openai-1=" + openAIKey + " anthropic-2=" + claudeKey

	t.Run("PUT of what GET showed keeps the secrets", func(t *testing.T) {
		shown := a.send("GET", upstream, "")
		put := a.send("PUT", upstream, shown.Body)
		put.want(200)
		if put.Header.Get("ETag") != shown.Header.Get("ETag") {
			t.Error("the etag changed, and nothing else did")
		}
		if got := stored(); got != both {
			t.Errorf("got %q", got)
		}
	})
	t.Run("PUT of the seed's own body too", func(t *testing.T) {
		a.send("PUT", upstream, seedUpstream).want(200)
		if got := stored(); got != both {
			t.Errorf("got %q", got)
		}
	})
	t.Run("PATCH is a merge patch and keeps what it does not name", func(t *testing.T) {
		v := a.send("PATCH", upstream, `{"algorithm": "least-connections", "retry": null}`, "Content-Type", "application/merge-patch+json").want(200)
		if v["algorithm"] != "least-connections" || v["retry"].(map[string]any)["attempts"] != 3.0 {
			t.Errorf("got %v", v)
		}
		if got := stored(); got != both {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a target", func(t *testing.T) {
		target := upstream + "/targets/openai-1"
		same(t, a.send("PATCH", target, `{"weight": 3}`).want(200)["weight"], `3`)
		same(t, a.send("POST", target+"/drain", "").want(200)["disabled"], `true`)
		same(t, a.send("GET", target, "").want(200)["weight"], `3`)
		if v := a.send("POST", target+"/enable", "").want(200); v["disabled"] != nil || v["weight"] != 3.0 {
			t.Errorf("enabled: %v", v)
		}
		a.send("PATCH", target, `{"weight": 0}`).want(200)
		same(t, a.send("POST", target+"/enable", "").want(200)["weight"], `1`)
		if got := stored(); got != both {
			t.Errorf("got %q", got)
		}
		a.send("PATCH", target, `{"credentials": {"header_value": {"env": "OPENAI_KEY"}}}`).want(200)
		same(t, a.send("GET", target, "").want(200)["credentials"], `{"header_name": "Authorization", "header_value": {"env": "OPENAI_KEY"}}`)
		a.send("PATCH", target, `{"credentials": {"header_value": "Bearer your-openai-key"}}`).want(200)

		added := a.send("POST", upstream+"/targets", `{"id": "third", "provider": "openai"}`)
		same(t, added.want(201), `{"id": "third", "provider": "openai", "weight": 1}`)
		if got := added.Header.Get("Location"); got != upstream+"/targets/third" {
			t.Errorf("location %q", got)
		}
		a.send("POST", upstream+"/targets", `{"id": "third", "provider": "openai"}`).problem(409, "exists")
		a.send("DELETE", upstream+"/targets/third", "").want(204)
		a.send("GET", upstream+"/targets/third", "").problem(404, "not-found")
	})
	t.Run("a secret that nothing is stored for", func(t *testing.T) {
		body := strings.ReplaceAll(seedUpstream, openAIKey, config.Redacted)
		got := a.send("POST", gateway+"/upstreams", strings.Replace(body, "ai-providers-upstream", "other", 1)).problem(422, "invalid")
		if got["targets[0].credentials.header_value"] == "" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("rename, and both names", func(t *testing.T) {
		a.send("PATCH", gateway+"/services/ai-chat-service", `{"name": "chat"}`).want(200)
		a.send("GET", gateway+"/services/chat", "").want(200)
		a.send("GET", gateway+"/services/ai-chat-service", "").problem(404, "not-found")
		a.send("POST", gateway+"/services", `{"name": "chat", "upstream": "ai-providers-upstream"}`).problem(409, "exists")
		a.send("PATCH", gateway+"/services/chat", `{"id": "x"}`).problem(422, "invalid")
	})
	t.Run("what is needed cannot go", func(t *testing.T) {
		got := a.send("DELETE", upstream, "").problem(409, "in-use")
		if got["services[chat].upstream_id"] == "" {
			t.Errorf("got %v", got)
		}
		a.send("DELETE", upstream+"/targets/openai-1", "").want(204)
		a.send("DELETE", upstream+"/targets/anthropic-2", "").problem(409, "in-use")
	})
	t.Run("a key", func(t *testing.T) {
		key := gateway + "/keys/test-key"
		_, before := a.plane.latest()
		same(t, a.send("PATCH", key, `{"name": "team-a"}`).want(200)["name"], `"team-a"`)
		_, after := a.plane.latest()
		if was, is := before.Documents[0].Keys[0].Hash, after.Documents[0].Keys[0].Hash; was == "" || was != is {
			t.Errorf("hash %q became %q", was, is)
		}
		for _, r := range [][2]string{{"POST", gateway + "/keys"}, {"PUT", gateway + "/keys/team-a"}, {"PATCH", gateway + "/keys/team-a"}} {
			if got := a.send(r[0], r[1], `{"name": "n", "hash": "00"}`).problem(422, "invalid"); got["hash"] == "" {
				t.Errorf("got %v", got)
			}
		}
		a.send("DELETE", gateway+"/keys/team-a", "").want(204)
		auth := func() string {
			t.Helper()
			_, state := a.plane.latest()
			documents, err := config.Merge(a.plane.file, state)
			if err != nil {
				t.Fatal(err)
			}
			return documents[1].Gateway.Auth
		}
		if got := auth(); got != "required" { // the last key was revoked: nobody enters, until somebody says so
			t.Errorf("without a key left auth is %q", got)
		}
		a.send("PATCH", gateway, `{"auth": "none"}`).want(200)
		a.send("PATCH", gateway, `{"auth": null}`).want(200)
		if got := auth(); got != "" {
			t.Errorf("once anyone was let in auth is %q", got)
		}
		a.send("PATCH", gateway, `{"auth": "required"}`).want(200)
	})
	t.Run("the gateway", func(t *testing.T) {
		same(t, a.send("PATCH", gateway, `{"hosts": ["llm.example.com"], "timeouts": {"request_timeout": "30s"}}`).want(200),
			`{"id": "*", "name": "multi-provider-gateway", "subdomain": "your-subdomain", "hosts": ["llm.example.com"], "timeouts": {"request_timeout": "30s"}, "auth": "required"}`)
		a.send("PUT", gateway, seedGateway).want(200)
		a.send("DELETE", base+"/multi-provider-gateway", "").want(204)
		a.send("GET", gateway, "").problem(404, "not-found")
	})
}

func TestProblems(t *testing.T) {
	a := start(t, "")
	gateway, ids := a.seeded()
	upstream := gateway + "/upstreams/" + ids["upstream"]
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		kind                     string
		at                       []string
	}{
		{"no such path", "GET", "/api/v2", "", 404, "not-found", nil},
		{"no such gateway", "GET", base + "/nope/upstreams", "", 404, "not-found", nil},
		{"no such upstream", "PATCH", gateway + "/upstreams/nope", `{}`, 404, "not-found", nil},
		{"no such version", "GET", "/api/v1/versions/99", "", 404, "not-found", nil},
		{"version that is no number", "GET", "/api/v1/versions/x", "", 400, "bad-request", []string{"revision"}},
		{"method", "DELETE", base, "", 405, "method-not-allowed", nil},
		{"syntax", "POST", base, `{"name": `, 400, "bad-request", []string{"name"}},
		{"duplicate key", "POST", base, `{"name": "a", "name": "b"}`, 400, "bad-request", []string{"name"}},
		{"not an object", "POST", base, `[]`, 422, "invalid", []string{""}},
		{"empty body", "POST", base, ``, 400, "bad-request", []string{""}},
		{"patch that is no object", "PATCH", upstream, `3`, 400, "bad-request", nil},
		{"unknown field", "POST", base, `{"nam": "a"}`, 422, "invalid", []string{"nam"}},
		{"no name", "POST", base, `{"subdomain": "x"}`, 422, "invalid", []string{"name"}},
		{"nothing tells it apart", "POST", base, `{"name": "x"}`, 422, "invalid", []string{"subdomain"}},
		{"settings of the process", "POST", base, `{"name": "x", "subdomain": "x", "listen_port": 1, "max_request_bytes": "1MB", "clients": {"max_headers": 9}}`, 422, "invalid", []string{"listen_port", "max_request_bytes", "clients"}},
		{"name taken", "POST", base, `{"name": "default", "subdomain": "x"}`, 409, "exists", nil},
		{"subdomain taken", "POST", base, `{"name": "x", "subdomain": "your-subdomain"}`, 422, "invalid", []string{"subdomain"}},
		{"all errors at once", "POST", gateway + "/upstreams", `{"name": "x", "targets": [{"host": "h", "weight": "heavy"}, {"host": "h", "weight": 1000, "colour": 1}]}`, 422, "invalid",
			[]string{"targets[0].weight", "targets[1].weight", "targets[1].colour"}},
		{"below the resource", "POST", gateway + "/upstreams", `{"name": "x", "targets": [{"provider": "nope"}]}`, 422, "invalid", []string{"targets[0].provider"}},
		{"below the target", "PATCH", upstream + "/targets/openai-1", `{"provider": "nope"}`, 422, "invalid", []string{"provider"}},
		{"weight of the wrong type", "PATCH", upstream + "/targets/openai-1", `{"weight": "3kg"}`, 422, "invalid", []string{"weight"}},
		{"reference", "POST", gateway + "/services", `{"name": "x", "upstream": "nope"}`, 422, "invalid", []string{"upstream"}},
		{"rename of what others name", "PATCH", upstream, `{"name": ""}`, 422, "invalid", []string{"name"}},
		{"id for a path", "POST", gateway + "/services", `{"id": "a/b", "name": "x", "upstream_id": "` + ids["upstream"] + `"}`, 422, "invalid", []string{"id"}},
		{"unknown query", "POST", base + "?dryrun=true", seedGateway, 400, "bad-request", []string{"dryrun"}},
		{"query of a path field", "GET", gateway + "?gateway=x", "", 400, "bad-request", []string{"gateway"}},
		{"wait", "POST", base + "?wait=ready", `{"name": "x", "subdomain": "x"}`, 400, "bad-request", []string{"wait"}},
		{"dry_run", "POST", base + "?dry_run=perhaps", `{"name": "x", "subdomain": "x"}`, 400, "bad-request", []string{"dry_run"}},
		{"health without Envoy", "GET", upstream + "/health", "", 503, "unavailable", nil},
		{"too large", "POST", base, `{"name": "` + strings.Repeat("x", maxBody) + `"}`, 413, "too-large", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.t = t
			before, _ := a.plane.latest()
			got := a.send(c.method, c.path, c.body).problem(c.status, c.kind)
			var paths []string
			for path := range got {
				paths = append(paths, path)
			}
			want := map[string]bool{}
			for _, path := range c.at {
				want[path] = true
			}
			if len(got) != len(want) {
				t.Errorf("errors at %q, want %q: %v", paths, c.at, got)
			}
			for path := range want {
				if _, ok := got[path]; !ok {
					t.Errorf("errors at %q, want %q: %v", paths, c.at, got)
				}
			}
			if after, _ := a.plane.latest(); after != before {
				t.Error("a refused request changed something")
			}
		})
	}
	a.t = t
	if got := a.send("DELETE", base, "").Header.Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("allow %q", got)
	}
	a.send("POST", base, "name=x", "Content-Type", "application/x-www-form-urlencoded").problem(415, "media-type")
	a.plane.reject = "no such certificate"
	if got := a.send("PATCH", gateway, `{"subdomain": "y"}`); !strings.Contains(got.Body, "no such certificate") {
		t.Errorf("got %s", got.Body)
	} else {
		got.problem(422, "rejected")
	}
}

func TestConditions(t *testing.T) {
	a := start(t, "")
	gateway, ids := a.seeded()
	upstream := gateway + "/upstreams/" + ids["upstream"]
	list := a.send("GET", gateway+"/upstreams", "").Header.Get("ETag")
	was := a.send("GET", upstream, "").Header.Get("ETag")
	target := a.send("GET", upstream+"/targets/openai-1", "").Header.Get("ETag")

	now := a.send("PATCH", upstream+"/targets/openai-1", `{"weight": 7}`, "If-Match", `"x", `+target)
	now.want(200)
	a.send("PATCH", upstream+"/targets/openai-1", `{"weight": 8}`, "If-Match", target).problem(412, "stale")
	a.send("PATCH", upstream+"/targets/openai-1", `{"weight": 8}`, "If-Match", now.Header.Get("ETag")).want(200)
	a.send("PUT", upstream, seedUpstream, "If-Match", was).problem(412, "stale")
	a.send("DELETE", upstream, "", "If-Match", was).problem(412, "stale")
	a.send("POST", gateway+"/upstreams", `{"name": "second", "targets": [{"provider": "openai"}]}`, "If-Match", list).problem(412, "stale")
	a.send("POST", gateway+"/upstreams", `{"name": "second", "targets": [{"provider": "openai"}]}`, "If-Match", "*").want(201)

	before, _ := a.plane.latest()
	dry := a.send("DELETE", gateway+"?dry_run=true", "")
	dry.want(204)
	if after, _ := a.plane.latest(); after != before || dry.Header.Get("X-Millrace-State") != "accepted" {
		t.Errorf("a dry run: revision %d became %d, %v", before, after, dry.Header)
	}
	if v := a.send("POST", gateway+"/keys?dry_run=true", `{"name": "k"}`).want(201); v["key"] != "" {
		t.Errorf("a key that was not made: %v", v)
	}
	accepted := a.send("PATCH", gateway+"?wait=accepted", `{"subdomain": "z"}`)
	accepted.want(200)
	if got := a.plane.waits[len(a.plane.waits)-1]; got != 0 || accepted.Header.Get("X-Millrace-State") != "accepted" {
		t.Errorf("waited %v: %v", got, accepted.Header)
	}
	a.send("PATCH", gateway+"?wait=applied", `{"subdomain": "y"}`).want(200)
	if got := a.plane.waits[len(a.plane.waits)-1]; got != 10*time.Second {
		t.Errorf("waited %v", got)
	}
}

const fileConfig = `
gateway: {admin: {token: file-admin-token}}
providers: {targets: [{id: local, provider: {base_url: "http://localhost:8080/v1", secret_key_ref: file-secret}}]}
`

func TestFile(t *testing.T) {
	a := start(t, fileConfig)
	gateway := base + "/default"
	got := a.send("GET", gateway+"/upstreams/default", "")
	got.want(200)
	if got.Header.Get("X-Millrace-Source") != "file" {
		t.Errorf("headers %v", got.Header)
	}
	same(t, a.send("GET", gateway+"/upstreams", "").want(200)["file_owned"], `["default"]`)
	same(t, a.send("GET", base, "").want(200)["file_owned"], `["default"]`)
	a.send("GET", gateway+"/rules/rule-1", "").want(200)
	for _, r := range [][3]string{
		{"PUT", gateway, `{"name": "default"}`}, {"PATCH", gateway, `{}`}, {"DELETE", gateway, ``},
		{"PUT", gateway + "/upstreams/default", `{"name": "default", "targets": [{"provider": "openai"}]}`},
		{"PATCH", gateway + "/upstreams/default", `{}`}, {"DELETE", gateway + "/upstreams/default", ``},
		{"PATCH", gateway + "/upstreams/default/targets/local", `{"weight": 2}`}, {"POST", gateway + "/upstreams/default/targets/local/drain", ``},
		{"DELETE", gateway + "/rules/rule-1", ``},
	} {
		a.send(r[0], r[1], r[2]).problem(409, "file-owned")
	}
	// What is added lives beside it, and may refer to it.
	a.send("POST", gateway+"/services", `{"name": "more", "upstream": "default"}`).want(201)
	if got := a.send("POST", gateway+"/rules", `{"path": "/more", "service": "none"}`).problem(422, "invalid"); got["service"] == "" {
		t.Errorf("got %v", got)
	}
	a.send("POST", gateway+"/rules", `{"path": "/more", "service": "more"}`).want(201)
	a.send("POST", gateway+"/keys", `{"name": "k"}`).want(201)
	same(t, a.send("GET", gateway+"/services", "").want(200)["file_owned"], `["default"]`)
	a.send("DELETE", gateway+"/services/more", "").problem(409, "in-use")
	if strings.Contains(a.said.String(), "file-secret") || strings.Contains(a.said.String(), "file-admin-token") {
		t.Error("a secret of the file was shown")
	}

	// The effective document, read here, can be applied and changes nothing.
	var c struct{ Documents []json.RawMessage }
	if err := json.Unmarshal([]byte(a.send("GET", "/api/v1/config", "").Body), &c); err != nil {
		t.Fatal(err)
	}
	same(t, a.send("POST", "/api/v1/apply", string(c.Documents[0])).want(200)["differences"], `[]`)
	a.send("POST", "/api/v1/apply", `{"gateway": {"listen_port": 1}}`).problem(409, "file-owned")
	a.send("POST", "/api/v1/apply", `{"upstreams": [{"name": "default", "targets": [{"provider": "openai"}]}]}`).problem(409, "file-owned")
}

func TestApplyAndVersions(t *testing.T) {
	a := start(t, "")
	document := `
gateway: {name: team, subdomain: team}
upstreams:
- name: chat
  targets:
  - {id: a, provider: openai, weight: 2, credentials: {header_name: Authorization, header_value: Bearer your-openai-key}}
services: [{name: chat, upstream: chat}]
rules:
- {path: /v1, service: chat}
`
	yaml := []string{"Content-Type", "application/yaml"}
	first := a.send("POST", "/api/v1/apply", document, yaml...)
	id := first.want(200)["document"].(map[string]any)["gateway"].(map[string]any)["id"].(string)
	key := a.send("POST", base+"/team/keys", `{"name": "k"}`).want(201)["id"].(string)
	same(t, a.send("POST", "/api/v1/apply?dry_run=true", document, yaml...).want(200)["differences"], `[]`)
	for _, own := range []string{"events: {file: /tmp/e.jsonl}\n", "telemetry: {propagate: true}\n"} { // they are the process's
		a.send("POST", "/api/v1/apply", document+own, yaml...).problem(422, "invalid")
	}

	changed := strings.Replace(document, "weight: 2", "weight: 5", 1)
	changed = strings.Replace(changed, openAIKey, `"[redacted]"`, 1)
	changed += "- {path: /v2, service: chat, active: false}\n"
	got := a.send("POST", "/api/v1/apply", changed, yaml...).want(200)
	same(t, got["differences"], `[{"path": "gateways[team].upstreams[chat].targets[a].weight", "from": 2, "to": 5},
		{"path": "*", "to": {"id": "*", "path": "/v2", "service": "chat", "active": false}}]`)
	a.send("GET", base+"/"+id+"/keys/"+key, "").want(200) // the document lists no keys

	same(t, a.send("GET", "/api/v1/versions", "").want(200)["versions"].([]any)[0].(map[string]any)["cause"], `"POST /api/v1/apply"`)
	a.send("PATCH", base+"/team/upstreams/chat/targets/a", `{"credentials": {"header_value": "Bearer other-secret"}}`).want(200)
	same(t, a.send("GET", "/api/v1/versions/4/diff/5", "").want(200)["differences"],
		`[{"path": "gateways[team].upstreams[chat].targets[a].credentials.header_value", "from": "[redacted]", "to": "[redacted]"}]`)
	a.send("PATCH", base+"/team", `{"auth": "required"}`).want(200)
	a.send("DELETE", base+"/team/keys/k", "").want(204)
	a.send("GET", "/api/v1/versions/3", "").want(200)

	back := a.send("POST", "/api/v1/versions/3/rollback", "")
	if n := len(back.want(200)["differences"].([]any)); n != 3 || back.Header.Get("X-Millrace-Revision") != "8" {
		t.Errorf("got %s %v", back.Body, back.Header)
	}
	same(t, a.send("GET", base+"/team/upstreams/chat/targets/a", "").want(200)["weight"], `2`)
	a.send("GET", base+"/team/keys/k", "").problem(404, "not-found") // a revoked key stays revoked
	if strings.Contains(a.said.String(), "your-openai-key") || strings.Contains(a.said.String(), "other-secret") {
		t.Error("a secret was shown")
	}
	if got := a.send("POST", "/api/v1/apply", "gateway: {name: team, subdomain: team}\nkeys: [{name: new}]\n", yaml...).problem(422, "invalid"); got["keys[new].hash"] == "" {
		t.Errorf("got %v", got)
	}
	const folder = "gateway: {name: team, subdomain: team}\npolicies: {chain: [audit-logger], policy: {audit-logger: {dir: /etc}}}\n"
	if got := a.send("POST", "/api/v1/apply", folder, yaml...).problem(422, "invalid"); got["policies.policy.audit-logger.dir"] == "" {
		t.Errorf("a folder of the machine over REST: %v", got)
	}
	if got := a.send("POST", "/api/v1/apply", "gateway: {name: team\n", yaml...).problem(422, "invalid"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestRolledBackGatewayStaysClosed: a gateway that had lost its last key comes back closed; a new
// one of its name is another one.
func TestRolledBackGatewayStaysClosed(t *testing.T) {
	a := start(t, "")
	auth := func() string {
		t.Helper()
		_, state := a.plane.latest()
		documents, err := config.Merge(a.plane.file, state)
		if err != nil {
			t.Fatal(err)
		}
		return documents[1].Gateway.Auth
	}
	team := `{"id": "team", "name": "team", "subdomain": "team"}`
	a.send("POST", base, team).want(201)
	a.send("POST", base+"/team/keys", `{"name": "k"}`).want(201)
	a.send("DELETE", base+"/team/keys/k", "").want(204)
	closed, _ := a.plane.latest()
	a.send("DELETE", base+"/team", "").want(204)
	a.send("POST", base, team).want(201)
	if got := auth(); got != "" {
		t.Errorf("the new gateway: auth is %q", got)
	}
	a.send("DELETE", base+"/team", "").want(204)
	a.send("POST", fmt.Sprintf("/api/v1/versions/%d/rollback", closed), "").want(200)
	if got := auth(); got != "required" {
		t.Errorf("the old gateway: auth is %q", got)
	}
}

func TestStatusAndHealth(t *testing.T) {
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	a := start(t, "", func(o *Options) {
		o.Clusters = seen{{Name: "multi-provider-gateway/ai-providers-upstream/openai-1", EjectedUntil: until, EjectedBecause: "3 in a row", ActiveRequests: 2, Success: 10, Error: 3, Trouble: "its key is refused",
			CoolingUntil: until.Add(time.Second), Recent: []*millracev1.Outcome{{Time: timestamppb.New(until), Status: 429, Error: "slow down", DurationMs: 1.5}}}}
	})
	gateway, ids := a.seeded()
	same(t, a.send("GET", gateway+"/upstreams/"+ids["upstream"]+"/health", "").want(200), `{"upstream": "ai-providers-upstream", "targets": [
		{"target": "openai-1", "known": true, "healthy": false, "ejected": true, "ejected_until": "2030-01-02T03:04:05Z", "draining": false,
		 "weight": 50, "priority": 1, "active_requests": 2, "success": 10, "error": 3, "cooling_until": "2030-01-02T03:04:06Z",
		 "recent": [{"time": "2030-01-02T03:04:05Z", "status": 429, "error": "slow down", "duration_ms": 1.5}], "ejected_because": "3 in a row", "trouble": "its key is refused"},
		{"target": "anthropic-2", "known": false, "healthy": false, "ejected": false, "draining": false, "weight": 50, "priority": 1, "active_requests": 0, "success": 0, "error": 0, "recent": [], "ejected_because": "", "trouble": ""}]}`)
	same(t, a.send("GET", "/api/v1/status", "").want(200), `{"release": "test", "state": "applied", "reason": "", "version": "v", "revision": 6, "ready": true,
		"envoy": {"connected": true, "node": "node-1", "version": "1.40.0"}, "file": {"path": "", "error": ""}, "store": "", "events": "", "warnings": []}`)
	if got := a.send("HEAD", "/api/v1/status", ""); got.Status != 200 || got.Body != "" {
		t.Errorf("HEAD: %d %q", got.Status, got.Body)
	}
}

func TestGuard(t *testing.T) {
	open := start(t, "")
	token := start(t, "", func(o *Options) { o.Token = func() string { return "t0ken" } })
	for _, c := range []struct {
		name    string
		api     *api
		headers []string
		status  int
	}{
		{"loopback", open, nil, 201},
		{"localhost", open, []string{"Host", "localhost:8080"}, 201},
		{"IPv6", open, []string{"Host", "[::1]:8080"}, 201},
		{"a name that resolves to loopback", open, []string{"Host", "evil.example"}, 403},
		{"another site's page", open, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another origin", open, []string{"Origin", "http://evil.example"}, 403},
		{"a page of ours", open, []string{"Sec-Fetch-Site", "same-origin"}, 201},
		{"no token", token, nil, 401},
		{"wrong token", token, []string{"Authorization", "Bearer t0ke"}, 401},
		{"wrong scheme", token, []string{"Authorization", "Basic t0ken"}, 401},
		{"token", token, []string{"Authorization", "bearer t0ken", "Host", "gateway.example"}, 201},
		{"token from another site", token, []string{"Authorization", "Bearer t0ken", "Sec-Fetch-Site", "cross-site"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.api.t = t
			got := c.api.send("POST", base, `{"name": "`+strings.ReplaceAll(c.name, " ", "-")+`", "subdomain": "`+strings.ToLower(strings.NewReplacer(" ", "-", "'", "").Replace(c.name))+`"}`, c.headers...)
			if got.Status != c.status {
				t.Errorf("status %d, want %d: %s", got.Status, c.status, got.Body)
			}
		})
	}
	token.t, open.t = t, t
	token.send("GET", "/api/openapi.json", "").problem(401, "unauthorized")
	open.send("GET", base, "", "Host", "evil.example").problem(403, "forbidden")
}

// TestSecretsStayIn makes every call there is over a gateway full of secrets, and looks for them in
// all that was answered.
func TestSecretsStayIn(t *testing.T) {
	a := start(t, fileConfig, func(o *Options) { o.Token = func() string { return "the-admin-token" }; o.Clusters = seen{} })
	auth := []string{"Authorization", "Bearer the-admin-token"}
	gateway := base + "/default"
	a.send("POST", gateway+"/upstreams", seedUpstream, auth...).want(201)
	a.send("POST", gateway+"/services", `{"name": "chat", "upstream": "ai-providers-upstream"}`, auth...).want(201)
	a.send("POST", gateway+"/rules", `{"id": "r", "path": "/chat", "service": "chat"}`, auth...).want(201)
	key := a.send("POST", gateway+"/keys", seedKey, auth...).want(201)["key"].(string)
	a.said.Reset() // this one time the key is shown
	paths := strings.NewReplacer("{gateway}", "default", "upstreams/{id}", "upstreams/ai-providers-upstream", "services/{id}", "services/chat", "rules/{id}", "rules/r",
		"keys/{id}", "keys/test-key", "{target}", "openai-1", "{revision}", "2", "{to}", "5")
	bodies := map[string]string{ // right ones and wrong ones: errors quote as well
		"upstreams": `{"name": "x", "targets": [{"provider": "openai", "priority": "y", "credentials": {"header_name": " ", "header_value": "Bearer your-openai-key"}}]}`,
		"targets":   `{"weight": 1000, "credentials": {"header_name": "X", "header_value": {"literal": "your-anthropic-key", "env": "your-anthropic-key"}}}`,
		"apply":     `{"upstreams": [{"name": "ai-providers-upstream", "targets": [{"provider": {"name": "openai", "secret_key_ref": ["your-anthropic-key"]}}]}]}`,
	}
	for _, r := range routes() {
		if r.verb == http.MethodDelete && !strings.Contains(r.path, "targets") {
			continue
		}
		body := ""
		if r.body != "" {
			body = `{}`
			for part, b := range bodies {
				if strings.Contains(r.path, part) {
					body = b
				}
			}
		}
		a.send(r.verb, paths.Replace(r.path), body, auth...)
	}
	a.send("POST", "/api/v1/apply", `{"upstreams": [{"name": "ai-providers-upstream", "targets": [{"provider": "openai"}]}]}`, auth...).want(200)
	_, state := a.plane.latest()
	for _, secret := range []string{"your-openai-key", "your-anthropic-key", "file-secret", "file-admin-token", "the-admin-token", key, state.Documents[0].Keys[0].Hash} {
		if i := strings.Index(a.said.String(), secret); i >= 0 {
			t.Errorf("%q was answered: …%s", secret, a.said.String()[max(0, i-300):i+40])
		}
	}
}

func TestGRPC(t *testing.T) {
	plane := newMemory("")
	server := grpc.NewServer()
	New(Options{Plane: plane}).Register(server)
	listener := bufconn.Listen(1 << 20)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := millracev1.NewAdminServiceClient(conn)
	ctx := t.Context()

	var header metadata.MD
	g, err := client.CreateGateway(ctx, &millracev1.GatewayCreate{Resource: &millracev1.Gateway{Name: "team", Subdomain: "team"}}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if header.Get("x-millrace-state")[0] != "applied" || len(header.Get("etag")) != 1 {
		t.Errorf("metadata %v", header)
	}
	u, err := client.CreateUpstream(ctx, &millracev1.UpstreamCreate{Gateway: g.Id, Resource: &millracev1.Upstream{Name: "chat", Targets: []*millracev1.Target{{
		Provider:    &millracev1.Provider{Name: "openai"},
		Credentials: &millracev1.Credentials{HeaderName: "Authorization", HeaderValue: &millracev1.Secret{Source: &millracev1.Secret_Literal{Literal: openAIKey}}},
	}}}})
	if err != nil || u.Targets[0].Credentials.HeaderValue.GetLiteral() != config.Redacted {
		t.Fatalf("%v %v", u, err)
	}
	_, err = client.PatchUpstream(metadata.AppendToOutgoingContext(ctx, "if-match", `"x"`), &millracev1.ResourcePatch{Gateway: "team", Id: "chat"})
	if status.Code(err) != codes.Aborted {
		t.Errorf("stale: %v", err)
	}
	for name, call := range map[string]func() error{ // what only a gRPC client can leave out
		"gateway": func() error { _, err := client.CreateGateway(ctx, &millracev1.GatewayCreate{}); return err },
		"upstream": func() error {
			_, err := client.CreateUpstream(ctx, &millracev1.UpstreamCreate{Gateway: "team"})
			return err
		},
		"replace": func() error {
			_, err := client.ReplaceGateway(ctx, &millracev1.GatewayWrite{Gateway: "team"})
			return err
		},
		"key": func() error { _, err := client.CreateKey(ctx, &millracev1.KeyCreate{Gateway: "team"}); return err },
		"target": func() error {
			_, err := client.CreateTarget(ctx, &millracev1.TargetCreate{Gateway: "team", Id: "chat"})
			return err
		},
		"pack": func() error { _, err := client.CreatePack(ctx, &millracev1.PackCreate{Gateway: "team"}); return err },
		"rule": func() error { _, err := client.CreateRule(ctx, &millracev1.RuleCreate{Gateway: "team"}); return err },
	} {
		if err := call(); status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if versions, _ := plane.Versions(ctx); versions[0].Cause != "/millrace.v1.AdminService/CreateUpstream" {
		t.Errorf("cause %q", versions[0].Cause)
	}
}
