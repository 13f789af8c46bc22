// Package sse reads server-sent events pushed to it in chunks cut anywhere, as the WHATWG HTML
// standard defines them (section 9.2.6): lines end in LF, CR or CRLF, also when CR and LF arrive
// apart; a leading BOM, comments and unknown fields are ignored. It adds each event's exact bytes,
// so that a relay can pass on what it did not have to change.
package sse

import (
	"bytes"
	"errors"
)

// ErrTooLarge says that one event, or the bytes before its end, exceeded the parser's bound.
var ErrTooLarge = errors.New("sse: event too large")

// Event is one dispatched event, or, with neither Name nor Data, a block of comments or an empty
// block.
type Event struct {
	Name []byte // the event field; nil when absent
	Data []byte // data lines joined with LF; nil when there was no data field
	Raw  []byte // every byte of the block, its closing blank line included
}

// Parser holds the unfinished tail of a stream. The zero value is not ready: set MaxBytes.
type Parser struct {
	// MaxBytes bounds one event's bytes, and with it the parser's memory.
	MaxBytes int

	buf     []byte // bytes of the unfinished event, from its first byte
	scanned int    // how much of buf is known to hold no end of block
	line    int    // where the line that scanned stands in begins
	opened  bool   // the first block has been parsed: a BOM can no longer come
	lateLF  bool   // the last block ended in a CR that was the last byte so far: a LF that follows belongs to it
}

// Push takes the next bytes and calls yield for every event they complete, in order. The event's
// slices are valid until yield returns. After an error the parser is useless.
//
// Together the Raws are the stream's bytes, whatever the cuts. A block that ends in CR is yielded
// at once; should the next chunk begin with its LF, that byte is yielded as an event of its own,
// without data.
func (p *Parser) Push(chunk []byte, yield func(Event)) error {
	if p.lateLF && len(chunk) > 0 {
		p.lateLF = false
		if chunk[0] == '\n' {
			yield(Event{Raw: chunk[:1]})
			chunk = chunk[1:]
		}
	}
	p.buf = append(p.buf, chunk...)
	start := 0
	for {
		end, ok := p.blockEnd()
		if !ok {
			break
		}
		yield(p.parse(p.buf[start:end]))
		start = end
		p.scanned, p.line = end, end
	}
	if start > 0 {
		n := copy(p.buf, p.buf[start:])
		p.buf = p.buf[:n]
		p.scanned -= start
		p.line -= start
	}
	if len(p.buf) > p.MaxBytes {
		return ErrTooLarge
	}
	return nil
}

// Close yields the last event when the stream ended without its blank line. Browsers drop such an
// event; providers send their last one so, and what it says counts here.
func (p *Parser) Close(yield func(Event)) {
	if len(p.buf) > 0 {
		yield(p.parse(p.buf))
		p.buf = nil
	}
}

// blockEnd finds the end of the first block in buf[line:]. It looks at each byte once, however the
// chunks fall.
func (p *Parser) blockEnd() (end int, ok bool) {
	for {
		i := bytes.IndexAny(p.buf[p.scanned:], "\r\n")
		if i < 0 {
			p.scanned = len(p.buf)
			return 0, false
		}
		i += p.scanned
		blank := i == p.line
		next := i + 1
		if p.buf[i] == '\r' {
			switch {
			case next < len(p.buf) && p.buf[next] == '\n':
				next++
			case next == len(p.buf) && blank:
				p.lateLF = true
			case next == len(p.buf):
				p.scanned = i // a LF may follow: look at this CR again
				return 0, false
			}
		}
		p.scanned, p.line = next, next
		if blank {
			return next, true
		}
	}
}

var bom = []byte("\xef\xbb\xbf")

func (p *Parser) parse(block []byte) Event {
	e := Event{Raw: block}
	if !p.opened {
		p.opened = true
		block = bytes.TrimPrefix(block, bom)
	}
	joined := false // e.Data is a copy of several lines and no longer a piece of block
	for len(block) > 0 {
		var line []byte
		if i := bytes.IndexAny(block, "\r\n"); i < 0 {
			line, block = block, nil
		} else {
			line, block = block[:i], bytes.TrimPrefix(block[i:], []byte("\r"))
			block = bytes.TrimPrefix(block, []byte("\n"))
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			e.Name = value
		case "data":
			switch {
			case e.Data == nil:
				e.Data = value
				if e.Data == nil {
					e.Data = []byte{}
				}
			case !joined:
				joined = true
				e.Data = bytes.Join([][]byte{e.Data, value}, []byte("\n"))
			default:
				e.Data = append(append(e.Data, '\n'), value...)
			}
		}
	}
	return e
}
