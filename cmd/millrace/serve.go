package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"millrace/config"
	"millrace/envoy"
	"millrace/event"
	"millrace/extproc"
	"millrace/xds"
)

// sidecarFlags are common to run and serve. They say where to listen and how to log; everything else is in the file.
type sidecarFlags struct {
	Config   string     `help:"The configuration file." required:"" type:"existingfile"`
	Demo     bool       `help:"Also start the demo providers that examples/quickstart.yaml uses, in this process."`
	LogLevel slog.Level `help:"debug, info, warn or error." default:"info"`
	Instance string     `help:"What this sidecar calls itself in /health; random when not given." env:"MILLRACE_INSTANCE_ID"`
}

type serveCommand struct {
	sidecarFlags
	SocketDir string `help:"The folder that Envoy and the sidecar share." default:"${socketDir}" type:"path"`
}

// Run serves until a signal; then readiness is gone, requests under way get the drain timeout, and the sidecar ends.
func (c *serveCommand) Run(ctx context.Context) error {
	s, err := startSidecar(ctx, c.sidecarFlags, c.SocketDir)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	s.draining.Store(true)
	return errors.Join(err, s.stop())
}

// sidecar is the running process's parts, in the order they were started.
type sidecar struct {
	config   *config.Config
	log      *slog.Logger
	demo     *demo
	xds      *xds.Server
	data     *extproc.Server
	grpc     *grpc.Server
	draining atomic.Bool
	failed   chan error // the gRPC server ended by itself

	endEvents  context.CancelFunc
	events     chan struct{} // closed when the last event is written
	endStreams context.CancelFunc
}

// startSidecar wires everything, top to bottom. Nothing serves before the configuration is known to be good.
func startSidecar(ctx context.Context, flags sidecarFlags, dir string) (*sidecar, error) {
	log := logger(flags.LogLevel)

	c, err := loadConfig(flags.Config)
	if err != nil {
		return nil, err
	}
	runtime, err := extproc.Compile(c)
	if err != nil {
		return nil, err
	}
	snapshot, err := xds.Build(c)
	if err != nil {
		return nil, err
	}

	s := &sidecar{config: c, log: log, failed: make(chan error, 1)}
	recorder, err := s.startEvents(c.EventFile)
	if err != nil {
		return nil, err
	}
	if flags.Demo {
		if s.demo, err = startDemo(); err != nil {
			return nil, err
		}
	}

	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	s.endStreams = endStreams
	s.xds = xds.NewServer(streams, log)
	s.data = extproc.NewServer(extproc.Options{
		Log:      log,
		Events:   recorder,
		Ready:    s.ready,
		Version:  version,
		Instance: instance(flags.Instance),
	})
	s.data.Use(runtime)
	go s.sweep(streams)
	if err := s.xds.Offer(ctx, snapshot); err != nil {
		return nil, err
	}

	s.grpc = newGRPCServer(log)
	s.xds.Register(s.grpc)
	s.data.Register(s.grpc)
	grpc_health_v1.RegisterHealthServer(s.grpc, health.NewServer())
	socket, err := listen(filepath.Join(dir, envoy.SidecarSocket))
	if err != nil {
		return nil, err
	}
	go func() { s.failed <- s.grpc.Serve(socket) }()
	log.Info("serving", "config", flags.Config, "version", c.Version, "socket", socket.Addr().String())
	return s, nil
}

// loadConfig reads the file, and refuses what this version cannot keep.
func loadConfig(path string) (*config.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc, err := config.Load(path, data)
	if err != nil {
		return nil, err
	}
	if notYet := config.NotYet(doc); len(notYet) > 0 {
		return nil, fmt.Errorf("%s asks for what this version cannot do:\n%w", path, notYet)
	}
	return config.Resolve(doc)
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

func (s *sidecar) startEvents(path string) (*event.Recorder, error) {
	s.events = make(chan struct{})
	if path == "" {
		close(s.events)
		s.endEvents = func() {}
		return &event.Recorder{}, nil
	}
	recorder, file, err := event.Open(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.endEvents = cancel
	go func() {
		defer close(s.events)
		recorder.Run(ctx, file, s.log)
	}()
	return recorder, nil
}

// ready tells whether requests are served: Envoy has the configuration, and nobody has asked us to go.
func (s *sidecar) ready() bool {
	return !s.draining.Load() && s.xds.Status().Phase == xds.Applied
}

// stop ends the sidecar: streams get the drain timeout to finish. xDS streams never finish by themselves, so they are ended
// once no request is left.
func (s *sidecar) stop() error {
	deadline := time.Now().Add(s.config.DrainTimeout)
	for s.data.Busy() && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	s.endStreams()
	s.grpc.Stop()
	s.endEvents()
	<-s.events
	s.demo.stop()
	s.log.Info("stopped")
	return nil
}

// newGRPCServer takes messages of any size, for Envoy has bounded them (max_request_bytes), and turns a panic into one failed
// stream and one line with the stack.
func newGRPCServer(log *slog.Logger) *grpc.Server {
	onPanic := recovery.WithRecoveryHandler(func(p any) error {
		log.Error("panic", "value", fmt.Sprint(p), "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "internal error")
	})
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.InitialWindowSize(1<<20),
		grpc.InitialConnWindowSize(16<<20),
		grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(onPanic)),
		grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(onPanic)),
	)
}

// listen opens the socket for its owner alone. A socket that a dead sidecar left is replaced; a living one's is not.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
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
