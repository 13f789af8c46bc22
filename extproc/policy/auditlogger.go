package policy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"millrace/audit"
	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// auditLogger records each request in an audit log: its intent before it is sent, which waits for
// the disk, and its outcome, which does not. What that promises: docs/rationale.md, "What does the
// audit log promise?".
type auditLogger struct {
	dir      string // "": the process's own
	settings audit.Settings
	all      bool // requests that are not sent, too
}

func newAuditLogger(p *params) any {
	return &auditLogger{
		dir: p.text("dir"),
		all: p.boolean("log_all_access"),
		settings: audit.Settings{
			Retention: time.Duration(p.count("retention_days", 36500)) * 24 * time.Hour,
			ReadOnly:  p.boolean("immutable"),
		},
	}
}

var errNoLog = errors.New("the audit log is not open")

func (a *auditLogger) ask(ctx context.Context, q *question) (finding, error) {
	log := q.Audit(a.dir)
	if log == nil {
		return finding{}, errNoLog
	}
	return finding{}, log.Append(ctx, audit.Entry{Kind: "intent", Data: q.session.Request})
}

// ended is what a record has of an outcome.
type ended struct {
	ID         string            `json:"id"`
	Time       time.Time         `json:"time"` // when the request came
	Gateway    string            `json:"gateway,omitempty"`
	Key        string            `json:"key,omitempty"`
	Client     string            `json:"client_address,omitempty"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Schema     string            `json:"schema,omitempty"`
	Model      string            `json:"model,omitempty"`
	Status     uint32            `json:"status"` // 0: the client left before there was one
	Attempts   int               `json:"attempts"`
	Target     string            `json:"target,omitempty"`
	Provider   string            `json:"provider,omitempty"`
	Usage      *millracev1.Usage `json:"usage,omitempty"`
	DurationMS float64           `json:"duration_ms"`
	Error      string            `json:"error,omitempty"`
}

func (a *auditLogger) end(h Host, o Outcome) error {
	kind := "outcome"
	if !o.Asked {
		if !a.all {
			return nil
		}
		kind = "access"
	}
	log := h.Audit(a.dir)
	if log == nil {
		return errNoLog
	}
	return log.Add(audit.Entry{Kind: kind, Data: ended{
		ID: o.Id, Time: o.Time.AsTime(), Gateway: o.Gateway, Key: o.Key, Client: o.ClientAddress, Method: o.Method, Path: o.Path,
		Schema: o.Schema, Model: o.Model, Status: o.Status, Attempts: len(o.Attempts), Target: o.Target, Provider: o.Provider,
		Usage: o.Usage, DurationMS: o.DurationMs, Error: o.Error,
	}})
}

// AuditLogs are the settings of the logs that a configuration writes, by folder as written.
// Policies that write to one folder must agree about it.
func AuditLogs(c *config.Config) (map[string]audit.Settings, error) {
	logs, by := map[string]audit.Settings{}, map[string]string{}
	for _, g := range c.Gateways {
		for _, a := range auditLoggers(g) {
			dir, name := a.dir, a.dir
			if dir != "" {
				dir = filepath.Clean(dir)
			}
			if other, there := logs[dir]; there && other != a.settings {
				return nil, config.Errors{{Path: "policies.policy", Reason: fmt.Sprintf("gateways %q and %q write one audit log (dir: %q) with another retention_days or immutable", by[dir], g.Name, name)}}
			}
			logs[dir], by[dir] = a.settings, g.Name
		}
	}
	return logs, nil
}

// auditLoggers are those of all chains of the gateway.
func auditLoggers(g *config.Gateway) []*auditLogger {
	all := slices.Concat(g.Policies, g.Shadow)
	for _, r := range g.Rules {
		all = slices.Concat(all, r.Policies, r.Shadow)
	}
	var logs []*auditLogger
	for i, p := range all {
		if p.Kind == "audit-logger" && slices.Index(all, p) == i {
			m, _ := compileMember(p)
			logs = append(logs, m.end.(*auditLogger))
		}
	}
	return logs
}
