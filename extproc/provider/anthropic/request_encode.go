package anthropic

import (
	stdjson "encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"millrace/extproc/llm"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxUserID bounds metadata.user_id, in characters.
	// https://docs.anthropic.com/en/api/messages#body-metadata
	maxUserID = 256
	// maxCacheMarkers is how many cache_control breakpoints one request may set.
	// https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
	maxCacheMarkers = 4
	// jsonOnly stands for OpenAI's json_object format, which the API has no member for.
	jsonOnly = "Respond with a single valid JSON object and nothing else: no text around it and no code fence."
)

// requestJSON writes numbers and escapes inside schemas and arguments as they came.
var requestJSON = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.PreserveRawStrings(true))

// EncodeRequest writes a request that came in another schema. The documented, harmless changes that
// Dropped does not name: system messages of mid-conversation move to the end of system, in order;
// consecutive turns of one role become one; blank text disappears; a missing token limit is filled
// in; a user id that is too long becomes a hash of it.
func (Messages) EncodeRequest(r *llm.Request, o llm.Options) (llm.Call, error) {
	e := requestEncoder{in: r, options: o, model: traitsOf(o.Model), out: &request[content, tool]{
		Model: o.Model, Stream: r.Stream,
	}}
	for _, write := range []func() *llm.Error{
		e.refuse, e.limits, e.tools, e.format, e.system, e.messages, e.toolChoice, e.reasoning, e.sampling, e.rest,
	} {
		if err := write(); err != nil {
			return llm.Call{}, err
		}
	}
	body, err := json.Marshal(e.out, requestJSON)
	if err != nil {
		return llm.Call{}, llm.Errorf(llm.ErrInternal, "request cannot be written: %v", err)
	}
	return llm.Call{Body: body, Path: row.Conversation(), Headers: callHeaders(o), Dropped: e.dropped.List(), Answer: e.renamed.Undo(answerReader{})}, nil
}

type requestEncoder struct {
	in      *llm.Request
	options llm.Options
	model   traits
	out     *request[content, tool]
	dropped llm.Names
	markers int // cache_control breakpoints written so far
	turns   turns
	renamed llm.Renames // tools: the name here, the client's
	hints   content     // what the system says of the answer's format
	room    int64       // how much longer than asked for the answer may be made, for thinking
}

// toolNames: "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'".
// https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use
var toolNames = llm.NameRule{Max: 128, Legal: llm.WordByte}

// toolName is what a tool is called here.
func (e *requestEncoder) toolName(name string) string { return e.renamed.Fit(toolNames, name) }

// drop notes that a member of the client's request is not, or not wholly, in the call.
func (e *requestEncoder) drop(name string) { e.dropped.Add(name) }

// cache passes a cache marker on while there is room for one. Tools, system and messages ask in the
// order in which the prompt is cached, so that the longest-lived prefixes keep theirs.
func (e *requestEncoder) cache(marker stdjson.RawMessage) jsontext.Value {
	if marker == nil {
		return nil
	}
	if e.markers == maxCacheMarkers {
		e.drop("cache_control")
		return nil
	}
	e.markers++
	return jsontext.Value(marker)
}

// unsayable are the members whose loss would change what the client gets; every other one may be
// left out.
var unsayable = map[string]string{
	"prediction":         "predicted outputs are not available from this model's provider",
	"audio":              "audio answers are not available from this model's provider",
	"web_search_options": "built-in web search is not available through this schema",
}

func (e *requestEncoder) refuse() *llm.Error {
	for _, x := range e.in.Extra {
		if why, ok := unsayable[x.Name]; ok {
			return llm.Invalid(x.Name, "%s", why)
		}
	}
	switch {
	case e.in.N > 1:
		return llm.Invalid("n", "this model's provider gives one answer per request")
	case e.in.Logprobs:
		return llm.Invalid("logprobs", "this model's provider gives no log probabilities")
	case e.in.TopLogprobs != nil && *e.in.TopLogprobs > 0:
		return llm.Invalid("top_logprobs", "this model's provider gives no log probabilities")
	}
	return nil
}

// limits writes max_tokens, which the API requires: what the client wants, or else the target's own
// default, or else what a turn of an agent takes; and never more than the target or the model
// gives.
func (e *requestEncoder) limits() *llm.Error {
	var limit int64
	switch {
	case e.in.MaxTokens != nil:
		limit = *e.in.MaxTokens
		if limit < 1 {
			return llm.Invalid(e.in.Spell(llm.MemberMaxTokens), "must be at least 1")
		}
	case e.options.MaxTokens > 0:
		limit = e.options.MaxTokens
	default:
		limit = e.model.turn
	}
	most := maxOutput(e.model, e.options)
	if limit > most && e.in.MaxTokens != nil {
		e.drop(e.in.Spell(llm.MemberMaxTokens))
	}
	limit = min(limit, most)
	e.room = most - limit
	e.out.MaxTokens = &limit
	for _, s := range e.in.Stop {
		if strings.TrimSpace(s) == "" { // the API refuses sequences of white space only
			e.drop(e.in.Spell(llm.MemberStop))
			continue
		}
		e.out.StopSequences = append(e.out.StopSequences, s)
	}
	return nil
}

// maxOutput is the most that the target is asked for.
func maxOutput(model traits, o llm.Options) int64 {
	most := int64(math.MaxInt64)
	for _, bound := range []int64{model.output, o.MaxOutput} {
		if bound > 0 {
			most = min(most, bound)
		}
	}
	return most
}

// sampling writes temperature, top_p and top_k as far as the version, the model and thinking let
// them.
func (e *requestEncoder) sampling() *llm.Error {
	r := e.in
	if !takesSampling(targetVersion(e.options)) || !e.model.sampling {
		e.dropNumbers(map[string]stdjson.Number{"temperature": r.Temperature, "top_p": r.TopP, "top_k": r.TopK})
		return nil
	}
	temperature, topP, topK := r.Temperature, r.TopP, r.TopK
	if number(temperature) > 1 {
		temperature = "1"
		e.drop("temperature")
	}
	if e.thinks() {
		// https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking#feature-compatibility
		if temperature != "" && number(temperature) != 1 {
			temperature = ""
			e.drop("temperature")
		}
		if topP != "" && number(topP) < 0.95 {
			topP = ""
			e.drop("top_p")
		}
		e.dropNumbers(map[string]stdjson.Number{"top_k": topK})
		topK = ""
	}
	if e.model.oneSampler && temperature != "" && topP != "" {
		switch {
		case number(topP) == 1: // the default: nothing is lost
			topP = ""
		case number(temperature) == 1:
			temperature = ""
		default:
			topP = ""
			e.drop("top_p")
		}
	}
	e.out.Temperature, e.out.TopP, e.out.TopK = raw(temperature), raw(topP), raw(topK)
	return nil
}

// raw is a number's text as it is, nil for none.
func raw(text stdjson.Number) jsontext.Value {
	if text == "" {
		return nil
	}
	return jsontext.Value(text)
}

// number is the value of a number's text, 0 for none.
func number(text stdjson.Number) float64 {
	f, _ := strconv.ParseFloat(string(text), 64)
	return f
}

// dropNumbers drops those that were given, in the order of their names.
func (e *requestEncoder) dropNumbers(numbers map[string]stdjson.Number) {
	for _, name := range []string{"temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed"} {
		if numbers[name] != "" {
			e.drop(name)
		}
	}
}

// rest writes the user and the service tier and drops what is left.
func (e *requestEncoder) rest() *llm.Error {
	r := e.in
	switch {
	case r.User == "":
	case utf8.RuneCountInString(r.User) > maxUserID: // equal ids stay equal
		e.out.Metadata = &metadata{UserID: llm.Digest(r.User)}
	default:
		e.out.Metadata = &metadata{UserID: r.User}
	}
	switch r.ServiceTier { // https://docs.anthropic.com/en/api/service-tiers
	case "":
	case "auto", "standard_only":
		e.out.ServiceTier = r.ServiceTier
	case "default":
		e.out.ServiceTier = "standard_only"
	default:
		e.drop("service_tier")
	}
	e.dropNumbers(map[string]stdjson.Number{
		"frequency_penalty": r.FrequencyPenalty, "presence_penalty": r.PresencePenalty, "seed": r.Seed,
	})
	for _, x := range r.Extra { // no other schema is of the family
		e.drop(x.Name)
	}
	return nil
}
