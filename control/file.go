package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"time"

	"millrace/config"
	millracev1 "millrace/proto/millrace/v1"
)

// readFile reads the configuration file. The files that its secrets are in are followed from then on,
// even if it cannot be applied: a Secret can be mounted after the document that names it.
func (p *Plane) readFile() (*millracev1.Document, string, error) {
	data, err := config.ReadFile(p.File, config.MaxDocumentBytes)
	if err != nil {
		return nil, "", err
	}
	doc, err := config.Load(p.File, data)
	if err != nil {
		return nil, "", err
	}
	named := make(map[string]sum)
	for _, path := range config.SecretFiles(doc) {
		named[path] = read(path)
	}
	p.mu.Lock()
	p.named = named
	p.mu.Unlock()
	return doc, string(data), nil
}

// watchFiles follows the configuration file and the files that secrets are in, until ctx ends.
func (p *Plane) watchFiles(ctx context.Context) {
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	var f follower
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			p.lookAtFiles(ctx, &f)
		}
	}
}

func (p *Plane) lookAtFiles(ctx context.Context, f *follower) {
	if f.look(p.files()) {
		p.reload(ctx)
	}
	p.fileDetached(f.detached(p.files()))
}

// files are the files to follow, with hashes of what was read of them for the present version, or
// else for the document that could not be applied.
func (p *Plane) files() map[string]sum {
	p.mu.Lock()
	defer p.mu.Unlock()
	files := maps.Clone(p.named)
	if files == nil {
		files = make(map[string]sum)
	}
	maps.Copy(files, p.now.config.SecretFiles)
	if p.File != "" {
		files[p.File] = sha256.Sum256([]byte(p.now.content))
	}
	return files
}

// reload applies what the files say now. A bad edit changes nothing and is said in the status and the log.
func (p *Plane) reload(ctx context.Context) {
	p.changing.Lock()
	defer p.changing.Unlock()
	was := p.current()
	next := &version{file: was.file, state: was.state, revision: was.revision}
	err := func() (err error) {
		if p.File != "" {
			if next.file, next.content, err = p.readFile(); err != nil {
				return err
			}
			if err := keysKept(p.File, was.file, next.file); err != nil {
				return err
			}
		}
		if err := next.prepare(p.Admin); err != nil {
			return err
		}
		if err := withoutRestart(was.config, next.config); err != nil {
			return err
		}
		if err := p.eventsTo(next); err != nil {
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

func (p *Plane) fileFailed(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fileErr = reason
}

// fileDetached says why a file cannot be followed, when that changes.
func (p *Plane) fileDetached(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reason != "" && reason != p.detached {
		p.Log.Error("configuration file not followed", "error", reason)
	}
	p.detached = reason
}
