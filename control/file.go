package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"sync"
	"time"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// files are the configuration file and the files that its secrets are in.
type files struct {
	path     string          // of the configuration file; "": there is none
	now      func() *version // what is served
	reload   func()
	detached func(reason string)
	follower follower // watch's own

	mu    sync.Mutex
	named map[string]sum // what the files held that the document, as last read, has secrets in; guarded by mu
}

// read reads the configuration file. The files that its secrets are in are followed from then on,
// even if it cannot be applied: a Secret can be mounted after the document that names it.
func (f *files) read() (*millracev1.Document, string, error) {
	data, err := config.ReadFile(f.path, config.MaxDocumentBytes)
	if err != nil {
		return nil, "", err
	}
	doc, err := config.Load(f.path, data)
	if err != nil {
		return nil, "", err
	}
	named := make(map[string]sum)
	for _, path := range config.SecretFiles(doc) {
		named[path] = read(path)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named = named
	return doc, string(data), nil
}

// toFollow are the files to follow, with hashes of what was read of them for the present version,
// or else for the document that could not be applied.
func (f *files) toFollow(now *version) map[string]sum {
	f.mu.Lock()
	defer f.mu.Unlock()
	sums := maps.Clone(f.named)
	if sums == nil {
		sums = make(map[string]sum)
	}
	maps.Copy(sums, now.config.SecretFiles)
	if f.path != "" {
		sums[f.path] = sha256.Sum256([]byte(now.content))
	}
	return sums
}

// watch follows the files until ctx ends.
func (f *files) watch(ctx context.Context) {
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			f.look()
		}
	}
}

func (f *files) look() {
	if f.follower.look(f.toFollow(f.now())) {
		f.reload()
	}
	f.detached(f.follower.detached(f.toFollow(f.now())))
}

// reload offers what the files say now. A bad edit changes nothing and is said in the status and
// the log.
func (p *Plane) reload() {
	p.changing.Lock()
	defer p.changing.Unlock()
	next, err := p.reread()
	if err != nil {
		p.Log.Error("configuration file not applied", "error", err)
		p.settler.fileFailed(err.Error())
		return
	}
	p.settler.fileFailed("")
	p.Log.Info("configuration file offered", "version", next.config.Version)
	p.settler.offer(next)
}

// reread makes a version of what the files say now and of what was written over REST. changing is
// held.
func (p *Plane) reread() (*version, error) {
	was, stored := p.current(), p.settler.wanted()
	next := &version{file: was.file, state: stored.State, revision: stored.Revision, edited: true}
	if p.File != "" {
		var err error
		if next.file, next.content, err = p.files.read(); err != nil {
			return nil, err
		}
		if err := keysKept(p.File, was.file, next.file); err != nil {
			return nil, err
		}
	}
	if err := next.prepare(p.Admin, was); err != nil {
		return nil, err
	}
	if err := withoutRestart(was.config, next.config); err != nil {
		return nil, err
	}
	if err := p.OpenLogs(next.config); err != nil {
		return nil, err
	}
	return next, p.events.to(next.config)
}

// withoutRestart refuses what a running process cannot change: where it listens. A token
// that is taken away would open what it guards, so that too is a restart's.
func withoutRestart(was, next *config.Config) error {
	switch {
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
