package main

import (
	"fmt"
	"io"
	"os"

	"millrace/config"
	"millrace/control"
)

type validateCommand struct {
	File    string `arg:"" help:"The configuration file, YAML or JSON."`
	DataDir string `help:"Where a gateway keeps what it applied last: a file that has lost its keys since is an error, as it is for run." type:"path" env:"MILLRACE_DATA_DIR"`
}

// Run prints every error and fails, or prints the effective document. What this version would refuse to serve, and what is probably
// not meant, is a warning on stderr: the file itself is right.
func (c *validateCommand) Run(out io.Writer) error {
	data, err := config.ReadFile(c.File, config.MaxDocumentBytes)
	if err != nil {
		return err
	}
	doc, err := config.Load(c.File, data)
	if err != nil {
		return err
	}
	if err := control.LoadLast(c.DataDir).CheckFile(c.File, doc); err != nil {
		return err
	}
	for _, w := range append(config.NotYet(doc), config.Doubtful(doc)...) {
		fmt.Fprintf(os.Stderr, "%s: warning: %s\n", c.File, w)
	}
	effective, err := config.Print(doc)
	if err != nil {
		return err
	}
	_, err = out.Write(effective)
	return err
}
