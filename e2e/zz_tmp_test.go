package e2e
import ("testing";"millrace/internal/fakellm";"fmt";"os/exec";"time";"os")
func TestZZ(t *testing.T) {
	a := openAI("a")
	g := start(t, "timeouts: {request_timeout: 1s, connect_timeout: 1s, first_byte_timeout: 1s}\nstreaming: {inter_chunk_timeout: 1s}", pool("", to("a", a, provider(t, a))))
	s := scene{fakellm.OpenAIChat, true, nil}
	r := s.begun(fakellm.Hang)
	if os.Getenv("RST") != "" { r = s.ok(fakellm.ResetTCP, s.preamble(), s.token()); r.Steps = append(r.Steps, fakellm.Step{Pace: fakellm.Pace{Delay: 200*time.Millisecond}}) }
	a.Always(r)
	t0 := time.Now()
	out, err := exec.Command("curl", "-sSiN", "-m", "8", "-d", chatStream, g.URL+"/v1/chat/completions").CombinedOutput()
	fmt.Println(string(out), err, time.Since(t0))
	for _, r := range a.Requests() { fmt.Println(r.Outcome, r.EndedAt.Sub(r.At)) }
	time.Sleep(500*time.Millisecond)
	for _, e := range g.readEvents() { fmt.Println(e) }
	fmt.Println(g.log)
}
