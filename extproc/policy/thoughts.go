package policy

import "millrace/extproc/texts"

// thoughts are the choices or blocks of a stream with a thought that was changed, as far as the
// client has them. The provider's signature, which comes last, is not that thought's any more. The
// value tells that it has come.
type thoughts map[int]bool

// follow takes the next event that is let out.
func (t *thoughts) follow(f *frame) {
	from := 0
	for _, s := range f.event.Signatures {
		t.hear(f, from, s.After)
		from = s.After
		if _, changed := (*t)[s.Choice]; changed {
			f.invalid = append(f.invalid, s)
			(*t)[s.Choice] = true
		}
	}
	t.hear(f, from, len(f.event.Texts))
	for _, n := range f.event.Closes {
		delete(*t, n)
	}
}

// hear takes some of the event's texts. A thought that follows a signature is another one.
func (t *thoughts) hear(f *frame, from, to int) {
	for i := from; i < to; i++ {
		text := &f.event.Texts[i]
		if text.Kind != texts.Thought {
			continue
		}
		n := text.Channel.Choice
		if (*t)[n] {
			delete(*t, n)
		}
		if f.text(i) != text.Text {
			if *t == nil {
				*t = thoughts{}
			}
			(*t)[n] = false
		}
	}
}
