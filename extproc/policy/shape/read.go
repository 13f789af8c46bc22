package shape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// reader makes the values that the validator wants of strict JSON: numbers as they are written, and
// no name twice, for whoever reads the text later may take either.
type reader struct {
	from *jsontext.Decoder
	left int // values
}

func read(text []byte, most int) (any, error) {
	r := reader{from: jsontext.NewDecoder(bytes.NewBuffer(text)), left: most}
	value, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.from.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one value")
	}
	return value, nil
}

func (r *reader) value(depth int) (any, error) {
	if r.left--; r.left < 0 {
		return nil, errors.New("it has too many values")
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("it has more than %d levels of lists and objects", maxDepth)
	}
	token, err := r.from.ReadToken()
	if err != nil {
		return nil, r.wrong(err)
	}
	switch token.Kind() {
	case jsontext.KindNull:
		return nil, nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return number(token.String())
	case jsontext.KindBeginArray:
		list := []any{}
		for r.from.PeekKind() != jsontext.KindEndArray {
			item, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, r.end()
	default: // an object: the decoder lets nothing else begin a value
		object := map[string]any{}
		for r.from.PeekKind() != jsontext.KindEndObject {
			name, err := r.from.ReadToken()
			if err != nil {
				return nil, r.wrong(err)
			}
			key := name.String()
			if object[key], err = r.value(depth + 1); err != nil {
				return nil, err
			}
		}
		return object, r.end()
	}
}

func (r *reader) end() error {
	if _, err := r.from.ReadToken(); err != nil {
		return r.wrong(err)
	}
	return nil
}

// wrong says where the text is wrong, and nothing of what is there.
func (r *reader) wrong(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case !errors.As(err, &syntax):
		return errors.New("it cannot be read")
	case errors.Is(syntax, jsontext.ErrDuplicateName):
		return fmt.Errorf("an object has a name twice, at byte %d", syntax.ByteOffset)
	case errors.Is(syntax, io.ErrUnexpectedEOF):
		return errors.New("it ends in the middle of a value")
	}
	return fmt.Errorf("at byte %d", syntax.ByteOffset)
}

func number(text string) (any, error) {
	digits, exponent := text, "0"
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		digits, exponent = text[:i], text[i+1:]
	}
	n, err := strconv.Atoi(exponent)
	if err != nil || len(digits) > maxDigits || n > maxDigits || n < -maxDigits {
		return nil, errors.New("a number is too long or has too large an exponent")
	}
	return json.Number(text), nil
}
