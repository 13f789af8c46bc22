package fakellm

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// dialect is one schema: what its checks let through becomes a conversation, and an Answer becomes
// its wire format.
type dialect struct {
	chatPath, modelsPath, countPath string

	authenticate func(h http.Header, key string) *Failure
	read         func(*Request) (*conversation, *Failure)
	headers      func(identity) http.Header
	answer       func(*conversation, Answer, identity) string
	events       func(*conversation, Answer, identity) []string // one server-sent event each
	failure      func(Failure, identity) string
	errorEvent   func(Failure, identity) Step
	models       func(names []string) string
	wrongPath    func(*Request) *Failure
	wrongMethod  func(*Request) *Failure
	wrongModel   func(model string) *Failure
}

var dialects = map[string]*dialect{OpenAIChat: openAI(), AnthropicMessages: anthropic(), DeepSeekChat: deepSeek(), MistralChat: mistral(), GroqChat: groq()}

// identity makes ids that differ between providers and requests, and are the same in every run.
type identity struct {
	provider string
	request  int
}

func (id identity) make(prefix string, part int) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d %d", id.provider, prefix, id.request, part)
	return fmt.Sprintf("%s%016x%06d%02d", prefix, h.Sum64(), id.request, part)
}

// nine is an id of nine letters and digits.
func (id identity) nine(part int) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %d", id.provider, id.request, part)
	return fmt.Sprintf("%016x", h.Sum64())[:9]
}

// conversation is what the default behaviour needs of a checked request.
type conversation struct {
	model     string
	stream    bool
	wantUsage bool // usage in the stream (OpenAI's stream_options)
	choices   int

	text    string   // of the last user message
	images  int      // in the last user message
	files   int      // documents and audio in the last user message
	results []string // of tools, when the conversation ends with them

	tools  []tool
	choice choice
	forced string // the tool's name, with chooseNamed
	serial bool   // one call at a time

	maxTokens int // 0: no limit
	stops     []string
	jsonOnly  bool           // the answer must be a JSON object
	schema    map[string]any // of the JSON, when the request gave one

	thinks  bool // the answer shows thinking
	reasons bool // the answer's usage counts reasoning that it does not show

	earlier, last int    // words before and in the last message; the earlier ones count as read from a cache
	callPrefix    string // of the ids of calls
	nineIDs       bool   // ids of calls are nine letters and digits
	tellsUsage    bool   // usage stands in the stream's last chunk, unasked
}

type tool struct {
	name   string
	schema map[string]any
}

type choice int

const (
	chooseAuto choice = iota
	chooseNone
	chooseAny
	chooseNamed
)

// complete fills in what an answer left out, with the default behaviour where it says nothing at
// all.
func (c *conversation) complete(a Answer, id identity) Answer {
	if a.Text == "" && a.Thinking == "" && len(a.Calls) == 0 {
		c.speak(&a, id)
	}
	a.Calls = slices.Clone(a.Calls)
	for i := range a.Calls {
		if a.Calls[i].ID == "" {
			a.Calls[i].ID = id.make(c.callPrefix, i)
			if c.nineIDs {
				a.Calls[i].ID = id.nine(i)
			}
		}
	}
	if a.Model == "" {
		a.Model = c.model
	}
	if a.Usage == nil {
		a.Usage = c.count(a)
	}
	return a
}

// speak is the default behaviour: report the tools' results, or call tools, or repeat what was
// said.
func (c *conversation) speak(a *Answer, id identity) {
	if c.thinks {
		a.Thinking = "The user said something. " + id.provider + " answers politely."
	}
	switch {
	case len(c.results) > 0:
		a.Text = id.provider + " heard from the tools: " + strings.Join(c.results, "; ")
	case c.wantsCall():
		a.Calls = c.calls()
		return
	case c.schema != nil:
		a.Text = string(encode(example("", c.schema, 0)))
	case c.jsonOnly:
		a.Text = string(obj("provider", id.provider, "heard", c.text))
	default:
		a.Text = "hello from " + id.provider + ". " + id.provider + " heard: " + c.heard()
	}
	c.limit(a)
}

func (c *conversation) heard() string {
	const maxRunes = 2000
	heard := []rune(c.text)
	if len(heard) > maxRunes {
		heard = append(heard[:maxRunes], '…')
	}
	return string(heard) + counted(c.images, "image") + counted(c.files, "file")
}

func counted(n int, what string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " (1 " + what + ")"
	default:
		return fmt.Sprintf(" (%d %ss)", n, what)
	}
}

// limit ends the text at a stop sequence or at the token limit.
func (c *conversation) limit(a *Answer) {
	for _, stop := range c.stops {
		if before, _, found := strings.Cut(a.Text, stop); found {
			a.Text, a.StopSequence = before, stop
		}
	}
	if pieces := words(a.Text); c.maxTokens > 0 && len(pieces) > c.maxTokens {
		a.Text, a.StopSequence, a.limited = strings.TrimRight(strings.Join(pieces[:c.maxTokens], ""), " "), "", true
	}
}

func (c *conversation) wantsCall() bool {
	switch {
	case len(c.tools) == 0 || c.choice == chooseNone:
		return false
	case c.choice == chooseAny || c.choice == chooseNamed:
		return true
	default:
		return strings.Contains(strings.ToLower(c.text), "weather")
	}
}

// calls makes one call per city in the user's words, if the request lets tools be called in
// parallel.
func (c *conversation) calls() []Call {
	t := c.tools[0]
	for _, candidate := range slices.Backward(c.tools) {
		if candidate.name == c.forced || c.forced == "" && strings.Contains(candidate.name, "weather") {
			t = candidate
		}
	}
	places := cities.FindAllString(c.text, -1)
	switch {
	case len(places) == 0:
		places = []string{"Paris"}
	case c.serial:
		places = places[:1]
	}
	var calls []Call
	for _, place := range places {
		arguments := string(encode(example(place, t.schema, 0)))
		if !slices.ContainsFunc(calls, func(c Call) bool { return c.Arguments == arguments }) {
			calls = append(calls, Call{Name: t.name, Arguments: arguments})
		}
	}
	return calls
}

var cities = regexp.MustCompile(`\b(Amsterdam|Athens|Beijing|Berlin|Boston|Cairo|Chicago|Delhi|Dublin|Geneva|Istanbul|Lagos|` +
	`Lima|Lisbon|London|Madrid|Milan|Mumbai|Munich|Nairobi|New York|Oslo|Paris|Prague|Rome|San Francisco|Seattle|Seoul|` +
	`Singapore|Stockholm|Sydney|Tokyo|Toronto|Vienna|Warsaw|Zurich)\b`)

// example makes a value that fits a JSON schema: the required members of objects, and any that can
// name the city.
func example(city string, schema map[string]any, depth int) any {
	const maxDepth = 16 // a schema may be recursive
	if depth > maxDepth {
		return nil
	}
	if values, ok := schema["enum"].([]any); ok && len(values) > 0 {
		return values[0]
	}
	if value, ok := schema["const"]; ok {
		return value
	}
	for _, word := range []string{"anyOf", "oneOf", "allOf"} {
		if options, ok := schema[word].([]any); ok && len(options) > 0 {
			option, _ := options[0].(map[string]any)
			return example(city, option, depth+1)
		}
	}
	kind, _ := schema["type"].(string)
	if kinds, ok := schema["type"].([]any); ok && len(kinds) > 0 {
		kind, _ = kinds[0].(string)
	}
	properties, _ := schema["properties"].(map[string]any)
	switch {
	case kind == "object" || properties != nil:
		members := map[string]any{}
		required, _ := schema["required"].([]any)
		for name, property := range properties {
			property, _ := property.(map[string]any)
			if placed := city != "" && namesPlace(name) && property["type"] == "string"; placed {
				members[name] = city
			} else if slices.Contains(required, any(name)) {
				members[name] = example(city, property, depth+1)
			}
		}
		return members
	case kind == "array":
		items, _ := schema["items"].(map[string]any)
		return []any{example(city, items, depth+1)}
	case kind == "integer" || kind == "number":
		if least, ok := schema["minimum"].(float64); ok {
			return least
		}
		return 1
	case kind == "boolean":
		return true
	case kind == "null":
		return nil
	case schema["format"] == "date":
		return "2026-11-12"
	case schema["format"] == "date-time":
		return "2026-11-12T08:00:00Z"
	case city != "":
		return city
	default:
		return "example"
	}
}

func namesPlace(property string) bool {
	return slices.Contains([]string{"city", "location", "place", "town"}, strings.ToLower(property))
}

// count is the usage of an answer, in words.
func (c *conversation) count(a Answer) *Usage {
	u := Usage{Input: c.earlier + c.last, Cached: c.earlier, Reasoning: len(words(a.Thinking))}
	if c.reasons {
		u.Reasoning += 8
	}
	u.Output = u.Reasoning + len(words(a.Text))
	for _, call := range a.Calls {
		u.Output += 1 + len(pieces(call.Arguments))
	}
	return &u
}

// words cuts text behind its blanks; the parts together are the text.
func words(text string) []string {
	if text == "" {
		return nil
	}
	return strings.SplitAfter(text, " ")
}

// pieces cuts arguments as a model streams them: anywhere, but between runes.
func pieces(arguments string) []string {
	const size = 7
	var all []string
	for piece := range slices.Chunk([]rune(arguments), size) {
		all = append(all, string(piece))
	}
	return all
}

// obj writes a JSON object with its members in the order given: name, value, name, value.
func obj(pairs ...any) jsontext.Value {
	out := []byte{'{'}
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, encode(pairs[i])...), ':'), encode(pairs[i+1])...)
	}
	return append(out, '}')
}

// encode writes any value.
func encode(v any) jsontext.Value {
	out, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("fakellm: " + err.Error()) // a value of ours that JSON cannot say
	}
	return out
}
