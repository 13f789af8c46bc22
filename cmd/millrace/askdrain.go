package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"millrace/envoy"
)

type drainCommand struct {
	SocketDir string `help:"The folder of the sidecar's socket." default:"${socketDir}" type:"path"`
}

// Run has the gateway of the socket end as SIGTERM does, and returns when it has: it is for who
// shares the socket and cannot send a signal, as another container of the pod.
func (c *drainCommand) Run(ctx context.Context) error {
	socket := filepath.Join(c.SocketDir, envoy.SidecarSocket)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	health := healthCommand{SocketDir: c.SocketDir}
	if err := health.Run(ctx); err != nil {
		return err
	}
	err = conn.Invoke(ctx, drainMethod, &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) != codes.Unavailable { // there is no answer: the connection ends with the sidecar
		return fmt.Errorf("sidecar at %s: %w", socket, err)
	}
	return nil
}

const (
	drainService = "millrace.Process"
	drainMethod  = "/" + drainService + "/Drain"
)

// errAsked is the cause of the end when it was asked for over the socket.
var errAsked = errors.New("asked to drain")

// registerDrain serves the call that begins the end of this process. It has no answer: what ends it
// is the end of the connection.
func registerDrain(g *grpc.Server, begin context.CancelCauseFunc) {
	g.RegisterService(&grpc.ServiceDesc{ServiceName: drainService, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Drain",
		Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&emptypb.Empty{}); err != nil {
				return nil, err
			}
			begin(errAsked)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}}}, nil)
}
