package answer

import (
	"time"

	"millrace/extproc/llm"
)

// Report is what is known of an attempt when it has ended, however it did.
type Report struct {
	Usage      Usage     // zero: the target has done nothing, as far as anybody knows
	FirstByte  time.Time // of the target's head; zero: there was none
	FirstToken time.Time // of its stream; zero: there was none
	Stop       llm.Stop  // of the first choice; "" when the target has not said it
}

// Usage is what an attempt has used.
type Usage struct {
	llm.Usage
	// Estimated: the target has not said all of it. Where Input is 0 it has not counted the
	// request, whose tokens are to be estimated.
	Estimated bool
}

// Report may be asked for once no event comes any more.
func (a *Answer) Report() Report {
	r := Report{FirstByte: a.headAt, FirstToken: a.count.first, Stop: a.count.stop}
	if a.detached {
		r.Usage.Usage = a.count.told
		return r
	}
	if n := a.whole.unread(); n > 0 && a.head.ok() { // a whole answer that has not come whole
		a.count.bytes, a.count.after = n, n
	}
	if a.worked() {
		r.Usage = a.count.usage()
	}
	return r
}

// worked tells whether the target may have used anything: it has said something of an answer, or
// was left while it may have been at it.
func (a *Answer) worked() bool {
	switch {
	case a.count.told != llm.Usage{} || a.count.bytes > 0:
		return true
	case a.head.Status == 0:
		return !a.faulty
	}
	return a.head.ok() && !a.faulty
}

// counter counts what a target says. Its numbers count where it tells them; what it says after
// them, or without them, is counted by the bytes of its texts, a few of which are a token.
type counter struct {
	told  llm.Usage // as told last; zero: nothing was
	final bool      // told is of the answer, not only of its beginning
	base  int64     // of the output, when after began
	after int       // bytes of text after told
	bytes int       // of all texts
	first time.Time // token
	stop  llm.Stop
}

// event counts one.
func (c *counter) event(e *llm.Event, now time.Time) {
	if n := textBytes(e); n > 0 {
		c.bytes += n
		c.after += n
	}
	if c.first.IsZero() && e.Meaningful() {
		c.first = now
	}
	if e.Kind == llm.Finish && e.Choice == 0 {
		c.stop = e.Stop
	}
	if e.Usage != nil && *e.Usage != (llm.Usage{}) {
		c.tell(*e.Usage, e.Kind != llm.Start)
	}
}

// tell takes the target's numbers: all of its answer so far, or only of the prompt.
func (c *counter) tell(u llm.Usage, all bool) {
	c.told, c.final = u, all
	if all {
		c.base, c.after = u.Output, 0
	}
}

// whole counts a whole answer.
func (c *counter) whole(r *llm.Response) {
	if r.Usage != (llm.Usage{}) {
		c.tell(r.Usage, true)
	}
	c.bytes = r.TextBytes()
	if len(r.Choices) > 0 {
		c.stop = r.Choices[0].Stop
	}
}

// usage is what the target has told, and an estimate of what it has not.
func (c *counter) usage() Usage {
	u := Usage{Usage: c.told, Estimated: !c.final || c.after > 0 || c.told.Input == 0}
	u.Output = max(u.Output, c.base+llm.EstimateOutputTokens(c.after))
	if c.told.Output == 0 && c.bytes > 0 {
		u.Output, u.Estimated = llm.EstimateOutputTokens(c.bytes), true
	}
	return u
}

// textBytes are those that the model has written.
func textBytes(e *llm.Event) int {
	switch e.Kind {
	case llm.TextDelta, llm.ThinkingDelta, llm.RefusalDelta, llm.ToolDelta:
		return len(e.Text)
	case llm.ToolStart:
		return len(e.Name)
	}
	return 0
}
