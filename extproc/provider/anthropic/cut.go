package anthropic

import (
	"slices"

	"millrace/extproc/llm"

	"github.com/go-json-experiment/json/jsontext"
)

// Cut implements llm.ClientCodec. The API's clients want usage with a stop_reason: it is what
// message_start has said of the answer.
func (Messages) Cut(dst, first []byte, open []int, stop llm.Stop) []byte {
	e := streamEncoder{stop: stop, started: len(first) > 0}
	dst = e.start(dst)
	for _, number := range slices.Sorted(slices.Values(open)) {
		e.index = int64(number)
		dst = append(e.head(dst, "content_block_stop"), "}\n\n"...)
	}
	dst = append(dst, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\""...)
	dst = append(append(dst, stopReason(stop, false, false)...), `","stop_sequence":null},"usage":`...)
	dst = appendUsage(dst, begun(first))
	return append(append(dst, "}\n\n"...), streamEnd...)
}

// Say implements llm.ClientCodec.
func (Messages) Say(dst, _ []byte, number int, text string) []byte {
	e := streamEncoder{index: int64(number)}
	return appendDelta(e.head(dst, "content_block_delta"), deltaOpening[textKind], text)
}

// begun is the usage of a message_start.
func begun(data []byte) llm.Usage {
	var message jsontext.Value
	var c counts
	var r objectReader
	_ = r.read(data, func(name, value jsontext.Value) {
		if string(name) == `"message"` {
			message = value
		}
	})
	_ = r.read(message, func(name, value jsontext.Value) {
		if string(name) == `"usage"` {
			c.merge(value)
		}
	})
	return c.usage()
}
