// Package browser drives a headless Chromium for tests of what people see: over its DevTools
// protocol, on a pipe, so that no port and no library is needed.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Page is one open page. Its methods fail the test where the browser does not do what is asked.
type Page struct {
	t       *testing.T
	to      io.Writer
	session string // the DevTools session of the page; "" until it is attached

	mu      sync.Mutex // guards what follows
	id      int
	waiting map[int]chan answer
	logged  []string
	asked   []string
	ended   error
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

type answer struct {
	result json.RawMessage
	err    error
}

// patience bounds every wait.
const patience = 20 * time.Second

// Open starts a Chromium with an empty page; it ends with the test. Where there is none, CI fails,
// and elsewhere the test is skipped, as `make test` has said.
func Open(t *testing.T) *Page {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	switch {
	case program != "":
	case os.Getenv("CI") != "":
		t.Fatal("chromium is missing, and without a browser this shows nothing; Debian: apt-get install chromium")
	default:
		t.Skip("chromium is missing; Debian: apt-get install chromium")
	}
	p, err := start(t, program)
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	var created struct{ TargetID string }
	p.ask(&created, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	p.ask(&attached, "Target.attachToTarget", map[string]any{"targetId": created.TargetID, "flatten": true})
	p.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Accessibility"} {
		p.ask(nil, domain+".enable", nil)
	}
	p.Size(1280, 900)
	return p
}

func start(t *testing.T, program string) (*Page, error) {
	ctx, cancel := context.WithCancel(context.Background())
	fromBrowser, itsOut, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	itsIn, toBrowser, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	command := exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(t.TempDir(), "profile"), "about:blank")
	command.ExtraFiles = []*os.File{itsIn, itsOut} // 3 and 4, as the browser wants them
	command.WaitDelay = 5 * time.Second
	if err := command.Start(); err != nil {
		cancel()
		return nil, err
	}
	itsIn.Close()
	itsOut.Close()
	p := &Page{t: t, to: toBrowser, waiting: map[int]chan answer{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(fromBrowser)
	}()
	t.Cleanup(func() {
		p.session = ""
		p.tell("Browser.close")
		toBrowser.Close()
		gone := make(chan struct{})
		go func() {
			command.Wait() //nolint:errcheck // how it ends is of no interest
			close(gone)
		}()
		select {
		case <-gone:
		case <-time.After(patience):
			cancel()
			<-gone
		}
		cancel()
		<-read
		fromBrowser.Close()
	})
	return p, nil
}

// read takes what the browser says, each message up to a NUL.
func (p *Page) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		data, err := r.ReadBytes(0)
		if err != nil {
			p.end(errors.New("the browser has ended"))
			return
		}
		p.take(data[:len(data)-1])
	}
}

func (p *Page) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = err
	for id, waiting := range p.waiting {
		waiting <- answer{err: err}
		delete(p.waiting, id)
	}
}

func (p *Page) take(data []byte) {
	var m struct {
		message
		Params json.RawMessage `json:"params"`
	}
	if json.Unmarshal(data, &m) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting := p.waiting[m.ID]; m.ID > 0 && waiting != nil {
		delete(p.waiting, m.ID)
		a := answer{result: m.Result}
		if m.Error != nil {
			a.err = errors.New(m.Error.Message)
		}
		waiting <- a
		return
	}
	switch m.Method {
	case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		p.logged = append(p.logged, string(m.Params))
	case "Network.requestWillBeSent":
		var sent struct{ Request struct{ URL string } }
		if json.Unmarshal(m.Params, &sent) == nil {
			p.asked = append(p.asked, sent.Request.URL)
		}
	}
}

// send sends a command; its answer comes on the channel.
func (p *Page) send(method string, params any) (chan answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return nil, p.ended
	}
	p.id++
	data, err := json.Marshal(message{ID: p.id, Method: method, Params: params, SessionID: p.session})
	if err != nil {
		return nil, err
	}
	waiting := make(chan answer, 1)
	p.waiting[p.id] = waiting
	_, err = p.to.Write(append(data, 0))
	return waiting, err
}

// tell sends a command and does not wait.
func (p *Page) tell(method string) {
	_, _ = p.send(method, nil) // the browser may be gone already
}

// ask sends a command and reads its result.
func (p *Page) ask(result any, method string, params any) {
	p.t.Helper()
	waiting, err := p.send(method, params)
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	select {
	case a := <-waiting:
		if a.err == nil && result != nil {
			a.err = json.Unmarshal(a.result, result)
		}
		if a.err != nil {
			p.t.Fatalf("%s: %v", method, a.err)
		}
	case <-time.After(patience):
		p.t.Fatalf("%s: no answer from the browser", method)
	}
}

// Go loads a page.
func (p *Page) Go(url string) {
	p.t.Helper()
	p.ask(nil, "Page.navigate", map[string]any{"url": url})
	p.Await(`document.readyState === "complete"`)
}

// Eval returns what a JavaScript expression comes to, as JSON has it.
func (p *Page) Eval(expression string) any {
	p.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	p.ask(&r, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if r.ExceptionDetails != nil {
		p.t.Fatalf("%s: %v", expression, r.ExceptionDetails)
	}
	return r.Result.Value
}

// Text is what an expression comes to, in words.
func (p *Page) Text(expression string) string {
	p.t.Helper()
	return fmt.Sprint(p.Eval(expression))
}

// Await waits until an expression is true.
func (p *Page) Await(expression string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for p.Eval("!!("+expression+")") != true {
		if time.Now().After(deadline) {
			p.t.Fatalf("never true: %s\nthe page: %s\nsaid: %q", expression, p.Text("document.body.innerText"), p.Logged())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Size makes the window that large, in CSS pixels; a narrow one is a phone's.
func (p *Page) Size(width, height int) {
	p.t.Helper()
	p.ask(nil, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
}

// Dark switches between the system's dark and light.
func (p *Page) Dark(scheme string) {
	p.t.Helper()
	p.ask(nil, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// Press presses a key: Tab, Enter, Space.
func (p *Page) Press(key string) {
	p.t.Helper()
	known := map[string]struct {
		code int
		text string
	}{"Tab": {9, ""}, "Enter": {13, "\r"}, "Space": {32, " "}}[key]
	name := key
	if key == "Space" {
		name = " "
	}
	event := map[string]any{"type": "keyDown", "key": name, "code": key, "windowsVirtualKeyCode": known.code, "text": known.text}
	p.ask(nil, "Input.dispatchKeyEvent", event)
	event["type"] = "keyUp"
	p.ask(nil, "Input.dispatchKeyEvent", event)
}

// Type types a text where the focus is.
func (p *Page) Type(text string) {
	p.t.Helper()
	p.ask(nil, "Input.insertText", map[string]any{"text": text})
}

// Logged is what the page has said on its console, and what it did wrong.
func (p *Page) Logged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.logged...)
}

// Asked are the URLs that were asked for.
func (p *Page) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

// Node is an element as assistive technology has it.
type Node struct{ Role, Name string }

// Accessible are the elements of the page in their order.
func (p *Page) Accessible() []Node {
	p.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	p.ask(&tree, "Accessibility.getFullAXTree", nil)
	var nodes []Node
	for _, n := range tree.Nodes {
		if !n.Ignored {
			node := Node{Role: fmt.Sprint(n.Role.Value)}
			if n.Name.Value != nil {
				node.Name = fmt.Sprint(n.Name.Value)
			}
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// Screenshot is the page as a PNG, down to a bound.
func (p *Page) Screenshot() []byte {
	p.t.Helper()
	var shot struct{ Data string }
	height := min(p.Eval("document.documentElement.scrollHeight").(float64), 3000)
	p.ask(&shot, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true,
		"clip": map[string]any{"x": 0, "y": 0, "width": p.Eval("innerWidth"), "height": height, "scale": 1}})
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}
