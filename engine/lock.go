package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"millrace/internal/folder"
)

// lock creates the directory and makes it ours until unlock or the end of the process, however that
// comes.
func lock(dir string, log *slog.Logger) (unlock func(), err error) {
	f, err := folder.Hold(dir, log)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another sidecar uses %s", dir)
	}
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}
