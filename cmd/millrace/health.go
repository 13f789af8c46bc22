package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"millrace/envoy"
)

type healthCommand struct {
	SocketDir string `help:"The folder of the sidecar's socket." default:"${socketDir}" type:"path"`
}

// Run asks the sidecar over its socket. It is what a container's health check calls.
func (c *healthCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	socket := filepath.Join(c.SocketDir, envoy.SidecarSocket)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("sidecar at %s: %w", socket, err)
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return errors.New("sidecar: " + answer.Status.String())
	}
	return nil
}
