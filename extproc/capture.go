package extproc

import (
	"strings"
	"unicode/utf8"

	"millrace/config"
	"millrace/extproc/answer"
	"millrace/extproc/texts"
	"millrace/internal/sse"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/schema"
)

// maxCaptured bounds what an event has of a request, and of its answer.
const maxCaptured = 64 << 10

// capture collects the texts of an answer as the client gets it, so that nothing is in it that
// policies have taken out. The zero value collects nothing.
type capture struct {
	schema *schema.Schema // the client's
	events sse.Parser
	text   strings.Builder
	last   texts.Channel
	cut    bool
}

func newCapture(client *schema.Schema) capture {
	return capture{schema: client, events: sse.Parser{MaxBytes: 1 << 20}}
}

// take looks at what an event of the answer has brought the client.
func (c *capture) take(o answer.Out) {
	switch {
	case c.schema == nil || c.cut || len(o.Body) == 0:
	case o.Commit != nil && o.Commit.Status >= 300: // an error
	case o.Commit != nil && o.Commit.Length >= 0:
		found, err := texts.Answer(c.schema, o.Body)
		c.add(found)
		c.cut = c.cut || err != nil
	default:
		err := c.events.Push(o.Body, func(e sse.Event) {
			if found, err := texts.Event(c.schema, e.Data); err == nil {
				c.add(found.Texts)
			}
		})
		c.cut = c.cut || err != nil
	}
}

// add keeps what was said. A text of another channel begins on a new line.
func (c *capture) add(found []texts.Text) {
	for _, t := range found {
		if t.Kind != texts.Said && t.Kind != texts.Refusal && t.Kind != texts.Call {
			continue
		}
		if c.text.Len() > 0 && t.Channel != c.last {
			c.text.WriteByte('\n')
		}
		c.last = t.Channel
		said, cut := beginning(t.Text, maxCaptured-c.text.Len())
		c.text.WriteString(said)
		if cut {
			c.cut = true
			return
		}
	}
}

// beginning is at most so many bytes of the text, and whether that is not all of it.
func beginning(text string, most int) (string, bool) {
	if len(text) <= most {
		return text, false
	}
	most = max(most, 0)
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most], true
}

// captured is what the event has of what was said, nil where the service has no capture, or nothing
// was sent to a target: then policies may not have looked at it. mu is held.
func (x *exchange) captured() *millracev1.Capture {
	if x.took == nil || x.took.capture == "" {
		return nil
	}
	c := &millracev1.Capture{}
	body := x.body
	if x.took.capture == config.CaptureFull {
		body = x.sent
	}
	c.Request, c.RequestTruncated = beginning(string(body[:min(len(body), maxCaptured+utf8.UTFMax)]), maxCaptured)
	for _, a := range x.attempts {
		if a.Attempt == x.answered {
			c.Answer, c.AnswerTruncated = a.text, a.cut
		}
	}
	return c
}

// keep keeps what an attempt's answer has said to the client. mu is held.
func (x *exchange) keep(record *millracev1.Attempt, c *capture) {
	if c.schema == nil {
		return
	}
	for i := range x.attempts {
		if x.attempts[i].Attempt == record {
			x.attempts[i].text, x.attempts[i].cut = c.text.String(), c.cut
		}
	}
}
