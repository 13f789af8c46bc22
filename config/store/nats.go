package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Where the State is: nats kv get millrace-config state.
const (
	bucket     = "millrace-config"
	key        = "state"
	streamName = "KV_" + bucket
	subject    = "$KV." + bucket + "." + key
	changed    = bucket + ".changed" // gets a message without content for every version stored
)

const (
	// maxPayload is the largest message of the embedded server; above it NATS warns. A thousand targets take a hundredth.
	maxPayload = 8 << 20
	// headerBytes is room for what NATS adds to a value: the expected revision.
	headerBytes = 256
)

// embed starts a server in this process and connects to it. There is no port: nobody else can.
func (s *Store) embed(ctx context.Context, dir string) (*nats.Conn, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { // NATS lets the group read, and there are secrets in it
		return nil, err
	}
	log := &serverLog{log: s.log, fatal: make(chan string, 1)}
	srv, err := server.NewServer(&server.Options{
		ServerName: "millrace",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   dir,
		// The default acknowledges writes up to two minutes before they are on disk.
		SyncAlways: true,
		MaxPayload: maxPayload,
	})
	if err != nil {
		return nil, err
	}
	srv.SetLoggerV2(log, false, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start() // returns once it is up, as it does not listen
	}()
	s.closers = append(s.closers, func() {
		<-started
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	select {
	case <-started:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: embedded NATS server: still reading %s: %w", ErrUnavailable, dir, ctx.Err())
	}
	select {
	case reason := <-log.fatal:
		return nil, fmt.Errorf("%w: embedded NATS server: %s", ErrUnavailable, reason)
	default:
	}
	return nats.Connect("", append(s.connection(), nats.InProcessServer(srv))...)
}

// dial connects to an external server.
func (s *Store) dial(opts Options) (*nats.Conn, error) {
	servers := strings.Split(opts.URL, ",")
	options := append(s.connection(),
		nats.Timeout(connectWithin/time.Duration(len(servers))), // each is tried once
		nats.PingInterval(5*time.Second),                        // notice a dead peer in 15 s, not in 6 minutes
	)
	if opts.Credentials != "" {
		options = append(options, nats.UserCredentials(opts.Credentials))
	}
	if opts.TLS != nil {
		options = append(options, nats.Secure(opts.TLS))
	}
	for _, server := range servers {
		// nats.go would show the whole URL, password included.
		if u, err := url.Parse(strings.TrimSpace(server)); err != nil || u.Host == "" {
			return nil, errors.New("not a URL like nats://host:4222")
		}
	}
	conn, err := nats.Connect(opts.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w: %w", ErrUnavailable, err)
	}
	return conn, nil
}

// connection is how we connect to any server.
func (s *Store) connection() []nats.Option {
	return []nats.Option{
		nats.Name("millrace"),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a server that refuses us twice may know us again after its next reload
		nats.ReconnectWait(250 * time.Millisecond),
		// Fail while disconnected. By default a write would wait in a buffer and be done after its caller had given up.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.log.Warn(s.name+": connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			s.log.Info(s.name+": connected again", "server", c.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.log.Warn(s.name, "error", err)
		}),
	}
}

// bucket returns the stream under the bucket. It makes the stream, or changes an existing one, as shape wants it.
func (s *Store) bucket(ctx context.Context, js jetstream.JetStream, opts Options) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, streamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.create(ctx, js, opts)
	}
	if err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	want := have
	if opts.Replicas > 0 {
		want.Replicas = opts.Replicas
	}
	want = shape(want)
	if reflect.DeepEqual(have, want) {
		return stream, nil
	}
	return js.UpdateStream(ctx, want)
}

func (s *Store) create(ctx context.Context, js jetstream.JetStream, opts Options) (jetstream.Stream, error) {
	replicas := opts.Replicas
	if replicas == 0 {
		replicas = 1
		if opts.URL != "" {
			replicas = 3
		}
	}
	stream, err := js.CreateStream(ctx, shape(jetstream.StreamConfig{Replicas: replicas}))
	var refused *jetstream.APIError
	if errors.As(err, &refused) && opts.Replicas == 0 && replicas > 1 {
		// Only the server knows how many nodes can hold it. Whatever else it may have meant, it will say again.
		if stream, err = js.CreateStream(ctx, shape(jetstream.StreamConfig{Replicas: 1})); err == nil && s.conn.ConnectedClusterName() != "" {
			s.log.Warn(s.name+": the cluster could not hold 3 copies of the bucket, there is 1", "reason", refused)
		}
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another sidecar was faster
		return js.Stream(ctx, streamName)
	}
	return stream, err
}

// shape fills in what makes a stream our bucket and leaves the rest (replicas, placement) alone.
func shape(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.Name = streamName
	cfg.Subjects = []string{"$KV." + bucket + ".>"}
	cfg.MaxMsgsPerSubject = History
	cfg.Discard = jetstream.DiscardNew
	cfg.DenyDelete = true
	cfg.AllowRollup = true
	cfg.RePublish = &jetstream.RePublish{Source: subject, Destination: changed, HeadersOnly: true}
	// Direct reads are answered by any replica, and one that lags would show operators the version before their own write.
	// Without, the leader answers, at twice the cost.
	cfg.AllowDirect = cfg.Replicas == 1
	return cfg
}

// redacted is the URL for people.
func redacted(rawURL string) string {
	servers := strings.Split(rawURL, ",")
	for i, server := range servers {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil {
			servers[i] = "(unreadable URL)"
			continue
		}
		if u.User != nil { // a user name may be a token
			u.User = url.User("xxxxx")
		}
		servers[i] = u.String()
	}
	return strings.Join(servers, ",")
}

// serverLog passes on the embedded server's warnings and errors. Its notices are of no use to an operator.
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
