package xds

import (
	"testing"

	"millrace/config"
)

func build(t *testing.T, document string) *Snapshot {
	t.Helper()
	doc, err := config.Load("test.yaml", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Resolve(doc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOnlyTheTypeThatChangedHasANewVersion(t *testing.T) {
	a := build(t, "upstreams: [{name: a, algorithm: weighted-round-robin, targets: [{provider: openai, weight: 1}]}]")
	b := build(t, "upstreams: [{name: a, algorithm: weighted-round-robin, targets: [{provider: openai, weight: 2}]}]")
	for _, kind := range served {
		same := a.cache.GetVersion(kind) == b.cache.GetVersion(kind)
		if want := kind != served[1]; same != want {
			t.Errorf("%s: same version %v, want %v", kind, same, want)
		}
	}
}
