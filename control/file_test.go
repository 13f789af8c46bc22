package control

import (
	"strings"
	"testing"

	"millrace/config"
)

// TestWithoutRestart: what a running process cannot change is refused, so that it is never said to
// be applied; a token can be replaced or added, and not be taken away.
func TestWithoutRestart(t *testing.T) {
	is := config.Config{Admin: config.Admin{Listen: "a", Token: "a", MetricsListen: "a", MetricsToken: "a"}}
	for want, change := range map[string]func(*config.Config){
		"gateway.admin.listen":         func(c *config.Config) { c.Admin.Listen = "" },
		"gateway.admin.metrics.listen": func(c *config.Config) { c.Admin.MetricsListen = "b" },
		"gateway.admin.token":          func(c *config.Config) { c.Admin.Token = "" },
		"gateway.admin.metrics.token":  func(c *config.Config) { c.Admin.MetricsToken = "" },
	} {
		next := is
		change(&next)
		if err := withoutRestart(&is, &next); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%s: %v", want, err)
		}
	}
	next := is
	next.Admin.Token, next.Admin.MetricsToken = "b", "b"
	if err := withoutRestart(&is, &next); err != nil {
		t.Errorf("new tokens: %v", err)
	}
	var none config.Config
	added := config.Config{Admin: config.Admin{Token: "a", MetricsToken: "a"}}
	if err := withoutRestart(&none, &added); err != nil {
		t.Errorf("first tokens: %v", err)
	}
}
