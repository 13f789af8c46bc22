package llm

import "strings"

// billingLine begins the text that Claude Code puts before its system prompt. What stands behind it is new in every request
// (anthropics/claude-code#68900), and means something to Anthropic alone.
const billingLine = "x-anthropic-billing-header:"

// WithoutBilling is the text without the line of Claude Code's accounts that it may begin with: no part of a prompt, for whoever tells
// prompts apart by how they begin.
func WithoutBilling(text string) string {
	if !strings.HasPrefix(text, billingLine) {
		return text
	}
	_, prompt, _ := strings.Cut(text, "\n")
	return strings.TrimLeft(prompt, "\r\n")
}
