package match

// A reading is one text that is read for all patterns of a set.
type reading struct {
	fold        folding
	raw, folded []*lane
	origin      origin // of the folded text
	rest        string // what is not folded yet
	size        int
}

func (s *Set) read() texts {
	p := s.stream()
	return &reading{fold: s.fold, raw: newLanes(p.raw), folded: newLanes(p.folded)}
}

// push reads a piece of the text.
func (r *reading) push(text string) {
	r.size += len(text)
	for _, l := range r.raw {
		l.push(text)
	}
	if r.folded != nil {
		r.rest += text
		r.pushFolded(r.fold.settled(r.rest))
	}
}

// pushFolded folds so much of the rest.
func (r *reading) pushFolded(n int) {
	folded, at := r.fold.text(r.rest[:n])
	r.origin.folded(len(folded), at, r.rest[:n])
	r.rest = r.rest[n:]
	for _, l := range r.folded {
		l.push(folded)
	}
}

// close ends the text.
func (r *reading) close() {
	if r.folded != nil {
		r.pushFolded(len(r.rest))
	}
	for _, l := range r.raw {
		l.close()
	}
	for _, l := range r.folded {
		l.close()
	}
}

// open is where the earliest match may begin that can still change or come to be.
func (r *reading) open() int {
	open := r.size
	for _, l := range r.raw {
		open = min(open, l.open())
	}
	if r.folded != nil {
		open = min(open, r.origin.from(r.openFolded()))
	}
	return open
}

// openFolded is open of the folded text.
func (r *reading) openFolded() int {
	open := r.origin.made
	for _, l := range r.folded {
		open = min(open, l.open())
	}
	return open
}

// take returns what was found since the last take, and forgets the text of it.
func (r *reading) take() (found []Found) {
	for _, l := range r.raw {
		found = append(found, l.found...)
		l.found = nil
		l.forget(l.open())
	}
	for _, l := range r.folded {
		for _, f := range l.found {
			found = append(found, r.origin.trace(f))
		}
		l.found = nil
		l.forget(l.open())
	}
	r.origin.forget(r.openFolded())
	return found
}

// decide finds what begins before at as if nothing more came.
func (r *reading) decide(at int) {
	for _, l := range r.raw {
		l.decide(at)
	}
	for _, l := range r.folded {
		l.decide(r.origin.index(at))
	}
}

// restart gives up what began before at.
func (r *reading) restart(at int) {
	for _, l := range r.raw {
		if l.open() < at {
			l.restart(at)
		}
	}
	for _, l := range r.folded {
		if i := r.origin.index(at); l.open() < i {
			l.restart(i)
		}
	}
}

// start is the last position up to at where a character starts, of what was read.
func (r *reading) start(at int) int {
	for _, l := range r.raw {
		at = l.rune(min(at, l.read))
	}
	if r.folded != nil {
		at = r.origin.from(r.origin.index(min(at, r.origin.of)))
	}
	return at
}

// wholeText is a text that is looked at when all of it is there.
type wholeText struct {
	set   *Set
	text  []byte
	found []Found
}

func (s *Set) readWhole() texts { return &wholeText{set: s} }

func (w *wholeText) push(text string) { w.text = append(w.text, text...) }
func (w *wholeText) close()           { w.found = w.set.find(string(w.text)) }
func (w *wholeText) open() int        { return 0 }
func (w *wholeText) take() []Found    { return w.found }
func (w *wholeText) decide(int)       {}
func (w *wholeText) restart(int)      {}
func (w *wholeText) start(int) int    { return 0 }
