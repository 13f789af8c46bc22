package anthropic

import (
	"encoding/json"
	"testing"

	"millrace/extproc/llm"
	"millrace/internal/sse"

	sdk "github.com/anthropics/anthropic-sdk-go"
)

// TestCut: a stream that a policy ends is complete to its client, block by block, and to our own
// reader and the API's.
func TestCut(t *testing.T) {
	const (
		start = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}`
		end   = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	)
	ended := func(usage string) string {
		return `event: message_delta` + "\n" + `data: {"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null},"usage":` + usage + "}\n\n" + end
	}
	const known = `{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}`
	const none = `{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}`
	stopped := func(number string) string {
		return "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":" + number + "}\n\n"
	}
	for name, c := range map[string]struct {
		first string
		open  []int
		want  string
	}{
		"a block":               {start, []int{0}, stopped("0") + ended(known)},
		"several blocks":        {start, []int{4, 2}, stopped("2") + stopped("4") + ended(known)},
		"between blocks":        {start, nil, ended(known)},
		"usage is not known":    {`{"type":"message_start","message":{"id":"x"}}`, []int{0}, stopped("0") + ended(none)},
		"behind what is no one": {`{`, []int{0}, stopped("0") + ended(none)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(Messages{}.Cut([]byte("before"), []byte(c.first), c.open, llm.StopRefusal)); got != "before"+c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}

	block := "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{}}}\n\n" +
		"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\"}}\n\n"
	for name, stream := range map[string][]byte{
		"in a call":       Messages{}.Cut([]byte("data: "+start+"\n\n"+block), []byte(start), []int{0}, llm.StopRefusal),
		"before anything": Messages{}.Cut(nil, nil, nil, llm.StopRefusal),
	} {
		t.Run("read, "+name, func(t *testing.T) {
			d := answerReader{}.Stream()
			frames, err := d.Push(stream)
			if err != nil || !d.Complete() {
				t.Fatalf("complete: %t, %v, of %s", d.Complete(), err, stream)
			}
			var official sdk.Message
			parser := sse.Parser{MaxBytes: 1 << 20}
			err = parser.Push(stream, func(e sse.Event) {
				var event sdk.MessageStreamEventUnion
				if json.Unmarshal(e.Data, &event) != nil || official.Accumulate(event) != nil {
					t.Errorf("the API's own client does not take %s", e.Data)
				}
			})
			if err != nil || official.StopReason != "refusal" {
				t.Errorf("the API's own client reads %s (%v)", official.StopReason, err)
			}
			told := map[llm.EventKind]int{}
			for _, f := range frames {
				for _, e := range f.Events {
					told[e.Kind]++
					if e.Kind == llm.Finish && e.Stop != llm.StopRefusal {
						t.Errorf("stops with %s", e.Stop)
					}
				}
			}
			if told[llm.Start] != 1 || told[llm.Finish] != 1 || told[llm.End] != 1 || told[llm.Failure] != 0 || told[llm.ToolStart] != told[llm.ToolEnd] {
				t.Errorf("tells %v in %s", told, stream)
			}
		})
	}
}

// TestSay: what a policy adds to an answer is a delta of the block.
func TestSay(t *testing.T) {
	const want = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"text_delta\",\"text\":\"\\\"b\\\"\"}}\n\n"
	if got := string(Messages{}.Say(nil, nil, 3, `"b"`)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
