package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestClientCommands runs each command against an API that says what it is told to.
func TestClientCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.yaml")
	if err := os.WriteFile(file, []byte("gateway: {name: team}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    string
		request string // as the API sees it
		answer  string // with its status before it
		want    string // on the standard output, or the error
	}{
		{"status", "GET /api/v1/status ", `200 {"release": "v1", "ready": true, "state": "applied", "version": "abc", "revision": 3, "envoy": {"connected": true, "node": "n", "version": "1.40.0"}, "reason": ""}`,
			"release   v1\nready     true\nstate     applied\nversion   abc\nrevision  3\nenvoy     1.40.0 (n)\n"},
		{"status -o json", "GET /api/v1/status ", `200 {"ready": true}`, `{"ready": true}`},
		{"get", "GET /api/v1/config ", `200 {"documents": [{"gateway": {"id": "default", "subdomain": "true"}}]}`, "documents:\n  - gateway:\n      id: default\n      subdomain: \"true\"\n"},
		{"get upstreams a%b -g team", "GET /api/v1/gateways/team/upstreams/a%25b ", `200 {"name": "chat"}`, "name: chat\n"},
		{"get health chat", "GET /api/v1/gateways/default/upstreams/chat/health ", `200 {}`, "{}\n"},
		{"apply " + file + " --dry-run", "POST /api/v1/apply?dry_run=true&wait=applied gateway: {name: team}\n",
			`200 {"differences": [{"path": "a", "to": 1}, {"path": "b", "from": "x"}, {"path": "c", "from": 1, "to": {"d": 2}}]}`,
			"+ a: 1\n- b: \"x\"\n~ c: 1 -> {\"d\": 2}\nnothing was changed: a dry run\n"},
		{"rollback 7 --wait accepted", "POST /api/v1/versions/7/rollback?wait=accepted ", `200 {"differences": []}`, "offered, no differences\n"},
		{"diff 3 4", "GET /api/v1/versions/3/diff/4 ", `200 {"differences": [{"path": "c", "from": 1, "to": 2}]}`, "~ c: 1 -> 2\n"},
		{"target weight team/chat/a 4", `PATCH /api/v1/gateways/team/upstreams/chat/targets/a?wait=applied {"weight": 4}`, `200 {"weight": 4}`, "team/chat/a: weight 4 (offered)\n"},
		{"target drain chat/a", "POST /api/v1/gateways/default/upstreams/chat/targets/a/drain?wait=applied ", `200 {"weight": 4, "disabled": true}`, "chat/a: weight 4, disabled (offered)\n"},
		{"target enable a", "", `200 {}`, `"a" is not upstream/target or gateway/upstream/target`},
		{"get rules", "GET /api/v1/gateways/default/rules ", `422 {"title": "Not valid", "errors": [{"path": "a[0]", "reason": "bad"}, {"path": "", "reason": "worse", "line": 3}]}`,
			"Not valid:\n  a[0]: bad\n  line 3: worse"},
		{"get keys", "GET /api/v1/gateways/default/keys ", `401 {"title": "A token", "detail": "send it"}`, "A token: send it"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var got string
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.URL.RequestURI() + " " + string(body)
				if r.Header.Get("Authorization") != "Bearer t" {
					t.Errorf("authorization %q", r.Header.Get("Authorization"))
				}
				var status int
				fmt.Sscan(c.answer, &status)
				if status >= 400 {
					w.Header().Set("Content-Type", "application/problem+json")
				}
				w.Header().Set("X-Millrace-State", "offered")
				w.WriteHeader(status)
				io.WriteString(w, c.answer[4:])
			}))
			defer api.Close()
			var out bytes.Buffer
			var commands struct {
				Status   statusCommand   `cmd:""`
				Apply    applyCommand    `cmd:""`
				Get      getCommand      `cmd:""`
				Diff     diffCommand     `cmd:""`
				Rollback rollbackCommand `cmd:""`
				Target   targetCommand   `cmd:""`
			}
			parser, err := kong.New(&commands, kong.BindTo(t.Context(), (*context.Context)(nil)), kong.BindTo(&out, (*io.Writer)(nil)))
			if err != nil {
				t.Fatal(err)
			}
			command, err := parser.Parse(append(strings.Fields(c.args), "--admin", api.URL, "--token", "t"))
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Run(); err != nil {
				out.WriteString(err.Error())
			}
			if got != c.request {
				t.Errorf("request %q, want %q", got, c.request)
			}
			if out.String() != c.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
			}
		})
	}
}
