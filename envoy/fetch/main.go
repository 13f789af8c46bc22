// Command fetch is `make envoy`: it fetches the pinned Envoy unless one is found already, and
// prints its path.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"millrace/envoy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bin, err := envoy.Find(ctx)
	if err != nil && os.Getenv("ENVOY_BIN") == "" {
		bin, err = envoy.Fetch(ctx, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make envoy:", err)
		os.Exit(1)
	}
	fmt.Println(bin)
}
