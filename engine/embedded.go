package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

// MaxPayload is the largest message of the embedded server; above it NATS warns.
const MaxPayload = 8 << 20

// embedded is a server in this process. There is no port: nobody else can connect to it.
type embedded struct {
	server  *server.Server
	dir     string
	log     *serverLog
	started chan struct{} // closed when it is up, or has failed
}

func startEmbedded(dir string, log *slog.Logger) (*embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { // NATS lets the group read, and there are secrets in it
		return nil, err
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "millrace",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   dir,
		// The default acknowledges writes up to two minutes before they are on disk.
		SyncAlways: true,
		MaxPayload: MaxPayload,
	})
	if err != nil {
		return nil, err
	}
	s := &embedded{server: srv, dir: dir, log: &serverLog{log: log, fatal: make(chan string, 1)}, started: make(chan struct{})}
	srv.SetLoggerV2(s.log, false, false, false)
	go func() {
		defer close(s.started)
		srv.Start() // returns once it is up, as it does not listen
	}()
	return s, nil
}

// wait returns when the server is up, or has failed.
func (s *embedded) wait(ctx context.Context) error {
	select {
	case <-s.started:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: embedded NATS server: still reading %s: %w", ErrUnavailable, s.dir, ctx.Err())
	}
}

// failure is why a server that was waited for is not up, nil when it is.
func (s *embedded) failure() error {
	select {
	case reason := <-s.log.fatal:
		return fmt.Errorf("%w: embedded NATS server: %s", ErrUnavailable, reason)
	default:
		return nil
	}
}

// up tells whether stop would not have to wait.
func (s *embedded) up() bool {
	select {
	case <-s.started:
		return true
	default:
		return false
	}
}

// stop waits for the start: a server that reads its files cannot be interrupted. Damaged files can
// hold it for good.
func (s *embedded) stop() {
	<-s.started
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// serverLog passes on the embedded server's warnings and errors. Its notices are of no use to an
// operator.
type serverLog struct {
	log   *slog.Logger
	fatal chan string // the first one; the server goes on as if it had ended the process
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("embedded NATS server: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error("embedded NATS server: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
		l.Errorf(format, v...)
	}
}
