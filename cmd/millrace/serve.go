package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"millrace/audit"
	"millrace/config"
	"millrace/config/store"
	"millrace/control"
	"millrace/dashboard"
	"millrace/engine"
	"millrace/envoy"
	"millrace/event"
	"millrace/extproc"
	"millrace/extproc/policy"
	"millrace/internal/folder"
	"millrace/metrics"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/xds"
)

// sidecarFlags are common to run and serve. They say where to listen and how to log; everything
// else is in the file.
type sidecarFlags struct {
	Config   string     `help:"The configuration file; it is followed when it changes. With --data-dir or --store it may be left out: REST then says all." type:"path"`
	DataDir  string     `help:"Where what is written over REST is kept, and what was applied last; without it and --store there is no REST." type:"path" env:"MILLRACE_DATA_DIR"`
	Store    string     `help:"An external NATS cluster to keep it in, nats://host:4222." env:"MILLRACE_STORE"`
	Admin    string     `help:"Where the REST API listens, in place of gateway.admin.listen; 127.0.0.1:8080 when there is a store and nobody says." placeholder:"ADDRESS"`
	Demo     bool       `help:"Also start the demo providers that examples/quickstart.yaml uses, in this process."`
	LogLevel slog.Level `help:"debug, info, warn or error." default:"info"`
	console  *console   // where events go that the configuration says nothing about; nil: nowhere
	Instance string     `help:"What this sidecar calls itself in /health; random when not given." env:"MILLRACE_INSTANCE_ID"`
}

type serveCommand struct {
	sidecarFlags
	SocketDir string `help:"The folder that Envoy and the sidecar share." default:"${socketDir}" type:"path"`
}

// Run serves until a signal. Then readiness is gone, balancers get the time to notice, the listener
// is closed (not where a service is open), requests under way get the rest of the drain timeout,
// what is left is ended in its client's schema, and the sidecar ends. Envoy lives on: the next
// sidecar opens its listener again.
func (c *serveCommand) Run(ctx context.Context, end context.CancelCauseFunc) error {
	s, err := startSidecar(ctx, end, c.sidecarFlags, c.SocketDir, nil)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	if err == nil {
		s.drain(ctx)
	}
	return errors.Join(err, s.stop())
}

// sidecar is the running process's parts.
type sidecar struct {
	log       *slog.Logger
	demo      *demo
	engine    *engine.Engine // nil: nothing is kept
	recorder  *event.Recorder
	events    *destinations
	audit     *auditLogs
	policies  *policy.Metrics
	requests  *metrics.Requests
	recent    *dashboard.Recent
	traces    *traces
	xds       *xds.Server
	data      *extproc.Server
	plane     *control.Plane
	grpc      *grpc.Server
	admin     []*http.Server
	dashboard *dashboard.Feed
	config    *config.Config // the one it was started with
	draining  atomic.Bool
	failed    chan error // a server ended by itself

	end       context.CancelFunc // ends what is in running
	running   sync.WaitGroup
	endEvents context.CancelFunc
	writing   sync.WaitGroup
}

// startSidecar wires everything, top to bottom. Nothing serves before the configuration is known to
// be good, check included. end is what a call over the socket ends ctx by.
func startSidecar(ctx context.Context, end context.CancelCauseFunc, flags sidecarFlags, dir string, check func(*config.Config) error) (_ *sidecar, err error) {
	log, name := logger(flags.LogLevel), instance(flags.Instance)
	s := &sidecar{log: log, failed: make(chan error, 3), recorder: event.NewRecorder("/millrace/" + url.PathEscape(name)), engine: newEngine(flags, log), policies: policy.NewMetrics(), recent: dashboard.NewRecent()}
	s.events = &destinations{recorder: s.recorder, engine: s.engine, log: log, console: flags.console}
	s.requests, s.traces = metrics.NewRequests(s.present), newTraces(log, name, s.present)
	s.audit = &auditLogs{dir: auditFolder(flags.DataDir), log: log, logs: map[string]*audit.Log{}}
	if flags.Config == "" && s.engine == nil {
		return nil, errors.New("nothing to serve: give --config FILE, or --data-dir DIR or --store URL to write the configuration over REST")
	}
	if flags.Demo {
		if s.demo, err = startDemo(); err != nil {
			return nil, err
		}
	}

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.end = stop
	s.xds = xds.NewServer(running, log)
	s.data = extproc.NewServer(extproc.Options{
		Log:       log,
		Events:    s.recorder,
		Ready:     func() extproc.Readiness { return s.plane.Ready() },
		Cool:      func(target string, d time.Duration) { s.plane.Cool(target, d) },
		Succeeded: func(target, request string) { s.plane.Succeeded(target, request) },
		Failed:    func(target, request, why string) { s.plane.Failed(target, request, why) },
		Recorded:  func(e *millracev1.Event) { s.requests.Record(e); s.recent.Record(e); s.traces.Record(e) },
		Policies:  policy.Host{Audit: s.audit.of, Log: log, Metrics: s.policies},
		Version:   version,
		Instance:  name,
	})
	s.plane, err = control.Start(ctx, control.Options{
		Sidecar:   s.data,
		Envoy:     s.xds,
		OpenStore: storeOpener(s.engine, log),
		File:      flags.Config,
		DataDir:   flags.DataDir,
		Log:       log,
		Check:     check,
		Draining:  s.draining.Load,
		Admin:     func(listen string) string { return adminAddress(flags, listen) },
		Events:    s.events.err,
		OpenLogs:  s.audit.use,
		EventsTo:  s.events.use,
		Living:    (&living{envoy: envoy.NewAdmin(filepath.Join(dir, envoy.AdminSocket))}).now,
	})
	if err != nil {
		stop()
		s.audit.close()
		s.closeEngine()
		s.demo.stop()
		return nil, err
	}
	s.config = s.plane.Config()
	context.AfterFunc(ctx, func() { s.endsWithin(s.plane.Config().DrainTimeout + lastWords + hardStop) })
	s.startEvents()
	s.running.Go(func() { s.plane.Run(running) })
	s.running.Go(func() { s.sweep(running) })

	s.grpc = newGRPCServer(log)
	s.xds.Register(s.grpc)
	s.data.Register(s.grpc)
	grpc_health_v1.RegisterHealthServer(s.grpc, health.NewServer())
	registerDrain(s.grpc, end)
	s.warn()
	socket, err := listen(filepath.Join(dir, envoy.SidecarSocket), log)
	if err != nil {
		return nil, err
	}
	if err := s.startAdmin(flags, dir); err != nil {
		return nil, err
	}
	go func() { s.failed <- s.grpc.Serve(socket) }()
	if flags.Store != "" && flags.DataDir == "" {
		log.Warn("no --data-dir: nothing remembers what was applied last, so a start takes the store as it finds it")
	}
	if flags.Config == "" {
		log.Info("no --config: what is written over REST is served, on loopback; where to listen is for a file to say", "listen", fmt.Sprintf("%s:%d", s.config.Listen.Address, s.config.Listen.Port))
	}
	log.Info("serving", "config", flags.Config, "version", s.config.Version, "socket", socket.Addr().String())
	return s, nil
}

// present is the configuration that was offered last; nil while there is none.
func (s *sidecar) present() *config.Config {
	if s.plane == nil {
		return nil
	}
	return s.plane.Config()
}

// warn says what is allowed and may still not be meant.
func (s *sidecar) warn() {
	if addr, err := netip.ParseAddr(s.config.Listen.Address); err == nil && addr.IsLoopback() {
		return
	}
	for _, g := range s.config.Gateways {
		if !g.NeedsKey && len(g.Rules) > 0 {
			s.log.Warn("anyone who can connect may use this gateway and the providers' keys behind it: it has no keys", "gateway", g.Name)
		}
	}
}

// newEngine is nil when nothing is to be kept.
func newEngine(flags sidecarFlags, log *slog.Logger) *engine.Engine {
	if flags.DataDir == "" && flags.Store == "" {
		return nil
	}
	return engine.New(engine.Options{DataDir: flags.DataDir, URL: flags.Store, Log: log})
}

func (s *sidecar) closeEngine() {
	if s.engine != nil {
		s.engine.Close()
	}
}

// storeOpener is nil without an engine.
func storeOpener(e *engine.Engine, log *slog.Logger) func(context.Context) (*store.Store, error) {
	if e == nil {
		return nil
	}
	return func(ctx context.Context) (*store.Store, error) { return store.Open(ctx, e, store.Options{Log: log}) }
}

// sweep runs the data path's housekeeping until ctx ends.
func (s *sidecar) sweep(ctx context.Context) {
	for tick := time.NewTicker(time.Minute); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
			s.data.Sweep()
		}
	}
}

// startEvents begins to record.
func (s *sidecar) startEvents() {
	ctx, cancel := context.WithCancel(context.Background())
	s.endEvents = cancel
	s.writing.Go(func() { s.recorder.Run(ctx, s.log) })
}

// stop ends the sidecar, and every stream of Envoy's that is open. Requests are recorded by the
// streams' handlers, so those end first, and the recorder last.
func (s *sidecar) stop() error {
	s.endsWithin(hardStop)
	s.stopAdmin()
	s.end()
	s.grpc.Stop()
	s.data.Close()
	s.traces.close()
	s.running.Wait()
	s.plane.Close()
	s.endEvents()
	s.writing.Wait()
	s.audit.close()
	s.closeEngine()
	s.demo.stop()
	s.log.Info("stopped")
	return nil
}

// streamWorkers are goroutines that serve one stream after the other: their stacks have grown
// already. A stream that finds none free gets a goroutine of its own. What they save:
// docs/performance.md.
const streamWorkers = 64

// newGRPCServer takes messages of any size, for Envoy has bounded them (max_request_bytes), and
// turns a panic into one failed stream and one line with the stack.
func newGRPCServer(log *slog.Logger) *grpc.Server {
	onPanic := recovery.WithRecoveryHandler(func(p any) error {
		log.Error("panic", "value", fmt.Sprint(p), "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "internal error")
	})
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.InitialWindowSize(128<<10),
		grpc.InitialConnWindowSize(1<<30), // one stream that waits must not stop the others
		grpc.NumStreamWorkers(streamWorkers),
		grpc.WaitForHandlers(true), // at Stop: they still record their attempts
		grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(onPanic)),
		grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(onPanic)),
	)
}

// listen opens the socket for its owner alone, in a folder that is its owner's alone: whoever could
// replace the socket would be taken for the sidecar by Envoy, which runs as the same user. A socket
// that a dead sidecar left is replaced; a living one's is not.
func listen(path string, log *slog.Logger) (net.Listener, error) {
	const longest = 107 // bytes of a Unix socket's path, on Linux
	if len(path) > longest {
		return nil, fmt.Errorf("%s: a socket's path must not be longer than %d bytes; choose a shorter folder (--socket-dir, or TMPDIR for run)", path, longest)
	}
	if err := folder.Own(filepath.Dir(path), log); err != nil {
		return nil, fmt.Errorf("the folder of the sockets: %w", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: another sidecar serves here", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

func instance(name string) string {
	if name != "" {
		return name
	}
	return rand.Text()[:10]
}
