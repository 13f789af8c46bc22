package texts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/schema"
)

var (
	openAI    = schema.Of(schema.OpenAIChat)
	anthropic = schema.Of(schema.AnthropicMessages)
)

var kinds = map[Kind]string{
	Said: "said", Thought: "thought", Refusal: "refusal", Call: "call", Result: "result", Spec: "spec",
}

// line is a text as the tables have it: who, what, and the words.
func line(t Text) string {
	text := string(t.Role) + " " + kinds[t.Kind]
	if t.JSON {
		text += " json"
	}
	if t.Channel.Choice != 0 || t.Channel.Part != 0 {
		text += fmt.Sprintf(" %d/%d", t.Channel.Choice, t.Channel.Part)
	}
	return text + ": " + t.Text
}

func lines(texts []Text) (all []string) {
	for _, t := range texts {
		all = append(all, line(t))
	}
	return all
}

func TestRequest(t *testing.T) {
	for name, c := range map[string]struct {
		of   *schema.Schema
		body string
		want []string
	}{
		"who speaks may come later": {openAI, `{"messages":[{"content":"a","role":"system"},{"content":[{"text":"b","type":"text"}],"role":"developer"},{"role":"user","content":"c"}]}`,
			[]string{"system said: a", "system said: b", "user said: c"}},
		"who speaks is not known": {openAI, `{"messages":[{"content":"a"},{"role":"root","content":"b"},{"role":7,"content":"c"}]}`,
			[]string{"user said: a", "user said: b", "user said: c"}},
		"tools answer": {openAI, `{"messages":[{"role":"tool","tool_call_id":"x","content":"a"},{"content":[{"type":"text","text":"b"}],"role":"tool"},{"role":"function","name":"f","content":"c"}]}`,
			[]string{"user result: a", "user result: b", "user result: c"}},
		"calls": {openAI, `{"messages":[{"role":"assistant","content":null,"refusal":"no","tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"a\": 1.0}"}},{"type":"custom","custom":{"name":"g","input":"x y"}}],"function_call":{"name":"h","arguments":"{}"}}]}`,
			[]string{"assistant refusal: no", `assistant call json: {"a": 1.0}`, "assistant call: x y", "assistant call json 0/-1: {}"}},
		"thoughts": {openAI, `{"messages":[{"role":"assistant","reasoning_content":"a","reasoning":"b","thinking_blocks":[{"type":"thinking","thinking":"c","signature":"s"},{"data":"d"}],"content":[{"type":"thinking","thinking":[{"type":"text","text":"e"}]},{"type":"thinking","thinking":"f"},{"type":"refusal","refusal":"g"}]}]}`,
			[]string{"assistant thought 0/2: a", "assistant thought 0/3: b", "assistant thought 0/4: c", "assistant thought 0/1: e", "assistant thought 0/1: f", "assistant refusal: g"}},
		"what is described": {openAI, `{"messages":[],"tools":[{"type":"function","function":{"name":"f","description":"a","parameters":{"b":"c"}}},{"type":"custom","custom":{"name":"g","description":"d","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"e"}}}}],"functions":[{"name":"h","description":"i"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","description":"j","schema":{"type":"object"}}}}`,
			[]string{"system spec: a", `system spec json: {"b":"c"}`, "system spec: d", "system spec: e", "system spec: i", "system spec: j", `system spec json: {"type":"object"}`}},
		"predicted": {openAI, `{"prediction":{"type":"content","content":"a"},"messages":[],"system":[{"type":"text","text":"b"}]}`,
			[]string{"assistant said: a", "system said: b"}},
		"a part of the future": {openAI, `{"messages":[{"role":"user","content":[{"type":"note","id":"i","note":{"lines":["a","b"]}},{"type":"image_url","image_url":{"url":"data:…"}},{"type":"file","file":{"filename":"c.pdf","file_data":"JVB"}}]}]}`,
			[]string{"user said: a", "user said: b", "user said: c.pdf"}},
		"escapes": {openAI, `{"m\u0065ssages":[{"\u0072ole":"s\u0079stem","cont\u0065nt":"a\n\u00e9\ud83d\ude00"}]}`,
			[]string{"system said: a\né😀"}},
		"no texts": {openAI, `{"messages":[{"role":"user","content":""},{"role":"user","content":7},{"role":"user"},3,null,[]],"user":"x","metadata":{"a":"b"},"stop":["s"]}`, nil},

		"blocks": {anthropic, `{"system":"a","messages":[{"role":"user","content":"b"},{"content":[{"type":"thinking","thinking":"c","signature":"s"},{"type":"redacted_thinking","data":"d"},{"type":"text","text":"e"},{"type":"tool_use","id":"i","name":"n","input":{"q": "f"}},{"type":"tool_use","id":"i","name":"n","input":{ }}],"role":"assistant"},{"role":"system","content":[{"type":"text","text":"g"}]}]}`,
			[]string{"system said: a", "user said: b", "assistant thought: c", "assistant said: e", `assistant call json: {"q": "f"}`, "system said: g"}},
		"results": {anthropic, `{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":"a"},{"type":"tool_result","tool_use_id":"i","content":[{"type":"text","text":"b"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"c"}},{"type":"document","source":{"data":"d","type":"text"}},{"type":"search_result","source":"e","title":"f","content":[{"type":"text","text":"g"}]}]}]}]}`,
			[]string{"user result: a", "user result: b", "user result: d", "user result: e", "user result: f", "user result: g"}},
		"documents": {anthropic, `{"messages":[{"role":"user","content":[{"type":"document","title":"a","context":"b","source":{"type":"text","media_type":"text/plain","data":"c"}},{"type":"document","source":{"data":"d","media_type":"application/pdf","type":"base64"}},{"type":"document","source":{"data":"d"}},{"type":"document","source":{"type":"content","content":[{"type":"text","text":"e"}]}},{"type":"document","source":{"type":"url","url":"u"}}]}]}`,
			[]string{"user said: a", "user said: b", "user said: c", "user said: e"}},
		"a condition in one object does not decide in another": {anthropic, `{"messages":[{"role":"user","content":[{"source":{"data":"a","inner":{"type":"text","data":"b"},"type":"base64"}},{"source":{"data":"c","inner":{"type":"base64","data":"d"},"type":"te\u0078t"}}]}]}`,
			[]string{"user said: b", "user said: c"}},
		"server tools": {anthropic, `{"messages":[{"role":"assistant","content":[{"type":"server_tool_use","id":"i","name":"web_search","input":{"query":"a"}},{"type":"web_search_tool_result","tool_use_id":"i","content":[{"type":"web_search_result","url":"u","title":"b","encrypted_content":"x","page_age":"p"}]},{"type":"bash_code_execution_tool_result","tool_use_id":"i","content":{"type":"bash_code_execution_result","stdout":"c","stderr":"d","return_code":0,"content":[]}},{"type":"text","text":"e","citations":[{"type":"web_search_result_location","cited_text":"f","url":"u","title":"g","encrypted_index":"x"}]}]}]}`,
			[]string{`assistant call json: {"query":"a"}`, "assistant result: b", "assistant result: c", "assistant result: d", "assistant said: e", "assistant said 0/1: f", "assistant said 0/2: g"}},
		"tools": {anthropic, `{"messages":[],"tools":[{"name":"n","description":"a","input_schema":{"type":"object"},"input_examples":[{"b":"c"}]},{"type":"web_search_20250305","name":"web_search"}],"output_config":{"format":{"type":"json_schema","schema":{"d":1}}}}`,
			[]string{"system spec: a", `system spec json: {"type":"object"}`, `system spec json: {"b":"c"}`, `system spec json: {"d":1}`}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Request(c.of, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, lines(found)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		of   *schema.Schema
		body string
		want []string
	}{
		"choices": {openAI, `{"choices":[{"message":{"role":"assistant","content":"a","refusal":null},"index":1},{"index":0,"message":{"content":null,"audio":{"id":"i","data":"x","transcript":"b"},"tool_calls":[{"function":{"name":"f","arguments":"{\"c\":1}"}},{"function":{"name":"f","arguments":{"d":1}}}]}}]}`,
			[]string{"assistant said 1/0: a", "assistant said 0/1: b", `assistant call json: {"c":1}`, `assistant call json: {"d":1}`}},
		"blocks": {anthropic, `{"content":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"text","text":"b","citations":[{"cited_text":"c","document_title":"d"}]},{"type":"tool_use","id":"i","name":"n","input":{"e":1}}],"stop_reason":"end_turn"}`,
			[]string{"assistant thought: a", "assistant said: b", "assistant said 0/1: c", "assistant said 0/2: d", `assistant call json: {"e":1}`}},
		"a plain content":   {anthropic, `{"content":"a"}`, []string{"assistant said: a"}},
		"two of one name":   {openAI, `{"choices":[{"message":{"content":"a","content":"b"}}]}`, []string{"assistant said: a", "assistant said: b"}},
		"no UTF-8":          {openAI, "{\"choices\":[{\"message\":{\"content\":\"a\xff\",\"tool_calls\":[{\"function\":{\"arguments\":{\"b\":\"\xff\"}}}]}}]}", []string{"assistant said: a\uFFFD", "assistant call json: {\"b\":\"\uFFFD\"}"}},
		"half a surrogate":  {openAI, `{"choices":[{"message":{"content":"\ud83da"}}]}`, []string{"assistant said: \uFFFDa"}},
		"an error":          {openAI, `{"error":{"message":"m"}}`, nil},
		"other kinds":       {openAI, `{"choices":{"message":{"content":"a"}}}`, nil},
		"no object":         {anthropic, `["content"]`, nil},
		"of no kind at all": {schema.Of("nobody"), `{"content":"a"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Answer(c.of, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, lines(found)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, broken := range []string{``, `{`, `{"content":"a"`, `{"content":["a"`, `{"content":"a"}x`, `{} {}`, `{"content":"a}`, `nul`} {
		if found, err := Answer(anthropic, []byte(broken)); err == nil || found != nil {
			t.Errorf("%s: found %v, %v", broken, lines(found), err)
		}
	}
}

func TestEvent(t *testing.T) {
	for name, c := range map[string]struct {
		of   *schema.Schema
		data string
		want string
	}{
		"a role":              {openAI, `{"choices":[{"index":1,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, "opens [1] closes []"},
		"a word":              {openAI, `{"choices":[{"delta":{"content":"a"},"finish_reason":null,"index":1}]}`, "assistant said 1/0: a, opens [1] closes []"},
		"of no choice":        {openAI, `{"choices":[{"delta":{"content":"a"}}]}`, "assistant said: a, opens [0] closes []"},
		"of no number":        {openAI, `{"choices":[{"index":"x","delta":{"content":"a"}},{"index":-1,"delta":{"content":"b"}},{"index":1e99,"delta":{"content":"c"}},{"index":2.0,"delta":{"content":"d"}}]}`, "assistant said: a, assistant said: b, assistant said: c, assistant said 2/0: d, opens [0 0 0 2] closes []"},
		"an end":              {openAI, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"},{"index":1,"delta":{},"finish_reason":""}]}`, "opens [0 1] closes [0]"},
		"calls":               {openAI, `{"choices":[{"index":1,"delta":{"tool_calls":[{"function":{"arguments":"{"},"index":2},{"index":3,"custom":{"input":"x"}},{"id":"i","function":{"name":"f","arguments":""}}],"function_call":{"arguments":"}"}}}]}`, "assistant call json 1/2: {, assistant call 1/3: x, assistant call json 1/-1: }, opens [1] closes []"},
		"thoughts":            {openAI, `{"choices":[{"index":0,"delta":{"reasoning_content":"a","reasoning":"b","content":[{"type":"thinking","thinking":[{"text":"c"}]},{"text":"d"}]}}]}`, "assistant thought 0/2: a, assistant thought 0/3: b, assistant thought 0/1: c, assistant said: d, opens [0] closes []"},
		"usage":               {openAI, `{"choices":[],"usage":{"prompt_tokens":1}}`, "opens [] closes []"},
		"an error":            {openAI, `{"error":{"message":"m"}}`, "opens [] closes []"},
		"the last":            {openAI, " [DONE] ", "opens [] closes [] last"},
		"nothing":             {openAI, "", "opens [] closes []"},
		"a message":           {anthropic, `{"type":"message_start","message":{"id":"i","content":[],"role":"assistant"}}`, "opens [] closes []"},
		"a block":             {anthropic, `{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}`, "opens [2] closes []"},
		"a block with words":  {anthropic, `{"type":"content_block_start","content_block":{"type":"thinking","thinking":"a","signature":""},"index":2}`, "assistant thought 2/0: a, opens [2] closes []"},
		"a call":              {anthropic, `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"i","name":"n","input":{}}}`, "opens [1] closes []"},
		"a whole call":        {anthropic, `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"i","name":"n","input":{"a":1}}}`, `assistant call json 1/0: {"a":1}, opens [1] closes []`},
		"a text delta":        {anthropic, `{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}`, "assistant said 1/0: a, opens [1] closes []"},
		"a thought":           {anthropic, `{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"a"}}`, "assistant thought 1/0: a, opens [1] closes []"},
		"a signature":         {anthropic, `{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"a"}}`, "opens [1] closes []"},
		"a piece of a call":   {anthropic, `{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}`, `assistant call json 1/0: {"a, opens [1] closes []`},
		"a citation":          {anthropic, `{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"a","document_title":"b"}}}`, "assistant said 1/1: a, assistant said 1/2: b, opens [1] closes []"},
		"a search":            {anthropic, `{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"i","content":[{"type":"web_search_result","title":"a"}]}}`, "assistant result 1/0: a, opens [1] closes []"},
		"a block's end":       {anthropic, `{"type":"content_block_stop","index":3}`, "opens [3] closes [3]"},
		"a ping":              {anthropic, `{"type":"ping"}`, "opens [] closes []"},
		"the message's delta": {anthropic, `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}`, "opens [] closes []"},
		"the message's end":   {anthropic, `{"type":"message_stop"}`, "opens [] closes [] last"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Event(c.of, []byte(c.data))
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("opens %v closes %v", e.Opens, e.Closes)
			if e.Last {
				got += " last"
			}
			if got = strings.Join(append(lines(e.Texts), got), ", "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	for _, broken := range []string{`{`, `[DONE`, `{"choices":[{"delta":{"content":"a"}}]} {}`, `data: {}`} {
		if e, err := Event(openAI, []byte(broken)); err == nil || e.Texts != nil {
			t.Errorf("%s: %+v, %v", broken, e, err)
		}
	}
}

// TestTooMany: what is noted of texts is bounded.
func TestTooMany(t *testing.T) {
	body := func(n int) []byte {
		return []byte(`{"messages":[{"content":[""` + strings.Repeat(`,"a"`, n) + `]}]}`)
	}
	if found, err := Request(openAI, body(maxTexts)); err != nil || len(found) != maxTexts {
		t.Errorf("%d texts, %v", len(found), err)
	}
	if found, err := Request(openAI, body(maxTexts+1)); !errors.Is(err, ErrTooMany) || found != nil {
		t.Errorf("%d texts, %v", len(found), err)
	}
}

// TestReplace: in the bodies, what is to be edited is in «», and so is what it becomes.
func TestReplace(t *testing.T) {
	for name, c := range map[string]struct {
		of         *schema.Schema
		body, want string
		with       string // "" for the text in capitals
	}{
		"a string":                     {openAI, `{"messages": [ {"role":"user" , "content":"«a»"}],"n":1.0}`, `{"messages": [ {"role":"user" , "content":"«A»"}],"n":1.0}`, ""},
		"several, in any order":        {openAI, `{"messages":[{"content":"«a»"},{"content":"b\u0041"},{"content":"«c»"}],"system":"«d»"}`, `{"messages":[{"content":"«A»"},{"content":"b\u0041"},{"content":"«C»"}],"system":"«D»"}`, ""},
		"what is to be escaped":        {openAI, `{"messages":[{"content":"«a»"}]}`, `{"messages":[{"content":"«\"\\\n\u0000<é»"}]}`, "«\"\\\n\x00<é»"},
		"what is no UTF-8":             {openAI, `{"messages":[{"content":"«a»"}]}`, `{"messages":[{"content":"«` + "\uFFFD" + `»"}]}`, "«\xff»"},
		"nothing is left":              {openAI, `{"messages":[{"content":"«a»"}]}`, `{"messages":[{"content":""}]}`, "-"},
		"arguments in quotes":          {openAI, `{"messages":[{"tool_calls":[{"function":{"arguments":"{\"q\":\"«a»\",\"n\":1.0}"}}]}]}`, `{"messages":[{"tool_calls":[{"function":{"arguments":"{\"Q\":\"«A»\",\"N\":1.0}"}}]}]}`, ""},
		"arguments as they are":        {anthropic, `{"messages":[{"content":[{"type":"tool_use","input":{"q" : "«a»","n":1.0}}]}]}`, `{"messages":[{"content":[{"type":"tool_use","input":{"Q" : "«A»","N":1.0}}]}]}`, ""},
		"arguments that are none":      {anthropic, `{"messages":[{"content":[{"type":"tool_use","input":{"q":"«a»"}}]}]}`, `{"messages":[{"content":[{"type":"tool_use","input":"{«"}]}]}`, "{«"},
		"arguments on the wrong level": {openAI, `{"messages":[{"tool_calls":[{"function":{"arguments":{"q":"«a»"}}}]}]}`, `{"messages":[{"tool_calls":[{"function":{"arguments":{"«":1}}}]}]}`, `{"«":1}`},
		"and no object":                {openAI, `{"messages":[{"tool_calls":[{"function":{"arguments":{"q":"«a»"}}}]}]}`, `{"messages":[{"tool_calls":[{"function":{"arguments":"\"«\""}}]}]}`, `"«"`},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Request(c.of, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			edited(t, c.body, found, c.with, c.want)
		})
	}
	answer := `{"choices":[{"logprobs":{"content":[{"token":"a"}]},"index":0,"message":{"content":"«a»","refusal":"«b»"}},{"index":1,"message":{"content":"c"},"logprobs":{"content":[{"token":"c"}]}},{"index":2,"message":{"content":"«d»"},"logprobs":null}]}`
	found, err := Answer(openAI, []byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	edited(t, answer, found, "", `{"choices":[{"logprobs":null,"index":0,"message":{"content":"«A»","refusal":"«B»"}},{"index":1,"message":{"content":"c"},"logprobs":{"content":[{"token":"c"}]}},{"index":2,"message":{"content":"«D»"},"logprobs":null}]}`)
	event := ` {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"«a"}}]},"logprobs":{"content":[]},"finish_reason":null}]}`
	e, err := Event(openAI, []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	edited(t, event, e.Texts, "", ` {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"«A"}}]},"logprobs":null,"finish_reason":null}]}`)

	body := []byte(answer)
	same := map[int]string{0: found[0].Text, -1: "x", len(found): "y"}
	if got := Replace(body, found, same); &got[0] != &body[0] {
		t.Errorf("nothing was to be edited: %s", got)
	}
}

// edited puts with, "-" for nothing, in the place of every text that has a « in it.
func edited(t *testing.T, body string, found []Text, with, want string) {
	t.Helper()
	edits := map[int]string{}
	for i, f := range found {
		switch {
		case !strings.Contains(f.Text, "«"):
		case with == "":
			edits[i] = strings.ToUpper(f.Text)
		default:
			edits[i] = strings.TrimPrefix(with, "-")
		}
	}
	got := Replace([]byte(body), found, edits)
	if string(got) != want || !json.Valid(got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestRowsCover: every place of the rows is one that a body can have.
func TestRowsCover(t *testing.T) {
	for _, s := range schema.All() {
		for i, places := range [][]schema.TextPlace{s.Texts.Request, s.Texts.Answer, s.Texts.Event} {
			for _, p := range places {
				body := bodyWith(p.Path)
				var found []Text
				var err error
				switch i {
				case 0:
					found, err = Request(s, []byte(body))
				case 1:
					found, err = Answer(s, []byte(body))
				default:
					var e InEvent
					e, err = Event(s, []byte(body))
					found = e.Texts
				}
				if err != nil || !slices.ContainsFunc(found, func(f Text) bool {
					return strings.Trim(f.Text, `"`) == "here" && f.Kind == p.Kind && (p.Role == "" || string(f.Role) == p.Role)
				}) {
					t.Errorf("%s: %s is not found in %s: %v, %v", s.Name, p.Path, body, lines(found), err)
				}
			}
		}
	}
}

// bodyWith is a body with a text at the place.
func bodyWith(path string) string {
	path, only, conditional := strings.Cut(path, "{")
	body := `"here"`
	steps := strings.Split(path, ".")
	for i, step := range slices.Backward(steps) {
		step = strings.TrimSuffix(step, "**")
		for strings.HasSuffix(step, "[]") {
			step, body = strings.TrimSuffix(step, "[]"), "["+body+"]"
		}
		body = `"` + step + `":` + body
		if i == len(steps)-1 && conditional {
			name, word, _ := strings.Cut(strings.TrimSuffix(only, "}"), "=")
			body += `,"` + name + `":"` + word + `"`
		}
		body = "{" + body + "}"
	}
	return body
}
