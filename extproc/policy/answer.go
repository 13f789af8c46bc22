package policy

import (
	"context"
	"time"

	"millrace/extproc/llm"
	"millrace/extproc/texts"
)

// Answer is the policing of one attempt's answer. It implements answer.Police; its methods must not
// overlap.
type Answer struct {
	session *Session
	ctx     context.Context // of the attempt
	client  llm.ClientCodec
	asked   llm.Asked
	tallies []*tally // by member of the side; nil: it is not asked
	failed  *llm.Error
	again   bool
	spent   time.Duration
	// finished: the verdicts are kept.
	finished bool
	gate     gate
}

// Answer begins the policing of an attempt's answer, which ends with ctx; nil where no policy looks
// at answers.
func (s *Session) Answer(ctx context.Context, client llm.ClientCodec, asked llm.Asked) *Answer {
	if s == nil || s.chain.output.none() {
		return nil
	}
	o := &Answer{session: s, ctx: ctx, client: client, asked: asked}
	o.gate.output = o
	o.gate.frames.client, o.gate.frames.several = client, asked.Choices > 1
	return o
}

// Whole implements answer.Police.
func (o *Answer) Whole(body []byte) ([]byte, *llm.Error) {
	s := o.session
	d := &document{schema: s.schema, find: texts.Answer, body: body, several: o.asked.Choices > 1}
	s.watch(&s.chain.output.watches, d)
	if len(s.chain.output.acts.members) == 0 {
		return body, nil
	}
	tallies, e := s.police(o.ctx, &s.chain.output.acts, d)
	s.record(Output, tallies)
	if e != nil {
		o.again = s.asksAgain(tallies)
		return nil, e
	}
	return d.Body(), nil
}

// Again implements answer.Police.
func (o *Answer) Again() bool { return o.again }

// begin finds out who is asked about a stream.
func (o *Answer) begin() *llm.Error {
	side := &o.session.chain.output.acts
	o.gate.listens = len(o.session.chain.output.watches.members) > 0
	o.tallies = make([]*tally, len(side.members))
	for i, m := range side.members {
		asked, err := o.session.wants(Output, m, nil)
		if !asked && err == nil {
			continue
		}
		o.tallies[i] = &tally{member: m, verdict: verdictPass, found: map[string]uint32{}}
		if err != nil {
			if e := o.session.judge(o.ctx, Output, o.tallies[i], err); e != nil {
				return e
			}
			continue // it is not asked, and its verdict says why
		}
		o.gate.collect = o.gate.collect || m.ask != nil
		if m.frame != nil {
			before, after := m.frame.around(o.session)
			o.gate.frames.before += before
			o.gate.frames.after = after + o.gate.frames.after
		}
	}
	return nil
}

// askAtEnd asks those that are asked about all of a stream.
func (o *Answer) askAtEnd() {
	d := &document{schema: o.session.schema, read: true, put: o.gate.respeak}
	for i, t := range o.tallies {
		if t == nil || t.ask == nil || t.verdict == verdictError {
			continue
		}
		d.texts = o.gate.spokenTexts()
		ctx, cancel := context.WithTimeoutCause(o.ctx, o.session.left(), o.session.late())
		began := time.Now()
		err := o.session.askMember(ctx, &o.session.chain.output.acts, i, t, d)
		t.took = time.Since(began)
		if err == nil {
			d.apply()
		}
		e := o.session.judge(ctx, Output, t, err)
		cancel()
		if e != nil {
			o.failed = e
			return
		}
	}
}

// Close implements answer.Police. Of a whole answer nothing is left to do.
func (o *Answer) Close() {
	if o.tallies != nil {
		o.finish()
	}
}

// finish keeps the verdicts of a stream, once.
func (o *Answer) finish() {
	if o.finished {
		return
	}
	o.finished = true
	if o.failed != nil {
		o.again = o.session.asksAgain(o.tallies)
	}
	var all []*tally
	for _, t := range o.tallies {
		if t == nil {
			continue
		}
		if t.frame != nil && o.gate.frames.changed {
			t.say(verdictChange, "")
		}
		all = append(all, t)
	}
	o.tallies = []*tally{}
	o.session.record(Output, all)
	o.session.watch(&o.session.chain.output.watches, &document{schema: o.session.schema, read: true, texts: o.gate.heard(), put: func(int, string) {}})
	o.session.host.Metrics.took(Output, o.spent.Seconds())
	o.session.host.Metrics.kept(o.gate.longest.Seconds())
}

// timed runs a step of a stream. Together the steps may take longer than policies have: that bounds
// how long a piece of the answer waits, not how long an answer may be.
func (o *Answer) timed(step func() *llm.Error) *llm.Error {
	s := o.session
	began := time.Now()
	defer func() {
		spent := time.Since(began)
		o.spent += spent
		s.streamed(spent)
	}()
	if o.tallies == nil {
		if e := o.begin(); e != nil {
			return e
		}
	}
	return step()
}
