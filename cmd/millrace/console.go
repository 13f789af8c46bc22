package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"

	"millrace/dashboard"
	"millrace/event"
	millracev1 "millrace/proto/millrace/v1"
)

// console is where events go while the configuration says nothing about them: to the standard
// output of `millrace run`, as lines for people where that is a terminal, else as JSON. It is a
// convenience: what cannot be written is gone, and nobody waits for it.
type console struct {
	out      io.Writer
	readable bool
	colors   bool
	gone     bool // whoever read the output has left
}

func newConsole(out io.Writer) *console {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // else a reader that leaves would end the gateway
	f, ok := out.(*os.File)
	readable := ok && isTerminal(f)
	return &console{out: out, readable: readable, colors: readable && os.Getenv("NO_COLOR") == ""}
}

func (c *console) Name() string { return "the standard output" }

func (c *console) Send(_ context.Context, records []event.Record) (int, error) {
	var lines bytes.Buffer
	for _, r := range records {
		line := r.JSON
		if e := (&millracev1.Event{}); c.readable && protojson.Unmarshal(r.JSON, e) == nil {
			line = []byte(c.line(dashboard.NewRequest(0, e)))
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	if !c.gone {
		_, err := c.out.Write(lines.Bytes())
		c.gone = err != nil
	}
	return len(records), nil
}

func (c *console) Close() error { return nil }

// line is a request on one line.
func (c *console) line(r dashboard.Request) string {
	columns := requestColumns(r)
	for i, c := range columns {
		columns[i] = printable(c)
	}
	at, status, model, attempts, first, whole, tokens, cost, verdicts := columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], columns[6], columns[7], columns[9]
	status = fmt.Sprintf("%-4s", status)
	if color := statusColor(r.Status); c.colors && color != "" {
		status = color + status + plain
	}
	more := []string{"first token " + first, "whole " + whole, "tokens " + tokens}
	if cost != "-" {
		more = append(more, cost)
	}
	if verdicts != "-" {
		more = append(more, verdicts)
	}
	return fmt.Sprintf("%s  %s  %-20s  %-24s  %s", at, status, model, attempts, strings.Join(more, ", "))
}
