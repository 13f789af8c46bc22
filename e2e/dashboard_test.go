package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"millrace/internal/browser"
	"millrace/internal/fakellm"
)

// TestDashboard (C10, C32): the page on the admin port shows in a browser what goes through the
// gateway, as it goes, and how its targets are; `millrace top` shows the same. No text of a request
// is on it. Who looks holds up no end of the gateway.
func TestDashboard(t *testing.T) {
	t.Parallel()
	a, b := openAI("a"), anthropicAI("b")
	admin := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	g := start(t, fmt.Sprintf("admin: {listen: %q, token: the-token}", strings.TrimPrefix(admin, "http://")),
		pool("model_choice: any", to("a", a, provider(t, a), "priority: 1", "default_model: gpt-4o"), to("b", b, provider(t, b), "priority: 2", "default_model: sonnet")))
	p := browser.Open(t)
	p.Go(admin + "/")
	p.Await(`document.activeElement.id === "token"`)
	p.Type("the-token")
	p.Press("Enter")
	p.Await(`document.getElementById("config").textContent === "configuration applied" && document.getElementById("ready").textContent === "ready"`)
	p.Await(`[...document.querySelectorAll("#targets tbody .badge")].map((e) => e.textContent).join() === "up,up"`)

	const answers = 5
	b.Always(fakellm.Reply{Answer: &fakellm.Answer{Text: "all is well", Usage: &fakellm.Usage{Input: 11, Output: 7}}})
	a.Always(fakellm.Fail(503, "the provider repeats the prompt"))
	for range answers {
		g.post("/v1/chat/completions", chatStream).want(200)
	}
	p.Await(fmt.Sprintf(`document.querySelectorAll("#requests tbody tr").length === %d`, answers))
	p.Await(`document.querySelector("#targets tbody .badge").textContent === "ejected"`)
	p.Await(`document.querySelector("#targets tbody tr:nth-child(2)").textContent.includes("55 / 35")`) // tokens of five answers
	if row := p.Text(`[...document.querySelectorAll("#requests tbody tr")].at(-1).textContent`); !strings.Contains(row, "a (server-error) → b") {
		t.Errorf("the first request: %s", row)
	}
	if page := p.Text(`document.documentElement.outerHTML`); strings.Contains(page, "hello") || strings.Contains(page, "all is well") || strings.Contains(page, "the provider repeats") || strings.Contains(page, "the-token") {
		t.Errorf("what was said is on the page: %s", page)
	}
	for _, said := range p.Logged() {
		if !strings.Contains(said, "401") { // that the token is needed
			t.Errorf("the browser says: %s", said)
		}
	}
	if dir := os.Getenv("MILLRACE_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "gateway.png"), p.Screenshot(), 0o644); err != nil {
			t.Error(err)
		}
	}
	out, code := millrace(t, "top", "--admin", admin, "--token", "the-token", "--once")
	for _, want := range []string{`configuration \S+ applied`, `(?m)^chat/a +ejected `, `(?m)^chat/b +up +\d+% #+ +5 +0 `, `a \(server-error\) > b`} {
		if !regexp.MustCompile(want).MatchString(out) || code != 0 {
			t.Errorf("millrace top (%d) lacks %s:\n%s", code, want, out)
		}
	}

	screen := &buffer{}
	ours, its := openTerminal(t, screen)
	top := exec.Command(binary, "top", "--admin", admin)
	top.Env = append(os.Environ(), "MILLRACE_ADMIN_TOKEN=the-token")
	top.Stdin, top.Stdout, top.Stderr = its, its, its
	if err := top.Start(); err != nil {
		t.Fatal(err)
	}
	g.eventually("millrace top shows the targets", func() error {
		if !strings.Contains(screen.String(), "chat/b") {
			return fmt.Errorf("the screen: %q", screen)
		}
		return nil
	})
	ours.WriteString("q")
	if err := top.Wait(); err != nil {
		t.Errorf("millrace top: %v: %q", err, screen)
	}
	g.eventually("the screen is as before", func() error {
		if !strings.HasSuffix(screen.String(), "\x1b[?25h\x1b[?1049l") {
			return fmt.Errorf("the screen: %q", screen)
		}
		return nil
	})

	r, err := http.NewRequest("GET", admin+"/dashboard/feed", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer the-token")
	viewer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Body.Close()
	lines := bufio.NewReader(viewer.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "event: frame\n" {
		t.Fatalf("%d: %q %v", viewer.StatusCode, line, err)
	}
	g.stop()
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Errorf("the stream of a viewer: %v", err)
	}
	if log := g.log.String(); strings.Contains(log, "requests were cut") {
		t.Errorf("viewers hold up the end: %s", log)
	}
}

// openTerminal returns a terminal: our side, which takes keys, and that of a process. What the
// process prints goes to said.
func openTerminal(t *testing.T, said io.Writer) (ours, its *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	its, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(said, ours) // to EIO
	}()
	t.Cleanup(func() {
		its.Close()
		<-read
		ours.Close()
	})
	return ours, its
}
