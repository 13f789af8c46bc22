package admin

import (
	_ "embed"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/go-json-experiment/json"
)

// generated is what the plugin knows of the API: paths, parameters and schemas.
//
//go:embed openapi/millrace/v1/admin.openapi.json
var generated []byte

// object is a JSON object.
type object = map[string]any

// newOpenAPI serves the generated document, with what the plugin cannot know: names as in the
// proto, the plain values that some messages are written as, problem documents, headers and
// formats.
func newOpenAPI(all []route, o Options) http.Handler {
	document := sync.OnceValues(func() ([]byte, error) { return finishOpenAPI(all, o.Release) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := document()
		if err != nil {
			o.Log.Error("openapi", slog.Any("error", err))
			internalError.because("the log has more").write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body) //nolint:errcheck // the client is gone
	})
}

func finishOpenAPI(all []route, release string) ([]byte, error) {
	var d object
	if err := json.Unmarshal(generated, &d); err != nil {
		return nil, err
	}
	d["info"] = object{"title": "Millrace", "version": release, "summary": "The configuration of an LLM gateway"}
	components := d["components"].(object)
	finishSchemas(components["schemas"].(object))
	components["headers"] = headerDocs
	components["responses"] = object{"Problem": problemDoc}
	components["securitySchemes"] = object{"token": object{"type": "http", "scheme": "bearer", "description": "Where a token is configured."}}
	d["security"] = []any{object{}, object{"token": []any{}}}
	paths := d["paths"].(object)
	for _, r := range all {
		finishOperation(r, paths[r.path].(object)[strings.ToLower(r.verb)].(object))
	}
	paths[eventsPath] = eventsDoc
	return json.Marshal(d, json.Deterministic(true))
}

// finishSchemas writes field names as in the proto and adds the plain values.
func finishSchemas(schemas object) {
	delete(schemas, "google.rpc.Status")
	for _, schema := range schemas {
		snakeNames(schema)
	}
	for name, plain := range map[string]object{
		"millrace.v1.Provider": {"type": "string", "description": "The name of a known provider."},
		"millrace.v1.Secret":   {"type": "string", "writeOnly": true, "description": "The secret itself; shown as [redacted], which keeps it when it is written back."},
		"millrace.v1.Bytes":    {"type": []any{"string", "integer"}, "description": "65536, 64KB, 50MiB"},
	} {
		full := schemas[name].(object)
		schemas[name] = object{"description": full["description"], "anyOf": []any{plain, full}}
		delete(full, "description")
	}
	schemas["Problem"] = object{
		"type":        "object",
		"description": "Why a request was refused, RFC 9457.",
		"required":    []any{"type", "title", "status"},
		"properties": object{
			"type":   object{"type": "string", "enum": problemTypes()},
			"title":  object{"type": "string"},
			"status": object{"type": "integer"},
			"detail": object{"type": "string"},
			"errors": object{"type": "array", "items": object{
				"type":     "object",
				"required": []any{"path", "reason"},
				"properties": object{
					"path":   object{"type": "string", "description": "Of the field that is wrong, below the resource that was sent: targets[0].weight"},
					"reason": object{"type": "string"},
					"line":   object{"type": "integer", "description": "Of a YAML body."},
				},
			}},
		},
	}
}

func problemTypes() []any {
	var types []any
	for _, k := range kindsOfProblem {
		types = append(types, "urn:millrace:"+k.name)
	}
	return types
}

// snakeNames renames the properties of a schema and of those inside it.
func snakeNames(schema any) {
	switch s := schema.(type) {
	case object:
		if properties, ok := s["properties"].(object); ok {
			renamed := object{}
			for name, property := range properties {
				renamed[snake(name)] = property
			}
			s["properties"] = renamed
		}
		if required, ok := s["required"].([]any); ok {
			for i, name := range required {
				required[i] = snake(name.(string))
			}
		}
		for _, inner := range s {
			snakeNames(inner)
		}
	case []any:
		for _, inner := range s {
			snakeNames(inner)
		}
	}
}

func snake(camel string) string {
	var b strings.Builder
	for _, c := range camel {
		if unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

var problemDoc = object{
	"description": "The request was refused, and nothing has changed.",
	"content":     object{"application/problem+json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}},
}

var headerDocs = object{
	"ETag":                text("A hash of what is answered. Send it as If-Match to change only what was read."),
	"X-Millrace-Source":   text("file: the configuration file owns it and it cannot be changed here. api: it can."),
	"X-Millrace-State":    text("How far the change has come: accepted, offered or applied."),
	"X-Millrace-Version":  text("The version of the configuration with this change."),
	"X-Millrace-Revision": text("The version of the store with this change."),
	"Location":            text("Where the new resource is."),
}

func text(description string) object {
	return object{"description": description, "schema": object{"type": "string"}}
}

func finishOperation(r route, operation object) {
	parameters, _ := operation["parameters"].([]any)
	for _, p := range parameters {
		p.(object)["name"] = snake(p.(object)["name"].(string))
	}
	if r.writes() {
		for _, p := range parameters {
			if p.(object)["name"] == "wait" {
				p.(object)["schema"] = object{"type": "string", "enum": []any{"applied", "accepted"}, "default": "applied"}
			}
		}
		operation["parameters"] = append(parameters, object{
			"name": "If-Match", "in": "header", "description": "Change nothing unless the present etag is this one.",
			"schema": object{"type": "string"},
		})
	}
	if body, ok := operation["requestBody"].(object); ok {
		content := object{}
		for _, format := range r.mediaTypes() {
			content[format] = body["content"].(object)["application/json"]
		}
		body["content"] = content
	}
	answers := operation["responses"].(object)
	answers["default"] = object{"$ref": "#/components/responses/Problem"}
	success := answers["200"].(object)
	if r.success() != http.StatusOK {
		delete(answers, "200")
		answers[strconv.Itoa(r.success())] = success
	}
	if r.success() == http.StatusNoContent {
		delete(success, "content")
		success["description"] = "It is gone."
	}
	success["headers"] = headersOf(r)
}

// headersOf are the headers that an answer can have.
func headersOf(r route) object {
	var names []string
	switch {
	case r.creates():
		names = []string{"ETag", "Location"}
	case r.success() == http.StatusNoContent:
	case r.verb == http.MethodGet:
		names = []string{"ETag", "X-Millrace-Source"}
	default:
		names = []string{"ETag"}
	}
	if r.writes() {
		names = slices.Concat(names, []string{"X-Millrace-State", "X-Millrace-Version", "X-Millrace-Revision"})
	}
	headers := object{}
	for _, name := range names {
		headers[name] = object{"$ref": "#/components/headers/" + name}
	}
	return headers
}
