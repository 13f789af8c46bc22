package control

import (
	"reflect"
	"sync"

	"millrace/config"
)

// events has them go where configurations say.
type events struct {
	use func(*config.Config) error // nil: they go nowhere

	mu   sync.Mutex // guards what follows, and the order of calls
	used bool
	now  config.Events // where they go
}

// to has events go where c says, unless they do. An error leaves them where they are.
func (e *events) to(c *config.Config) error {
	if e.use == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.used && reflect.DeepEqual(c.Events, e.now) {
		return nil
	}
	if err := e.use(c); err != nil {
		return err
	}
	e.used, e.now = true, c.Events
	return nil
}
