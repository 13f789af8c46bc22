package control

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// TestOpenLogs: whoever brings a configuration, the audit logs that it writes are opened before
// anything changes. One that cannot be opened refuses the configuration, and over REST nothing is
// stored; the way back from one that Envoy refuses opens the logs of the version before.
func TestOpenLogs(t *testing.T) {
	logged := func(dir string) string {
		return file + "policies: {chain: [audit-logger], policy: {audit-logger: {dir: " + dir + "}}}\n"
	}
	s := newSite(t, logged("/a"))
	now := ""
	s.openLogs = func(c *config.Config) error {
		for _, g := range c.Gateways {
			for _, p := range g.Policies {
				dir, _ := p.Params["dir"].(string)
				if dir == "/refused" {
					return errors.New("policies: no such folder")
				}
				now = dir
			}
		}
		return nil
	}
	want := func(dir string) {
		t.Helper()
		if now != dir {
			t.Errorf("the log is in %q, want %q", now, dir)
		}
	}
	p, end := s.mustStart()
	applies(p)
	want("/a")

	s.write(logged("/refused"))
	p.reload()
	if told := p.Status().File.Error; told != "policies: no such folder" {
		t.Errorf("the file is told %q", told)
	}
	want("/a")

	revision := p.Status().Revision
	err := tryChange(p, func(d *millracev1.Document) {
		params, _ := structpb.NewStruct(map[string]any{"kind": "audit-logger", "dir": "/refused"})
		d.Gateway = &millracev1.Gateway{Id: "other", Name: "other", Subdomain: "other"}
		d.Policies = &millracev1.Policies{Chain: []string{"other"}, Policy: map[string]*structpb.Struct{"other": params}}
	})
	if err == nil || p.Status().Revision != revision {
		t.Errorf("over REST: %v, revision %d after %d", err, p.Status().Revision, revision)
	}

	s.write(logged("/b"))
	p.reload()
	want("/b")
	p.settler.mu.Lock()
	p.settler.refuse("Envoy refuses")
	p.settler.mu.Unlock()
	want("/a")
	end()

	s.write(logged("/refused"))
	if _, err := s.start(); err == nil || !strings.Contains(err.Error(), "policies: no such folder") {
		t.Errorf("a start: %v", err)
	}
}
