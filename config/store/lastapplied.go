package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	millracev1 "millrace/proto/millrace/v1"
)

// Applied is the last configuration that ran: what a sidecar starts with when no store answers.
type Applied struct {
	Revision uint64            // of the State in the store
	State    *millracev1.State // never nil when loaded
	File     []byte            // the document of --config FILE as it was applied; nil without one
}

const (
	appliedFile  = "applied"
	appliedMagic = "mra\x01"
)

// SaveApplied replaces what dir holds. When it returns, the new one is on disk; whatever happens
// before, LoadApplied returns the old or the new one, whole. One caller at a time: whoever holds
// the engine with this data directory.
func SaveApplied(dir string, applied Applied) error {
	sealed, err := encodeApplied(applied)
	if err == nil {
		err = replaceFile(dir, appliedFile, sealed)
	}
	if err != nil {
		return fmt.Errorf("save last applied configuration: %w", err)
	}
	return nil
}

// LoadApplied returns what SaveApplied saved, or fs.ErrNotExist when there is nothing.
func LoadApplied(dir string) (Applied, error) {
	path := filepath.Join(dir, appliedFile)
	sealed, err := os.ReadFile(path)
	if err != nil {
		return Applied{}, fmt.Errorf("last applied configuration: %w", err)
	}
	applied, err := decodeApplied(sealed)
	if err != nil {
		return Applied{}, fmt.Errorf("last applied configuration %s: %w", path, err)
	}
	return applied, nil
}

// PutAside renames what SaveApplied saved, for when it cannot be read, and returns its new path.
func PutAside(dir string) (string, error) {
	aside := filepath.Join(dir, appliedFile+".damaged")
	return aside, os.Rename(filepath.Join(dir, appliedFile), aside)
}

// The payload is the revision, then the length of the State and the State, then the file to the
// end.
func encodeApplied(applied Applied) ([]byte, error) {
	state, err := marshalState(applied.State)
	if err != nil {
		return nil, err
	}
	payload := binary.AppendUvarint(nil, applied.Revision)
	payload = binary.AppendUvarint(payload, uint64(len(state)))
	payload = append(payload, state...)
	payload = append(payload, applied.File...)
	return seal(appliedMagic, payload)
}

func decodeApplied(sealed []byte) (Applied, error) {
	payload, err := unseal(appliedMagic, sealed)
	if err != nil {
		return Applied{}, err
	}
	revision, n := binary.Uvarint(payload)
	if n <= 0 {
		return Applied{}, fmt.Errorf("%w: revision", ErrCorrupt)
	}
	payload = payload[n:]
	length, n := binary.Uvarint(payload)
	if n <= 0 || length > uint64(len(payload)-n) {
		return Applied{}, fmt.Errorf("%w: length", ErrCorrupt)
	}
	payload = payload[n:]
	state, err := unmarshalState(payload[:length])
	if err != nil {
		return Applied{}, err
	}
	applied := Applied{Revision: revision, State: state}
	if file := payload[length:]; len(file) > 0 {
		applied.File = file
	}
	return applied, nil
}

// replaceFile gives the file new content at once, and mode 0600. The name of the temporary file is
// always the same, so that one left by a kill goes with the next call.
func replaceFile(dir, name string, content []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary := filepath.Join(dir, name+".tmp")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // a second time, when all went well
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync() // the rename itself
}
