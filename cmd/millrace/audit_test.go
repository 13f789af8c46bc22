package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/audit"
	"millrace/config"
)

func configured(t *testing.T, policies string) *config.Config {
	t.Helper()
	doc, err := config.Load("test.yaml", []byte("providers: {targets: [{provider: openai}]}\n"+policies))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Resolve(doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAuditLogs: a log is opened once for each folder, wherever nobody says in the data directory,
// and kept as the present configuration wants it. Without policies there is none.
func TestAuditLogs(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	logs := &auditLogs{dir: auditFolder(data), log: slog.New(slog.DiscardHandler), logs: map[string]*audit.Log{}}
	t.Cleanup(logs.close)
	use := func(says, policies string) {
		t.Helper()
		err := logs.use(configured(t, policies))
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", policies, err, says)
		}
	}
	use("", "")
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("without policies there is a folder: %v", err)
	}
	use("", "policies: {chain: [audit-logger]}")
	first := logs.of("")
	if first == nil || first != logs.of(filepath.Join(data, "audit")) {
		t.Fatal("the log is not in the data directory")
	}
	use("", "policies: {chain: [audit-logger], policy: {audit-logger: {retention_days: 2, immutable: true}}}")
	if got := logs.of("").Settings(); logs.of("") != first || got != (audit.Settings{Retention: 48 * time.Hour, ReadOnly: true}) {
		t.Errorf("after a change: %+v", got)
	}
	use("two write their audit log to", "policies: {chain: [audit-logger, other], policy: {other: {kind: audit-logger, retention_days: 3, dir: "+data+"/audit}}}")
	use("another gateway writes its audit log", "policies: {chain: [audit-logger], policy: {audit-logger: {dir: "+taken(t)+"}}}")
	use("not a directory", "policies: {chain: [audit-logger], policy: {audit-logger: {dir: /dev/null/audit}}}")
	if got := logs.of("").Settings(); got.Retention != 48*time.Hour {
		t.Errorf("after what was refused: %+v", got)
	}
}

// taken is the folder of a log that is in use.
func taken(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "taken")
	l, err := audit.Open(dir, audit.Settings{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return dir
}

// TestAuditVerifyOfNothing: a log that is not there, or is empty, is not intact.
func TestAuditVerifyOfNothing(t *testing.T) {
	for name, c := range map[string]struct {
		command auditVerify
		want    string
	}{
		"no folder":           {auditVerify{Dir: "/no/such/log"}, "/no/such/log: no such file"},
		"in a data directory": {auditVerify{DataDir: "/no/such"}, "/no/such/audit: no such file"},
		"here":                {auditVerify{}, "millrace-audit: no such file"},
		"no record":           {auditVerify{Dir: taken(t)}, "is empty"},
		"a head that is none": {auditVerify{Head: []string{"7"}}, "want SEQUENCE:HASH"},
	} {
		var out bytes.Buffer
		if err := c.command.Run(&out); err == nil || !strings.Contains(err.Error(), c.want) || out.Len() > 0 {
			t.Errorf("%s: %v, want %q; said %q", name, err, c.want, out.String())
		}
	}
}
