package openai

import (
	"encoding/json"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/extproc/llm"
	"millrace/internal/wirejson"
)

// partReader reads one content part found at path.
type partReader func(path string, p *part) (llm.Part, error)

// What each role's content may hold. Images and files in tool messages are not OpenAI's, but its
// compatibles' and other gateways', and thinking is Mistral's: they have a neutral meaning, so they
// are read.
var (
	textParts      = map[string]partReader{"text": readText}
	userParts      = map[string]partReader{"text": readText, "image_url": readImage, "input_audio": readAudio, "file": readFile}
	assistantParts = map[string]partReader{"text": readText, "refusal": readRefusal, "thinking": readThinking}
	resultParts    = map[string]partReader{"text": readText, "image_url": readImage, "file": readFile}
)

// content reads a message's content and puts the message's own cache marker, if any, on the last
// part.
func (d *requestDecoder) content(path string, m *message, readers map[string]partReader) ([]llm.Part, error) {
	parts, err := d.partsOf(path+".content", m.Content, readers)
	if n := len(parts); n > 0 {
		parts[n-1] = cached(parts[n-1], cacheOf(m.CacheControl))
	}
	return parts, err
}

// contentPaths are where the n parts of a content are.
func contentPaths(path string, content jsontext.Value, n int) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = path
		if content.Kind() == jsontext.KindBeginArray {
			paths[i] = fmt.Sprintf("%s[%d]", path, i)
		}
	}
	return paths
}

// partsOf reads a content: null, a string or a list of parts. Null and "" hold no part.
func (d *requestDecoder) partsOf(path string, raw jsontext.Value, readers map[string]partReader) ([]llm.Part, error) {
	switch raw.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil, nil
	case jsontext.KindString:
		var text string
		if err := unmarshal(path, raw, &text); err != nil || text == "" {
			return nil, err
		}
		return []llm.Part{llm.Text{Text: text}}, nil
	case jsontext.KindBeginArray:
	default:
		return nil, llm.Invalid(path, "want a string or an array of parts, got %s", wirejson.Kind(raw.Kind()))
	}
	var list []part
	if err := unmarshal(path, raw, &list); err != nil {
		return nil, err
	}
	parts := make([]llm.Part, 0, len(list))
	for i := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		read := readers[list[i].Type]
		if read == nil {
			return nil, llm.Invalid(at+".type", "a part of this type cannot stand here")
		}
		p, err := read(at, &list[i])
		if err != nil {
			return nil, err
		}
		parts = append(parts, cached(p, cacheOf(list[i].CacheControl)))
		d.extrasIn("messages[].content[].", list[i].Rest)
	}
	return parts, nil
}

func readText(path string, p *part) (llm.Part, error) {
	if p.Text == nil {
		return nil, llm.Invalid(path+".text", "required")
	}
	return llm.Text{Text: *p.Text}, nil
}

func readRefusal(path string, p *part) (llm.Part, error) {
	if p.Refusal == nil {
		return nil, llm.Invalid(path+".refusal", "required")
	}
	return llm.Refusal{Text: *p.Refusal}, nil
}

func readThinking(_ string, p *part) (llm.Part, error) {
	return llm.Thinking{Text: string(p.Thinking)}, nil
}

func readImage(path string, p *part) (llm.Part, error) {
	if p.ImageURL == nil || p.ImageURL.URL == "" {
		return nil, llm.Invalid(path+".image_url.url", "required")
	}
	image := llm.Image{URL: p.ImageURL.URL, Detail: p.ImageURL.Detail}
	if !wirejson.IsDataURL(image.URL) {
		return image, nil
	}
	var ok bool
	if image.MediaType, image.Data, ok = wirejson.ParseDataURL(image.URL); !ok {
		return nil, llm.Invalid(path+".image_url.url", "a data URL must be base64")
	}
	image.URL = ""
	return image, nil
}

func readAudio(path string, p *part) (llm.Part, error) {
	if p.InputAudio == nil || p.InputAudio.Data == "" {
		return nil, llm.Invalid(path+".input_audio.data", "required")
	}
	return llm.Audio{Format: p.InputAudio.Format, Data: p.InputAudio.Data}, nil
}

// readFile reads a file part. OpenAI wants file_data as a data URL; bare base64 is what its first
// documentation showed.
func readFile(path string, p *part) (llm.Part, error) {
	if p.File == nil {
		return nil, llm.Invalid(path+".file", "required")
	}
	f := llm.File{Name: p.File.Filename, ID: p.File.FileID}
	data := p.File.FileData
	switch {
	case data == "" && f.ID == "":
		return nil, llm.Invalid(path+".file", "want file_data or file_id")
	case wirejson.IsDataURL(data):
		var ok bool
		if f.MediaType, f.Data, ok = wirejson.ParseDataURL(data); !ok {
			return nil, llm.Invalid(path+".file.file_data", "a data URL must be base64")
		}
	default:
		f.Data = data
	}
	if wirejson.MediaType(f.Data) == wirejson.PDF {
		f.MediaType = wirejson.PDF
	}
	return f, nil
}

func cacheOf(v jsontext.Value) json.RawMessage {
	if !wirejson.Given(v) {
		return nil
	}
	return json.RawMessage(v)
}

// cached puts the marker on a part that can carry one; a marker of the part's own stays.
func cached(p llm.Part, cache json.RawMessage) llm.Part {
	if cache == nil {
		return p
	}
	switch p := p.(type) {
	case llm.Text:
		if p.Cache == nil {
			p.Cache = cache
		}
		return p
	case llm.Image:
		if p.Cache == nil {
			p.Cache = cache
		}
		return p
	case llm.File:
		if p.Cache == nil {
			p.Cache = cache
		}
		return p
	}
	return p
}
