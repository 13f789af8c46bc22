// Policyreport prints how well the detectors of package detect do on the samples that were written
// for them: for each category how much of what they find is right, and how much of what there is
// they find. It prints each miss.
//
//	go run ./tools/policyreport
package main

import (
	"fmt"
	"io"
	"os"
)

// sections are printed in this order.
var sections = []struct {
	title string
	print func(io.Writer) error
}{
	{"Data loss prevention", dlp},
}

func main() {
	for _, s := range sections {
		fmt.Printf("## %s\n\n", s.title)
		if err := s.print(os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "policyreport: %s: %v\n", s.title, err)
			os.Exit(1)
		}
	}
}
