package answer

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"iter"
)

// unpacker decompresses a body that is pushed to it in chunks cut anywhere. Go's decompressors
// pull, so the one at work is a coroutine: it runs inside push, and stops where it lacks bytes.
// What it holds is its window and one piece of output.
type unpacker struct {
	in    []byte
	ended bool // no more than in comes
	next  func() ([]byte, bool)
	stop  func()
	err   error // why it ended; nil after the last byte of a whole body
}

var gzipMagic = []byte{0x1f, 0x8b}

// errPacked begins every error about a body that cannot be unpacked.
var errPacked = errors.New("cannot be unpacked")

// newUnpacker returns what unpacks a body of this encoding that begins so, nil where nothing has
// to. gzip is known by its first bytes, called so or not; a body that has none of them is what it
// looks like, whatever the header says. What this gateway does not know, and has not asked for, is
// an error.
func newUnpacker(encoding string, start []byte) (*unpacker, error) {
	switch {
	case bytes.HasPrefix(start, gzipMagic):
		return unpacking(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }), nil
	case encoding == "deflate" && len(start) > 1 && start[0]&0x0f == 8 && (int(start[0])<<8|int(start[1]))%31 == 0: // RFC 1950, section 2.2
		return unpacking(func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }), nil
	case encoding == "", encoding == "identity", encoding == "gzip", encoding == "x-gzip", encoding == "deflate":
		return nil, nil
	}
	return nil, fmt.Errorf("%w: it is in %s, which was not asked for", errPacked, encoding)
}

// pieceBytes is how much is unpacked at a time.
const pieceBytes = 32 << 10

func unpacking(open func(io.Reader) (io.Reader, error)) *unpacker {
	u := &unpacker{}
	u.next, u.stop = iter.Pull(func(yield func([]byte) bool) {
		r, err := open(&pushed{u, yield})
		if err != nil {
			u.err = err
			return
		}
		piece := make([]byte, pieceBytes)
		for {
			n, err := r.Read(piece)
			if n > 0 && !yield(piece[:n]) {
				return
			}
			if err != nil {
				u.err = err
				return
			}
		}
	})
	return u
}

// push takes the next bytes; take gets what they unpack to, piece by piece, each valid until it
// returns.
func (u *unpacker) push(chunk []byte, take func([]byte) error) error {
	u.in = chunk
	for {
		piece, more := u.next()
		switch {
		case !more && (u.err == nil || errors.Is(u.err, io.EOF)):
			return nil
		case !more:
			return fmt.Errorf("%w: %w", errPacked, u.err)
		case piece == nil: // it lacks bytes
			return nil
		}
		if err := take(piece); err != nil {
			return err
		}
	}
}

// end takes the end of the body, which must be where the packed body ends.
func (u *unpacker) end(take func([]byte) error) error {
	u.ended = true
	return u.push(nil, take)
}

func (u *unpacker) close() { u.stop() }

// pushed reads what was pushed. It is an io.ByteReader, so that nothing is read ahead: what has
// come must come out.
type pushed struct {
	*unpacker
	yield func([]byte) bool
}

// wait returns once there are bytes, or with the reason why there will be none.
func (p *pushed) wait() error {
	for len(p.in) == 0 {
		if p.ended {
			return io.EOF
		}
		if !p.yield(nil) {
			return io.ErrClosedPipe
		}
	}
	return nil
}

func (p *pushed) Read(b []byte) (int, error) {
	if err := p.wait(); err != nil {
		return 0, err
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *pushed) ReadByte() (byte, error) {
	if err := p.wait(); err != nil {
		return 0, err
	}
	c := p.in[0]
	p.in = p.in[1:]
	return c, nil
}
