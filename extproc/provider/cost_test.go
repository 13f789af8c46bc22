package provider

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"millrace/extproc/llm"
	"millrace/extproc/texts"
	"millrace/schema"
)

// TestCost shows that a byte costs the same, whatever the size of what it is part of: a request
// from 1 KB to 10 MB, an answer, an error or a stream, in every shape of shapes_test.go, for every
// pair of codecs. Two things are counted: the statements that run, and the bytes that are
// allocated. It does not look at time.
//
// Go's coverage counters count the statements of our packages, of the JSON library, and of the
// standard packages that search and copy. They do not see assembly (bytes.IndexByte, copy). The
// counting process is this test, built with the counters and started with MILLRACE_COST set.
func TestCost(t *testing.T) {
	if work := os.Getenv("MILLRACE_COST"); work != "" {
		spend(t, work)
		return
	}
	counting := buildCounting(t)
	for _, s := range shapes {
		t.Run(s.work+"/"+s.name, func(t *testing.T) {
			sizes := []int{1 << 10, 32 << 10, 1 << 20}
			if s.large {
				sizes = append(sizes, 10<<20)
			}
			if grown := growth(t, counting, s, sizes); grown != "" {
				t.Error(grown)
			}
		})
	}
}

// TestCostSeesSquares: TestCost is worth something only if a list that is used as a set fails it.
func TestCostSeesSquares(t *testing.T) {
	lines := shape{work: "square", make: func(size int) []byte {
		var b bytes.Buffer
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintln(&b, i)
		}
		return b.Bytes()
	}}
	if growth(t, buildCounting(t), lines, []int{1 << 10, 32 << 10}) == "" {
		t.Error("a list that is used as a set costs the same for every byte")
	}
}

// cost is what some work took.
type cost struct {
	statements, bytes float64
	hottest           string // the block of statements that ran most often
}

// How many times what it costs at a smaller size a byte may cost. Statements hardly vary. Slices
// that grow are made anew: a small one in twice the size, a large one in a quarter more, which
// allocates up to five times what it holds.
const (
	slackOfStatements = 1.1
	slackOfBytes      = 3
)

// growth makes the shape in each size and says where a byte cost more than before, "" if nowhere.
func growth(t *testing.T, counting string, s shape, sizes []int) string {
	t.Helper()
	var least cost
	for _, size := range sizes {
		input := s.make(size)
		c := measure(t, counting, s.work, input)
		c.statements /= float64(len(input))
		c.bytes /= float64(len(input))
		t.Logf("%8d bytes: %.1f statements and %.1f bytes allocated for each", len(input), c.statements, c.bytes)
		if least.statements > 0 && (c.statements > slackOfStatements*least.statements || c.bytes > slackOfBytes*least.bytes) {
			return fmt.Sprintf("each of %d bytes costs %.1f statements and %.1f bytes, each of fewer bytes %.1f and %.1f; most often ran %s",
				len(input), c.statements, c.bytes, least.statements, least.bytes, c.hottest)
		}
		least = cost{statements: smaller(least.statements, c.statements), bytes: smaller(least.bytes, c.bytes)}
	}
	return ""
}

// smaller is the smaller one of those that are not 0.
func smaller(a, b float64) float64 { return min(cmp.Or(a, b), cmp.Or(b, a)) }

// buildCounting builds this package's tests with counters and returns the program.
func buildCounting(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "counting.test")
	command := exec.Command("go", "test", "-c", "-o", program, "-covermode=count",
		"-coverpkg=millrace/extproc/...,millrace/internal/...,github.com/go-json-experiment/json/...,bytes,maps,slices,strings", ".")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, out)
	}
	return program
}

// measure has the work done by the counting process.
func measure(t *testing.T, counting, work string, input []byte) cost {
	t.Helper()
	dir := t.TempDir()
	profile, in, allocated := filepath.Join(dir, "profile"), filepath.Join(dir, "in"), filepath.Join(dir, "allocated")
	if err := os.WriteFile(in, input, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(counting, "-test.run=^TestCost$", "-test.coverprofile="+profile)
	command.Env = append(os.Environ(), "MILLRACE_COST="+work, "MILLRACE_COST_INPUT="+in, "MILLRACE_COST_ALLOCATED="+allocated)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", work, err, out)
	}
	c := readProfile(t, profile)
	text, err := os.ReadFile(allocated)
	if err != nil {
		t.Fatal(err)
	}
	if c.bytes, err = strconv.ParseFloat(string(text), 64); err != nil {
		t.Fatal(err)
	}
	return c
}

// readProfile adds up a coverage profile. Each line is a block, its number of statements, and how
// often it ran.
func readProfile(t *testing.T, name string) cost {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var c cost
	var most float64
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] == "mode:" {
			continue
		}
		statements, err := strconv.ParseFloat(fields[1], 64)
		ran, err2 := strconv.ParseFloat(fields[2], 64)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		c.statements += statements * ran
		if statements*ran > most {
			most, c.hottest = statements*ran, fields[0]
		}
	}
	if most == 0 {
		t.Fatalf("%s counts nothing", name)
	}
	return c
}

// spend is the counting process: it does the work once and tells what it allocated.
func spend(t *testing.T, work string) {
	t.Helper()
	input, err := os.ReadFile(os.Getenv("MILLRACE_COST_INPUT"))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = do(work, input)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	allocated := strconv.FormatUint(after.TotalAlloc-before.TotalAlloc, 10)
	if err := os.WriteFile(os.Getenv("MILLRACE_COST_ALLOCATED"), []byte(allocated), 0o600); err != nil {
		t.Fatal(err)
	}
}

// do does the work with an input: "request openai.chat" is all that a request of an OpenAI client
// goes through, towards targets of each schema.
func do(work string, input []byte) error {
	if work == "square" {
		var seen []string
		for line := range strings.Lines(string(input)) {
			if !slices.Contains(seen, line) {
				seen = append(seen, line)
			}
		}
		return nil
	}
	what, of, _ := strings.Cut(work, " ")
	from, ok := Of(schema.Name(of))
	if !ok {
		return fmt.Errorf("no codec for %q", work)
	}
	switch what {
	case "request":
		return request(from.Client, input)
	case "answer":
		return answer(from.Target, input)
	case "error":
		e := from.Target.DecodeError(500, http.Header{}, input)
		for to := range conversations() {
			to.Client.EncodeError(e)
		}
		return nil
	case "stream":
		return stream(from.Target, input)
	}
	return fmt.Errorf("unknown work %q", what)
}

// request takes a request to a target of every schema. A body beyond a bound is refused by its
// head, and that is what it costs; it is translated here all the same, because no parser is to rely
// on the bounds for being linear.
func request(client llm.ClientCodec, body []byte) error {
	head, err := client.ReadHead(nil, body)
	if err != nil && !strings.Contains(err.Error(), "at most") {
		return err
	}
	head.Model = "m"
	r, err := client.DecodeRequest(head, body)
	if err != nil {
		return err
	}
	if err := edit(client, texts.Request, body); err != nil {
		return err
	}
	for to := range conversations() {
		for _, dialect := range []string{"", "mistral"} { // the latter changes most of what can be changed
			if _, err := to.Target.EncodeRequest(r, llm.Options{Model: "other", Dialect: dialect}); err != nil {
				return fmt.Errorf("to %s: %w", to.Schema.Name, err)
			}
		}
		if to.Client != client {
			continue
		}
		for _, dialect := range []string{"", "openai", "deepseek", "mistral"} {
			if _, err := to.Target.PatchRequest(head, body, llm.Options{Model: "other", Dialect: dialect}); err != nil {
				return fmt.Errorf("patch: %w", err)
			}
		}
	}
	return nil
}

// reader is that of a call in which nothing has to be undone.
func reader(target llm.TargetCodec) llm.AnswerReader {
	hi := []llm.Message{{Role: llm.User, Parts: []llm.Part{llm.Text{Text: "hi"}}}}
	call, err := target.EncodeRequest(&llm.Request{Messages: hi}, llm.Options{Model: "m"})
	if err != nil {
		panic(err)
	}
	return call.Answer
}

// answer takes a whole answer to a client of every schema.
func answer(target llm.TargetCodec, body []byte) error {
	r, err := reader(target).Whole(body)
	if err != nil {
		return err
	}
	for to := range conversations() {
		body, err := to.Client.EncodeResponse(llm.Asked{}, r)
		if err != nil {
			return fmt.Errorf("to %s: %w", to.Schema.Name, err)
		}
		if err := edit(to.Client, texts.Answer, body); err != nil {
			return err
		}
	}
	return nil
}

// edit puts another text into the place of every one, as a policy may.
func edit(client llm.ClientCodec, find func(*schema.Schema, []byte) ([]texts.Text, error), body []byte) error {
	for of := range conversations() {
		if of.Client != client {
			continue
		}
		found, err := find(of.Schema, body)
		if err != nil && !errors.Is(err, texts.ErrTooMany) {
			return err
		}
		with := map[int]string{}
		for i := range found {
			with[i] = "-"
		}
		texts.Replace(body, found, with)
	}
	return nil
}

// stream takes a stream, which comes in small pieces, to a client of every schema.
func stream(target llm.TargetCodec, in []byte) error {
	decoder := reader(target).Stream()
	var encoders []llm.StreamEncoder
	for to := range conversations() {
		encoders = append(encoders, to.Client.NewStreamEncoder(llm.Asked{Head: llm.Head{Stream: true, Model: "m"}}))
	}
	var out []byte
	pass := func(frames []llm.Frame) {
		for _, f := range frames {
			for _, e := range f.Events {
				for _, encoder := range encoders {
					out = encoder.Encode(out[:0], e)
				}
			}
		}
	}
	for len(in) > 0 {
		n := min(len(in), 16)
		frames, err := decoder.Push(in[:n])
		if err != nil {
			return err
		}
		pass(frames)
		in = in[n:]
	}
	pass(decoder.Close())
	for _, encoder := range encoders {
		out = encoder.Close(out[:0], nil)
	}
	return nil
}
