package main

import (
	"fmt"
	"log/slog"

	"millrace/config"
	"millrace/event"
)

// destinations are where events go, as the configuration in use says it. Calls must not overlap.
type destinations struct {
	recorder *event.Recorder
	log      *slog.Logger
	file     string // "": nowhere
}

// use opens what a configuration names, and gives it to the recorder in place of what there was.
func (d *destinations) use(c *config.Config) error {
	if c.EventFile == d.file {
		return nil
	}
	var next []event.Destination
	if c.EventFile != "" {
		f, err := event.OpenFile(c.EventFile, d.log)
		if err != nil {
			return fmt.Errorf("events.file: %w", err)
		}
		next = append(next, f)
	}
	if err := d.recorder.Use(next...); err != nil {
		return err
	}
	d.file = c.EventFile
	return nil
}
