package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

func readFile(path string) (*millracev1.Document, string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	doc, err := config.Load(path, data)
	return doc, string(data), err
}

// calm is how long the files must rest before they are read: editors and ConfigMap updates come in several steps.
const calm = 100 * time.Millisecond

// watchFiles follows the configuration file and the files that secrets are in, until ctx ends. Folders are watched, not
// files: editors and Kubernetes replace files. Content decides, not the kind of event.
func (p *Plane) watchFiles(ctx context.Context) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		p.Log.Error("watch files: changes are not seen", "error", err)
		return
	}
	defer w.Close() //nolint:errcheck // it only closes what it opened
	seen := p.watch(w)
	var rest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-w.Errors:
			p.Log.Error("watch files", "error", err)
		case <-w.Events:
			rest = time.After(calm)
		case <-rest:
			rest = nil
			if now := digest(p.files()); now != seen {
				seen = now // not what is there after the reload: that may be newer than what it read
				p.reload(ctx)
				p.watch(w)
				rest = time.After(calm)
			}
		}
	}
}

func (p *Plane) files() []string {
	files := p.Config().SecretFiles
	if p.File != "" {
		files = append([]string{p.File}, files...)
	}
	return files
}

// watch sees to it that every folder is watched, and returns what is in the files now.
func (p *Plane) watch(w *fsnotify.Watcher) [32]byte {
	for _, f := range p.files() {
		if err := w.Add(filepath.Dir(f)); err != nil { // adding twice is fine
			p.Log.Error("watch files", "folder", filepath.Dir(f), "error", err)
		}
	}
	return digest(p.files())
}

func digest(files []string) [32]byte {
	h := sha256.New()
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			data = []byte(err.Error())
		}
		sum := sha256.Sum256(data)
		h.Write(sum[:])
	}
	return [32]byte(h.Sum(nil))
}

// reload applies what the files say now. A bad edit changes nothing and is said in the status and the log.
func (p *Plane) reload(ctx context.Context) {
	p.changing.Lock()
	defer p.changing.Unlock()
	was := p.current()
	next := &version{file: was.file, state: was.state, revision: was.revision}
	err := func() (err error) {
		if p.File != "" {
			if next.file, next.content, err = readFile(p.File); err != nil {
				return err
			}
		}
		if err := next.prepare(); err != nil {
			return err
		}
		if err := withoutRestart(was.config, next.config); err != nil {
			return err
		}
		return p.commit(ctx, next)
	}()
	if err == nil {
		r := p.settle(ctx, next, settleTime)
		p.Log.Info("configuration file "+string(r.State), "version", next.config.Version, "reason", r.Reason)
		p.fileFailed(r.Reason)
		return
	}
	p.Log.Error("configuration file not applied", "error", err)
	p.fileFailed(err.Error())
}

// withoutRestart refuses what a running process cannot change: where it listens and writes. A token
// that is taken away would open what it guards, so that too is a restart's.
func withoutRestart(was, next *config.Config) error {
	switch {
	case next.EventFile != was.EventFile:
		return errors.New("events.file: can only be changed by a restart")
	case next.Admin.Listen != was.Admin.Listen:
		return errors.New("gateway.admin.listen: can only be changed by a restart")
	case next.Admin.MetricsListen != was.Admin.MetricsListen:
		return errors.New("gateway.admin.metrics.listen: can only be changed by a restart")
	case next.Admin.Token == "" && was.Admin.Token != "":
		return errors.New("gateway.admin.token: can be replaced at any time, and taken away only by a restart")
	case next.Admin.MetricsToken == "" && was.Admin.MetricsToken != "":
		return errors.New("gateway.admin.metrics.token: can be replaced at any time, and taken away only by a restart")
	}
	return nil
}

func (p *Plane) fileFailed(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fileErr = reason
}
