package answer_test

import (
	"bytes"

	"millrace/extproc/answer"
	"millrace/extproc/llm"
)

// guard polices by words: an answer with "bad" is blocked, one with "broken" cannot be policed, one
// with "once" is to be asked for again, and what comes from "keep" on is kept until "go".
type guard struct {
	client     llm.ClientCodec
	kept       []byte
	meaningful bool
	again      bool
}

var _ answer.Police = (*guard)(nil)

func (g *guard) judge(said []byte) *llm.Error {
	g.again = bytes.Contains(said, []byte("once"))
	switch {
	case bytes.Contains(said, []byte("bad")), g.again:
		return llm.Errorf(llm.ErrConflict, "policy \"guard\": bad")
	case bytes.Contains(said, []byte("broken")):
		return llm.Errorf(llm.ErrUnavailable, "the policy \"guard\" cannot be carried out")
	}
	return nil
}

func (g *guard) Whole(body []byte) ([]byte, *llm.Error) {
	return bytes.ReplaceAll(body, []byte("hello"), []byte("[hello]")), g.judge(body)
}

func (g *guard) Stream(dst, events []byte, meaningful bool) ([]byte, bool, *llm.Error) {
	g.kept, g.meaningful = append(g.kept, events...), g.meaningful || meaningful
	if e := g.judge(g.kept); e != nil {
		return dst, false, e
	}
	if bytes.Contains(g.kept, []byte("keep")) && !bytes.Contains(g.kept, []byte("go")) {
		return dst, false, nil
	}
	return g.End(dst)
}

func (g *guard) End(dst []byte) ([]byte, bool, *llm.Error) {
	passed := g.meaningful
	dst = append(dst, g.kept...)
	g.kept, g.meaningful = nil, false
	return dst, passed, nil
}

func (g *guard) Cut(dst []byte) []byte { return append(dst, "data: cut\n\n"...) }

func (g *guard) Again() bool { return g.again }

func (g *guard) Close() {}

func (g *guard) Kept() int { return len(g.kept) }
