package openai

import (
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
)

// envelope is what all chunks of an answer repeat. Provider is OpenRouter's. Usage is null in them
// where the client has asked for it.
type envelope struct {
	ID                wirejson.Text  `json:"id"`
	Object            string         `json:"object"`
	Created           wirejson.Count `json:"created"`
	Model             wirejson.Text  `json:"model"`
	SystemFingerprint jsontext.Value `json:"system_fingerprint,omitzero"`
	ServiceTier       jsontext.Value `json:"service_tier,omitzero"`
	Provider          jsontext.Value `json:"provider,omitzero"`
	Usage             jsontext.Value `json:"usage,omitzero"`
}

// Cut implements llm.ClientCodec: a chunk for each open choice, with its finish_reason. How much
// was used nobody knows, so no chunk says it.
func (Chat) Cut(dst, first []byte, open []int, stop llm.Stop) []byte {
	e := streamEncoder{suffix: "}\n\n"}
	if len(first) > 0 {
		e.prefix = repeated(first)
	} else {
		dst, _ = e.open(dst, 0)
		open = []int{0}
	}
	for _, number := range slices.Sorted(slices.Values(open)) {
		dst = e.beginDelta(dst, number)
		dst = append(dst, `{},"logprobs":null,"finish_reason":"`...)
		dst = append(dst, finishWord(stop, false, false)...)
		dst = append(append(dst, `"}]`...), e.suffix...)
	}
	return append(dst, streamEnd...)
}

// Say implements llm.ClientCodec.
func (Chat) Say(dst, before []byte, number int, text string) []byte {
	e := streamEncoder{prefix: repeated(before), suffix: "}\n\n"}
	return e.text(dst, number, `{"content":`, text)
}

// repeated is the beginning of every chunk of the answer that first is a chunk of, up to the value
// of choices.
func repeated(first []byte) []byte {
	var e envelope
	_ = json.Unmarshal(first, &e, wirejson.Lenient) // what is no chunk repeats nothing
	e.ID, e.Object = wirejson.Text(answerID(string(e.ID))), "chat.completion.chunk"
	e.Created = wirejson.Count(createdAt(int64(e.Created)))
	if e.Usage.Kind() != jsontext.KindNull {
		e.Usage = nil
	}
	object, err := json.Marshal(&e, wirejson.Writing)
	if err != nil { // strings, numbers and JSON that was read: cannot be
		object = []byte(`{"object":"chat.completion.chunk"}`)
	}
	prefix := append([]byte("data: "), object[:len(object)-1]...)
	return append(prefix, `,"choices":`...)
}
