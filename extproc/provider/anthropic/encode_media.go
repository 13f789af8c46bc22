package anthropic

import (
	"encoding/base64"
	"strings"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
)

// media writes what a user message or a tool result can hold beside results: text, images and
// documents. It tells whether there is anything to write.
func (e *requestEncoder) media(path string, p llm.Part) (block, bool, *llm.Error) {
	switch p := p.(type) {
	case llm.Text:
		b, ok := e.text(p)
		return b, ok, nil
	case llm.Refusal:
		b, ok := e.text(llm.Text{Text: p.Text})
		return b, ok, nil
	case llm.Image:
		b, err := e.image(path, p)
		return b, true, err
	case llm.File:
		b, err := e.document(path, p)
		return b, true, err
	case llm.Audio:
		return block{}, false, llm.Invalid(path, "this model's provider takes no audio")
	default:
		return block{}, false, llm.Invalid(path, "%s cannot stand here", kindOf(p))
	}
}

// image writes an image block. https://docs.anthropic.com/en/docs/build-with-claude/vision
func (e *requestEncoder) image(path string, p llm.Image) (block, *llm.Error) {
	if p.Detail != "" && p.Detail != "auto" {
		e.drop(e.in.Spell(llm.MemberDetail))
	}
	b := block{Type: "image"}
	if p.URL != "" {
		if err := wantHTTPS(path, p.URL); err != nil {
			return block{}, err
		}
		b.Source = &source{Type: "url", URL: p.URL}
	} else {
		mediaType := imageType(p)
		if mediaType == "" {
			return block{}, llm.Invalid(path, "want a JPEG, PNG, GIF or WebP image, got %q", p.MediaType)
		}
		b.Source = &source{Type: "base64", MediaType: mediaType, Data: p.Data}
	}
	b.CacheControl = e.cache(p.Cache)
	return b, nil
}

// wantHTTPS refuses the references that the provider does not follow.
func wantHTTPS(path, url string) *llm.Error {
	if scheme, _, _ := strings.Cut(url, "://"); !strings.EqualFold(scheme, "https") {
		return llm.Invalid(path, "this model's provider fetches https: URLs only")
	}
	return nil
}

// imageType is the media type to send: what the data's first bytes say, else what the client says,
// "" when it is none that the API takes.
func imageType(p llm.Image) string {
	kind := wirejson.MediaType(p.Data)
	if kind == "" && p.Data != "" {
		kind = wirejson.BareType(p.MediaType)
	}
	switch kind {
	case "image/jpg":
		return "image/jpeg"
	case "image/jpeg", "image/png", "image/gif", "image/webp":
		return kind
	}
	return ""
}

// document writes a document block: PDF and plain text are the two kinds that the API reads.
// https://docs.anthropic.com/en/docs/build-with-claude/pdf-support
func (e *requestEncoder) document(path string, p llm.File) (block, *llm.Error) {
	b := block{Type: "document", Title: p.Name}
	kind := wirejson.BareType(p.MediaType)
	switch {
	case p.ID != "":
		return block{}, llm.Invalid(path, "a file id of another provider means nothing to this model's provider; send the file itself")
	case p.URL != "":
		if err := wantHTTPS(path, p.URL); err != nil {
			return block{}, err
		}
		b.Source = &source{Type: "url", URL: p.URL}
	case p.Text != "":
		b.Source = plainText(p.Text)
	case kind == wirejson.PDF || wirejson.MediaType(p.Data) == wirejson.PDF:
		if p.Data == "" {
			return block{}, llm.Invalid(path, "the file is empty")
		}
		b.Source = &source{Type: "base64", MediaType: wirejson.PDF, Data: p.Data}
	case strings.HasPrefix(kind, "text/"), kind == "application/json":
		text, err := base64.StdEncoding.DecodeString(p.Data)
		if err != nil {
			return block{}, llm.Invalid(path, "the file's data is not base64")
		}
		if strings.TrimSpace(string(text)) == "" {
			return block{}, llm.Invalid(path, "the file is empty")
		}
		b.Source = plainText(string(text))
	default:
		return block{}, llm.Invalid(path, "want a PDF or a text file, got %q", p.MediaType)
	}
	b.CacheControl = e.cache(p.Cache)
	return b, nil
}

func plainText(text string) *source {
	return &source{Type: "text", MediaType: "text/plain", Data: text}
}
