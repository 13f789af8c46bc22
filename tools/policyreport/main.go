// Policyreport prints how well the detectors of the policies do on the samples that were written
// for them: for each category how much of what is there they find, and how much of what they find
// is right. It prints each miss. With -write it writes the same into the pages of docs/.
//
//	go run ./tools/policyreport
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// section is a part of the report.
type section struct {
	title string
	page  string // which has the part, between the lines begin and end
	print func(io.Writer) error
}

// sections are in the order in which they are printed.
var sections = []section{
	{"Data loss prevention", "docs/policies-dlp.md", dlp},
	{"Prompt injection", "docs/policies-injection.md", promptInjection},
}

const (
	begin = "<!-- make policy-report -->\n"
	end   = "<!-- end -->\n"
)

func main() {
	write := flag.Bool("write", false, "write the report into the pages of docs/ as well")
	flag.Parse()
	for _, s := range sections {
		if err := s.run(*write); err != nil {
			fmt.Fprintf(os.Stderr, "policyreport: %s: %v\n", s.title, err)
			os.Exit(1)
		}
	}
}

func (s section) run(write bool) error {
	var report bytes.Buffer
	if err := s.print(&report); err != nil {
		return err
	}
	fmt.Printf("## %s\n\n%s\n", s.title, report.Bytes())
	if !write {
		return nil
	}
	page, err := os.ReadFile(s.page)
	if err != nil {
		return err
	}
	before, after, err := cut(string(page))
	if err != nil {
		return fmt.Errorf("%s: %w", s.page, err)
	}
	return os.WriteFile(s.page, []byte(before+report.String()+after), 0o644)
}

// cut returns what stands before the report in a page, and what stands after it.
func cut(page string) (before, after string, err error) {
	from, to := strings.Index(page, begin), strings.Index(page, end)
	if from < 0 || to < from {
		return "", "", fmt.Errorf("there are no two lines %q and %q", begin, end)
	}
	return page[:from+len(begin)], page[to:], nil
}
