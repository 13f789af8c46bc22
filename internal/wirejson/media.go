package wirejson

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// PDF is the media type of what begins with "%PDF-".
const PDF = "application/pdf"

// MediaType is what the first bytes of base64 data say that it is: an image of a kind that models
// read, or a PDF; "" for anything else. They are to be trusted more than a label.
func MediaType(data string) string {
	const enough = 16 // characters, 12 bytes
	head, err := base64.StdEncoding.DecodeString(data[:min(len(data), enough)/4*4])
	switch {
	case err != nil:
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	case bytes.HasPrefix(head, []byte("GIF87a")), bytes.HasPrefix(head, []byte("GIF89a")):
		return "image/gif"
	case bytes.HasPrefix(head, []byte("RIFF")) && len(head) >= 12 && string(head[8:12]) == "WEBP":
		return "image/webp"
	case bytes.HasPrefix(head, []byte("%PDF-")):
		return PDF
	}
	return ""
}

// BareType is the media type of a label: lower case, no parameters.
func BareType(label string) string {
	bare, _, _ := strings.Cut(label, ";")
	return strings.ToLower(strings.TrimSpace(bare))
}

// DataURL is data with its media type as one address (RFC 2397).
func DataURL(mediaType, data string) string { return "data:" + mediaType + ";base64," + data }

// IsDataURL tells whether the address is the data itself.
func IsDataURL(url string) bool { return len(url) > 5 && strings.EqualFold(url[:5], "data:") }

// ParseDataURL takes data:<media type>[;parameters];base64,<data> apart. It fails for what is not
// base64.
func ParseDataURL(url string) (mediaType, data string, ok bool) {
	head, data, ok := strings.Cut(url[5:], ",")
	mediaType, parameters, _ := strings.Cut(head, ";")
	if !ok || data == "" || parameters != "base64" && !strings.HasSuffix(parameters, ";base64") {
		return "", "", false
	}
	return strings.ToLower(mediaType), data, true
}
