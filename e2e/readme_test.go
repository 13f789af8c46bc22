package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs the commands of README.md as they stand, against what `make run` starts, and
// checks what the page promises of their output.
func TestReadme(t *testing.T) {
	g := startDemo(t)
	commands := readmeCommands(t)
	for name, check := range map[string]func(t *testing.T, output string){
		"chat":     checkChat,
		"stream":   checkStream,
		"failover": checkFailover,
	} {
		t.Run(name, func(t *testing.T) {
			command, ok := commands[name]
			if !ok {
				t.Fatalf("README.md has no block marked <!-- tested: %s -->", name)
			}
			if !strings.Contains(g.log.String(), command+"\n") {
				t.Errorf("make run does not print the command of README.md:\n%s", command)
			}
			check(t, perform(t, command))
		})
		delete(commands, name)
	}
	for name := range commands {
		t.Errorf("README.md marks %q as tested and nothing here tests it", name)
	}
}

// startDemo is what `make run` starts once it has built: the ports are those of README.md, not free
// ones.
func startDemo(t *testing.T) *gateway {
	t.Helper()
	for _, port := range []string{"41002", "8080", "9101", "9102", "9103"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatalf("README.md's commands need port %s, which something else has (%v): stop it, perhaps it is `make run`", port, err)
		}
		l.Close()
	}
	g := &gateway{t: t, URL: "http://127.0.0.1:41002", Config: "../examples/quickstart.yaml", log: &buffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("millrace says:\n%s", g.log)
		}
	})
	g.exec("run", "--config", g.Config, "--demo", "--admin", "127.0.0.1:8080")
	t.Cleanup(g.interrupt)
	g.waitReady()
	g.eventually("the commands are printed", func() error {
		if !strings.Contains(g.log.String(), "http://127.0.0.1:8080/ shows") || !strings.Contains(g.log.String(), "Ctrl-C") {
			return fmt.Errorf("so far: %s", g.log)
		}
		return nil
	})
	return g
}

var tested = regexp.MustCompile("(?m)^<!-- tested: (\\w+) -->\n```sh\n((?s:.*?))\n```$")

// readmeCommands are the commands in the blocks of README.md that are marked as tested, by their
// mark.
func readmeCommands(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]string{}
	for _, m := range tested.FindAllStringSubmatch(string(page), -1) {
		commands[m[1]] = m[2]
	}
	return commands
}

var curl = regexp.MustCompile(`^curl (-s|-sN|-si) (\S+) -d '([^']*)'$`)

// perform gives the command to a shell and returns its output. A machine without curl, which is not
// among what `make test` needs, makes the same request here; so a command can say no more than the
// pattern.
func perform(t *testing.T, command string) string {
	t.Helper()
	m := curl.FindStringSubmatch(command)
	if m == nil {
		t.Fatalf("the test does not understand this command: %s", command)
	}
	if _, err := exec.LookPath("curl"); err == nil {
		out, err := exec.Command("sh", "-c", command).Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		return string(out)
	}
	t.Log("no curl on PATH: its request is made without it")
	r, err := http.Post("http://"+m[2], "application/x-www-form-urlencoded", strings.NewReader(m[3]))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var out strings.Builder
	if m[1] == "-si" {
		fmt.Fprintf(&out, "%s %s\r\n", r.Proto, r.Status)
		for name, values := range r.Header {
			fmt.Fprintf(&out, "%s: %s\r\n", strings.ToLower(name), strings.Join(values, ", "))
		}
		out.WriteString("\r\n")
	}
	if _, err := io.Copy(&out, r.Body); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// completion is what the page shows of an answer in OpenAI's schema, whole or one chunk of it.
type completion struct {
	Object  string
	Choices []struct {
		Message, Delta struct{ Role, Content string }
		FinishReason   string `json:"finish_reason"`
	}
}

func checkChat(t *testing.T, output string) {
	wantAnswer(t, output, "heard: Hello!")
}

func wantAnswer(t *testing.T, body, text string) {
	t.Helper()
	var c completion
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if c.Object != "chat.completion" || len(c.Choices) != 1 || !strings.Contains(c.Choices[0].Message.Content, text) || c.Choices[0].FinishReason != "stop" {
		t.Errorf("want an assistant's answer with %q, got %s", text, body)
	}
}

func checkStream(t *testing.T, output string) {
	var text, finish string
	chunks := 0
	for line := range strings.Lines(output) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		chunks++
		var c completion
		if err := json.Unmarshal([]byte(data), &c); err != nil || c.Object != "chat.completion.chunk" {
			t.Fatalf("%v: %s", err, line)
		}
		for _, choice := range c.Choices {
			text += choice.Delta.Content
			finish += choice.FinishReason
		}
	}
	if chunks < 5 || !strings.Contains(text, "heard: Count to five.") || finish != "stop" || !strings.HasSuffix(output, "data: [DONE]\n\n") {
		t.Errorf("%d chunks, text %q, finish_reason %q: %s", chunks, text, finish, output)
	}
}

func checkFailover(t *testing.T, output string) {
	head, body, ok := strings.Cut(output, "\r\n\r\n")
	if !ok || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("want status 200, got %s", output)
	}
	id := regexp.MustCompile(`(?m)^x-millrace-request-id: [0-9a-f-]{36}\r?$`)
	for _, line := range []string{
		"x-selected-provider: anthropic",
		"x-millrace-target: demo-anthropic",
		"x-millrace-attempts: demo-down=503;demo-anthropic=200",
	} {
		if !strings.Contains(head+"\r\n", "\r\n"+line+"\r\n") {
			t.Errorf("no %q in\n%s", line, head)
		}
	}
	if !id.MatchString(head) {
		t.Errorf("no x-millrace-request-id in\n%s", head)
	}
	wantAnswer(t, body, "heard: Are you there?")
}

// TestExamplesValidate: every example, and the configuration README.md shows, is right and asks for
// nothing that this version cannot do.
func TestExamplesValidate(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?m)^```yaml\n((?s:.*?))\n```$").FindAllSubmatch(page, -1) {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("readme-%d.yaml", i))
		if err := os.WriteFile(file, m[1], 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var warnings strings.Builder
			command := exec.Command(binary, "validate", "--elsewhere", "--data-dir", t.TempDir(), file)
			command.Stderr = &warnings
			effective, err := command.Output()
			if err != nil || warnings.Len() > 0 || !strings.Contains(string(effective), "listen_port: 41002") {
				t.Errorf("%v: %s%s", err, warnings.String(), effective)
			}
		})
	}
}
