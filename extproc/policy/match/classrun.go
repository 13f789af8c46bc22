package match

import (
	"regexp/syntax"
	"unicode/utf8"
)

// A classRun is an expression that is one class of ASCII, so many times or more: [0-9a-f]{24,}. A
// whole text is looked through for it in steps of that width.
type classRun struct {
	expr  expr
	least int
	in    [256]bool
}

// leastRun is from where on that is worth it.
const leastRun = 8

// asClassRun returns nil if e is something else.
func asClassRun(e expr) *classRun {
	re := e.tree
	if re.Op != syntax.OpRepeat || re.Min < leastRun || re.Max >= 0 || re.Flags&syntax.NonGreedy != 0 {
		return nil
	}
	class := re.Sub[0]
	if class.Op != syntax.OpCharClass || class.Rune[len(class.Rune)-1] >= utf8.RuneSelf {
		return nil
	}
	c := &classRun{expr: e, least: re.Min}
	for b := range rune(utf8.RuneSelf) {
		c.in[b] = within(class.Rune, b)
	}
	return c
}

func (c *classRun) find(text string) (found []Found) {
	for i := 0; i+c.least <= len(text); {
		last := i + c.least - 1
		for last >= i && c.in[text[last]] {
			last--
		}
		if last >= i {
			i = last + 1
			continue
		}
		end := i + c.least
		for end < len(text) && c.in[text[end]] {
			end++
		}
		from, to, ok := i, end, true
		if c.expr.check != nil {
			from, to, ok = c.expr.check(text, []int{i, end})
		}
		if ok {
			found = append(found, Found{Pattern: c.expr.index, From: from, To: to})
		}
		i = end
	}
	return found
}
