package main

import (
	"fmt"
	"io"
	"os"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

type validateCommand struct {
	File      string `arg:"" help:"The configuration file, YAML or JSON."`
	DataDir   string `help:"Where a gateway keeps what it applied last: the file is checked beside that, as it is for run." type:"path" env:"MILLRACE_DATA_DIR"`
	Elsewhere bool   `help:"The gateway runs on another machine: do not look for its secrets, certificates and folders on this one."`
}

// Run prints every error and fails, or prints the effective document. It refuses what run refuses, but for a port that is taken, as
// it is by the gateway that runs. What is probably not meant is a warning on stderr.
func (c *validateCommand) Run(out io.Writer) error {
	data, err := config.ReadFile(c.File, config.MaxDocumentBytes)
	if err != nil {
		return err
	}
	doc, err := config.Load(c.File, data)
	if err != nil {
		return err
	}
	if err := c.check(doc); err != nil {
		return err
	}
	for _, w := range config.Doubtful(doc) {
		fmt.Fprintf(os.Stderr, "%s: warning: %s\n", c.File, w)
	}
	effective, err := config.Print(doc)
	if err != nil {
		return err
	}
	_, err = out.Write(effective)
	return err
}

// check tries what run would try before it serves.
func (c *validateCommand) check(doc *millracev1.Document) error {
	last := control.LoadLast(c.DataDir)
	if c.Elsewhere {
		_, err := last.Check(c.File, config.Elsewhere(doc))
		return err
	}
	served, err := last.Check(c.File, doc)
	if err != nil {
		return err
	}
	return checkMachine(served)
}
