package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
)

// scalars lets people write three messages as plain values: a provider by name, a secret literally,
// a size with its unit.
type scalars struct{}

// Unmarshal implements protoyaml.CustomUnmarshaler.
func (scalars) Unmarshal(node *yaml.Node, message proto.Message) (bool, error) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		return false, nil
	}
	switch m := message.(type) {
	case *millracev1.Provider:
		m.Name = node.Value
	case *millracev1.Secret:
		m.Source = &millracev1.Secret_Literal{Literal: node.Value}
	case *millracev1.Bytes:
		n, err := parseBytes(node.Value)
		if err != nil {
			return false, err
		}
		m.Bytes = n
	default:
		return false, nil
	}
	return true, nil
}

var byteUnits = []struct {
	suffix string
	size   uint64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30},
	{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30},
	{"b", 1}, {"", 1},
}

// maxBytes is more than any size here can mean; it keeps sizes inside int64 and apart from typos.
const maxBytes = 1 << 40

func parseBytes(s string) (uint64, error) {
	lower := strings.ToLower(strings.TrimSpace(s))
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(lower, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if errors.Is(err, strconv.ErrRange) || err == nil && n > maxBytes/u.size {
			return 0, fmt.Errorf("size %q is larger than 1024 GiB", s)
		}
		if err == nil {
			return n * u.size, nil
		}
		break
	}
	return 0, fmt.Errorf("size %q is not a number with B, KB, KiB, MB, MiB, GB or GiB", s)
}

// formatBytes is the inverse of parseBytes, in the largest unit that loses nothing.
func formatBytes(n uint64) string {
	for _, u := range []struct {
		suffix string
		size   uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatUint(n/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatUint(n, 10)
}
