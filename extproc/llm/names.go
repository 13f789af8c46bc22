package llm

// Names lists members in the order in which they were added, each once. The zero value is an empty list. Adding costs the same
// however many there are: clients choose how many members a body has.
type Names struct {
	list  []string
	known map[string]struct{}
}

// Add puts the name at the end of the list, unless it is there.
func (n *Names) Add(name string) {
	if _, ok := n.known[name]; ok {
		return
	}
	if n.known == nil {
		n.known = map[string]struct{}{}
	}
	n.known[name] = struct{}{}
	n.list = append(n.list, name)
}

// List returns the names, nil for none.
func (n *Names) List() []string { return n.list }
