package config

// hosting is how one known provider is reached: a row here makes its name usable in `provider`. The schema names a codec
// in extproc/provider; where a provider speaks another's schema, its row is all it needs.
type hosting struct {
	name   string
	host   string
	base   string // path below which the schema's operations are
	schema string
	// dialect is what is known of how the provider speaks the schema (extproc/provider/openai/dialects.go); "": nothing.
	dialect string
	// foreigner: requests of the schema's own clients are adapted too.
	foreigner bool
	auth      string // header that carries the key
	prefix    string // what stands before the key in it
}

// static is the provider, and the schema, of targets that have their answer.
const static = "static"

// compatible is the provider of targets that have no other row. A host that nothing is said of shows as "openai", as it always has.
const compatible = "openai-compatible"

var hostings = []hosting{
	// https://platform.openai.com/docs/api-reference/authentication
	{name: "openai", host: "api.openai.com", base: "/v1", schema: "openai.chat", dialect: "openai", auth: "Authorization", prefix: "Bearer "},
	// https://docs.anthropic.com/en/api/overview
	{name: "anthropic", host: "api.anthropic.com", base: "/v1", schema: "anthropic.messages", auth: "X-Api-Key"},
	// https://docs.mistral.ai/api/
	{name: "mistral", host: "api.mistral.ai", base: "/v1", schema: "openai.chat", dialect: "mistral", foreigner: true, auth: "Authorization", prefix: "Bearer "},
	// https://api-docs.deepseek.com/
	{name: "deepseek", host: "api.deepseek.com", base: "/v1", schema: "openai.chat", dialect: "deepseek", foreigner: true, auth: "Authorization", prefix: "Bearer "},
	// Any server that speaks OpenAI's schema in a way of its own: vLLM, Ollama, a router.
	{name: compatible, base: "/v1", schema: "openai.chat", auth: "Authorization", prefix: "Bearer "},
	// Nobody: the gateway gives the target's answer itself.
	{name: static, schema: static},
}

// hostingOf finds a row by provider name.
func hostingOf(name string) (hosting, bool) {
	for _, h := range hostings {
		if h.name == name {
			return h, true
		}
	}
	return hosting{}, false
}

// hostingAt finds the row of a provider by its own host; any other host is taken to speak OpenAI's schema in some way, as most do.
func hostingAt(host string) hosting {
	for _, h := range hostings {
		if h.host == host && host != "" {
			return h
		}
	}
	h, _ := hostingOf(compatible)
	h.name = hostings[0].name
	return h
}

func providerNames() []string {
	var names []string
	for _, h := range hostings {
		names = append(names, h.name)
	}
	return names
}
