package answer

import (
	"bytes"
	"cmp"
	"mime"
	"strings"
)

// form is what the body of an answer is.
type form uint8

const (
	formUnknown form = iota
	formWhole        // one JSON value, a page, a text: it means something once it is whole
	formStream       // events
)

// content reads the beginning of an answer's body and says what it is: packed or not, one whole
// thing or a stream. The bytes decide, not the headers, because relays and frameworks label streams
// application/json, errors text/html, and what they have unpacked gzip. Only where the bytes say
// nothing do the headers count. How streams begin is known of server-sent events alone: of others
// the headers decide.
type content struct {
	encoding string // content-encoding
	labelled bool   // content-type calls it a stream
	other    bool   // its streams are no server-sent events
	form     form
	start    []byte    // bytes of which it is not known yet what they are the beginning of
	unpacked bool      // start is behind what unpacks it, and without a byte order mark
	unpack   *unpacker // nil: the body is not packed
	marked   bool      // it had a byte order mark, which was taken off
}

func newContent(contentType, encoding, streams string) content {
	media, _, _ := mime.ParseMediaType(contentType)
	streams = cmp.Or(streams, eventStream)
	return content{encoding: strings.ToLower(strings.TrimSpace(encoding)), labelled: media == streams, other: streams != eventStream}
}

const eventStream = "text/event-stream"

// push takes the next bytes of the body. take gets what they unpack to, from where the form is
// known on. Its error is returned.
func (c *content) push(chunk []byte, take func([]byte) error) error {
	if c.unpack != nil {
		return c.unpack.push(chunk, func(plain []byte) error { return c.plain(plain, take) })
	}
	if c.unpacked {
		return c.plain(chunk, take)
	}
	c.start = append(c.start, chunk...)
	if len(c.start) < len(gzipMagic) {
		return nil
	}
	return c.begin(take)
}

// begin decides whether the body is packed, by the bytes that have come.
func (c *content) begin(take func([]byte) error) error {
	packed, err := newUnpacker(c.encoding, c.start)
	if err != nil {
		return err
	}
	start := c.start
	c.start, c.unpacked, c.unpack = nil, true, packed
	return c.push(start, take)
}

// plain takes the next bytes of the body as it is unpacked.
func (c *content) plain(b []byte, take func([]byte) error) error {
	if c.form != formUnknown {
		return take(b)
	}
	c.start = append(c.start, b...)
	if c.other {
		return c.flush(take)
	}
	if c.form = formOf(c.start); c.form == formUnknown && len(c.start) <= maxHeld {
		return nil
	}
	return c.flush(take)
}

// flush hands on what was kept, once there is nothing more to wait for.
func (c *content) flush(take func([]byte) error) error {
	if c.form == formUnknown {
		c.form = formWhole
		if c.labelled {
			c.form = formStream
		}
	}
	start := bytes.TrimPrefix(c.start, byteOrderMark)
	c.marked = len(start) < len(c.start)
	c.start = nil
	if len(start) == 0 {
		return nil
	}
	return take(start)
}

// end takes the end of the body.
func (c *content) end(take func([]byte) error) error {
	if !c.unpacked && len(c.start) > 0 {
		if err := c.begin(take); err != nil {
			return err
		}
	}
	if c.unpack != nil {
		if err := c.unpack.end(func(plain []byte) error { return c.plain(plain, take) }); err != nil {
			return err
		}
	}
	return c.flush(take)
}

// untouched tells whether the client gets the body's bytes as they come, as far as is known.
func (c *content) untouched() bool {
	return c.unpack == nil && !c.marked && (c.encoding == "" || c.encoding == "identity")
}

// close lets go of what unpacks the body.
func (c *content) close() {
	if c.unpack != nil {
		c.unpack.close()
	}
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// fields begin the lines of a stream,
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
var fields = [][]byte{[]byte("data:"), []byte("event:"), []byte(":"), []byte("id:"), []byte("retry:")}

// formOf tells what begins so, formUnknown while that may be one or the other: blank lines keep
// connections open in front of both.
func formOf(start []byte) form {
	if len(start) < len(byteOrderMark) && bytes.HasPrefix(byteOrderMark, start) {
		return formUnknown
	}
	start = bytes.TrimPrefix(start, byteOrderMark)
	if len(bytes.TrimLeft(start, " \t\r\n")) == 0 {
		return formUnknown
	}
	line := bytes.TrimLeft(start, "\r\n")
	for _, field := range fields {
		switch {
		case bytes.HasPrefix(line, field):
			return formStream
		case bytes.HasPrefix(field, line):
			return formUnknown
		}
	}
	return formWhole
}
