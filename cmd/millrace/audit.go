package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"millrace/audit"
	"millrace/config"
	"millrace/extproc/policy"
)

// auditFolder is where the audit log is when no policy says: in the data directory, or below where
// the gateway was started.
func auditFolder(dataDir string) string {
	if dataDir == "" {
		return "millrace-audit"
	}
	return filepath.Join(dataDir, "audit")
}

// auditLogs are the audit logs of the process, by folder. One that is open stays open until the
// process ends: requests that were let in under an earlier configuration still write to it.
type auditLogs struct {
	dir string // of the log that no policy gives another one
	log *slog.Logger

	mu   sync.RWMutex // guards logs
	logs map[string]*audit.Log
}

// use opens the logs that a configuration writes and that are not open, and has all of them kept as
// it says.
func (a *auditLogs) use(c *config.Config) error {
	wanted, err := policy.AuditLogs(c)
	if err != nil {
		return err
	}
	folders := map[string]audit.Settings{}
	for dir, settings := range wanted {
		at, err := a.at(dir)
		if err != nil {
			return err
		}
		if other, there := folders[at]; there && other != settings {
			return config.Errors{{Path: "policies", Reason: fmt.Sprintf("two write their audit log to %s, with another retention_days or immutable", at)}}
		}
		folders[at] = settings
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for at, settings := range folders {
		if a.logs[at] != nil {
			continue
		}
		l, err := audit.Open(at, settings, a.log)
		if err != nil {
			return fmt.Errorf("policies: the audit log: %w (the policy's dir, or --data-dir, names another folder)", err)
		}
		a.logs[at] = l
		a.log.Info("the audit log is open", "folder", at)
	}
	for at, settings := range folders { // now that nothing can fail any more
		a.logs[at].Set(settings)
	}
	return nil
}

// at is the one way in which a folder is written here.
func (a *auditLogs) at(dir string) (string, error) { return filepath.Abs(cmp.Or(dir, a.dir)) }

// of is the open log of a folder, as a policy writes it; nil when there is none.
func (a *auditLogs) of(dir string) *audit.Log {
	at, err := a.at(dir)
	if err != nil {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.logs[at]
}

// ok is 0 while one of the logs cannot be written.
func (a *auditLogs) ok() float64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, l := range a.logs {
		if l.Err() != nil {
			return 0
		}
	}
	return 1
}

func (a *auditLogs) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for dir, l := range a.logs {
		if err := l.Close(); err != nil {
			a.log.Error("the audit log: close", "folder", dir, "error", err)
		}
	}
}

type auditCommand struct {
	Verify auditVerify `cmd:"" help:"Tell whether the log is as it was written: no record changed, missing or at another place. The gateway may be running."`
}

type auditVerify struct {
	Dir     string   `help:"The folder of the log, where the policy names one." type:"path"`
	DataDir string   `help:"The data directory of the gateway, which the log is in otherwise; without both it is millrace-audit, here." type:"path" env:"MILLRACE_DATA_DIR"`
	Head    []string `help:"A head that an earlier verify has printed: it must still be there, or have been removed by retention." placeholder:"SEQUENCE:HASH"`
}

// Run prints what the log holds and that it is intact, or fails with the place where it is not.
func (c *auditVerify) Run(out io.Writer) error {
	var known []audit.Head
	for _, head := range c.Head {
		number, hash, _ := strings.Cut(head, ":")
		sequence, err := strconv.ParseUint(number, 10, 64)
		if err != nil || len(hash) != 64 {
			return fmt.Errorf("--head %s: want SEQUENCE:HASH, as verify prints it", head)
		}
		known = append(known, audit.Head{Sequence: sequence, Hash: hash})
	}
	r, err := audit.Verify(cmp.Or(c.Dir, auditFolder(c.DataDir)), known...)
	if err != nil {
		return err
	}
	if r.Records == 0 {
		return errors.New("the audit log is empty: there is no record in it")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "segments\t%d\n", r.Segments)
	fmt.Fprintf(w, "records\t%d, from %d to %d\n", r.Records, r.From, r.Head.Sequence)
	fmt.Fprintf(w, "first\t%s\n", r.First.Format(time.RFC3339))
	fmt.Fprintf(w, "last\t%s\n", r.Last.Format(time.RFC3339))
	fmt.Fprintf(w, "head\t%d:%s\n", r.Head.Sequence, r.Head.Hash)
	fmt.Fprintln(w, "intact")
	return w.Flush()
}
