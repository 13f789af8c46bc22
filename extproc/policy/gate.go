package policy

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"millrace/extproc/llm"
	"millrace/extproc/policy/match"
	"millrace/extproc/texts"
	"millrace/internal/sse"
)

// gate is where a stream's events wait until their texts are decided, in their order. A text is
// looked at through a window that goes over the events of its channel: what is left of it may still
// become a match. When a piece of text is decided, it is changed in the event that brought it, and
// nothing else of that event is.
type gate struct {
	output   *Answer
	sse      sse.Parser
	kept     []*frame // in order
	size     int      // of what is kept, in bytes
	windows  []*window
	frames   frames
	passes   bool // everything passes: the policies have failed, and the answer goes on without them
	complete bool
	longest  time.Duration // that an event was kept
	collect  bool          // everything is kept to the end of the stream, for policies that are asked then
	listens  bool          // some are asked then, and nothing depends on what they say
	spoken   []*channel
	changed  thoughts
}

// frame is an event of the client's stream.
type frame struct {
	raw, data  []byte
	came       time.Time
	event      texts.InEvent
	meaningful bool
	undecided  int            // of its texts
	edits      map[int]string // by text
	invalid    []texts.Signature
}

// text is one of the frame's, as it is now.
func (f *frame) text(i int) string {
	if with, changed := f.edits[i]; changed {
		return with
	}
	return f.event.Texts[i].Text
}

func (f *frame) edit(i int, with string) {
	if f.edits == nil {
		f.edits = map[int]string{}
	}
	f.edits[i] = with
}

// bytes are the event's, with what was changed.
func (f *frame) bytes() []byte {
	if len(f.edits) == 0 && len(f.invalid) == 0 {
		return f.raw
	}
	data := texts.Replace(f.data, f.event.Texts, f.edits, f.invalid...)
	if at := bytes.Index(f.raw, f.data); at >= 0 {
		return slices.Concat(f.raw[:at], data, f.raw[at+len(f.data):])
	}
	return slices.Concat([]byte("data: "), bytes.ReplaceAll(data, []byte("\n"), []byte("\ndata: ")), []byte("\n\n")) // it came in several lines
}

// maxWindows bounds what a target can have a stream keep open: choices and tool calls side by side.
const maxWindows = 1024

// channel is the texts that joined are one, in the frames that have them.
type channel struct {
	texts.Text
	parts []place // where everything is kept
	heard []byte  // where policies watch: as it came
}

// maxHeard is how many bytes of a text policies that watch are shown.
const maxHeard = 1 << 20

// place is a text of a frame.
type place struct {
	frame *frame
	text  int
}

// window is what is not decided yet of one channel.
type window struct {
	channel texts.Channel
	of      texts.Text // the last of its texts: who speaks, and what it is
	stream  *match.Stream
	text    string
	parts   []part
}

// part is the rest of a frame's text that is in a window.
type part struct {
	place
	rest    int    // bytes that are not decided
	built   []byte // of those that are
	changed bool
}

// Stream implements answer.Police.
func (o *Answer) Stream(dst, events []byte, meaningful bool) ([]byte, bool, *llm.Error) {
	return o.step(dst, func() error { return o.gate.push(events, meaningful) })
}

// End implements answer.Police.
func (o *Answer) End(dst []byte) ([]byte, bool, *llm.Error) {
	dst, _, e := o.step(dst, o.gate.end)
	if e == nil {
		dst = o.gate.frames.end(dst)
	}
	o.finish()
	return dst, o.gate.frames.passed, e
}

// Kept implements answer.Police.
func (o *Answer) Kept() int { return o.gate.size + o.gate.frames.size }

// step runs one step of the gate. Should it fail, so have all policies that look at texts.
func (o *Answer) step(dst []byte, step func() error) ([]byte, bool, *llm.Error) {
	g := &o.gate
	e := o.timed(func() *llm.Error {
		if o.failed != nil {
			return o.failed
		}
		began := time.Now()
		err := recovered(step)
		if err == nil && !g.passes && time.Since(began) > o.session.left() {
			err = o.session.late()
		}
		if err != nil {
			return o.fail(err)
		}
		return o.failed
	})
	if e != nil {
		o.failed = e
		o.finish()
		return dst, false, e
	}
	return g.release(dst)
}

// fail is for a stream whose texts cannot be looked at: it goes on where no policy insists.
func (o *Answer) fail(err error) *llm.Error {
	for _, t := range o.tallies {
		if t == nil {
			continue
		}
		if e := o.session.judge(o.ctx, Output, t, err); e != nil {
			return e
		}
	}
	o.gate.passes = true
	for _, f := range o.gate.kept {
		f.undecided = 0
	}
	return nil
}

// push takes events.
func (g *gate) push(events []byte, meaningful bool) error {
	var frames []*frame
	g.sse.MaxBytes = max(g.sse.MaxBytes, len(events))
	err := g.sse.Push(events, func(e sse.Event) { frames = append(frames, g.keep(e)) })
	if len(frames) > 0 {
		frames[len(frames)-1].meaningful = meaningful
	}
	for _, f := range frames {
		if e := g.read(f); err == nil {
			err = e
		}
	}
	return err
}

// keep takes one event.
func (g *gate) keep(e sse.Event) *frame {
	f := &frame{raw: bytes.Clone(e.Raw), data: bytes.Clone(e.Data), came: time.Now()}
	g.kept = append(g.kept, f)
	g.size += len(f.raw)
	return f
}

// read looks at what an event says.
func (g *gate) read(f *frame) error {
	if len(f.data) == 0 {
		return nil
	}
	event, err := texts.Event(g.output.session.schema, f.data)
	f.event = event
	switch {
	case g.passes: // what was changed before still has its consequences
		return nil
	case err != nil:
		return err
	}
	from := 0
	for _, s := range event.Signatures { // it ends a thought
		if err := g.lookAt(f, from, s.After); err != nil {
			return err
		}
		if err := g.closeAll(func(c texts.Channel) bool { return c.Kind == texts.Thought && c.Choice == s.Choice }); err != nil {
			return err
		}
		from = s.After
	}
	if err := g.lookAt(f, from, len(event.Texts)); err != nil {
		return err
	}
	return g.closeAll(func(c texts.Channel) bool { return event.Last || slices.Contains(event.Closes, c.Choice) })
}

// closeAll closes the windows of some channels.
func (g *gate) closeAll(which func(texts.Channel) bool) error {
	for i := 0; i < len(g.windows); {
		w := g.windows[i]
		if !which(w.channel) {
			i++
			continue
		}
		g.windows = slices.Delete(g.windows, i, i+1)
		if err := g.close(w); err != nil {
			return err
		}
	}
	return nil
}

// lookAt looks at some of the event's texts.
func (g *gate) lookAt(f *frame, from, to int) error {
	for i := from; i < to; i++ {
		if err := g.look(f, i); err != nil {
			return err
		}
	}
	return nil
}

// look puts a text into the window of its channel.
func (g *gate) look(f *frame, i int) error {
	t := &f.event.Texts[i]
	if t.Text == "" {
		return nil
	}
	if g.collect || g.listens {
		c := g.channel(t)
		if g.collect {
			c.parts = append(c.parts, place{f, i})
		}
		if g.listens {
			c.heard = append(c.heard, t.Text[:min(len(t.Text), maxHeard-len(c.heard))]...)
		}
	}
	side := &g.output.session.chain.output.acts
	if side.set == nil {
		return nil
	}
	w, err := g.window(t)
	if err != nil {
		return err
	}
	f.undecided++
	w.text += t.Text
	w.parts = append(w.parts, part{place: place{f, i}, rest: len(t.Text)})
	step, err := w.stream.Push(t.Text)
	if err != nil {
		return err
	}
	return g.settle(w, step)
}

func (g *gate) channel(t *texts.Text) *channel {
	for _, c := range g.spoken {
		if c.Channel == t.Channel {
			return c
		}
	}
	g.spoken = append(g.spoken, &channel{Text: *t})
	return g.spoken[len(g.spoken)-1]
}

// spokenTexts are the texts of the stream, as policies have left them so far.
func (g *gate) spokenTexts() []texts.Text {
	var all []texts.Text
	for _, c := range g.spoken {
		t := c.Text
		t.Text = ""
		for _, p := range c.parts {
			t.Text += p.frame.text(p.text)
		}
		all = append(all, t)
	}
	return all
}

// heard are the texts of the stream as they came.
func (g *gate) heard() []texts.Text {
	var all []texts.Text
	for _, c := range g.spoken {
		t := c.Text
		t.Text = string(c.heard)
		all = append(all, t)
	}
	return all
}

// respeak puts other words in the place of a whole text.
func (g *gate) respeak(i int, with string) {
	for _, p := range g.spoken[i].parts {
		p.frame.edit(p.text, with)
		with = ""
	}
}

// window is that of the text's channel. When a choice begins to speak its thoughts are over, which
// OpenAI's schema does not say.
func (g *gate) window(t *texts.Text) (*window, error) {
	if t.Kind != texts.Thought {
		if err := g.closeAll(func(c texts.Channel) bool { return c.Kind == texts.Thought && c.Choice == t.Channel.Choice }); err != nil {
			return nil, err
		}
	}
	if i := slices.IndexFunc(g.windows, func(w *window) bool { return w.channel == t.Channel }); i >= 0 {
		g.windows[i].of = *t
		return g.windows[i], nil
	}
	if len(g.windows) >= maxWindows {
		return nil, fmt.Errorf("more than %d texts side by side", maxWindows)
	}
	chain := g.output.session.chain
	stream := chain.output.acts.set.Stream
	if t.JSON {
		stream = chain.output.acts.set.StreamJSON
	}
	w := &window{channel: t.Channel, of: *t, stream: stream(chain.holdBack)}
	g.windows = append(g.windows, w)
	return w, nil
}

// close decides all that is left in a window, which is none of the gate's any more.
func (g *gate) close(w *window) error {
	step, err := w.stream.Close()
	if err != nil {
		return err
	}
	if err := g.settle(w, step); err != nil {
		return err
	}
	if len(w.parts) > 0 {
		return fmt.Errorf("%d bytes of text are not decided", len(w.text))
	}
	return nil
}

// settle takes what is decided of a window out of it.
func (g *gate) settle(w *window, step match.Step) error {
	side := &g.output.session.chain.output.acts
	var edits []edit
	if hits := side.hits(step.Found); len(hits) > 0 {
		edits = g.output.weigh(&w.of, w.text, hits)
	}
	at := 0
	for at < step.Settled {
		p := &w.parts[0]
		n := min(p.rest, step.Settled-at)
		p.built = appendEdited(p.built, w.text, at, at+n, edits)
		p.changed = p.changed || slices.ContainsFunc(edits, func(e edit) bool { return e.from < at+n && e.to > at })
		at, p.rest = at+n, p.rest-n
		if p.rest > 0 {
			break
		}
		p.frame.undecided--
		if p.changed {
			p.frame.edit(p.text, string(p.built))
		}
		w.parts = w.parts[1:]
	}
	w.text = w.text[step.Settled:]
	return nil
}

// weigh asks all policies of the stream about hits in a text, and returns the edits.
func (o *Answer) weigh(of *texts.Text, text string, hits []hit) []edit {
	whole := *of
	whole.Text = text
	var edits []edit
	for i, t := range o.tallies {
		if t == nil || t.find == nil || t.verdict == verdictError {
			continue
		}
		edits = append(edits, o.session.weigh(t, &whole, hits, i)...)
		if e := o.session.judge(o.ctx, Output, t, nil); e != nil && o.failed == nil {
			o.failed = e
		}
	}
	return merged(edits)
}

// end takes the end of the stream.
func (g *gate) end() error {
	var failed error
	g.sse.Close(func(e sse.Event) { failed = g.read(g.keep(e)) })
	if g.complete = true; failed != nil || g.passes {
		return failed
	}
	if err := g.closeAll(func(texts.Channel) bool { return true }); err != nil {
		return err
	}
	g.output.askAtEnd()
	return nil
}

// release lets out the events that wait for nothing.
func (g *gate) release(dst []byte) ([]byte, bool, *llm.Error) {
	for len(g.kept) > 0 && g.kept[0].undecided == 0 && (!g.collect || g.complete || g.passes) {
		f := g.kept[0]
		g.kept = g.kept[1:]
		g.size -= len(f.raw)
		g.longest = max(g.longest, time.Since(f.came))
		g.changed.follow(f)
		dst = g.frames.put(dst, f)
	}
	return dst, g.frames.passed, nil
}
