package main

import (
	"fmt"
	"io"
	"os"

	"millrace/config"
	"millrace/control"
	millracev1 "millrace/proto/millrace/v1"
)

// checkFlags are of the commands that look at a configuration as run would, and serve nothing.
type checkFlags struct {
	DataDir   string `help:"Where a gateway keeps what it applied last: the file is checked beside that, as it is for run." type:"path" env:"MILLRACE_DATA_DIR"`
	Elsewhere bool   `help:"The gateway runs on another machine: do not look for its secrets, certificates and folders on this one."`
}

type validateCommand struct {
	File string `arg:"" help:"The configuration file, YAML or JSON."`
	checkFlags
}

// Run prints every error and fails, or prints the effective document. It refuses what run refuses,
// but for a port that is taken, as it is by the gateway that runs. What is probably not meant is a
// warning on stderr.
func (c *validateCommand) Run(out io.Writer) error {
	doc, served, err := c.load(c.File)
	if err != nil {
		return err
	}
	for _, w := range config.Doubtful(doc) {
		fmt.Fprintf(os.Stderr, "%s: warning: %s\n", c.File, w)
	}
	if served.Events.Spooled() && c.DataDir == "" {
		fmt.Fprintf(os.Stderr, "%s: warning: events: %s\n", c.File, inMemory)
	}
	effective, err := config.Print(doc)
	if err != nil {
		return err
	}
	_, err = out.Write(effective)
	return err
}

// load reads a file, which may be "", and tries what run would try before it serves. The
// configuration is what would be served.
func (c *checkFlags) load(file string) (*millracev1.Document, *config.Config, error) {
	var doc *millracev1.Document
	if file != "" {
		data, err := config.ReadFile(file, config.MaxDocumentBytes)
		if err != nil {
			return nil, nil, err
		}
		if doc, err = config.Load(file, data); err != nil {
			return nil, nil, err
		}
	}
	last := control.LoadLast(c.DataDir)
	if c.Elsewhere && doc != nil {
		served, err := last.Check(file, config.Elsewhere(doc))
		return doc, served, err
	}
	served, err := last.Check(file, doc)
	if err != nil {
		return nil, nil, err
	}
	return doc, served, checkMachine(served)
}
