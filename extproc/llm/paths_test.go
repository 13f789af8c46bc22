package llm

import (
	"slices"
	"testing"
)

func TestPlaced(t *testing.T) {
	r := &Request{Messages: []Message{
		{Parts: []Part{Text{}, Text{}}, Paths: []string{"contents[3].parts[0]", "contents[3].parts[2]"}},
		{Role: Assistant, Parts: []Part{Text{}, ToolCall{}}},
		{},
	}}
	placed := r.Placed()
	if !slices.Equal(placed[0].Paths, r.Messages[0].Paths) || !slices.Equal(placed[1].Paths, []string{"messages[1].content[0]", "messages[1].tool_calls[0]"}) || placed[2].Paths != nil {
		t.Errorf("%q", placed)
	}
	if r.Messages[1].Paths != nil {
		t.Error("the request is changed")
	}
	for path, want := range map[string]string{
		"messages[12].content[0]": "messages[].content[]", "system[0]": "system[]", "tools[]": "tools[]", "n": "n", "": "", "a[1": "a[]",
	} {
		if got := Unnumbered(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// TestSpell: what this client writes comes before what its schema has, and that before the usual.
func TestSpell(t *testing.T) {
	r := &Request{Words: map[Member]string{MemberStop: "stop_sequences", MemberCallName: "name"}}
	r.SpellAs(MemberStop, "halt")
	if got := []string{r.Spell(MemberStop), r.SpellIn("messages[1]", MemberCallName), r.Spell(MemberUser)}; !slices.Equal(got, []string{"halt", "messages[1].name", "user"}) {
		t.Errorf("%q", got)
	}
}
