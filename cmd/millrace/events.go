package main

import (
	"fmt"
	"log/slog"

	"millrace/config"
	"millrace/event"
)

// destinations are where events go. Which are in use control knows.
type destinations struct {
	recorder *event.Recorder
	log      *slog.Logger
}

// use opens what a configuration names, and gives it to the recorder in place of what there was.
func (d destinations) use(c *config.Config) error {
	var next []event.Destination
	if c.EventFile != "" {
		f, err := event.OpenFile(c.EventFile, d.log)
		if err != nil {
			return fmt.Errorf("events.file: %w", err)
		}
		next = append(next, f)
	}
	return d.recorder.Use(next...)
}
