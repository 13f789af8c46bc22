package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// adminFlags are common to the commands that talk to a running sidecar over its REST API.
type adminFlags struct {
	Admin  string `help:"The address of the REST API." default:"http://127.0.0.1:8080" env:"MILLRACE_ADMIN"`
	Token  string `help:"The token of the REST API." env:"MILLRACE_ADMIN_TOKEN"`
	Output string `help:"text or json." enum:"text,json" default:"text" short:"o"`
}

// writeFlags are common to those that change something.
type writeFlags struct {
	adminFlags
	DryRun bool   `help:"Try everything that can fail, and change nothing."`
	Wait   string `help:"applied waits for Envoy, accepted does not." enum:"applied,accepted" default:"applied"`
}

func (f writeFlags) query() url.Values {
	q := url.Values{"wait": {f.Wait}}
	if f.DryRun {
		q.Set("dry_run", "true")
	}
	return q
}

// clientTimeout is more than the API takes to wait for Envoy.
const clientTimeout = 30 * time.Second

// request is one call of the API.
type request struct {
	method string
	path   []string // below /api/v1
	beside bool     // the path is not below that, but beside it
	query  url.Values
	format string // of the body
	body   []byte
}

// answer is what the API said.
type answer struct {
	body  []byte
	state string // of a change: accepted, offered or applied
}

// call makes a request. A refusal is an error with everything that the API said about it.
func (f adminFlags) call(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	base, err := url.Parse(f.Admin)
	if err != nil {
		return answer{}, fmt.Errorf("--admin: %w", err)
	}
	address := base
	if !r.beside {
		address = base.JoinPath("api", "v1")
	}
	for _, step := range r.path {
		address = address.JoinPath(url.PathEscape(step))
	}
	address.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, address.String(), bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	if r.format != "" {
		req.Header.Set("Content-Type", r.format)
	}
	if f.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.Token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", address.Redacted(), err)
	}
	if res.StatusCode >= 300 {
		return answer{}, refused(res, body)
	}
	for _, warning := range res.Header.Values("X-Millrace-Warning") {
		fmt.Fprintln(os.Stderr, "warning:", warning)
	}
	return answer{body, res.Header.Get("X-Millrace-State")}, nil
}

// refused reads a problem document (RFC 9457).
func refused(res *http.Response, body []byte) error {
	var problem struct {
		Title, Detail string
		Errors        []struct {
			Path, Reason string
			Line         int
		}
	}
	mediaType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if mediaType != "application/problem+json" || json.Unmarshal(body, &problem) != nil {
		return fmt.Errorf("the API answered %s", res.Status)
	}
	if len(problem.Errors) == 0 {
		return errors.New(problem.Title + ": " + problem.Detail)
	}
	lines := []string{problem.Title + ":"}
	for _, e := range problem.Errors {
		line := "  "
		if e.Line > 0 {
			line += fmt.Sprintf("line %d: ", e.Line)
		}
		if e.Path != "" {
			line += e.Path + ": "
		}
		lines = append(lines, line+e.Reason)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// print writes an answer as it came, or as YAML.
func (f adminFlags) print(out io.Writer, body []byte) error {
	if f.Output == "text" {
		var err error
		if body, err = toYAML(body); err != nil {
			return err
		}
	}
	_, err := out.Write(body)
	return err
}

// toYAML keeps the order of the fields.
func toYAML(data []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		return nil, err
	}
	blockStyle(&node)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Tag != "!!str" || plainString(n.Value) {
		n.Style &^= yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// plainString tells whether a string means itself without quotes.
func plainString(s string) bool {
	var n yaml.Node
	return yaml.Unmarshal([]byte(s), &n) == nil && len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode &&
		n.Content[0].ShortTag() == "!!str" && n.Content[0].Value == s
}

// differences are what the API says a change changes.
type differences []struct {
	Path     string
	From, To json.RawMessage
}

func (ds differences) print(out io.Writer) {
	for _, d := range ds {
		switch {
		case d.From == nil:
			fmt.Fprintf(out, "+ %s: %s\n", d.Path, d.To)
		case d.To == nil:
			fmt.Fprintf(out, "- %s: %s\n", d.Path, d.From)
		default:
			fmt.Fprintf(out, "~ %s: %s -> %s\n", d.Path, d.From, d.To)
		}
	}
}

// printChange writes what a change changed and how far it has come.
func (f writeFlags) printChange(out io.Writer, a answer) error {
	if f.Output == "json" {
		return f.print(out, a.body)
	}
	var said struct{ Differences differences }
	if err := json.Unmarshal(a.body, &said); err != nil {
		return err
	}
	said.Differences.print(out)
	switch {
	case f.DryRun:
		fmt.Fprintln(out, "nothing was changed: a dry run")
	case len(said.Differences) == 0:
		fmt.Fprintln(out, cmp.Or(a.state, "done")+", no differences")
	default:
		fmt.Fprintln(out, a.state)
	}
	return nil
}
