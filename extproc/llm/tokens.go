package llm

// What EstimateTokens reckons with. Providers have tokenizers of their own, and most publish none:
// the estimate is one that errs little for English and code, and rather upwards for the rest.
const (
	// https://platform.openai.com/tokenizer: a token is about four characters of English.
	bytesPerToken = 4
	// turnTokens is what marks a message, a tool or a call as one.
	turnTokens = 4
	// mediaTokens is what an image of the largest size costs that is not scaled down
	// (https://docs.claude.com/en/docs/build-with-claude/vision#calculate-image-costs). A file or a
	// sound of which nothing can be read counts as one.
	mediaTokens = 1600
)

// EstimateTokens is about what a provider would count for the request's prompt: for each text a
// token for every four bytes of UTF-8 begun, and for each message, tool, call and picture a fixed
// sum. The work follows the size of the request.
func EstimateTokens(r *Request) int64 {
	n := partsTokens(r.System) + textTokens(len(r.Format.Schema))
	for _, m := range r.Messages {
		n += turnTokens + partsTokens(m.Parts)
	}
	for _, t := range r.Tools {
		n += turnTokens + textTokens(len(t.Name)) + textTokens(len(t.Description)) + textTokens(len(t.Parameters))
	}
	return n
}

// EstimateTextTokens is about what a prompt comes to of which only the number of its texts and
// their bytes are known; each counts as a message, and pictures are not counted.
func EstimateTextTokens(texts, bytes int) int64 {
	return int64(texts)*turnTokens + textTokens(bytes)
}

// EstimateOutputTokens is about what a model has counted of an answer whose texts have so many
// bytes.
func EstimateOutputTokens(bytes int) int64 { return textTokens(bytes) }

func partsTokens(parts []Part) int64 {
	var n int64
	for _, p := range parts {
		n += partTokens(p)
	}
	return n
}

func partTokens(p Part) int64 {
	switch p := p.(type) {
	case Text:
		return textTokens(len(p.Text))
	case Refusal:
		return textTokens(len(p.Text))
	case Thinking:
		return textTokens(len(p.Text))
	case ToolCall:
		return turnTokens + textTokens(len(p.Name)) + textTokens(len(p.Arguments))
	case ToolResult:
		return turnTokens + partsTokens(p.Parts)
	case File:
		if p.Text != "" {
			return textTokens(len(p.Text))
		}
	}
	return mediaTokens
}

func textTokens(bytes int) int64 { return int64(bytes+bytesPerToken-1) / bytesPerToken }
