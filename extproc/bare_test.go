package extproc

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/config"
	"millrace/extproc/llm"
	"millrace/extproc/provider"
	"millrace/schema"
)

// TestUsageTold: what Envoy finds in a stream is read by the rules of its schema; what is no usage
// is none.
func TestUsageTold(t *testing.T) {
	for name, c := range map[string]struct {
		schema schema.Name
		found  map[string]string
		want   *llm.Usage
	}{
		"OpenAI": {
			schema.OpenAIChat, map[string]string{"usage": `{"prompt_tokens": 7, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}}`},
			&llm.Usage{Input: 7, Output: 9, CacheRead: 2},
		},
		"Anthropic": {
			schema.AnthropicMessages, map[string]string{
				"message.usage": `{"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1}`, "usage": `{"output_tokens": 12}`,
			},
			&llm.Usage{Input: 8, Output: 12, CacheRead: 3},
		},
		"Anthropic, left early": {
			schema.AnthropicMessages, map[string]string{"message.usage": `{"input_tokens": 5, "output_tokens": 1}`},
			&llm.Usage{Input: 5, Output: 1},
		},
		"nothing":             {schema.OpenAIChat, nil, nil},
		"an empty word":       {schema.OpenAIChat, map[string]string{"usage": ""}, nil},
		"no JSON":             {schema.OpenAIChat, map[string]string{"usage": `{"prompt_tokens`}, nil},
		"another end of line": {schema.OpenAIChat, map[string]string{"usage": "{}\n\ndata: [DONE]\n\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			codec, _ := provider.Of(c.schema)
			found := map[string]*structpb.Value{}
			for key, value := range c.found {
				found[key] = structpb.NewStringValue(value)
			}
			if got := (&target{config: &config.Target{}}).usageTold(found); got != nil {
				t.Errorf("a target that asks nobody has used %v", got)
			}
			got := (&target{config: &config.Target{}, codec: codec}).usageTold(found)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
