package limits

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/strictjson"
	"millrace/schema"
)

// Clamp returns a conversation's body in which the model may write no more than most tokens, and
// whether it differs from the client's. A limit that is larger, or is no whole number, or one that
// a host may take for no limit (-1, 0) becomes most; where there is none, one is added. No other
// byte changes. A schema without such a member keeps its body.
//
// It bounds each answer: a client that asks for several (n) gets as many times that. A budget for
// thinking that is above most stays: the provider refuses such a request, or the codec fits it.
func Clamp(s *schema.Schema, body []byte, members []strictjson.Member, most int64) ([]byte, bool) {
	if len(s.Output.Limits) == 0 {
		return body, false
	}
	p, bounded, changed := strictjson.NewPatch(body, members), false, false
	value := strconv.AppendInt(nil, most, 10)
	for _, name := range s.Output.Limits {
		was := jsontext.Value(p.Get(name))
		if len(was) == 0 || was.Kind() == jsontext.KindNull { // null: as if it were not there
			continue
		}
		bounded = true
		if !within(was, most, s.Output.Zero) {
			p.Set(name, value)
			changed = true
		}
	}
	if !bounded {
		p.Set(s.Output.Limits[0], value)
		changed = true
	}
	return p.Bytes(), changed
}

func within(value jsontext.Value, most int64, zero bool) bool {
	n, err := strconv.ParseInt(string(value), 10, 64) // 1e3 and 1.0 are no whole numbers to every host
	return err == nil && n <= most && (n > 0 || n == 0 && zero)
}
