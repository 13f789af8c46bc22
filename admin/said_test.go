package admin

import (
	"fmt"
	"strings"
	"testing"
)

// TestRESTAnswersAsTheFileDoes: what would be ignored, or taken for something else than was meant,
// is answered over REST with what to write instead, as it is in the file (config/testdata/load);
// comments in JSON are taken.
func TestRESTAnswersAsTheFileDoes(t *testing.T) {
	a := start(t, "")
	gateway, _ := a.seeded()
	target := func(provider string) string {
		return `{"name": "other", "targets": [{"provider": {"type": "openai", ` + provider + `}}]}`
	}
	for name, c := range map[string]struct{ path, body, says string }{
		"a reference":          {"/upstreams", target(`"base_url": "http://h/v1", "secret_key_ref": "os.environ/KEY"`), "write {env: KEY}"},
		"no path":              {"/upstreams", target(`"base_url": "http://h"`), "write http://h/v1"},
		"the operation":        {"/upstreams", target(`"base_url": "http://h/v1/chat/completions"`), "write http://h/v1"},
		"another's field":      {"/upstreams", target(`"api_key": "x"`), "write secret_key_ref: {env: NAME}"},
		"weights of random":    {"/upstreams", `{"name": "other", "algorithm": "random", "targets": [{"provider": "openai", "weight": 9}, {"provider": "openai"}]}`, "write weighted-round-robin"},
		"listed without a one": {"/upstreams", `{"name": "other", "model_choice": "listed", "targets": [{"provider": "openai"}]}`, "models"},
	} {
		if got := fmt.Sprint(a.send("POST", gateway+c.path, c.body).want(422)); !strings.Contains(got, c.says) {
			t.Errorf("%s: %s, want %q", name, got, c.says)
		}
	}
	made := a.send("POST", gateway+"/upstreams", "{\n \"name\": \"commented\", # a name\n \"targets\": [{\"provider\": \"openai\", \"weight\": 60}], // 60% of traffic\n"+
		" \"health_checks\": {\"threshold\": 5}\n}").want(201)
	if passive := made["health_checks"].(map[string]any)["passive"]; passive != true {
		t.Errorf("health_checks without passive: %v", made)
	}
	a.send("PATCH", gateway+"/upstreams/commented", "{\"algorithm\": \"least-connections\" # for a while\n}").want(200)
}
