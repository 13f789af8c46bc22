package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"millrace/dashboard"
	"millrace/internal/golden"
)

// TestTop: a frame of `millrace top`, on a screen of some size, with colors or without.
func TestTop(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	golden.Run(t, "testdata/top/*.txtar", func(c *golden.Case) {
		var s dashboard.Snapshot
		if err := json.Unmarshal(c.Input("feed.json"), &s); err != nil {
			c.T.Fatal(err)
		}
		var bound size
		if in := c.Input("screen"); in != nil {
			if _, err := fmt.Sscanf(string(in), "%dx%d", &bound.width, &bound.height); err != nil {
				c.T.Fatal(err)
			}
		}
		frame := drawTop(&s, bound, c.Input("colors") != nil)
		if c.Input("colors") != nil {
			frame = visible(frame)
		}
		c.Output("want", []byte(frame))
	})
}

// visible writes colors as text.
func visible(frame string) string {
	var out []byte
	for _, b := range []byte(frame) {
		if b == '\x1b' {
			out = append(out, strconv.Quote(string(b))[1:5]...)
			continue
		}
		out = append(out, b)
	}
	return string(out)
}
